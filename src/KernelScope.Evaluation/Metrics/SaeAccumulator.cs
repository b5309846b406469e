using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>What is measured of one row without a model: ‖y − ŷ‖², ‖y − ȳ‖², y·ŷ, ‖y‖², ‖ŷ‖², Σ codes.</summary>
internal readonly record struct StoredRow(double Error, double Deviation, double Dot, double NormIn, double NormOut, double L1)
{
    /// <summary>The cosine; torch's cosine_similarity keeps the divisor from zero like this.</summary>
    public double Cosine => Dot / Math.Max(Math.Sqrt(NormIn * NormOut), 1e-8);
}

/// <summary>Sums of one SAE over the sequences, in their order and in double. Memory: the features, the positions of one sequence, and 8 bytes a counted position for the exact median.</summary>
internal sealed class SaeAccumulator
{
    private readonly TokenSet _set;
    private readonly int _sae;
    private readonly int _site;
    private readonly double[] _row = new double[Total.Size];

    public SaeAccumulator(TokenSet set, int sae, int site, int featureCount)
    {
        (_set, _sae, _site) = (set, sae, site);
        FiringCounts = new long[featureCount];
        Positions = new PositionSums(set.Length);
    }

    /// <summary>The sums of each sequence, for confidence intervals.</summary>
    public List<double[]> Rows { get; } = [];

    /// <summary>The sums of the set.</summary>
    public double[] Totals { get; } = new double[Total.Size];

    /// <summary>By feature: counted positions at which it fires.</summary>
    public long[] FiringCounts { get; }

    /// <summary>By number of active features: counted positions that have it.</summary>
    public List<long> ActiveHistogram { get; } = [];

    /// <summary>‖y − ŷ‖²/‖y − ȳ‖² of each counted position.</summary>
    public List<double> Ratios { get; } = [];

    /// <summary>Sums by position.</summary>
    public PositionSums Positions { get; }

    /// <summary>The largest difference of a logit that sae_plus_error makes.</summary>
    public double LargestLogitDifference { get; private set; }

    /// <summary>Adds a sequence.</summary>
    public void Add(int[] tokens, SequenceScores scores)
    {
        Array.Clear(_row);
        AddStatistics(tokens, scores);
        AddLosses(tokens, scores);
        AddUniformity("r_L0", Total.Uniformity, scores);
        AddUniformity("r_L0_summed", Total.Uniformity + 2, scores);
        LargestLogitDifference = scores.Layout.Has(Sae("max_logit_difference"))
            ? Math.Max(LargestLogitDifference, scores[Sae("max_logit_difference")][0]) : double.NaN;
        Rows.Add([.. _row]);
        RowSums.Add(_row, Totals);
    }

    /// <summary>Adds the rows of one sequence that count, where nothing is known but what is stored of them: what needs the model is then not defined.</summary>
    /// <param name="positions">Position of each row.</param>
    /// <param name="rows">What was measured of each.</param>
    /// <param name="codes">Codes of each.</param>
    public void AddStored(ReadOnlySpan<int> positions, ReadOnlySpan<StoredRow> rows, CodeList codes)
    {
        Array.Clear(_row);
        for (int r = 0; r < rows.Length; r++)
            AddCounted(positions[r], rows[r], codes.FeaturesOf(r));
        // Not measured is not 0.
        LargestLogitDifference = double.NaN;
        for (int i = 0; i < SpliceRun.Every.Length; i++)
            _row[Total.OfRun(i) + Total.RunKl] = _row[Total.OfRun(i) + Total.RunKlDefault] = _row[Total.OfRun(i) + Total.RunKlEvery] =
                double.NaN;
        Rows.Add([.. _row]);
        RowSums.Add(_row, Totals);
    }

    private string Sae(string name) => ScoreLayout.OfSae(_sae, name);

    private string Site(string name) => ScoreLayout.OfSite(_site, name);

    private void AddStatistics(int[] tokens, SequenceScores scores)
    {
        Span<double> error = scores[Sae("squared_error")], dot = scores[Sae("dot")], normOut = scores[Sae("squared_norm_out")],
            l1 = scores[Sae("l1")];
        Span<double> deviation = scores[Site("squared_deviation")], deviationNotPad = scores[Site("squared_deviation_not_pad")],
            deviationAll = scores[Site("squared_deviation_all")];
        Span<double> normIn = scores[Site("squared_norm")];
        CodeList codes = scores.Codes[_sae];
        for (int t = 0; t < tokens.Length; t++)
        {
            ReadOnlySpan<int> features = codes.FeaturesOf(t);
            double cosine = new StoredRow(error[t], deviation[t], dot[t], normIn[t], normOut[t], l1[t]).Cosine;
            _row[Total.Positions]++;
            _row[Total.ActiveFeaturesEvery] += features.Length;
            _row[Total.CosineEvery] += cosine;
            AddSaelens(1, error[t], deviationAll[t], dot[t], normIn[t], normOut[t], l1[t]);
            if (tokens[t] != _set.PadId)
            {
                _row[Total.NotPad]++;
                _row[Total.ActiveFeaturesNotPad] += features.Length;
                _row[Total.ErrorNotPad] += error[t];
                _row[Total.DeviationNotPad] += deviationNotPad[t];
            }

            if (!_set.IsSpecial(tokens[t]))
                AddCounted(t, new StoredRow(error[t], deviation[t], dot[t], normIn[t], normOut[t], l1[t]), features);
        }
    }

    private void AddCounted(int t, in StoredRow row, ReadOnlySpan<int> features)
    {
        _row[Total.Counted]++;
        _row[Total.ActiveFeatures] += features.Length;
        _row[Total.Error] += row.Error;
        _row[Total.Deviation] += row.Deviation;
        _row[Total.Cosine] += row.Cosine;
        AddSaelens(0, row.Error, row.Deviation, row.Dot, row.NormIn, row.NormOut, row.L1);
        Ratios.Add(row.Error / row.Deviation);
        Positions.AddStatistics(t, row.Error, row.Deviation, features.Length);
        foreach (int feature in features)
            FiringCounts[feature]++;
        while (ActiveHistogram.Count <= features.Length)
            ActiveHistogram.Add(0);
        ActiveHistogram[features.Length]++;
    }

    private void AddSaelens(int which, double error, double deviation, double dot, double normIn, double normOut, double l1)
    {
        Span<double> sums = _row.AsSpan(Total.Saelens + (which * Total.SaelensSize), Total.SaelensSize);
        double lengthIn = Math.Sqrt(normIn), lengthOut = Math.Sqrt(normOut);
        sums[Total.NormIn] += lengthIn;
        sums[Total.NormOut] += lengthOut;
        // SAELens divides by 1 instead of by a norm below 1e-4.
        sums[Total.NormRatio] += lengthOut / (lengthIn < 1e-4 ? 1 : lengthIn);
        sums[Total.SquaredNormOut] += normOut;
        sums[Total.Dot] += dot;
        sums[Total.L1] += l1;
        sums[Total.LegacyExplained] += 1 - (error / deviation);
        sums[Total.SaelensError] += error;
        sums[Total.SaelensDeviation] += deviation;
    }

    private void AddLosses(int[] tokens, SequenceScores scores)
    {
        Span<double> clean = scores["ce_clean"];
        for (int t = 0; t < clean.Length; t++)
        {
            _row[Total.LossPositions]++;
            _row[Total.CleanLoss + Total.Masks] += clean[t];
            for (int m = 0; m < Total.Masks; m++)
            {
                if (_set.Counts((LossMask)m, tokens[t], tokens[t + 1]))
                {
                    _row[Total.CountedLosses + m]++;
                    _row[Total.CleanLoss + m] += clean[t];
                }
            }
        }

        for (int i = 0; i < SpliceRun.Every.Length; i++)
            AddRun(i, tokens, clean, scores);
    }

    private void AddUniformity(string name, int at, SequenceScores scores)
    {
        if (!scores.Layout.Has(Sae(name)))
            return;
        foreach (double uniformity in scores[Sae(name)])
        {
            if (double.IsNaN(uniformity))
                continue;
            _row[at] += uniformity;
            _row[at + 1]++;
        }
    }

    private void AddRun(int index, int[] tokens, ReadOnlySpan<double> clean, SequenceScores scores)
    {
        SpliceRun run = SpliceRun.Every[index];
        Func<string, string> named = run.Mode is SpliceMode.Sae or SpliceMode.SaePlusError ? Sae : Site;
        Span<double> sums = _row.AsSpan(Total.OfRun(index), Total.RunSize);
        if (!scores.Layout.Has(named($"ce_{run.ArrayName}")))
        {
            sums.Fill(double.NaN);
            return;
        }

        ReadOnlySpan<double> losses = scores[named($"ce_{run.ArrayName}")], divergences = scores[named($"kl_{run.ArrayName}")];
        bool isDefault = run == SpliceRun.Every[0];
        for (int t = 0; t < tokens.Length; t++)
        {
            sums[Total.RunKlEvery] += divergences[t];
            if (!_set.IsSpecial(tokens[t]))
            {
                sums[Total.RunKl] += divergences[t];
                if (isDefault)
                    Positions.AddDivergence(t, divergences[t]);
            }

            if (t == losses.Length)
                break;
            sums[Total.RunLossEvery] += losses[t];
            for (int m = 0; m < Total.Masks; m++)
            {
                if (_set.Counts((LossMask)m, tokens[t], tokens[t + 1]))
                    sums[m] += losses[t];
            }

            if (!_set.Counts(LossMask.Default, tokens[t], tokens[t + 1]))
                continue;
            sums[Total.RunKlDefault] += divergences[t];
            if (isDefault)
                Positions.AddDelta(t, losses[t] - clean[t]);
        }
    }
}
