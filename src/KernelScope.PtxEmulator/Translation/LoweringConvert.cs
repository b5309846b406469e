using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Execution.Ops;
using KernelScope.PtxEmulator.Syntax;
using static KernelScope.PtxEmulator.Syntax.PtxType;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>cvt, mov, comparisons and selection.</summary>
internal sealed partial class Lowering
{
    private Op Convert(Modifiers modifiers)
    {
        PtxType from = modifiers.Type();
        PtxType to = modifiers.Type();
        RoundingMode? integral = modifiers.TryOneOf("rni", "rzi", "rmi", "rpi") is { } name ? Round(name[..2]) : null;
        string? rounding = modifiers.TryOneOf("rn", "rz", "rm", "rp", "rna");
        bool flush = modifiers.Take("ftz");
        bool saturate = modifiers.Take("sat");
        bool relu = modifiers.Take("relu");
        modifiers.End();
        if (to is BF16X2 or F16X2)
            return ConvertPair(to, from, Round(rounding), relu);
        Operands(2);
        CheckRounding(from, to, rounding, integral);
        var conversion = new Conversion(from, to, Round(rounding), integral, flush, saturate, relu);
        Slot a = Source(1, from, widerAllowed: true);
        Slot d = Target(0, to, widerAllowed: true);
        return Counted(InstructionClass.Convert, Fast(conversion, d, a) ?? General(conversion, d, a));
    }

    private void CheckRounding(PtxType from, PtxType to, string? rounding, RoundingMode? integral)
    {
        if (from is F16X2 or BF16X2 or Pred || to is Pred)
            throw Error("the types do not fit the instruction");
        bool loses = to.IsFloat() && (!from.IsFloat() || to.Bits() < from.Bits() || to == TF32);
        if (loses && rounding is null && integral is null)
            throw Error("the conversion loses digits and needs a rounding");
        if (from.IsFloat() && !to.IsFloat() && integral is null)
            throw Error("a float to integer conversion needs an integer rounding");
    }

    private Op ConvertPair(PtxType to, PtxType from, RoundingMode rounding, bool relu)
    {
        if (from != F32)
            throw Error("the types do not fit the instruction");
        Operands(3);
        (Slot a, Slot b, Slot d) = (Source(1, F32), Source(2, F32), Target(0, to));
        if (rounding == RoundingMode.Nearest && !relu)
            return Counted(InstructionClass.Convert, to == BF16X2
                ? new LaneBinary<float, float, uint, SinglesToBFloat16X2>(d, a, b)
                : new LaneBinary<float, float, uint, SinglesToHalfX2>(d, a, b));
        var one = new Conversion(F32, to == BF16X2 ? BF16 : F16, rounding, null, false, false, relu);
        return Counted(InstructionClass.Convert, new LaneCall<uint>(d, [a, b], (x, y, _, _) => (uint)(one.Of(x) << 16 | one.Of(y))));
    }

    private static Op General(Conversion conversion, Slot d, Slot a)
    {
        ulong kept = d.Bits == 16 ? 0xFFFFu : ulong.MaxValue;
        return d.Bits == 64
            ? new LaneCall<ulong>(d, [a], (x, _, _, _) => conversion.Of(x))
            : new LaneCall<uint>(d, [a], (x, _, _, _) => (uint)(conversion.Of(x) & kept));
    }

    /// <summary>The conversions that kernels are full of; null for the others.</summary>
    private static Op? Fast(Conversion conversion, Slot d, Slot a)
    {
        if (conversion.Flush || conversion.Saturate || conversion.Relu || d.Bits != RegisterBits(conversion.To)
            || conversion.To.Bits() == 8)
            return null;
        bool nearest = conversion.Rounding == RoundingMode.Nearest;
        return (conversion.From, conversion.To, conversion.ToIntegral) switch
        {
            (S32 or B32, S64 or U64 or B64, null) when conversion.From.IsSigned() => new LaneUnary<int, long, Truncate<int, long>>(d, a),
            (U32 or B32, S64 or U64 or B64, null) => new LaneUnary<uint, ulong, Truncate<uint, ulong>>(d, a),
            (S64 or U64 or B64, S32 or U32 or B32, null) => new LaneUnary<ulong, uint, Truncate<ulong, uint>>(d, a),
            (U8, S32 or U32 or B32, null) => new LaneUnary<byte, uint, Truncate<byte, uint>>(d, a),
            (S8, S32 or U32 or B32, null) => new LaneUnary<sbyte, int, Truncate<sbyte, int>>(d, a),
            (U16 or B16, S32 or U32 or B32, null) => new LaneUnary<ushort, uint, Truncate<ushort, uint>>(d, a),
            (S16, S32 or U32 or B32, null) => new LaneUnary<short, int, Truncate<short, int>>(d, a),
            (S32 or U32 or B32, S16 or U16 or B16, null) => new LaneUnary<uint, ushort, Truncate<uint, ushort>>(d, a),
            (S32, F32, null) when nearest => new LaneUnary<int, float, IntToSingle>(d, a),
            (F16, F32, null) => new LaneUnary<ushort, float, HalfToSingle>(d, a),
            (F32, F16, null) when nearest => new LaneUnary<float, ushort, SingleToHalf>(d, a),
            (F32, BF16, null) when nearest => new LaneUnary<float, ushort, SingleToBFloat16>(d, a),
            (F32, F64, null) => new LaneUnary<float, double, SingleToDouble>(d, a),
            (F64, F32, null) when nearest => new LaneUnary<double, float, DoubleToSingle>(d, a),
            (F32, F32, RoundingMode.Nearest) => new VectorUnary<float, RoundToEven>(d, a),
            (F32, F32, RoundingMode.Zero) => new VectorUnary<float, RoundToZero>(d, a),
            (F32, F32, RoundingMode.Down) => new VectorUnary<float, RoundDown>(d, a),
            (F32, F32, RoundingMode.Up) => new VectorUnary<float, RoundUp>(d, a),
            _ => null,
        };
    }

    private Op Move(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        modifiers.End();
        Operands(2);
        if (type == Pred)
            return MovePredicate();
        if (At(1) is VectorOperand from)
        {
            PtxType part = Part(type, from.Items.Count);
            return Counted(InstructionClass.Convert, new Pack(Target(0, type), Sources(from, part), part.Bits()));
        }
        if (At(0) is VectorOperand to)
        {
            PtxType part = Part(type, to.Items.Count);
            Slot whole = Source(1, type);
            return Counted(InstructionClass.Convert, new Unpack(Targets(to, part, sinkAllowed: true), whole, part.Bits()));
        }
        if (At(1) is SpecialOperand { Name: "%clock" or "%clock_hi" or "%clock64" or "%globaltimer" } clock)
            return Counted(InstructionClass.Move, new ReadClock(Target(0, type), clock.Name == "%clock_hi"));
        (Slot a, Slot d) = (Source(1, type), Target(0, type));
        return Counted(InstructionClass.Move, type.Bits() == 64 ? new VectorUnary<ulong, Copy<ulong>>(d, a)
            : new VectorUnary<uint, Copy<uint>>(d, a));
    }

    private PtxType Part(PtxType type, int count) => (type.Bits(), count) switch
    {
        (32, 2) => B16,
        (64, 2) => B32,
        (64, 4) => B16,
        _ => throw Error($"a value of {type.Bits()} bits is not packed in {count} parts here"),
    };

    private Op MovePredicate()
    {
        Slot target = PredicateTarget(At(0));
        if (At(1) is ImmediateOperand immediate)
        {
            uint value = immediate.Value.Bits != 0 ? uint.MaxValue : 0;
            return Counted(InstructionClass.Compare, new PredicateLogic(target, Slot.None, false, Slot.None, false, (_, _) => value));
        }
        (Slot source, bool negated) = Predicate(At(1));
        return Counted(InstructionClass.Compare, new PredicateLogic(target, source, negated, Slot.None, false, (x, _) => x));
    }

    private Op SetPredicateOp(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        (Comparison comparison, bool unordered, string name) = ComparisonOf(modifiers);
        string? join = modifiers.TryOneOf("and", "or", "xor");
        bool flush = modifiers.Take("ftz");
        modifiers.End();
        Operands(join is null ? 3 : 4);
        Comparer comparer = CompareWith(type, comparison, unordered, name, flush);
        (Slot other, bool negated) = join is null ? (Slot.None, false) : Predicate(At(3));
        (Operand p, Operand? q) = At(0) is PairOperand pair ? (pair.First, pair.Second) : (At(0), null);
        BooleanJoin how = join switch { null => BooleanJoin.None, "and" => BooleanJoin.And, "or" => BooleanJoin.Or, _ => BooleanJoin.Xor };
        return Counted(InstructionClass.Compare,
            new SetPredicate(PredicateTarget(p), q is null ? Slot.None : PredicateTarget(q), comparer, how, other, negated));
    }

    private Op SetValueOp(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        PtxType result = modifiers.Type();
        (Comparison comparison, bool unordered, string name) = ComparisonOf(modifiers);
        bool flush = modifiers.Take("ftz");
        modifiers.End();
        Operands(3);
        if (result is not (U32 or S32 or F32))
            throw Error("set gives u32, s32 or f32");
        Comparer comparer = CompareWith(type, comparison, unordered, name, flush);
        return Counted(InstructionClass.Compare,
            new SetValue(Target(0, result), comparer, result == F32 ? BitConverter.SingleToUInt32Bits(1) : uint.MaxValue));
    }

    private static (Comparison Comparison, bool Unordered, string Name) ComparisonOf(Modifiers modifiers)
    {
        string name =
            modifiers.OneOf("eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu",
                "geu", "num", "nan");
        bool unordered = name.Length == 3 && name.EndsWith('u');
        Comparison comparison = name[..2] switch
        {
            "eq" => Comparison.Equal,
            "ne" => Comparison.NotEqual,
            "lt" or "lo" => Comparison.Less,
            "le" or "ls" => Comparison.LessEqual,
            "gt" or "hi" => Comparison.Greater,
            "ge" or "hs" => Comparison.GreaterEqual,
            "nu" => Comparison.Numbers,
            _ => Comparison.NotNumbers,
        };
        return (comparison, unordered, name);
    }

    private Comparer CompareWith(PtxType type, Comparison comparison, bool unordered, string name, bool flush)
    {
        bool floatOnly = unordered || name is "num" or "nan";
        bool unsignedOnly = name is "lo" or "ls" or "hi" or "hs";
        if ((floatOnly && !type.IsFloat()) || (unsignedOnly && (type.IsSigned() || type.IsFloat())) || (flush && type != F32))
            throw Error($"the comparison .{name} does not fit .{type.Name()}");
        (Slot a, Slot b) = (Source(1, type), Source(2, type));
        return type switch
        {
            U32 or B32 => new VectorComparer<uint>(a, b, comparison, unordered),
            S32 => new VectorComparer<int>(a, b, comparison, unordered),
            U64 or B64 => new VectorComparer<ulong>(a, b, comparison, unordered),
            S64 => new VectorComparer<long>(a, b, comparison, unordered),
            F32 => new VectorComparer<float>(a, b, comparison, unordered, flush),
            F64 => new VectorComparer<double>(a, b, comparison, unordered),
            U16 or B16 => new NarrowComparer<ushort>(a, b, comparison, unordered),
            S16 => new NarrowComparer<short>(a, b, comparison, unordered),
            F16 => new NarrowComparer<Half>(a, b, comparison, unordered),
            BF16 => new BrainComparer(a, b, comparison, unordered),
            _ => throw Error("the type does not fit the instruction"),
        };
    }

    private Op SelectOp(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        modifiers.End();
        Operands(4);
        (Slot a, Slot b, Slot d) = (Source(1, type), Source(2, type), Target(0, type));
        (Slot p, bool negated) = Predicate(At(3));
        return Counted(InstructionClass.Compare, type.Bits() == 64 ? new Select<ulong>(d, a, b, p, negated)
            : new Select<uint>(d, a, b, p, negated));
    }

    private Op TestProperty(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        string property = modifiers.OneOf("finite", "infinite", "number", "notanumber", "normal", "subnormal");
        modifiers.End();
        Operands(2);
        if (type is not (F32 or F64))
            throw Error("the type does not fit the instruction");
        Func<double, bool> test = property switch
        {
            "finite" => double.IsFinite,
            "infinite" => double.IsInfinity,
            "number" => x => !double.IsNaN(x),
            "notanumber" => double.IsNaN,
            "normal" => type == F64 ? double.IsNormal : x => float.IsNormal((float)x),
            _ => type == F64 ? double.IsSubnormal : x => float.IsSubnormal((float)x),
        };
        return Counted(InstructionClass.Compare, new TestFloat(PredicateTarget(At(0)), Source(1, type), test, type == F64));
    }
}
