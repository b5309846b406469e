using KernelScope.Attribution;

namespace KernelScope.Evaluation;

/// <summary>Confidence intervals of means and ratios of means, by resampling whole sequences with replacement: tokens of one sequence are not independent.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record Bootstrap
{
    /// <summary>Made of its parts.</summary>
    /// <param name="resamples">Number of resamples.</param>
    /// <param name="seed">Seed of the draws; the same seed and numbers give the same intervals.</param>
    /// <param name="level">Share of the resampled values between the two ends.</param>
    public Bootstrap(int resamples = 1000, int seed = 0, double level = 0.95)
    {
        Resamples = resamples;
        Seed = seed;
        Level = level;
    }

    /// <summary>Number of resamples.</summary>
    public int Resamples { get; init; }

    /// <summary>Seed of the draws; the same seed and numbers give the same intervals.</summary>
    public int Seed { get; init; }

    /// <summary>Share of the resampled values between the two ends.</summary>
    public double Level { get; init; }

    /// <summary>Percentile intervals of every statistic of summed rows.</summary>
    /// <param name="rows">Sums of each sequence.</param>
    /// <param name="count">Number of statistics.</param>
    /// <param name="evaluate">Statistics of a summed row: sums, values.</param>
    /// <returns>Both ends of each interval; NaN where a resample leaves the statistic undefined or there are fewer than two sequences.</returns>
    internal (double Low, double High)[] Intervals(IReadOnlyList<double[]> rows, int count, Evaluator evaluate)
    {
        var intervals = new (double, double)[count];
        if (rows.Count < 2)
        {
            Array.Fill(intervals, (double.NaN, double.NaN));
            return intervals;
        }

        double[] samples = Draw(rows, count, evaluate);
        Parallel.For(0, count, i =>
        {
            Span<double> values = samples.AsSpan(i * Resamples, Resamples);
            values.Sort();
            // NaN sorts first.
            intervals[i] = double.IsNaN(values[0]) ? (double.NaN, double.NaN)
                : (Quantile(values, (1 - Level) / 2), Quantile(values, (1 + Level) / 2));
        });
        return intervals;
    }

    /// <summary>The resampled values of each statistic, one statistic after the other.</summary>
    private double[] Draw(IReadOnlyList<double[]> rows, int count, Evaluator evaluate)
    {
        var random = new Random(Seed);
        double[] samples = new double[checked(count * Resamples)];
        double[] sums = new double[rows[0].Length], values = new double[count];
        for (int k = 0; k < Resamples; k++)
        {
            Array.Clear(sums);
            for (int draw = 0; draw < rows.Count; draw++)
                RowSums.Add(rows[random.Next(rows.Count)], sums);
            evaluate(sums, values);
            for (int i = 0; i < count; i++)
                samples[(i * Resamples) + k] = values[i];
        }

        return samples;
    }

    /// <summary>The quantile of sorted values, linear between two of them (NumPy's default).</summary>
    private static double Quantile(ReadOnlySpan<double> sorted, double share)
    {
        double at = share * (sorted.Length - 1);
        int below = (int)Math.Floor(at);
        return below + 1 < sorted.Length ? sorted[below] + ((at - below) * (sorted[below + 1] - sorted[below])) : sorted[^1];
    }

    /// <summary>Statistics of summed rows.</summary>
    internal delegate void Evaluator(ReadOnlySpan<double> sums, Span<double> values);
}
