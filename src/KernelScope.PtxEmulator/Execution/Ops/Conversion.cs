using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>The general form of cvt: any numeric type to any other, through an exact intermediate.</summary>
/// <param name="From">Source type.</param>
/// <param name="To">Result type.</param>
/// <param name="Rounding">Of float results.</param>
/// <param name="ToIntegral">Rounding to an integer, for float sources; null if none is asked for.</param>
/// <param name="Flush">.ftz</param>
/// <param name="Saturate">.sat</param>
/// <param name="Relu">.relu</param>
internal sealed record Conversion(PtxType From, PtxType To, RoundingMode Rounding, RoundingMode? ToIntegral, bool Flush,
    bool Saturate, bool Relu)
{
    /// <summary>The converted value's bits, extended by its sign or zeros to 64.</summary>
    public ulong Of(ulong bits)
    {
        if (!From.IsFloat())
        {
            Int128 integer = Integer(bits);
            if (To == PtxType.F64)
                return BitConverter.DoubleToUInt64Bits(Execution.Rounding.ToDouble(integer, Rounding));
            return To.IsFloat() ? FloatBits(Execution.Rounding.FromInteger(integer)) : IntegerBits(integer);
        }
        double value = Float(bits);
        if (ToIntegral is { } mode)
            value = Integral(value, mode);
        return To.IsFloat() ? FloatBits(value) : IntegerBits(value);
    }

    private Int128 Integer(ulong bits) => From switch
    {
        PtxType.S8 => (sbyte)bits,
        PtxType.S16 => (short)bits,
        PtxType.S32 => (int)bits,
        PtxType.S64 => (long)bits,
        PtxType.U8 or PtxType.B8 => (byte)bits,
        PtxType.U16 or PtxType.B16 => (ushort)bits,
        PtxType.U32 or PtxType.B32 => (uint)bits,
        _ => bits,
    };

    private double Float(ulong bits)
    {
        switch (From)
        {
            case PtxType.F16:
                return (double)BitConverter.UInt16BitsToHalf((ushort)bits);
            case PtxType.BF16:
                return BitConverter.UInt32BitsToSingle((uint)bits << 16);
            case PtxType.F64:
                return BitConverter.UInt64BitsToDouble(bits);
            default:
                float value = BitConverter.UInt32BitsToSingle((uint)bits);
                return Flush && float.IsSubnormal(value) ? MathF.CopySign(0, value) : value;
        }
    }

    private static double Integral(double value, RoundingMode mode) => mode switch
    {
        RoundingMode.Zero => Math.Truncate(value),
        RoundingMode.Down => Math.Floor(value),
        RoundingMode.Up => Math.Ceiling(value),
        _ => Math.Round(value, MidpointRounding.ToEven),
    };

    private (Int128 Least, Int128 Most) Range() => To.IsSigned()
        ? (-(Int128.One << (To.Bits() - 1)), (Int128.One << (To.Bits() - 1)) - 1)
        : (0, (Int128.One << To.Bits()) - 1);

    private ulong IntegerBits(Int128 value)
    {
        (Int128 least, Int128 most) = Range();
        if (Saturate)
            value = Int128.Clamp(value, least, most);
        ulong kept = (ulong)value & (ulong)((UInt128.One << To.Bits()) - 1);
        int unused = 64 - To.Bits();
        return To.IsSigned() ? (ulong)((long)(kept << unused) >> unused) : kept;
    }

    /// <summary>Floats are always limited to the result's range; NaN gives 0.</summary>
    private ulong IntegerBits(double value)
    {
        if (double.IsNaN(value))
            return 0;
        (Int128 least, Int128 most) = Range();
        Int128 limited = value <= (double)least ? least : value >= (double)most ? most : (Int128)value;
        return IntegerBits(limited);
    }

    private ulong FloatBits(double value)
    {
        if (Saturate)
            value = value > 0 ? Math.Min(value, 1) : 0;
        if (Relu && value < 0)
            value = 0;
        switch (To)
        {
            case PtxType.F64:
                return BitConverter.DoubleToUInt64Bits(value);
            case PtxType.F16:
                return Execution.Rounding.ToHalf(value, Rounding);
            case PtxType.BF16:
                return Execution.Rounding.ToBFloat16(value, Rounding);
            case PtxType.TF32:
                return Execution.Rounding.ToTf32((float)value, Rounding);
            default:
                if (double.IsNaN(value))
                    return Single32.Nan;
                float result = Execution.Rounding.ToSingle(value, Rounding);
                return BitConverter.SingleToUInt32Bits(Flush && float.IsSubnormal(result) ? MathF.CopySign(0, result) : result);
        }
    }
}
