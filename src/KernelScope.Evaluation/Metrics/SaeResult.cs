using KernelScope.Hooks;

namespace KernelScope.Evaluation;

/// <summary>What an evaluation found about one SAE.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed class SaeResult
{
    internal SaeResult(EvaluatedSae sae, SaeAccumulator sums, bool hasGradients, Bootstrap bootstrap)
    {
        Name = sae.Name;
        Site = sae.Site;
        SiteOut = sae.SiteOut;
        FeatureCount = sums.FiringCounts.Length;
        int width = Width = sae.OutputDim;
        SequenceSums = sums.Rows;
        IReadOnlyList<string[]> meanPaths = hasGradients ? MeanMetrics.PathsWithGradients : MeanMetrics.Paths;
        double[] means = new double[meanPaths.Count];
        MeanMetrics.Evaluate(sums.Totals, width, means);
        double counted = sums.Totals[Total.Counted];
        FiringFrequency = [.. sums.FiringCounts.Select(c => c / counted)];
        Position = sums.Positions;
        double alive = sums.FiringCounts.Count(c => c > 0) / (double)FeatureCount;
        List<string[]> paths = [["L0_median"], ["fvu_median"], ["alive"], ["sae_plus_error_max_logit_difference"], .. meanPaths];
        List<double> values = [MedianCount(sums.ActiveHistogram), Median(sums.Ratios), alive, sums.LargestLogitDifference, .. means];
        if (hasGradients)
        {
            double positions = sums.Totals[Total.CountedLosses + (int)LossMask.Default];
            paths.AddRange([["r_L0_skipped"], ["r_L0_summed_skipped"]]);
            values.AddRange([positions - sums.Totals[Total.Uniformity + 1], positions - sums.Totals[Total.Uniformity + 3]]);
        }

        if (sae.HasSaelens)
        {
            paths.AddRange(MeanMetrics.SaelensPaths);
            values.AddRange(MeanMetrics.Saelens(sums.Totals));
        }

        Metrics = new(paths, [.. values]);
        (double Low, double High)[] ends =
            bootstrap.Intervals(sums.Rows, means.Length, (row, into) => MeanMetrics.Evaluate(row, width, into));
        ConfidenceLow = new(meanPaths, [.. ends.Select(e => e.Low)]);
        ConfidenceHigh = new(meanPaths, [.. ends.Select(e => e.High)]);
    }

    /// <summary>d_out.</summary>
    internal int Width { get; }

    /// <summary>The sums of each sequence, see <see cref="Total"/>.</summary>
    internal IReadOnlyList<double[]> SequenceSums { get; }

    /// <summary>Name that the SAE was given in <see cref="SaeTarget"/>.</summary>
    public string Name { get; }

    /// <summary>The hook point that the SAE reads.</summary>
    public HookPoint Site { get; }

    /// <summary>The hook point to which its output belongs.</summary>
    public HookPoint SiteOut { get; }

    /// <summary>Number of features.</summary>
    public int FeatureCount { get; }

    /// <summary>Every metric, by its path.</summary>
    public MetricTable Metrics { get; }

    /// <summary>Lower ends of the confidence intervals of all means and ratios of means.</summary>
    public MetricTable ConfidenceLow { get; }

    /// <summary>Upper ends of the confidence intervals of all means and ratios of means.</summary>
    public MetricTable ConfidenceHigh { get; }

    /// <summary>By feature: share of the counted positions at which it fires.</summary>
    public double[] FiringFrequency { get; }

    /// <summary>Mean number of active features.</summary>
    public double L0 => Metrics["L0"];

    /// <summary>Fraction of variance unexplained.</summary>
    public double Fvu => Metrics["fvu"];

    /// <summary>By position: number of sequences in which it counts.</summary>
    public long[] ByPositionCount => Position.Count;

    /// <summary>By position: FVU with the set's mean; NaN where nothing counts.</summary>
    public double[] ByPositionFvu => Position.Fvu();

    /// <summary>By position: mean number of active features.</summary>
    public double[] ByPositionL0 => Position.L0();

    /// <summary>By position: mean delta loss of sae/keep_bos over the default mask; one shorter than the others.</summary>
    public double[] ByPositionDelta => Position.Delta();

    /// <summary>By position: mean KL of sae/keep_bos.</summary>
    public double[] ByPositionKl => Position.Kl();

    private PositionSums Position { get; }

    private static double MedianCount(List<long> histogram)
    {
        long total = histogram.Sum();
        return (At((total - 1) / 2) + At(total / 2)) / 2.0;

        int At(long rank)
        {
            int value = 0;
            for (long seen = histogram[0]; seen <= rank; seen += histogram[value])
                value++;
            return value;
        }
    }

    private static double Median(List<double> values)
    {
        double[] sorted = [.. values];
        Array.Sort(sorted);
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }
}

/// <summary>What an evaluation found.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record EvaluationResult
{
    internal EvaluationResult(TokenSet tokens, IReadOnlyList<SaeResult> saes, Bootstrap bootstrap, IReadOnlyDictionary<string, long> counts)
    {
        Tokens = tokens;
        Saes = saes;
        Bootstrap = bootstrap;
        Counts = counts;
    }

    /// <summary>The tokens that it ran on.</summary>
    public TokenSet Tokens { get; init; }

    /// <summary>By SAE, in the order given.</summary>
    public IReadOnlyList<SaeResult> Saes { get; init; }

    /// <summary>How the confidence intervals were made.</summary>
    public Bootstrap Bootstrap { get; init; }

    /// <summary>Number of positions: <c>act_mask</c>, then those of each loss mask.</summary>
    public IReadOnlyDictionary<string, long> Counts { get; init; }
}
