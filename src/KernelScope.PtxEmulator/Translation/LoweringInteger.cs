using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Execution.Ops;
using KernelScope.PtxEmulator.Syntax;
using static KernelScope.PtxEmulator.Syntax.PtxType;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>Integer arithmetic, logic and bit fields.</summary>
internal sealed partial class Lowering
{
    /// <summary>Integer add, sub, mul, mad, div, rem, min, max; null if the type is a float.</summary>
    private Op? IntegerArithmetic(Modifiers modifiers, PtxType type)
    {
        if (!type.IsInteger() && !type.IsUntyped())
            return null;
        string opcode = _instruction.Opcode;
        if (opcode is "mul" or "mad")
            return Multiply(modifiers, type, opcode == "mad");
        if (opcode is "add" or "sub" && modifiers.Take("cc"))
            return Carry(type, subtract: opcode == "sub", takes: false, gives: true);
        modifiers.End();
        Operands(3);
        (Slot a, Slot b, Slot d) = (Source(1, type), Source(2, type), Target(0, type));
        Op? op = opcode switch
        {
            "add" => type.Bits() switch
            {
                16 => new LaneBinary<ushort, ushort, ushort, Add<ushort>>(d, a, b),
                32 => new VectorBinary<uint, Add<uint>>(d, a, b),
                _ => new VectorBinary<ulong, Add<ulong>>(d, a, b),
            },
            "sub" => type.Bits() switch
            {
                16 => new LaneBinary<ushort, ushort, ushort, Subtract<ushort>>(d, a, b),
                32 => new VectorBinary<uint, Subtract<uint>>(d, a, b),
                _ => new VectorBinary<ulong, Subtract<ulong>>(d, a, b),
            },
            "div" => Divide(type, d, a, b),
            "rem" => Remainder(type, d, a, b),
            "min" => Minimum(type, d, a, b),
            "max" => Maximum(type, d, a, b),
            _ => null,
        };
        return op;
    }

    private Op Divide(PtxType type, Slot d, Slot a, Slot b) => type switch
    {
        U16 => new LaneBinary<ushort, ushort, ushort, Divide<ushort>>(d, a, b),
        S16 => new LaneBinary<short, short, short, Divide<short>>(d, a, b),
        U32 => new LaneBinary<uint, uint, uint, Divide<uint>>(d, a, b),
        S32 => new LaneBinary<int, int, int, Divide<int>>(d, a, b),
        U64 => new LaneBinary<ulong, ulong, ulong, Divide<ulong>>(d, a, b),
        S64 => new LaneBinary<long, long, long, Divide<long>>(d, a, b),
        _ => throw Error("the type does not fit the instruction"),
    };

    private Op Remainder(PtxType type, Slot d, Slot a, Slot b) => type switch
    {
        U16 => new LaneBinary<ushort, ushort, ushort, Remainder<ushort>>(d, a, b),
        S16 => new LaneBinary<short, short, short, Remainder<short>>(d, a, b),
        U32 => new LaneBinary<uint, uint, uint, Remainder<uint>>(d, a, b),
        S32 => new LaneBinary<int, int, int, Remainder<int>>(d, a, b),
        U64 => new LaneBinary<ulong, ulong, ulong, Remainder<ulong>>(d, a, b),
        S64 => new LaneBinary<long, long, long, Remainder<long>>(d, a, b),
        _ => throw Error("the type does not fit the instruction"),
    };

    private Op Minimum(PtxType type, Slot d, Slot a, Slot b) => type switch
    {
        U16 => new LaneBinary<ushort, ushort, ushort, Minimum<ushort>>(d, a, b),
        S16 => new LaneBinary<short, short, short, Minimum<short>>(d, a, b),
        U32 => new VectorBinary<uint, Minimum<uint>>(d, a, b),
        S32 => new VectorBinary<int, Minimum<int>>(d, a, b),
        U64 => new VectorBinary<ulong, Minimum<ulong>>(d, a, b),
        S64 => new VectorBinary<long, Minimum<long>>(d, a, b),
        _ => throw Error("the type does not fit the instruction"),
    };

    private Op Maximum(PtxType type, Slot d, Slot a, Slot b) => type switch
    {
        U16 => new LaneBinary<ushort, ushort, ushort, Maximum<ushort>>(d, a, b),
        S16 => new LaneBinary<short, short, short, Maximum<short>>(d, a, b),
        U32 => new VectorBinary<uint, Maximum<uint>>(d, a, b),
        S32 => new VectorBinary<int, Maximum<int>>(d, a, b),
        U64 => new VectorBinary<ulong, Maximum<ulong>>(d, a, b),
        S64 => new VectorBinary<long, Maximum<long>>(d, a, b),
        _ => throw Error("the type does not fit the instruction"),
    };

    private Op Multiply(Modifiers modifiers, PtxType type, bool adds)
    {
        string part = modifiers.OneOf("lo", "hi", "wide");
        modifiers.End();
        Operands(adds ? 4 : 3);
        PtxType wide = type switch { U16 => U32, S16 => S32, U32 => U64, S32 => S64, _ => type };
        PtxType result = part == "wide" ? wide : type;
        if (part == "wide" && wide == type)
            throw Error("the type has no twice as wide one");
        (Slot a, Slot b) = (Source(1, type), Source(2, type));
        Slot c = adds ? Source(3, result) : Slot.None;
        Slot d = Target(0, result);
        return (part, adds) switch
        {
            ("lo", false) => type.Bits() switch
            {
                16 => new LaneBinary<ushort, ushort, ushort, MultiplyLow<ushort>>(d, a, b),
                32 => new VectorBinary<uint, MultiplyLow<uint>>(d, a, b),
                _ => new VectorBinary<ulong, MultiplyLow<ulong>>(d, a, b),
            },
            ("lo", true) => type.Bits() switch
            {
                16 => new LaneTernary<ushort, ushort, ushort, ushort, MultiplyAddLow<ushort>>(d, a, b, c),
                32 => new VectorTernary<uint, MultiplyAddLow<uint>>(d, a, b, c),
                _ => new VectorTernary<ulong, MultiplyAddLow<ulong>>(d, a, b, c),
            },
            ("wide", false) => type switch
            {
                U16 => new LaneBinary<ushort, ushort, uint, MultiplyWide<ushort, uint>>(d, a, b),
                S16 => new LaneBinary<short, short, int, MultiplyWide<short, int>>(d, a, b),
                U32 => new LaneBinary<uint, uint, ulong, MultiplyWide<uint, ulong>>(d, a, b),
                _ => new LaneBinary<int, int, long, MultiplyWide<int, long>>(d, a, b),
            },
            ("wide", true) => type switch
            {
                U16 => new LaneTernary<ushort, ushort, uint, uint, MultiplyAddWide<ushort, uint>>(d, a, b, c),
                S16 => new LaneTernary<short, short, int, int, MultiplyAddWide<short, int>>(d, a, b, c),
                U32 => new LaneTernary<uint, uint, ulong, ulong, MultiplyAddWide<uint, ulong>>(d, a, b, c),
                _ => new LaneTernary<int, int, long, long, MultiplyAddWide<int, long>>(d, a, b, c),
            },
            (_, false) => type switch
            {
                U16 => new LaneBinary<ushort, ushort, ushort, MultiplyHigh<ushort, uint>>(d, a, b),
                S16 => new LaneBinary<short, short, short, MultiplyHigh<short, int>>(d, a, b),
                U32 => new LaneBinary<uint, uint, uint, MultiplyHigh<uint, ulong>>(d, a, b),
                S32 => new LaneBinary<int, int, int, MultiplyHigh<int, long>>(d, a, b),
                U64 => new LaneBinary<ulong, ulong, ulong, MultiplyHigh<ulong, UInt128>>(d, a, b),
                _ => new LaneBinary<long, long, long, MultiplyHigh<long, Int128>>(d, a, b),
            },
            _ => type switch
            {
                U16 => new LaneTernary<ushort, ushort, ushort, ushort, MultiplyAddHigh<ushort, uint>>(d, a, b, c),
                S16 => new LaneTernary<short, short, short, short, MultiplyAddHigh<short, int>>(d, a, b, c),
                U32 => new LaneTernary<uint, uint, uint, uint, MultiplyAddHigh<uint, ulong>>(d, a, b, c),
                S32 => new LaneTernary<int, int, int, int, MultiplyAddHigh<int, long>>(d, a, b, c),
                U64 => new LaneTernary<ulong, ulong, ulong, ulong, MultiplyAddHigh<ulong, UInt128>>(d, a, b, c),
                _ => new LaneTernary<long, long, long, long, MultiplyAddHigh<long, Int128>>(d, a, b, c),
            },
        };
    }

    private CarryOp Carry(PtxType type, bool subtract, bool takes, bool gives)
    {
        Operands(3);
        if (_carry.IsNone)
        {
            _registerNames.Add("the carry flag");
            _carry = new Slot(_predicates++, _registerNames.Count - 1, 1);
        }
        if (takes)
            _reads.Add(_carry.Index);
        if (gives)
            _writes.Add(_carry.Index);
        return new CarryOp(Target(0, type), Source(1, type), Source(2, type), _carry, subtract, takes, gives);
    }

    private Op CarryIn(Modifiers modifiers)
    {
        bool gives = modifiers.Take("cc");
        PtxType type = modifiers.Type();
        modifiers.End();
        return Counted(InstructionClass.Integer, Carry(type, _instruction.Opcode == "subc", takes: true, gives));
    }

    private Op Logic(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        modifiers.End();
        Operands(3);
        if (type == Pred)
            return PredicateJoin();
        (Slot a, Slot b, Slot d) = (Source(1, type), Source(2, type), Target(0, type));
        bool wide = type.Bits() == 64;
        return Counted(InstructionClass.Integer, _instruction.Opcode switch
        {
            "and" => wide ? new VectorBinary<ulong, And<ulong>>(d, a, b) : new VectorBinary<uint, And<uint>>(d, a, b),
            "or" => wide ? new VectorBinary<ulong, Or<ulong>>(d, a, b) : new VectorBinary<uint, Or<uint>>(d, a, b),
            _ => wide ? new VectorBinary<ulong, Xor<ulong>>(d, a, b) : new VectorBinary<uint, Xor<uint>>(d, a, b),
        });
    }

    private Op PredicateJoin()
    {
        (Slot a, bool aNegated) = Predicate(At(1));
        (Slot b, bool bNegated) = Predicate(At(2));
        Func<uint, uint, uint> join = _instruction.Opcode switch
        {
            "and" => (x, y) => x & y,
            "or" => (x, y) => x | y,
            _ => (x, y) => x ^ y,
        };
        return Counted(InstructionClass.Compare, new PredicateLogic(PredicateTarget(At(0)), a, aNegated, b, bNegated, join));
    }

    private Op Not(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        modifiers.End();
        Operands(2);
        if (type == Pred)
        {
            (Slot p, bool negated) = Predicate(At(1));
            return Counted(InstructionClass.Compare,
                new PredicateLogic(PredicateTarget(At(0)), p, negated, Slot.None, false, (x, _) => ~x));
        }
        (Slot a, Slot d) = (Source(1, type), Target(0, type));
        bool logical = _instruction.Opcode == "cnot";
        return Counted(InstructionClass.Integer, type.Bits() switch
        {
            16 => logical ? new LaneUnary<ushort, ushort, LogicalNot<ushort>>(d, a) : new LaneUnary<ushort, ushort, Not<ushort>>(d, a),
            32 => logical ? new LaneUnary<uint, uint, LogicalNot<uint>>(d, a) : new LaneUnary<uint, uint, Not<uint>>(d, a),
            _ => logical ? new LaneUnary<ulong, ulong, LogicalNot<ulong>>(d, a) : new LaneUnary<ulong, ulong, Not<ulong>>(d, a),
        });
    }

    private Op Shift(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        modifiers.End();
        Operands(3);
        (Slot a, Slot b, Slot d) = (Source(1, type), Source(2, U32), Target(0, type));
        bool left = _instruction.Opcode == "shl";
        return Counted(InstructionClass.Integer, (left, type.Bits(), type.IsSigned()) switch
        {
            (true, 16, _) => new LaneBinary<ushort, uint, ushort, ShiftLeft<ushort>>(d, a, b),
            (true, 32, _) => new LaneBinary<uint, uint, uint, ShiftLeft<uint>>(d, a, b),
            (true, _, _) => new LaneBinary<ulong, uint, ulong, ShiftLeft<ulong>>(d, a, b),
            (false, 16, false) => new LaneBinary<ushort, uint, ushort, ShiftRight<ushort>>(d, a, b),
            (false, 16, true) => new LaneBinary<short, uint, short, ShiftRight<short>>(d, a, b),
            (false, 32, false) => new LaneBinary<uint, uint, uint, ShiftRight<uint>>(d, a, b),
            (false, 32, true) => new LaneBinary<int, uint, int, ShiftRight<int>>(d, a, b),
            (false, _, false) => new LaneBinary<ulong, uint, ulong, ShiftRight<ulong>>(d, a, b),
            _ => new LaneBinary<long, uint, long, ShiftRight<long>>(d, a, b),
        });
    }

    private Op CountBits(Modifiers modifiers)
    {
        bool shift = modifiers.Take("shiftamt");
        PtxType type = modifiers.Type();
        modifiers.End();
        Operands(2);
        (Slot a, Slot d) = (Source(1, type), Target(0, U32));
        bool wide = type.Bits() == 64;
        return Counted(InstructionClass.Integer, (_instruction.Opcode, type) switch
        {
            ("popc", _) => wide ? new LaneUnary<ulong, uint, PopulationCount<ulong>>(d, a)
                : new LaneUnary<uint, uint, PopulationCount<uint>>(d, a),
            ("clz", _) => wide ? new LaneUnary<ulong, uint, LeadingZeros<ulong>>(d, a)
                : new LaneUnary<uint, uint, LeadingZeros<uint>>(d, a),
            (_, U32) => shift ? new LaneUnary<uint, uint, FindBitShift<uint>>(d, a) : new LaneUnary<uint, uint, FindBit<uint>>(d, a),
            (_, S32) => shift ? new LaneUnary<int, uint, FindBitShift<int>>(d, a) : new LaneUnary<int, uint, FindBit<int>>(d, a),
            (_, U64) => shift ? new LaneUnary<ulong, uint, FindBitShift<ulong>>(d, a) : new LaneUnary<ulong, uint, FindBit<ulong>>(d, a),
            (_, S64) => shift ? new LaneUnary<long, uint, FindBitShift<long>>(d, a) : new LaneUnary<long, uint, FindBit<long>>(d, a),
            _ => throw Error("the type does not fit the instruction"),
        });
    }

    private Op BitFields(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        modifiers.End();
        bool wide = type.Bits() == 64;
        switch (_instruction.Opcode)
        {
            case "brev":
                Operands(2);
                (Slot a, Slot d) = (Source(1, type), Target(0, type));
                return Counted(InstructionClass.Integer, wide ? new LaneUnary<ulong, ulong, ReverseBits64>(d, a)
                    : new LaneUnary<uint, uint, ReverseBits32>(d, a));
            case "bfe":
                Operands(4);
                (Slot value, Slot position, Slot length, Slot target) = (Source(1, type), Source(2, U32), Source(3, U32), Target(0, type));
                return Counted(InstructionClass.Integer, type switch
                {
                    U32 => new LaneTernary<uint, uint, uint, uint, ExtractBits<uint>>(target, value, position, length),
                    S32 => new LaneTernary<int, uint, uint, int, ExtractBits<int>>(target, value, position, length),
                    U64 => new LaneTernary<ulong, uint, uint, ulong, ExtractBits<ulong>>(target, value, position, length),
                    S64 => new LaneTernary<long, uint, uint, long, ExtractBits<long>>(target, value, position, length),
                    _ => throw Error("the type does not fit the instruction"),
                });
            default:
                Operands(5);
                Slot[] sources = [Source(1, type), Source(2, type), Source(3, U32), Source(4, U32)];
                return Counted(InstructionClass.Integer, wide
                    ? new LaneCall<ulong>(Target(0, type), sources, (x, y, at, n) => BitInsert.Of(x, y, (uint)at, (uint)n))
                    : new LaneCall<uint>(Target(0, type), sources, (x, y, at, n) => BitInsert.Of((uint)x, (uint)y, (uint)at, (uint)n)));
        }
    }

    private Op Permute(Modifiers modifiers)
    {
        modifiers.Type();
        modifiers.End();
        Operands(4);
        return Counted(InstructionClass.Integer,
            new LaneCall<uint>(Target(0, B32), [Source(1, B32), Source(2, B32), Source(3, B32)],
                (a, b, c, _) => ByteFunctions.Permute((uint)a, (uint)b, (uint)c)));
    }

    private Op Lookup(Modifiers modifiers)
    {
        modifiers.Type();
        modifiers.End();
        Operands(5);
        return Counted(InstructionClass.Integer,
            new LaneCall<uint>(Target(0, B32), [Source(1, B32), Source(2, B32), Source(3, B32), Source(4, B32)],
                (a, b, c, table) => ByteFunctions.Lookup((uint)a, (uint)b, (uint)c, (uint)table)));
    }

    private Op Funnel(Modifiers modifiers)
    {
        bool left = modifiers.OneOf("l", "r") == "l";
        bool wrap = modifiers.OneOf("wrap", "clamp") == "wrap";
        modifiers.Type();
        modifiers.End();
        Operands(4);
        return Counted(InstructionClass.Integer,
            new LaneCall<uint>(Target(0, B32), [Source(1, B32), Source(2, B32), Source(3, U32)],
                (a, b, c, _) => ByteFunctions.Funnel((uint)a, (uint)b, (uint)c, left, wrap)));
    }

    private Op DotProduct(Modifiers modifiers)
    {
        PtxType second = modifiers.Type();
        PtxType first = modifiers.Type();
        modifiers.End();
        Operands(4);
        return Counted(InstructionClass.Integer,
            new LaneCall<uint>(Target(0, B32), [Source(1, B32), Source(2, B32), Source(3, B32)],
                (a, b, c, _) => ByteFunctions.DotProduct((uint)a, (uint)b, (uint)c, first.IsSigned(), second.IsSigned())));
    }

    /// <summary>abs and neg of integers.</summary>
    private Op SignInteger(PtxType type)
    {
        Operands(2);
        (Slot a, Slot d) = (Source(1, type), Target(0, type));
        bool abs = _instruction.Opcode == "abs";
        return Counted(InstructionClass.Integer, type switch
        {
            S16 => abs ? new LaneUnary<short, short, Absolute<short>>(d, a) : new LaneUnary<short, short, Negate<short>>(d, a),
            S32 => abs ? new LaneUnary<int, int, Absolute<int>>(d, a) : new LaneUnary<int, int, Negate<int>>(d, a),
            S64 => abs ? new LaneUnary<long, long, Absolute<long>>(d, a) : new LaneUnary<long, long, Negate<long>>(d, a),
            _ => throw Error("the type does not fit the instruction"),
        });
    }

    private static Op Counted(InstructionClass @class, Op op)
    {
        op.Class = @class;
        return op;
    }
}
