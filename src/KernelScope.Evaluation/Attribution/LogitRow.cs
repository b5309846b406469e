using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace KernelScope.Attribution;

/// <summary>Sums over a row of logits, in double, in a fixed order: eight lanes on every machine.</summary>
internal static class LogitRow
{
    private static readonly int Lanes = Vector512<double>.Count;

    /// <summary>log Σ_v exp(l_v), and the probabilities exp(l_v − that).</summary>
    public static double LogSumExp(ReadOnlySpan<float> logits, Span<double> probabilities)
    {
        double max = Max(logits), sum = 0;
        Vector512<double> sums = Vector512<double>.Zero, shift = Vector512.Create(max);
        int v = 0;
        for (; v <= logits.Length - Lanes; v += Lanes)
        {
            Vector512<double> e = Vector512.Exp(Widen(logits, v) - shift);
            e.StoreUnsafe(ref MemoryMarshal.GetReference(probabilities), (nuint)v);
            sums += e;
        }

        for (; v < logits.Length; v++)
            sum += probabilities[v] = Math.Exp(logits[v] - max);
        sum += Vector512.Sum(sums);
        double scale = 1 / sum;
        for (v = 0; v <= logits.Length - Lanes; v += Lanes)
            (Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(probabilities), (nuint)v) * scale).StoreUnsafe(ref MemoryMarshal.GetReference(probabilities), (nuint)v);
        for (; v < logits.Length; v++)
            probabilities[v] *= scale;
        return max + Math.Log(sum);
    }

    /// <summary>log Σ_v exp(q_v), and Σ_v p_v (l_v − q_v) and max_v |l_v − q_v| on the way.</summary>
    public static double LogSumExp(ReadOnlySpan<float> q, ReadOnlySpan<float> clean, ReadOnlySpan<double> probabilities, out double cross, out double largest)
    {
        double max = Max(q), sum = 0;
        Vector512<double> sums = Vector512<double>.Zero, crosses = Vector512<double>.Zero, most = Vector512<double>.Zero, shift = Vector512.Create(max);
        int v = 0;
        for (; v <= q.Length - Lanes; v += Lanes)
        {
            Vector512<double> logit = Widen(q, v), difference = Widen(clean, v) - logit;
            sums += Vector512.Exp(logit - shift);
            crosses += Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(probabilities), (nuint)v) * difference;
            most = Vector512.Max(most, Vector512.Abs(difference));
        }

        cross = 0;
        largest = 0;
        for (; v < q.Length; v++)
        {
            double difference = (double)clean[v] - q[v];
            sum += Math.Exp(q[v] - max);
            cross += probabilities[v] * difference;
            largest = Math.Max(largest, Math.Abs(difference));
        }

        cross += Vector512.Sum(crosses);
        for (int lane = 0; lane < Lanes; lane++)
            largest = Math.Max(largest, most[lane]);
        return max + Math.Log(sum + Vector512.Sum(sums));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Widen(ReadOnlySpan<float> values, int at)
    {
        Vector256<float> eight = Vector256.LoadUnsafe(ref MemoryMarshal.GetReference(values), (nuint)at);
        return Vector512.Create(Vector256.WidenLower(eight), Vector256.WidenUpper(eight));
    }

    private static double Max(ReadOnlySpan<float> values)
    {
        float max = float.NegativeInfinity;
        int v = 0;
        if (values.Length >= Vector256<float>.Count)
        {
            var most = Vector256.Create(max);
            for (; v <= values.Length - Vector256<float>.Count; v += Vector256<float>.Count)
                most = Vector256.Max(most, Vector256.LoadUnsafe(ref MemoryMarshal.GetReference(values), (nuint)v));
            for (int lane = 0; lane < Vector256<float>.Count; lane++)
                max = MathF.Max(max, most[lane]);
        }

        for (; v < values.Length; v++)
            max = MathF.Max(max, values[v]);
        return max;
    }
}
