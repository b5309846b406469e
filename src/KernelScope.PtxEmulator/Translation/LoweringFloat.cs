using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Execution.Ops;
using KernelScope.PtxEmulator.Syntax;
using static KernelScope.PtxEmulator.Syntax.PtxType;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>Float arithmetic and the special functions.</summary>
internal sealed partial class Lowering
{
    /// <summary>add, sub, mul, div, fma, mad, min, max, rem of any type.</summary>
    private Op Arithmetic(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        if (IntegerArithmetic(modifiers, type) is { } op)
            return Counted(InstructionClass.Integer, op);
        return type switch
        {
            F32 => SingleArithmetic(modifiers),
            F64 => DoubleArithmetic(modifiers),
            F16 or F16X2 or BF16 or BF16X2 => HalfArithmetic(modifiers, type),
            _ => throw Error("the type does not fit the instruction"),
        };
    }

    private Op SingleArithmetic(Modifiers modifiers)
    {
        string opcode = _instruction.Opcode;
        RoundingMode rounding = Round(modifiers.TryOneOf("rn", "rz", "rm", "rp"));
        bool approximate = opcode == "div" && modifiers.TryOneOf("approx", "full") is not null;
        bool flush = modifiers.Take("ftz");
        bool saturate = modifiers.Take("sat");
        bool nan = opcode is "min" or "max" && modifiers.Take("NaN");
        modifiers.End();
        bool ternary = opcode is "fma" or "mad";
        Operands(ternary ? 4 : 3);
        Slot a = Source(1, F32);
        Slot b = Source(2, F32);
        Slot c = ternary ? Source(3, F32) : Slot.None;
        Slot d = Target(0, F32);
        InstructionClass @class = approximate ? InstructionClass.Special : InstructionClass.Float32;
        if (rounding != RoundingMode.Nearest)
            return Counted(@class, Directed(opcode, d, ternary ? [a, b, c] : [a, b], rounding, flush, saturate));
        return Counted(@class, opcode switch
        {
            "add" => Single2<FloatAdd>(d, a, b, flush, saturate),
            "sub" => Single2<FloatSubtract>(d, a, b, flush, saturate),
            "mul" => Single2<FloatMultiply>(d, a, b, flush, saturate),
            "div" => Single2<FloatDivide>(d, a, b, flush, saturate),
            "min" => nan ? Single2<FloatMinimumNan>(d, a, b, flush, saturate) : Single2<FloatMinimum>(d, a, b, flush, saturate),
            "max" => nan ? Single2<FloatMaximumNan>(d, a, b, flush, saturate) : Single2<FloatMaximum>(d, a, b, flush, saturate),
            "fma" or "mad" => Single3<FloatFusedMultiplyAdd>(d, a, b, c, flush, saturate),
            _ => throw Error("the type does not fit the instruction"),
        });
    }

    private static RoundingMode Round(string? name) => name switch
    {
        "rz" => RoundingMode.Zero,
        "rm" => RoundingMode.Down,
        "rp" => RoundingMode.Up,
        "rna" => RoundingMode.NearestAway,
        _ => RoundingMode.Nearest,
    };

    private static Op Single1<TF>(Slot d, Slot a, bool flush)
        where TF : struct, IVectorUnary<float> =>
        flush ? new VectorUnary<float, FlushInputs1<TF>>(d, a) : new VectorUnary<float, TF>(d, a);

    private static Op Single2<TF>(Slot d, Slot a, Slot b, bool flush, bool saturate)
        where TF : struct, IVectorBinary<float> => (flush, saturate) switch
        {
            (false, false) => new VectorBinary<float, TF>(d, a, b),
            (true, false) => new VectorBinary<float, FlushInputs2<TF>>(d, a, b),
            (false, true) => new VectorBinary<float, Saturated2<TF>>(d, a, b),
            _ => new VectorBinary<float, Saturated2<FlushInputs2<TF>>>(d, a, b),
        };

    private static Op Single3<TF>(Slot d, Slot a, Slot b, Slot c, bool flush, bool saturate)
        where TF : struct, IVectorTernary<float> => (flush, saturate) switch
        {
            (false, false) => new VectorTernary<float, TF>(d, a, b, c),
            (true, false) => new VectorTernary<float, FlushInputs3<TF>>(d, a, b, c),
            (false, true) => new VectorTernary<float, Saturated3<TF>>(d, a, b, c),
            _ => new VectorTernary<float, Saturated3<FlushInputs3<TF>>>(d, a, b, c),
        };

    /// <summary>Rounding other than to nearest: exact to odd in double, then rounded.</summary>
    private LaneCall<float> Directed(string opcode, Slot d, Slot[] sources, RoundingMode mode, bool flush, bool saturate)
    {
        Func<double, double, double, double> exact = opcode switch
        {
            "add" => (a, b, _) => Rounding.Add(a, b),
            "sub" => (a, b, _) => Rounding.Add(a, -b),
            "mul" => (a, b, _) => a * b,
            "fma" or "mad" => Rounding.MultiplyAdd,
            "div" => (a, b, _) => Rounding.Divide(a, b),
            "rcp" => (a, _, _) => Rounding.Divide(1, a),
            "sqrt" => (a, _, _) => Rounding.SquareRoot(a),
            _ => throw Error("the instruction takes no rounding"),
        };
        float Flush(ulong bits)
        {
            float value = BitConverter.UInt32BitsToSingle((uint)bits);
            return flush && float.IsSubnormal(value) ? MathF.CopySign(0, value) : value;
        }
        return new LaneCall<float>(d, sources, (a, b, c, _) =>
        {
            (float x, float y, float z) = (Flush(a), Flush(b), Flush(c));
            float value = Rounding.ToSingle(exact(x, y, z), mode);
            if (value == 0 && mode == RoundingMode.Down && opcode is "add" or "sub")
                value = IsPositiveZero(x) && IsPositiveZero(opcode == "sub" ? -y : y) ? 0 : -0.0f;
            value = Flush(BitConverter.SingleToUInt32Bits(value));
            if (saturate)
                value = value > 0 ? Math.Min(value, 1) : 0;
            return float.IsNaN(value) ? BitConverter.UInt32BitsToSingle(Single32.Nan) : value;
        });
    }

    private static bool IsPositiveZero(float value) => BitConverter.SingleToUInt32Bits(value) == 0;

    private Op DoubleArithmetic(Modifiers modifiers)
    {
        modifiers.Ignore("rn");
        modifiers.End();
        string opcode = _instruction.Opcode;
        bool ternary = opcode is "fma" or "mad";
        Operands(ternary ? 4 : 3);
        Slot a = Source(1, F64);
        Slot b = Source(2, F64);
        Slot c = ternary ? Source(3, F64) : Slot.None;
        Slot d = Target(0, F64);
        return Counted(InstructionClass.Float64, opcode switch
        {
            "add" => new VectorBinary<double, Add<double>>(d, a, b),
            "sub" => new VectorBinary<double, Subtract<double>>(d, a, b),
            "mul" => new VectorBinary<double, MultiplyLow<double>>(d, a, b),
            "div" => new VectorBinary<double, DoubleDivide>(d, a, b),
            "min" => new VectorBinary<double, DoubleMinimum>(d, a, b),
            "max" => new VectorBinary<double, DoubleMaximum>(d, a, b),
            "fma" or "mad" => new VectorTernary<double, DoubleFusedMultiplyAdd>(d, a, b, c),
            _ => throw Error("the type does not fit the instruction"),
        });
    }

    private Op HalfArithmetic(Modifiers modifiers, PtxType type)
    {
        string opcode = _instruction.Opcode;
        modifiers.Ignore("rn", "approx");
        bool flush = modifiers.Take("ftz");
        bool saturate = modifiers.Take("sat");
        bool nan = modifiers.Take("NaN");
        modifiers.End();
        bool packed = type is F16X2 or BF16X2;
        Func<ulong, ulong, ulong, ulong, uint> function = (type is F16 or F16X2
            ? HalfFunctions.Build<BinaryHalf>(opcode, packed, flush, saturate, nan)
            : HalfFunctions.Build<BrainHalf>(opcode, packed, flush, saturate, nan)) ?? throw Error("the type does not fit the instruction");
        Operands(2, 4);
        Slot[] sources = [.. Enumerable.Range(1, _instruction.Operands.Count - 1).Select(i => Source(i, type))];
        return Counted(InstructionClass.Float16, new LaneCall<uint>(Target(0, type), sources, function));
    }

    /// <summary>abs and neg of any type.</summary>
    private Op Sign(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        bool abs = _instruction.Opcode == "abs";
        if (type is F16 or F16X2 or BF16 or BF16X2)
            return HalfArithmetic(modifiers, type);
        bool flush = modifiers.Take("ftz");
        modifiers.End();
        if (type.IsSigned())
            return SignInteger(type);
        Operands(2);
        (Slot a, Slot d) = (Source(1, type), Target(0, type));
        return type switch
        {
            F32 => Counted(InstructionClass.Float32, abs ? Single1<FloatAbsolute>(d, a, flush) : Single1<FloatNegate>(d, a, flush)),
            F64 => Counted(InstructionClass.Float64, abs ? new VectorUnary<double, DoubleAbsolute>(d, a)
                : new VectorUnary<double, DoubleNegate>(d, a)),
            _ => throw Error("the type does not fit the instruction"),
        };
    }

    /// <summary>rcp, sqrt, rsqrt, ex2, lg2, sin, cos, tanh.</summary>
    private Op Special(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        string opcode = _instruction.Opcode;
        if (type is F16 or F16X2 or BF16 or BF16X2)
            return HalfArithmetic(modifiers, type);
        string? rounding = modifiers.TryOneOf("approx", "rn", "rz", "rm", "rp");
        if (rounding is null)
            throw Error("the instruction needs .approx or a rounding");
        bool exactOpcode = opcode is "rcp" or "sqrt";
        if (rounding != "approx" && !exactOpcode)
            throw Error($"{opcode} has only an .approx form");
        bool flush = opcode != "tanh" && modifiers.Take("ftz");
        modifiers.End();
        Operands(2);
        (Slot a, Slot d) = (Source(1, type), Target(0, type));
        if (type == F64)
            return Counted(InstructionClass.Float64, opcode switch
            {
                "rcp" when rounding == "rn" => new VectorUnary<double, DoubleReciprocal>(d, a),
                "sqrt" when rounding == "rn" => new VectorUnary<double, DoubleSquareRoot>(d, a),
                "rsqrt" => new VectorUnary<double, FloatReciprocalSquareRoot>(d, a),
                _ => throw Error("the type does not fit the instruction"),
            });
        if (type != F32)
            throw Error("the type does not fit the instruction");
        InstructionClass @class = rounding == "approx" ? InstructionClass.Special : InstructionClass.Float32;
        if (rounding is "rz" or "rm" or "rp")
            return Counted(@class, Directed(opcode, d, [a], Round(rounding), flush, saturate: false));
        return Counted(@class, opcode switch
        {
            "rcp" => Single1<FloatReciprocal>(d, a, flush),
            "sqrt" => Single1<FloatSquareRoot>(d, a, flush),
            "rsqrt" => Single1<FloatReciprocalSquareRoot>(d, a, flush),
            "ex2" => Single1<FloatExp2>(d, a, flush),
            "lg2" => Single1<FloatLog2>(d, a, flush),
            "tanh" => new LaneUnary<float, float, FloatTanhApproximation>(d, a),
            "sin" => new LaneUnary<float, float, FloatSineApproximation>(d, a),
            _ => new LaneUnary<float, float, FloatCosineApproximation>(d, a),
        });
    }

    private Op CopySign(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        modifiers.End();
        Operands(3);
        (Slot a, Slot b, Slot d) = (Source(1, type), Source(2, type), Target(0, type));
        return type switch
        {
            F32 => Counted(InstructionClass.Float32, new VectorBinary<uint, CopySign32>(d, a, b)),
            F64 => Counted(InstructionClass.Float64, new VectorBinary<ulong, CopySign64>(d, a, b)),
            _ => throw Error("the type does not fit the instruction"),
        };
    }
}
