namespace KernelScope.PtxEmulator.Execution;

/// <summary>PTX's rounding modes.</summary>
internal enum RoundingMode
{
    /// <summary>.rn</summary>
    Nearest,

    /// <summary>.rz</summary>
    Zero,

    /// <summary>.rm</summary>
    Down,

    /// <summary>.rp</summary>
    Up,

    /// <summary>.rna: halves away from zero.</summary>
    NearestAway,
}

/// <summary>
/// Rounding that the processor does not offer. Exact results are first brought to double "to odd" (an inexact one gets an odd last bit), after
/// which any rounding to a format of at most 51 bits is that of the exact result.
/// </summary>
internal static class Rounding
{
    /// <summary>a + b to odd.</summary>
    public static double Add(double a, double b)
    {
        double sum = a + b;
        if (!double.IsFinite(sum))
            return sum;
        double bb = sum - a;
        return ToOdd(sum, a - (sum - bb) + (b - bb));
    }

    /// <summary>a · b + c to odd, for operands whose product is exact in double.</summary>
    public static double MultiplyAdd(double a, double b, double c) => Add(a * b, c);

    /// <summary>a / b to odd.</summary>
    public static double Divide(double a, double b)
    {
        double quotient = a / b;
        if (!double.IsFinite(quotient) || quotient == 0)
            return quotient;
        double residual = Math.FusedMultiplyAdd(-quotient, b, a);
        return ToOdd(quotient, b < 0 ? -residual : residual);
    }

    /// <summary>√a to odd.</summary>
    public static double SquareRoot(double a)
    {
        double root = Math.Sqrt(a);
        return double.IsFinite(root) && root != 0 ? ToOdd(root, Math.FusedMultiplyAdd(-root, root, a)) : root;
    }

    /// <summary>An integer to odd.</summary>
    public static double FromInteger(Int128 value)
    {
        double nearest = (double)value;
        return ToOdd(nearest, (double)(value - (Int128)nearest));
    }

    /// <summary>Rounds an integer to double.</summary>
    public static double ToDouble(Int128 value, RoundingMode mode)
    {
        double nearest = (double)value;
        Int128 error = value - (Int128)nearest;
        bool wantsLower = mode == RoundingMode.Down || (mode == RoundingMode.Zero && value > 0);
        if (mode == RoundingMode.Nearest || error == 0 || (error < 0) != wantsLower)
            return nearest;
        return wantsLower ? Math.BitDecrement(nearest) : Math.BitIncrement(nearest);
    }

    /// <summary>Rounds to single.</summary>
    public static float ToSingle(double exact, RoundingMode mode)
    {
        float nearest = (float)exact;
        if (mode == RoundingMode.Nearest || double.IsNaN(exact) || nearest == exact)
            return nearest;
        bool tooHigh = nearest > exact;
        bool wantsLower = mode == RoundingMode.Down || (mode == RoundingMode.Zero && exact > 0);
        if (tooHigh == wantsLower)
            return wantsLower ? MathF.BitDecrement(nearest) : MathF.BitIncrement(nearest);
        return nearest;
    }

    /// <summary>Rounds to half; the bits.</summary>
    public static ushort ToHalf(double exact, RoundingMode mode)
    {
        if (double.IsNaN(exact))
            return 0x7FFF;
        Half nearest = (Half)exact;
        if (mode != RoundingMode.Nearest && (double)nearest != exact)
        {
            bool wantsLower = mode == RoundingMode.Down || (mode == RoundingMode.Zero && exact > 0);
            if ((double)nearest > exact == wantsLower)
                nearest = wantsLower ? Half.BitDecrement(nearest) : Half.BitIncrement(nearest);
        }
        return BitConverter.HalfToUInt16Bits(nearest);
    }

    /// <summary>Rounds to bfloat16; the bits. Exact for doubles "to odd" because truncation to single keeps what lies below as a sticky bit.</summary>
    public static ushort ToBFloat16(double exact, RoundingMode mode)
    {
        if (double.IsNaN(exact))
            return 0x7FFF;
        float cut = ToSingle(exact, RoundingMode.Zero);
        uint bits = BitConverter.SingleToUInt32Bits(cut);
        bool sticky = cut != exact || (bits & 0x7FFF) != 0;
        uint kept = bits >> 16;
        bool half = (bits & 0x8000) != 0;
        bool negative = (bits & 0x8000_0000) != 0;
        if (float.IsInfinity(cut))
            return (ushort)kept;
        bool up = mode switch
        {
            RoundingMode.Nearest => half && (sticky || (kept & 1) != 0),
            RoundingMode.NearestAway => half,
            RoundingMode.Down => negative && (half || sticky),
            RoundingMode.Up => !negative && (half || sticky),
            _ => false,
        };
        return (ushort)(up ? kept + 1 : kept);
    }

    /// <summary>Rounds to tf32 (10 bits of fraction), as single.</summary>
    public static uint ToTf32(float value, RoundingMode mode)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        if (float.IsNaN(value))
            return Ops.Single32.Nan;
        if (float.IsInfinity(value))
            return bits;
        uint add = mode switch
        {
            RoundingMode.NearestAway => 0x1000u,
            RoundingMode.Nearest => 0xFFFu + (bits >> 13 & 1),
            _ => 0,
        };
        return (bits + add) & ~0x1FFFu;
    }

    private static double ToOdd(double nearest, double error)
    {
        if (error == 0 || (BitConverter.DoubleToInt64Bits(nearest) & 1) != 0)
            return nearest;
        return error > 0 ? Math.BitIncrement(nearest) : Math.BitDecrement(nearest);
    }
}
