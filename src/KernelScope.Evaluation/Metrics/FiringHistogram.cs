namespace KernelScope.Evaluation;

/// <summary>Number of features by the logarithm of how often they fire.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed class FiringHistogram
{
    private const int BinsPerDecade = 4;
    private const int Decades = 7;

    /// <summary>Counts features.</summary>
    /// <param name="frequencies">Share of positions at which each fires.</param>
    public FiringHistogram(IReadOnlyList<double> frequencies)
    {
        ArgumentNullException.ThrowIfNull(frequencies);
        foreach (double frequency in frequencies)
        {
            if (frequency <= 0)
                Never++;
            else
                Counts[Math.Clamp((int)Math.Floor((Math.Log10(frequency) + Decades) * BinsPerDecade), 0, Counts.Length - 1)]++;
        }
    }

    /// <summary>Ends of the bins in log10, ascending from −7 to 0; what fires less often than the first is in the first bin.</summary>
    public static IReadOnlyList<double> Edges { get; } =
        [.. Enumerable.Range(0, (Decades * BinsPerDecade) + 1).Select(i => ((double)i / BinsPerDecade) - Decades)];

    /// <summary>Number of features in each bin.</summary>
    public long[] Counts { get; } = new long[Decades * BinsPerDecade];

    /// <summary>Number of features that never fire.</summary>
    public long Never { get; }
}
