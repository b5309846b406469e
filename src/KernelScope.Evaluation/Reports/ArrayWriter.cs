using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Evaluation;

/// <summary>Puts an evaluation's arrays together from its journal, one array at a time, so that none is ever in memory whole.</summary>
/// <remarks>
/// With one SAE the names are plain (<c>firing_frequency</c>, <c>ce_sae_keep_bos</c>); with several, those that belong to a site or an SAE begin with <c>site0/</c> or <c>sae0/</c>.
/// </remarks>
internal sealed class ArrayWriter(IReadOnlyList<SaeTarget> targets, SitePlan[] sites, TokenSet tokens, ScoreLayout layout,
    ArrayDetail detail, Func<int, SequenceScores> newScores)
{
    // Logits of the first sequence only, and only where a row of bytes is not absurd: 256 MB.
    private const long MostLogits = 64L << 20;

    /// <summary>The activations that are kept of a sequence; logits if <paramref name="vocabulary"/> is not 0; gradients at the sites that have them.</summary>
    public static FloatArray[] Kept(SitePlan[] sites, int length, int vocabulary, bool gradients)
    {
        bool logits = vocabulary > 0 && (long)length * vocabulary <= MostLogits;
        List<FloatArray> arrays = [];
        for (int g = 0; g < sites.Length; g++)
        {
            arrays.Add(new(ScoreLayout.OfSite(g, "x"), length, sites[g].InputDim));
            if (!sites[g].IsOneSite)
                arrays.Add(new(ScoreLayout.OfSite(g, "y"), length, sites[g].OutputDim));
            arrays.AddRange(sites[g].Saes.Select(s => new FloatArray(ScoreLayout.OfSae(s, "recon"), length, sites[g].OutputDim)));
            if (gradients && sites[g].HasGradient)
                arrays.Add(new(ScoreLayout.OfSite(g, "grad_own"), length, sites[g].OutputDim));
        }

        if (logits)
        {
            arrays.Add(new("logits_clean", length, vocabulary));
            arrays.AddRange(sites.SelectMany(site => site.Saes)
                .Select(s => new FloatArray(ScoreLayout.OfSae(s, "logits_sae_keep_bos"), length, vocabulary)));
        }

        return [.. arrays];
    }

    /// <summary>Writes the file.</summary>
    public void Write(string path, EvaluationJournal journal, EvaluationResult result, SiteMeans[] means)
    {
        using var file = new NpzWriter(path);
        if (detail != ArrayDetail.Summary)
        {
            file.Begin(new TensorInfo("ids", DType.I32, [tokens.Count, tokens.Length]));
            for (int b = 0; b < tokens.Count; b++)
                file.Append<int>(tokens.Padded(b));
            file.End();
            WriteColumn(file, journal, "ce_clean", "ce_clean");
        }

        for (int g = 0; g < sites.Length; g++)
            WriteSite(file, journal, g, means[g]);
        for (int s = 0; s < targets.Count; s++)
            WriteSae(file, journal, s, result.Saes[s]);
        if (detail == ArrayDetail.All)
            WriteKept(file, journal);
        file.Commit();
    }

    private void WriteSite(NpzWriter file, EvaluationJournal journal, int g, SiteMeans means)
    {
        file.Add<double>(Named(ScoreLayout.OfSite(g, "xbar")), means.Counted, means.Counted.Length);
        if (detail == ArrayDetail.Summary)
            return;
        WriteColumn(file, journal, ScoreLayout.OfSite(g, "squared_deviation"), Named(ScoreLayout.OfSite(g, "squared_deviation")));
        WriteRuns(file, journal, SpliceRun.OfSite, name => ScoreLayout.OfSite(g, name));
    }

    private void WriteSae(NpzWriter file, EvaluationJournal journal, int s, SaeResult result)
    {
        string Of(string name) => Named(ScoreLayout.OfSae(s, name));
        file.Add<double>(Of("firing_frequency"), result.FiringFrequency, result.FeatureCount);
        file.Add<long>(Of("by_position_count"), result.ByPositionCount, tokens.Length);
        file.Add<double>(Of("by_position_fvu"), result.ByPositionFvu, tokens.Length);
        file.Add<double>(Of("by_position_l0"), result.ByPositionL0, tokens.Length);
        file.Add<double>(Of("by_position_delta"), result.ByPositionDelta, Math.Max(0, tokens.Length - 1));
        file.Add<double>(Of("by_position_kl"), result.ByPositionKl, tokens.Length);
        if (detail == ArrayDetail.Summary)
            return;
        WriteColumn(file, journal, ScoreLayout.OfSae(s, "squared_error"), Of("squared_error"));
        WriteRuns(file, journal, SpliceRun.OfSae, name => ScoreLayout.OfSae(s, name));
        foreach (string name in (ReadOnlySpan<string>)["r_L0", "r_L0_summed"])
        {
            if (layout.Has(ScoreLayout.OfSae(s, name)))
                WriteColumn(file, journal, ScoreLayout.OfSae(s, name), Of(name));
        }

        WriteCodes(file, journal, s);
    }

    private void WriteRuns(NpzWriter file, EvaluationJournal journal, SpliceRun[] runs, Func<string, string> named)
    {
        foreach (SpliceRun run in runs)
        {
            foreach (string kind in (ReadOnlySpan<string>)["ce", "kl"])
                WriteColumn(file, journal, named($"{kind}_{run.ArrayName}"), Named(named($"{kind}_{run.ArrayName}")));
        }
    }

    private void WriteColumn(NpzWriter file, EvaluationJournal journal, string field, string name)
    {
        (int offset, int count) = layout.Place(field);
        double[] values = new double[count];
        file.Begin(new TensorInfo(name, DType.F64, [tokens.Count, count]));
        for (int b = 0; b < tokens.Count; b++)
        {
            journal.ReadRow(b, offset, values);
            file.Append<double>(values);
        }

        file.End();
    }

    /// <summary>The codes as compressed rows over all positions, and their numbers.</summary>
    private void WriteCodes(NpzWriter file, EvaluationJournal journal, int s)
    {
        long total = 0;
        ForEach(s, journal, codes => total += codes.Count);
        string Of(string name) => Named(ScoreLayout.OfSae(s, name));
        file.Begin(new TensorInfo(Of("row_ptr"), DType.I64, [((long)tokens.Count * tokens.Length) + 1]));
        file.Append<long>([0]);
        long start = 0;
        ForEach(s, journal, codes =>
        {
            for (int t = 1; t <= codes.Rows; t++)
                file.Append<long>([start + codes.RowStart[t]]);
            start += codes.Count;
        });
        file.End();
        file.Begin(new TensorInfo(Of("feature"), DType.I32, [total]));
        ForEach(s, journal, codes => file.Append<int>(codes.Feature.AsSpan(0, codes.Count)));
        file.End();
        file.Begin(new TensorInfo(Of("value"), DType.F32, [total]));
        ForEach(s, journal, codes => file.Append<float>(codes.Value.AsSpan(0, codes.Count)));
        file.End();
        file.Begin(new TensorInfo(Of("l0"), DType.I32, [tokens.Count, tokens.Length]));
        ForEach(s, journal, codes => file.Append<int>([.. Enumerable.Range(0, codes.Rows).Select(t => codes.FeaturesOf(t).Length)]));
        file.End();
    }

    private void ForEach(int s, EvaluationJournal journal, Action<CodeList> act)
    {
        for (int b = 0; b < tokens.Count; b++)
        {
            SequenceScores scores = newScores(b);
            journal.Read(b, scores);
            act(scores.Codes[s]);
        }
    }

    private void WriteKept(NpzWriter file, EvaluationJournal journal)
    {
        SequenceScores first = newScores(0);
        for (int i = 0; i < first.Arrays.Length; i++)
        {
            FloatArray array = first.Arrays[i];
            int count = array.Name.Contains("logits", StringComparison.Ordinal) ? 1 : tokens.Count;
            file.Begin(new TensorInfo(Named(array.Name), DType.F32, [count, array.Rows, array.Columns]));
            for (int b = 0; b < count; b++)
            {
                SequenceScores scores = newScores(b);
                journal.ReadArray(b, scores, i);
                file.Append<float>(scores.Values[i]);
            }

            file.End();
        }
    }

    private string Named(string name) => targets.Count == 1 && name.Contains('/', StringComparison.Ordinal)
        ? name[(name.IndexOf('/', StringComparison.Ordinal) + 1)..] : name;
}
