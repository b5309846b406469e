using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace KernelScope.Attribution;

/// <summary>Sums over a row of activations, in double, in a fixed order: eight lanes on every machine.</summary>
internal static class RowSums
{
    private static readonly int Lanes = Vector512<double>.Count;

    /// <summary>Σ_j (y_j − mean_j)².</summary>
    public static double SquaredDistance(ReadOnlySpan<float> y, ReadOnlySpan<double> mean)
    {
        double sum = 0;
        Vector512<double> sums = default;
        int j = 0;
        for (; j <= y.Length - Lanes; j += Lanes)
        {
            Vector512<double> difference = LogitRow.Widen(y, j) - Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(mean), (nuint)j);
            sums += difference * difference;
        }

        for (; j < y.Length; j++)
            sum += (y[j] - mean[j]) * (y[j] - mean[j]);
        return sum + Vector512.Sum(sums);
    }

    /// <summary>‖y‖².</summary>
    public static double SquaredNorm(ReadOnlySpan<float> y) => Dot(y, y);

    /// <summary>y·z.</summary>
    public static double Dot(ReadOnlySpan<float> y, ReadOnlySpan<float> z)
    {
        double sum = 0;
        Vector512<double> sums = default;
        int j = 0;
        for (; j <= y.Length - Lanes; j += Lanes)
            sums += LogitRow.Widen(y, j) * LogitRow.Widen(z, j);
        for (; j < y.Length; j++)
            sum += (double)y[j] * z[j];
        return sum + Vector512.Sum(sums);
    }

    /// <summary>‖y − ŷ‖², y·ŷ and ‖ŷ‖².</summary>
    public static (double Error, double Dot, double Norm) Compare(ReadOnlySpan<float> y, ReadOnlySpan<float> other)
    {
        double error = 0, dot = 0, norm = 0;
        Vector512<double> errors = default, dots = default, norms = default;
        int j = 0;
        for (; j <= y.Length - Lanes; j += Lanes)
        {
            Vector512<double> a = LogitRow.Widen(y, j), b = LogitRow.Widen(other, j), difference = a - b;
            errors += difference * difference;
            dots += a * b;
            norms += b * b;
        }

        for (; j < y.Length; j++)
        {
            double a = y[j], b = other[j];
            error += (a - b) * (a - b);
            dot += a * b;
            norm += b * b;
        }

        return (error + Vector512.Sum(errors), dot + Vector512.Sum(dots), norm + Vector512.Sum(norms));
    }

    /// <summary>sums_j += y_j.</summary>
    public static void Add(ReadOnlySpan<float> y, Span<double> sums)
    {
        int j = 0;
        for (; j <= y.Length - Lanes; j += Lanes)
            (Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(sums), (nuint)j) + LogitRow.Widen(y, j)).StoreUnsafe(
                ref MemoryMarshal.GetReference(sums), (nuint)j);
        for (; j < y.Length; j++)
            sums[j] += y[j];
    }

    /// <summary>sums_i += row_i.</summary>
    public static void Add(ReadOnlySpan<double> row, Span<double> sums)
    {
        int i = 0;
        for (; i <= row.Length - Lanes; i += Lanes)
            (Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(sums), (nuint)i)
                + Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(row), (nuint)i)).StoreUnsafe(
                ref MemoryMarshal.GetReference(sums), (nuint)i);
        for (; i < row.Length; i++)
            sums[i] += row[i];
    }
}
