namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>A 16-bit float format: f16 or bf16.</summary>
internal interface IHalfFormat
{
    static abstract double Widen(ushort bits);

    static abstract ushort Round(double value);
}

internal struct BinaryHalf : IHalfFormat
{
    public static double Widen(ushort bits) => (double)BitConverter.UInt16BitsToHalf(bits);

    public static ushort Round(double value) => Rounding.ToHalf(value, RoundingMode.Nearest);
}

internal struct BrainHalf : IHalfFormat
{
    public static double Widen(ushort bits) => BitConverter.UInt32BitsToSingle((uint)bits << 16);

    public static ushort Round(double value) => Rounding.ToBFloat16(value, RoundingMode.Nearest);
}

/// <summary>Functions on one or two packed 16-bit floats, each rounded once.</summary>
internal static class HalfFunctions
{
    /// <summary>Builds the lane function of an instruction.</summary>
    public static Func<ulong, ulong, ulong, ulong, uint>? Build<TFormat>(string name, bool packed, bool flush, bool saturate, bool nan)
        where TFormat : struct, IHalfFormat
    {
        Func<ushort, ushort, ushort, ushort>? one = name switch
        {
            "add" => (a, b, _) => TFormat.Round(Rounding.Add(TFormat.Widen(a), TFormat.Widen(b))),
            "sub" => (a, b, _) => TFormat.Round(Rounding.Add(TFormat.Widen(a), -TFormat.Widen(b))),
            "mul" => (a, b, _) => TFormat.Round(TFormat.Widen(a) * TFormat.Widen(b)),
            "fma" => (a, b, c) => TFormat.Round(Rounding.MultiplyAdd(TFormat.Widen(a), TFormat.Widen(b), TFormat.Widen(c))),
            "neg" => (a, _, _) => (ushort)(a ^ 0x8000),
            "abs" => (a, _, _) => (ushort)(a & 0x7FFF),
            "min" => (a, b, _) => Pick<TFormat>(a, b, least: true, nan),
            "max" => (a, b, _) => Pick<TFormat>(a, b, least: false, nan),
            "ex2" => (a, _, _) => TFormat.Round(Math.Pow(2, TFormat.Widen(a))),
            "tanh" => (a, _, _) => TFormat.Round(FloatTanhApproximation.Of((float)TFormat.Widen(a))),
            _ => null,
        };
        if (one is null)
            return null;
        Func<ushort, ushort, ushort, ushort> full = flush || saturate
            ? (a, b, c) =>
            Finish<TFormat>(one(Flush<TFormat>(a, flush), Flush<TFormat>(b, flush), Flush<TFormat>(c, flush)), flush, saturate)
            : one;
        return packed
            ? (a, b, c, _) => (uint)full((ushort)(a >> 16), (ushort)(b >> 16), (ushort)(c >> 16))
            << 16 | full((ushort)a, (ushort)b, (ushort)c)
            : (a, b, c, _) => full((ushort)a, (ushort)b, (ushort)c);
    }

    private static ushort Pick<TFormat>(ushort a, ushort b, bool least, bool nan)
        where TFormat : struct, IHalfFormat
    {
        double x = TFormat.Widen(a);
        double y = TFormat.Widen(b);
        if ((nan && (double.IsNaN(x) || double.IsNaN(y))) || (double.IsNaN(x) && double.IsNaN(y)))
            return 0x7FFF;
        return TFormat.Round(least ? double.MinNumber(x, y) : double.MaxNumber(x, y));
    }

    private static ushort Flush<TFormat>(ushort a, bool flush)
        where TFormat : struct, IHalfFormat => flush && typeof(TFormat) == typeof(BinaryHalf) && (a & 0x7C00) == 0 ? (ushort)(a & 0x8000)
        : a;

    private static ushort Finish<TFormat>(ushort a, bool flush, bool saturate)
        where TFormat : struct, IHalfFormat
    {
        if (!saturate)
            return Flush<TFormat>(a, flush);
        double value = TFormat.Widen(a);
        return TFormat.Round(value > 0 ? Math.Min(value, 1) : 0);
    }
}
