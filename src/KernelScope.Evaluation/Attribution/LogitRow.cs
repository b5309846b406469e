using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace KernelScope.Attribution;

/// <summary>Sums over a row of logits, in double, in a fixed order: eight lanes on every machine.</summary>
internal static class LogitRow
{
    private static readonly int Lanes = Vector512<double>.Count;

    /// <summary>log Σ_v exp(l_v), and the probabilities exp(l_v − that).</summary>
    public static double LogSumExp(ReadOnlySpan<float> logits, Span<double> probabilities)
    {
        double logSum = Weigh(logits, probabilities, out double scale);
        int v = 0;
        for (; v <= logits.Length - Lanes; v += Lanes)
            (Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(probabilities), (nuint)v) * scale).StoreUnsafe(
                ref MemoryMarshal.GetReference(probabilities), (nuint)v);
        for (; v < logits.Length; v++)
            probabilities[v] *= scale;
        return logSum;
    }

    /// <summary>log Σ_v exp(l_v), and weights w_v = exp(l_v − max l), of which <paramref name="scale"/> makes probabilities.</summary>
    public static double Weigh(ReadOnlySpan<float> logits, Span<double> weights, out double scale)
    {
        double max = Max(logits), sum = SumWeights(logits, max, weights);
        for (int v = logits.Length / Lanes * Lanes; v < logits.Length; v++)
            sum += weights[v] = Math.Exp(logits[v] - max);
        scale = 1 / sum;
        return max + Math.Log(sum);
    }

    /// <summary>log Σ_v exp(q_v), and Σ_v w_v (l_v − q_v) and max_v |l_v − q_v| on the way.</summary>
    public static double LogSumExp(ReadOnlySpan<float> q, ReadOnlySpan<float> clean, ReadOnlySpan<double> weights, out double cross,
        out double largest)
    {
        double max = Max(q), sum = SumDifferences(q, max, clean, weights, out cross, out largest);
        for (int v = q.Length / Lanes * Lanes; v < q.Length; v++)
        {
            double difference = (double)clean[v] - q[v];
            sum += Math.Exp(q[v] - max);
            cross += weights[v] * difference;
            largest = Math.Max(largest, Math.Abs(difference));
        }

        return max + Math.Log(sum);
    }

    // The loops over whole vectors stand alone: beside a call, which keeps no vector register, their sums would go through memory at every step.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static double SumWeights(ReadOnlySpan<float> logits, double max, Span<double> weights)
    {
        Vector512<double> sums = Vector512<double>.Zero, shift = Vector512.Create(max);
        for (int v = 0; v <= logits.Length - Lanes; v += Lanes)
        {
            Vector512<double> e = Exp(Widen(logits, v) - shift);
            e.StoreUnsafe(ref MemoryMarshal.GetReference(weights), (nuint)v);
            sums += e;
        }

        return Vector512.Sum(sums);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static double SumDifferences(ReadOnlySpan<float> q, double max, ReadOnlySpan<float> clean, ReadOnlySpan<double> weights,
        out double cross, out double largest)
    {
        Vector512<double> sums = Vector512<double>.Zero, crosses = Vector512<double>.Zero, most = Vector512<double>.Zero,
            shift = Vector512.Create(max);
        for (int v = 0; v <= q.Length - Lanes; v += Lanes)
        {
            Vector512<double> logit = Widen(q, v), difference = Widen(clean, v) - logit;
            sums += Exp(logit - shift);
            crosses = Vector512.FusedMultiplyAdd(Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(weights), (nuint)v),
                difference, crosses);
            most = Vector512.MaxNative(most, Vector512.Abs(difference));
        }

        cross = Vector512.Sum(crosses);
        Vector256<double> four = Vector256.MaxNative(most.GetLower(), most.GetUpper());
        largest = Math.Max(Math.Max(four[0], four[1]), Math.Max(four[2], four[3]));
        return Vector512.Sum(sums);
    }

    /// <summary>
    /// eˣ for x ≤ 0, as logits less their largest are; NaN for NaN, and e⁻⁷⁰⁸ (3·10⁻³⁰⁸) for what is smaller. The error is at most 2·10⁻¹⁶ of the value for x near 0 and grows by 3·10⁻¹⁷·|x|, where the value shrinks by more:
    /// in sums whose largest term is 1, that is the rounding of doubles.
    /// </summary>
    /// <remarks>
    /// x = n·ln 2 + r with |r| ≤ ½ ln 2; eʳ = 1 + r + r²·Q(r) with Q of degree 9, interpolated at the Chebyshev nodes (relative error below 2·10⁻¹⁷, before rounding). n is rounded into the low bits
    /// of a double by adding 1.5·2⁵², and from there shifted into the result's exponent. The polynomial goes by pairs of terms (Estrin): one long chain of steps would keep the processor waiting.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<double> Exp(Vector512<double> x)
    {
        const double Magic = 6755399441055744.0, Log2E = 1.4426950408889634, Ln2 = 0.6931471805599453;
        // The second operand comes back where either is NaN.
        Vector512<double> inRange = Vector512.MaxNative(Vector512.Create(-708.0), x);
        var magic = Vector512.Create(Magic);
        Vector512<double> turned = Vector512.FusedMultiplyAdd(inRange, Vector512.Create(Log2E), magic);
        Vector512<double> r = Vector512.FusedMultiplyAdd(turned - magic, Vector512.Create(-Ln2), inRange);
        Vector512<double> r2 = r * r, r4 = r2 * r2;
        Vector512<double> c0 = Vector512<double>.One + r;
        Vector512<double> c2 = Vector512.FusedMultiplyAdd(Vector512.Create(0.16666666666666669), r, Vector512.Create(0.5));
        Vector512<double> c4 =
            Vector512.FusedMultiplyAdd(Vector512.Create(0.008333333333330065), r, Vector512.Create(0.041666666666624164));
        Vector512<double> c6 =
            Vector512.FusedMultiplyAdd(Vector512.Create(0.00019841269863040545), r, Vector512.Create(0.0013888888917196719));
        Vector512<double> c8 =
            Vector512.FusedMultiplyAdd(Vector512.Create(2.7557268480310024e-06), r, Vector512.Create(2.4801521322368692e-05));
        Vector512<double> c10 =
            Vector512.FusedMultiplyAdd(Vector512.Create(2.5100375832561234e-08), r, Vector512.Create(2.7620075879983367e-07));
        Vector512<double> low = Vector512.FusedMultiplyAdd(c2, r2, c0), middle = Vector512.FusedMultiplyAdd(c6, r2, c4),
            high = Vector512.FusedMultiplyAdd(c10, r2, c8);
        Vector512<double> p = Vector512.FusedMultiplyAdd(Vector512.FusedMultiplyAdd(high, r4, middle), r4, low);
        return (p.AsInt64() + (turned.AsInt64() << 52)).AsDouble();
    }

    /// <summary>Eight values in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<double> Widen(ReadOnlySpan<float> values, int at)
    {
        Vector256<float> eight = Vector256.LoadUnsafe(ref MemoryMarshal.GetReference(values), (nuint)at);
        return Avx512F.IsSupported ? Avx512F.ConvertToVector512Double(eight)
            : Vector512.Create(Vector256.WidenLower(eight), Vector256.WidenUpper(eight));
    }

    /// <summary>The largest value; one that is not a number may be passed over, and shows in the sums instead.</summary>
    private static float Max(ReadOnlySpan<float> values)
    {
        int width = Vector512<float>.Count, v = 0;
        float max = float.NegativeInfinity;
        if (values.Length >= 2 * width)
        {
            Vector512<float> even = Vector512.Create(max), odd = even;
            for (; v <= values.Length - (2 * width); v += 2 * width)
            {
                even = Vector512.MaxNative(even, Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(values), (nuint)v));
                odd = Vector512.MaxNative(odd, Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(values), (nuint)(v + width)));
            }

            even = Vector512.MaxNative(even, odd);
            for (int lane = 0; lane < width; lane++)
                max = MathF.Max(max, even[lane]);
        }

        for (; v < values.Length; v++)
            max = MathF.Max(max, values[v]);
        return max;
    }
}
