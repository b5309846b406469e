using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>Named numbers, each under a path such as <c>splices, sae/keep_bos, delta, default</c>. A number that is not defined (a mean over nothing) is NaN.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed class MetricTable
{
    private readonly IReadOnlyList<string[]> _paths;
    private readonly double[] _values;

    internal MetricTable(IReadOnlyList<string[]> paths, double[] values) => (_paths, _values) = (paths, values);

    /// <summary>The paths, in the order in which results list them.</summary>
    public IReadOnlyList<string[]> Paths => _paths;

    /// <summary>The numbers, in the order of <see cref="Paths"/>.</summary>
    public IReadOnlyList<double> Values => _values;

    /// <summary>Whether there is a number under a path.</summary>
    public bool Has(params ReadOnlySpan<string> path)
    {
        foreach (string[] one in _paths)
        {
            if (path.SequenceEqual(one))
                return true;
        }

        return false;
    }

    /// <summary>The number under a path.</summary>
    /// <exception cref="KeyNotFoundException">There is none.</exception>
    public double this[params ReadOnlySpan<string> path]
    {
        get
        {
            for (int i = 0; i < _paths.Count; i++)
            {
                if (path.SequenceEqual(_paths[i]))
                    return _values[i];
            }

            throw new KeyNotFoundException($"There is no metric {string.Join('.', path.ToArray())}.");
        }
    }
}

/// <summary>The metrics that are means, or ratios of means, over sequences: functions of the sums alone, so that a bootstrap can evaluate them on any resample.</summary>
internal static class MeanMetrics
{
    /// <summary>Paths of <see cref="Evaluate"/>.</summary>
    public static IReadOnlyList<string[]> Paths { get; } = BuildPaths();

    // Of each run of SpliceRun.Every: where the sums of the zero and of the mean ablation at the same positions begin.
    private static readonly int[][] Ablations =
        [.. SpliceRun.Every.Select(run => new[] { RunAt(SpliceMode.Zero, run.Where), RunAt(SpliceMode.Mean, run.Where) })];

    /// <summary>The paths with those that need gradients, which come last.</summary>
    public static IReadOnlyList<string[]> PathsWithGradients { get; } = [.. Paths, ["r_L0"], ["r_L0_summed"]];

    /// <summary>Paths of <see cref="Saelens"/>.</summary>
    public static IReadOnlyList<string[]> SaelensPaths { get; } = BuildSaelensPaths();

    /// <summary>The metrics of summed rows. Every quotient of a mean over nothing is NaN.</summary>
    /// <param name="sums">A row of <see cref="Total"/>.</param>
    /// <param name="width">d_out.</param>
    /// <param name="values">Receives one number for each of <see cref="Paths"/> or <see cref="PathsWithGradients"/>.</param>
    public static void Evaluate(ReadOnlySpan<double> sums, int width, Span<double> values)
    {
        int at = 0;
        double counted = sums[Total.Counted], mse = sums[Total.Error] / counted, fvu = sums[Total.Error] / sums[Total.Deviation];
        values[at++] = sums[Total.ActiveFeatures] / counted;
        values[at++] = sums[Total.ActiveFeaturesNotPad] / sums[Total.NotPad];
        values[at++] = mse;
        values[at++] = mse / width;
        values[at++] = fvu;
        values[at++] = sums[Total.ErrorNotPad] / sums[Total.DeviationNotPad];
        values[at++] = sums[Total.Cosine] / counted;
        values[at++] = 1 - fvu;
        for (int m = 0; m < Total.Masks; m++)
            values[at++] = Loss(sums, Total.CleanLoss, m);
        for (int i = 0; i < SpliceRun.Every.Length; i++)
        {
            int run = Total.OfRun(i);
            for (int m = 0; m < Total.Masks; m++)
                values[at++] = Loss(sums, run, m);
            for (int m = 0; m < Total.Masks; m++)
                values[at++] = Loss(sums, run, m) - Loss(sums, Total.CleanLoss, m);
            values[at++] = sums[run + Total.RunKl] / counted;
            values[at++] = sums[run + Total.RunKlDefault] / sums[Total.CountedLosses];
            if (SpliceRun.Every[i].Mode != SpliceMode.Sae)
                continue;
            foreach (int baseline in Ablations[i])
            {
                for (int m = 0; m < Total.Masks; m++)
                    values[at++] = (Loss(sums, baseline, m) - Loss(sums, run, m))
                        / (Loss(sums, baseline, m) - Loss(sums, Total.CleanLoss, m));
            }
        }

        for (int pair = Total.Uniformity; at < values.Length; pair += 2)
            values[at++] = sums[pair] / sums[pair + 1];
    }

    /// <summary>What SAELens' own evaluation reports, by its definitions: with special tokens ignored, then with nothing ignored (padding counts, too).</summary>
    public static double[] Saelens(ReadOnlySpan<double> sums)
    {
        double[] values = new double[SaelensPaths.Count];
        int at = 0;
        for (int which = 0; which < 2; which++)
        {
            bool every = which == 1;
            ReadOnlySpan<double> s = sums.Slice(Total.Saelens + (which * Total.SaelensSize), Total.SaelensSize);
            double count = sums[every ? Total.Positions : Total.Counted];
            double losses = sums[every ? Total.LossPositions : Total.CountedLosses + (int)LossMask.Saelens];
            int mask = every ? Total.RunLossEvery : (int)LossMask.Saelens, kl = every ? Total.RunKlEvery : Total.RunKl;
            int sae = RunAt(SpliceMode.Sae, every ? SpliceWhere.All : SpliceWhere.KeepSpecial),
                zero = RunAt(SpliceMode.Zero, SpliceWhere.All);
            double klSae = sums[sae + kl] / count, klZero = sums[zero + kl] / count;
            double ceSae = sums[sae + mask] / losses, ceZero = sums[zero + mask] / losses, ceClean = sums[Total.CleanLoss + mask] / losses;
            ReadOnlySpan<double> all =
            [
                s[Total.NormIn] / count, s[Total.NormOut] / count, s[Total.NormRatio] / count, s[Total.SquaredNormOut] / s[Total.Dot],
                sums[every ? Total.ActiveFeaturesEvery : Total.ActiveFeatures] / count, s[Total.L1] / count,
                    s[Total.LegacyExplained] / count, s[Total.SaelensError] / count,
                sums[every ? Total.CosineEvery : Total.Cosine] / count, 1 - (s[Total.SaelensError] / s[Total.SaelensDeviation]),
                klSae, klZero, ceSae, ceClean, ceZero, (klZero - klSae) / klZero, (ceZero - ceSae) / (ceZero - ceClean),
            ];
            all.CopyTo(values.AsSpan(at));
            at += all.Length;
        }

        return values;
    }

    private static double Loss(ReadOnlySpan<double> sums, int at, int mask) => sums[at + mask] / sums[Total.CountedLosses + mask];

    private static int RunAt(SpliceMode mode, SpliceWhere where) => Total.OfRun(Array.IndexOf(SpliceRun.Every, new SpliceRun(mode, where)));

    private static List<string[]> BuildPaths()
    {
        List<string[]> paths =
            [["L0"], ["L0_all_but_pad"], ["mse"], ["mse_per_element"], ["fvu"], ["fvu_all_but_pad"], ["cosine"], ["explained_variance"]];
        void AddMasks(params string[] prefix)
        {
            for (int m = 0; m < Total.Masks; m++)
                paths.Add([.. prefix, TokenSet.NameOf((LossMask)m)]);
        }

        AddMasks("ce_clean");
        foreach (SpliceRun run in SpliceRun.Every)
        {
            AddMasks("splices", run.Name, "ce");
            AddMasks("splices", run.Name, "delta");
            paths.Add(["splices", run.Name, "kl"]);
            paths.Add(["splices", run.Name, "kl_ce_default"]);
            if (run.Mode != SpliceMode.Sae)
                continue;
            AddMasks("splices", run.Name, "loss_recovered");
            AddMasks("splices", run.Name, "loss_recovered_mean");
        }

        return paths;
    }

    private static List<string[]> BuildSaelensPaths()
    {
        string[] names =
        [
            "l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias", "l0", "l1", "explained_variance_legacy",
                "mse", "cossim", "explained_variance",
            "kl_div_with_sae", "kl_div_with_ablation", "ce_loss_with_sae", "ce_loss_without_sae", "ce_loss_with_ablation",
                "kl_div_score", "ce_loss_score",
        ];
        List<string[]> paths = [];
        foreach (string which in (ReadOnlySpan<string>)["ignore_special", "ignore_nothing"])
        {
            foreach (string name in names)
                paths.Add(["saelens", which, name]);
        }

        return paths;
    }
}
