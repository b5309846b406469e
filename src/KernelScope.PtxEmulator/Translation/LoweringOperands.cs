using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Execution.Ops;
using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>Operands: places in the register bank, literals, addresses.</summary>
internal sealed partial class Lowering
{
    private ConstantTracker _tracker = ConstantTracker.Empty;

    private Operand At(int index) => index < _instruction.Operands.Count ? _instruction.Operands[index]
        : throw Error($"operand {index + 1} is missing");

    private void Operands(int count, int? most = null)
    {
        if (_instruction.Operands.Count < count || _instruction.Operands.Count > (most ?? count))
            throw Error($"{count} operands are needed and {_instruction.Operands.Count} are given");
    }

    private Slot Register(PtxRegister register)
    {
        if (!_frame.Registers.TryGetValue(register, out Slot slot))
        {
            int index = _registerNames.Count;
            _registerNames.Add(register.Name);
            slot = register.Type == PtxType.Pred ? new Slot(_predicates++, index, 1)
                : new Slot(Space(register.Type.Bits()), index, RegisterBits(register.Type));
            _frame.Registers.Add(register, slot);
        }
        return slot;
    }

    private static int RegisterBits(PtxType type) => type.Bits() is 8 or 16 ? 16 : type.Bits();

    private int Space(int bits)
    {
        int offset = _bankBytes;
        _bankBytes += bits == 64 ? 256 : 128;
        return offset;
    }

    /// <summary>Place of a literal.</summary>
    private Slot Literal(int bits, ulong value, PtxVariable? variable = null)
    {
        bits = bits == 64 ? 64 : 32;
        if (!_constants.TryGetValue((bits, value, variable), out Slot slot))
        {
            slot = new Slot(Space(bits), -1, bits);
            _constants.Add((bits, value, variable), slot);
        }
        return slot;
    }

    private Slot Special(string name)
    {
        if (!_specials.TryGetValue(name, out Slot slot))
        {
            slot = new Slot(Space(32), -1, 32);
            _specials.Add(name, slot);
        }
        return slot;
    }

    /// <summary>A value that is read. <paramref name="widerAllowed"/>: ld, st and cvt take registers wider than their type.</summary>
    private Slot Source(int index, PtxType type, bool widerAllowed = false) => Source(At(index), type, widerAllowed);

    private Slot Source(Operand operand, PtxType type, bool widerAllowed = false)
    {
        switch (operand)
        {
            case RegisterOperand { Negated: false } register:
                Slot slot = Register(register.Register);
                CheckWidth(register.Register, slot, type, widerAllowed);
                _reads.Add(slot.Index);
                return slot;
            case ImmediateOperand immediate:
                return Literal(type.Bits(), immediate.Value.As(type));
            case SpecialOperand special when type.Bits() == 32 || widerAllowed:
                return Special(special.Name);
            case SymbolOperand symbol when type.Bits() >= 32:
                return SymbolAddress(symbol.Variable, symbol.Offset, type.Bits());
            default:
                throw Error("an operand is not of a kind that the instruction takes");
        }
    }

    /// <summary>A register that is written.</summary>
    private Slot Target(int index, PtxType type, bool widerAllowed = false) => Target(At(index), type, widerAllowed);

    /// <summary>As above; <see cref="Slot.None"/> for the bit bucket, where it may stand.</summary>
    private Slot TargetOrSink(Operand operand, PtxType type, bool widerAllowed = false) =>
        operand is SinkOperand ? Slot.None : Target(operand, type, widerAllowed);

    private Slot Target(Operand operand, PtxType type, bool widerAllowed = false)
    {
        if (operand is not RegisterOperand { Negated: false } register)
            throw Error("the result must go to a register");
        Slot slot = Register(register.Register);
        CheckWidth(register.Register, slot, type, widerAllowed);
        _writes.Add(slot.Index);
        return slot;
    }

    private void CheckWidth(PtxRegister register, Slot slot, PtxType type, bool widerAllowed)
    {
        int bits = type == PtxType.Pred ? 1 : RegisterBits(type);
        bool fits = slot.Bits == bits || (widerAllowed && slot.Bits > bits && slot.Bits != 1 && bits != 1);
        if (!fits)
            throw Error($"register {register.Name} is of type .{register.Type.Name()}, which does not fit .{type.Name()}");
    }

    private (Slot Slot, bool Negated) Predicate(Operand operand)
    {
        if (operand is not RegisterOperand { Register.Type: PtxType.Pred } register)
            throw Error("a predicate register was expected");
        Slot slot = Register(register.Register);
        _reads.Add(slot.Index);
        return (slot, register.Negated);
    }

    private Slot PredicateTarget(Operand operand) => TargetOrSink(operand, PtxType.Pred);

    private Slot[] Sources(Operand operand, PtxType type, bool widerAllowed = false) =>
        [.. (operand is VectorOperand vector ? vector.Items : [operand]).Select(o => Source(o, type, widerAllowed))];

    private Slot[] Targets(Operand operand, PtxType type, bool widerAllowed = false, bool sinkAllowed = false) =>
        [.. (operand is VectorOperand vector ? vector.Items : [operand]).Select(o => sinkAllowed ? TargetOrSink(o, type, widerAllowed)
            : Target(o, type, widerAllowed))];

    private Slot SymbolAddress(PtxVariable variable, long offset, int bits)
    {
        switch (variable.Space)
        {
            case StateSpace.Global or StateSpace.Const:
                return Literal(bits, (ulong)offset, variable);
            case StateSpace.Shared when variable.IsDynamic:
                if (!_dynamicShared.Contains(variable))
                    _dynamicShared.Add(variable);
                return Literal(bits, (ulong)offset, variable);
            case StateSpace.Shared:
                return Literal(bits, PlaceShared(variable) + (ulong)offset);
            case StateSpace.Param when _frame.Caller is null && _addresses.TryGetValue(variable, out ulong parameter):
                return Literal(bits, parameter + (ulong)offset);
            default:
                return Literal(bits, PlaceLocal(variable) + (ulong)offset);
        }
    }

    private ulong PlaceShared(PtxVariable variable)
    {
        if (!_addresses.TryGetValue(variable, out ulong address))
        {
            _sharedBytes = (_sharedBytes + variable.Alignment - 1) / variable.Alignment * variable.Alignment;
            address = (ulong)(AddressSpace.SharedBase + _sharedBytes);
            _sharedBytes = checked(_sharedBytes + (int)variable.Bytes);
            _addresses.Add(variable, address);
        }
        return address;
    }

    private ulong PlaceLocal(PtxVariable variable)
    {
        if (!_frame.Locals.TryGetValue(variable, out ulong address))
        {
            _localBytes = (_localBytes + variable.Alignment - 1) / variable.Alignment * variable.Alignment;
            address = (ulong)(AddressSpace.LocalBase + _localBytes);
            _localBytes = checked(_localBytes + (int)variable.Bytes);
            _frame.Locals.Add(variable, address);
        }
        return address;
    }

    /// <summary>A bracketed address.</summary>
    private Address AddressAt(int index)
    {
        if (At(index) is not AddressOperand address)
            throw Error($"operand {index + 1} must be an address in brackets");
        return address.Base switch
        {
            RegisterOperand register => new Address(AddressRegister(register), address.Offset),
            SymbolOperand symbol => new Address(SymbolAddress(symbol.Variable, symbol.Offset, 64), address.Offset),
            ImmediateOperand immediate => new Address(Literal(64, immediate.Value.Bits), address.Offset),
            _ => throw Error("the address is not of a kind that is known"),
        };
    }

    private Slot AddressRegister(RegisterOperand register)
    {
        Slot slot = Register(register.Register);
        if (slot.Bits is not (32 or 64))
            throw Error($"register {register.Register.Name} is too narrow for an address");
        _reads.Add(slot.Index);
        return slot;
    }
}
