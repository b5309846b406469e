using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Execution.Ops;
using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>
/// Translates a kernel to a <see cref="Program"/>: operands get places in the register bank, functions are inlined where they are called, branches
/// learn where their sides meet. The rules of the instructions are in the other parts of this class.
/// </summary>
internal sealed partial class Lowering
{
    private const int MaxCallDepth = 32;
    private const int MaxOps = 1 << 20;

    private readonly string _file;
    private readonly bool _isFor90;
    private readonly IReadOnlyDictionary<string, PtxFunction> _functions;
    private readonly List<Op> _ops = [];
    private readonly List<string> _registerNames = [];
    private readonly Dictionary<(int Bits, ulong Value, PtxVariable? Variable), Slot> _constants = [];
    private readonly Dictionary<string, Slot> _specials = [];
    private readonly Dictionary<PtxVariable, ulong> _addresses = [];
    private readonly List<PtxVariable> _dynamicShared = [];
    private int _bankBytes;
    private int _predicates;
    private int _localBytes;
    private int _sharedBytes;
    private bool _needsBlockOrder;
    private Slot _carry = Slot.None;
    private Frame _frame;
    private PtxInstruction _instruction;
    private List<int> _reads = [];
    private List<int> _writes = [];

    private Lowering(string file, IReadOnlyDictionary<string, PtxFunction> functions, PtxFunction kernel, bool isFor90)
    {
        _file = file;
        _isFor90 = isFor90;
        _functions = functions;
        _frame = new Frame(kernel, null);
        _instruction = new PtxInstruction(kernel.Line, kernel.Name, "", [], []);
    }

    /// <summary>One inlined copy of a function.</summary>
    private sealed class Frame(PtxFunction function, Frame? caller)
    {
        public PtxFunction Function { get; } = function;

        public Frame? Caller { get; } = caller;

        public Dictionary<PtxRegister, Slot> Registers { get; } = [];

        /// <summary>Local addresses of this copy's .local and .param variables.</summary>
        public Dictionary<PtxVariable, ulong> Locals { get; } = [];

        /// <summary>For each instruction, the op that it begins with.</summary>
        public int[] Starts { get; } = new int[function.Instructions.Count + 1];

        public List<(Branch Op, PtxLabel Label)> Branches { get; } = [];

        public List<(IndexedBranch Op, PtxLabel[] Labels)> IndexedBranches { get; } = [];

        public List<Branch> Returns { get; } = [];

        public int Depth { get; } = caller is null ? 0 : caller.Depth + 1;
    }

    /// <summary>Translates a kernel; <paramref name="isFor90"/> says whether its module may have the instructions of PTX 7.8 for sm_90.</summary>
    public static Program Translate(string file, IReadOnlyDictionary<string, PtxFunction> functions, PtxFunction kernel, bool isFor90)
    {
        var lowering = new Lowering(file, functions, kernel, isFor90);
        lowering.PlaceParameters(kernel);
        lowering.LowerBody();
        lowering.Emit(new ExitOp { Line = kernel.Line, Text = "end of the kernel", Class = InstructionClass.Branch });
        for (int i = 0; i < lowering._ops.Count; i++)
            lowering._ops[i].Index = i;
        ControlFlow.FindMeetingPoints(lowering._ops);
        return lowering.Build();
    }

    private void PlaceParameters(PtxFunction kernel)
    {
        foreach ((PtxVariable variable, int offset) in ParameterLayout.Of(kernel))
            _addresses[variable] = (ulong)offset;
    }

    private Program Build()
    {
        int alignment = Math.Max(16, _dynamicShared.Select(v => v.Alignment).DefaultIfEmpty(1).Max());
        int dynamicOffset = (_sharedBytes + alignment - 1) / alignment * alignment;
        foreach (PtxVariable variable in _dynamicShared)
            _addresses[variable] = (ulong)(AddressSpace.SharedBase + dynamicOffset);
        return new Program
        {
            Ops = [.. _ops],
            BankBytes = _bankBytes,
            PredicateCount = _predicates,
            RegisterNames = _registerNames,
            Constants = [.. _constants.Select(c => new Constant(c.Value.Offset, c.Key.Bits, c.Key.Value, c.Key.Variable))],
            Specials = [.. _specials.Select(s => new SpecialSlot(s.Key, s.Value.Offset))],
            LocalBytes = _localBytes,
            StaticSharedBytes = _sharedBytes,
            DynamicSharedOffset = _dynamicShared.Count > 0 ? dynamicOffset : _sharedBytes,
            UsesDynamicShared = _dynamicShared.Count > 0,
            Addresses = _addresses,
            NeedsBlockOrder = _needsBlockOrder,
        };
    }

    private void LowerBody()
    {
        PtxFunction function = _frame.Function;
        foreach (PtxVariable variable in function.Variables.Where(v => v.Space == StateSpace.Shared))
            PlaceShared(variable);
        var labelled = new HashSet<int>(LabelPositions(function));
        var constants = new ConstantTracker(function);
        for (int i = 0; i < function.Instructions.Count; i++)
        {
            _frame.Starts[i] = _ops.Count;
            if (labelled.Contains(i))
                constants.EnterLabel();
            _instruction = function.Instructions[i];
            _tracker = constants;
            LowerInstruction();
            constants.Observe(function.Instructions[i], LocalAddress);
        }
        _frame.Starts[^1] = _ops.Count;
        foreach ((Branch op, PtxLabel label) in _frame.Branches)
            op.Target = _frame.Starts[label.Index];
        foreach ((IndexedBranch op, PtxLabel[] labels) in _frame.IndexedBranches)
            op.Targets = [.. labels.Select(l => _frame.Starts[l.Index])];
        foreach (Branch op in _frame.Returns)
            op.Target = _ops.Count;
    }

    private static IEnumerable<int> LabelPositions(PtxFunction function)
    {
        foreach (PtxInstruction instruction in function.Instructions)
            foreach (Operand operand in instruction.Operands)
                if (operand is LabelOperand label && label.Scope.Find(label.Name) is PtxLabel found)
                    foreach (int position in found.Targets is null
                        ? [found.Index]
                        : found.Targets.Select(t => t.Scope.Find(t.Name)).OfType<PtxLabel>().Select(l => l.Index))
                        yield return position;
    }

    private ulong? LocalAddress(PtxVariable variable) => variable.Space == StateSpace.Local ? PlaceLocal(variable) : null;

    private void LowerInstruction()
    {
        if (_instruction.Opcode == "call")
        {
            LowerCall();
            return;
        }
        _reads = [];
        _writes = [];
        Op op = LowerOpcode();
        Finish(op);
        Emit(op);
    }

    private void Finish(Op op)
    {
        op.Line = _instruction.Line;
        op.Text = _instruction.Text;
        op.Reads = [.. _reads.Distinct()];
        op.Writes = [.. _writes.Distinct()];
        if (_instruction.Guard is not { } guard)
            return;
        Slot slot = Register(guard.Register);
        op.Guard = slot.Offset;
        op.GuardRegister = slot.Index;
        op.GuardNegated = guard.Negated;
    }

    private void Emit(Op op)
    {
        _ops.Add(op);
        if (_ops.Count > MaxOps)
            throw Error("the kernel has more than 1,048,576 instructions after inlining");
    }

    private PtxSyntaxException Error(string problem) => new(_file, _instruction.Line, _instruction.Text, problem);
}
