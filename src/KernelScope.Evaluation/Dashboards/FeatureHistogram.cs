namespace KernelScope.Evaluation;

/// <summary>Counts in 50 bins of equal width from the smallest to the largest value.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeatureHistogram
{
    private const int Bins = 50;

    private FeatureHistogram(double[] centres, long[] counts)
    {
        Centres = centres;
        Counts = counts;
    }

    /// <summary>The histogram of no values.</summary>
    public static FeatureHistogram Empty { get; } = new([], []);

    /// <summary>The middle of each bin; empty where there are no values.</summary>
    public IReadOnlyList<double> Centres { get; }

    /// <summary>Values in each bin; the largest value is in the last. Where all are equal they are in the first.</summary>
    public IReadOnlyList<long> Counts { get; }

    internal static FeatureHistogram Create(ReadOnlySpan<float> values)
    {
        if (values.IsEmpty)
            return Empty;
        float low = values[0], high = values[0];
        foreach (float value in values)
        {
            low = Math.Min(low, value);
            high = Math.Max(high, value);
        }

        double width = ((double)high - low) / Bins;
        double[] centres = new double[Bins];
        for (int b = 0; b < Bins; b++)
            centres[b] = low + ((b + 0.5) * width);
        long[] counts = new long[Bins];
        foreach (float value in values)
            counts[width == 0 ? 0 : Math.Min(Bins - 1, (int)((value - (double)low) / width))]++;
        return new FeatureHistogram(centres, counts);
    }
}
