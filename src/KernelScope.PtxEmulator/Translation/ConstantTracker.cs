using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>
/// Which registers hold a value known at translation, so far as local addresses need it: within straight code, and everywhere for registers that
/// are written once. Decides whether a .local access is at a constant offset, which ptxas turns into a register.
/// </summary>
internal sealed class ConstantTracker
{
    private static readonly HashSet<string> WithoutResult =
        ["st", "red", "bra", "brx", "bar", "barrier", "ret", "exit", "cp", "prefetch", "membar", "fence", "nanosleep", "call", "trap"];

    private readonly Dictionary<PtxRegister, ulong> _everywhere = [];
    private readonly Dictionary<PtxRegister, ulong> _here = [];
    private readonly Dictionary<PtxRegister, int> _writes = [];

    public ConstantTracker(PtxFunction function)
    {
        foreach (PtxInstruction instruction in function.Instructions)
            foreach (PtxRegister register in Written(instruction))
                _writes[register] = _writes.GetValueOrDefault(register) + 1;
    }

    public static ConstantTracker Empty { get; } = new(new PtxFunction("", false, 0));

    /// <summary>The value of an operand, if it is known.</summary>
    public ulong? Value(Operand operand) => operand switch
    {
        ImmediateOperand { Value.IsFloat: false } immediate => immediate.Value.Bits,
        RegisterOperand register when _here.TryGetValue(register.Register, out ulong value) => value,
        RegisterOperand register when _everywhere.TryGetValue(register.Register, out ulong value) => value,
        _ => null,
    };

    /// <summary>Control may arrive from elsewhere.</summary>
    public void EnterLabel() => _here.Clear();

    public void Observe(PtxInstruction instruction, Func<PtxVariable, ulong?> localAddress)
    {
        ulong? value = instruction.Guard is null ? Evaluate(instruction, localAddress) : null;
        foreach (PtxRegister register in Written(instruction))
        {
            _here.Remove(register);
            if (value is not { } known)
                continue;
            _here[register] = known;
            if (_writes[register] == 1)
                _everywhere[register] = known;
        }
    }

    private ulong? Evaluate(PtxInstruction instruction, Func<PtxVariable, ulong?> localAddress)
    {
        IReadOnlyList<Operand> operands = instruction.Operands;
        if (operands.Count == 2 && operands[1] is SymbolOperand symbol)
            return instruction.Opcode == "mov" && localAddress(symbol.Variable) is { } address ? address + (ulong)symbol.Offset : null;
        if (operands.Count is not (2 or 3) || Value(operands[1]) is not { } a)
            return null;
        if (operands.Count == 2)
            return instruction.Opcode is "mov" or "cvt" ? a : null;
        if (Value(operands[2]) is not { } b)
            return null;
        return instruction.Opcode switch
        {
            "add" => a + b,
            "sub" => a - b,
            "mul" when !instruction.Modifiers.Contains("hi") => a * b,
            "shl" => b < 64 ? a << (int)b : 0,
            _ => null,
        };
    }

    private static IEnumerable<PtxRegister> Written(PtxInstruction instruction)
    {
        if (instruction.Operands.Count == 0 || WithoutResult.Contains(instruction.Opcode))
            return [];
        return Registers(instruction.Operands[0]);
    }

    private static IEnumerable<PtxRegister> Registers(Operand operand) => operand switch
    {
        RegisterOperand register => [register.Register],
        VectorOperand vector => vector.Items.SelectMany(Registers),
        PairOperand pair => Registers(pair.First).Concat(Registers(pair.Second)),
        _ => [],
    };
}
