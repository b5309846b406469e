using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Evaluation;

/// <summary>How far two runs agree on which features are active, over counted positions.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct ActiveSetAgreement
{
    internal ActiveSetAgreement(long positions, long identical, long exact, long fast, long both)
    {
        Positions = positions;
        Identical = identical;
        Exact = exact;
        Fast = fast;
        Both = both;
    }

    /// <summary>Counted positions.</summary>
    public long Positions { get; init; }

    /// <summary>Those of them where both have the same set.</summary>
    public long Identical { get; init; }

    /// <summary>Active features of the exact run, summed over positions.</summary>
    public long Exact { get; init; }

    /// <summary>Active features of the fast run, summed over positions.</summary>
    public long Fast { get; init; }

    /// <summary>Features that are active in both runs at the same position, summed over positions.</summary>
    public long Both { get; init; }

    /// <summary>Features active in both, as a share of those active in either; 1: the same sets everywhere.</summary>
    public double Share => Exact + Fast == 0 ? 1 : Both / (double)(Exact + Fast - Both);
}

/// <summary>One number in both precisions.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record PrecisionRow
{
    internal PrecisionRow(IReadOnlyList<string> path, double exact, double fast, double low, double high)
    {
        Path = path;
        Exact = exact;
        Fast = fast;
        Low = low;
        High = high;
    }

    /// <summary>Path of the metric, as in <see cref="MetricTable"/>.</summary>
    public IReadOnlyList<string> Path { get; init; }

    /// <summary>With exact products.</summary>
    public double Exact { get; init; }

    /// <summary>With fast ones.</summary>
    public double Fast { get; init; }

    /// <summary>Lower end of the interval of Fast − Exact, by resampling the same sequences in both.</summary>
    public double Low { get; init; }

    /// <summary>Upper end of that interval.</summary>
    public double High { get; init; }

    /// <summary>Fast − Exact.</summary>
    public double Difference => Fast - Exact;
}

/// <summary>What precision does to one SAE's numbers.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record SaePrecision
{
    internal SaePrecision(SaeResult exact, SaeResult fast, IReadOnlyList<PrecisionRow> rows, ActiveSetAgreement activeSets)
    {
        Exact = exact;
        Fast = fast;
        Rows = rows;
        ActiveSets = activeSets;
    }

    /// <summary>The evaluation with exact products.</summary>
    public SaeResult Exact { get; init; }

    /// <summary>With fast ones.</summary>
    public SaeResult Fast { get; init; }

    /// <summary>The main numbers.</summary>
    public IReadOnlyList<PrecisionRow> Rows { get; init; }

    /// <summary>Whether the same features are active.</summary>
    public ActiveSetAgreement ActiveSets { get; init; }
}

/// <summary>
/// The paper's study of precision (Lieberum et al. 2024, §4.7 and fig. 10, float32 against bfloat16): the same evaluation with <see cref="Precision.Exact"/> and with <see cref="Precision.Fast"/> products, held against each other.
/// </summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed class PrecisionStudy
{
    private static readonly string[][] Metrics =
    [
        ["L0"], ["fvu"], ["ce_clean", "default"], ["splices", "sae/keep_bos", "ce", "default"],
            ["splices", "sae/keep_bos", "delta", "default"], ["splices", "sae/keep_bos", "kl"],
    ];

    private PrecisionStudy(EvaluationResult exact, IReadOnlyList<SaePrecision> saes) =>
        (Tokens, Counts, Bootstrap, Saes) = (exact.Tokens, exact.Counts, exact.Bootstrap, saes);

    /// <summary>The tokens that both evaluations ran on.</summary>
    public TokenSet Tokens { get; }

    /// <summary>Numbers of positions.</summary>
    public IReadOnlyDictionary<string, long> Counts { get; }

    /// <summary>How the intervals were made.</summary>
    public Bootstrap Bootstrap { get; }

    /// <summary>By SAE, in the order given.</summary>
    public IReadOnlyList<SaePrecision> Saes { get; }

    /// <summary>Holds two evaluations of the same SAEs and tokens against each other.</summary>
    /// <param name="exact">With exact products.</param>
    /// <param name="exactArrays">What it wrote, with <see cref="ArrayDetail.Positions"/> at least: the codes are compared row by row, so that memory does not grow with the set.</param>
    /// <param name="fast">With fast products.</param>
    /// <param name="fastArrays">What it wrote.</param>
    /// <exception cref="ArgumentException">The evaluations are of other tokens or SAEs.</exception>
    public static PrecisionStudy Compare(EvaluationResult exact, string exactArrays, EvaluationResult fast, string fastArrays)
    {
        ArgumentNullException.ThrowIfNull(exact);
        ArgumentNullException.ThrowIfNull(fast);
        if (exact.Tokens != fast.Tokens || !exact.Saes.Select(s => (s.Name, s.Site)).SequenceEqual(fast.Saes.Select(s => (s.Name, s.Site))))
            throw new ArgumentException("The two evaluations are of other SAEs, sites or tokens.");
        using NpzFile codesExact = NpzFile.Open(exactArrays), codesFast = NpzFile.Open(fastArrays);
        var saes = new List<SaePrecision>();
        for (int s = 0; s < exact.Saes.Count; s++)
        {
            SaeResult a = exact.Saes[s], b = fast.Saes[s];
            string prefix = exact.Saes.Count == 1 ? "" : ScoreLayout.OfSae(s, "");
            saes.Add(new SaePrecision(a, b, Rows(a, b, exact.Bootstrap),
                Agreement(exact.Tokens, new Codes(codesExact, prefix), new Codes(codesFast, prefix))));
        }

        return new PrecisionStudy(exact, saes);
    }

    /// <summary>Writes <c>{model, precision_study, special_ids, sequences, length, counts, confidence, saes}</c>, an SAE being <c>{sae, site, site_out, metrics: {NAME: {exact, fast, difference, interval}}, active_sets}</c>.</summary>
    /// <param name="json">Where.</param>
    /// <param name="model">How the model is named.</param>
    /// <param name="what">What was fast: <c>both</c> or <c>model</c>.</param>
    /// <param name="device">On which device.</param>
    public void Write(Utf8JsonWriter json, string model, string what, string device)
    {
        ArgumentNullException.ThrowIfNull(json);
        json.WriteStartObject();
        json.WriteString("model", model);
        json.WriteString("device", device);
        json.WriteString("precision_study", what);
        EvaluationJson.WriteSet(json, Tokens, Counts);
        json.WriteStartObject("definitions");
        json.WriteString(
            "metrics", "as eval has them: L0, fvu, cross-entropy and delta loss over the 'default' mask with sae/keep_bos spliced, kl; "
                + "difference is fast - exact, its interval a bootstrap over the sequences of both runs together");
        json.WriteString(
            "active_sets",
            "over counted positions: those where both runs have the same active features (identical); features active in the exact "
                + "run, in the fast run and in both; agreement = both / (exact + fast - both)");
        json.WriteEndObject();
        json.WriteStartObject("confidence");
        json.WriteNumber("level", Bootstrap.Level);
        json.WriteNumber("resamples", Bootstrap.Resamples);
        json.WriteNumber("seed", Bootstrap.Seed);
        json.WriteEndObject();
        json.WriteStartArray("saes");
        foreach (SaePrecision sae in Saes)
            Write(json, sae);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, SaePrecision sae)
    {
        json.WriteStartObject();
        json.WriteString("sae", sae.Exact.Name);
        json.WriteString("site", sae.Exact.Site.ToString());
        json.WriteString("site_out", sae.Exact.SiteOut == sae.Exact.Site ? null : sae.Exact.SiteOut.ToString());
        json.WriteStartObject("metrics");
        foreach (PrecisionRow row in sae.Rows)
        {
            json.WriteStartObject(NameOf(row));
            EvaluationJson.WriteNumber(json, "exact", row.Exact);
            EvaluationJson.WriteNumber(json, "fast", row.Fast);
            EvaluationJson.WriteNumber(json, "difference", row.Difference);
            json.WriteStartArray("interval");
            EvaluationJson.WriteNumber(json, row.Low);
            EvaluationJson.WriteNumber(json, row.High);
            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndObject();
        ActiveSetAgreement sets = sae.ActiveSets;
        json.WriteStartObject("active_sets");
        json.WriteNumber("positions", sets.Positions);
        json.WriteNumber("identical", sets.Identical);
        json.WriteNumber("exact", sets.Exact);
        json.WriteNumber("fast", sets.Fast);
        json.WriteNumber("both", sets.Both);
        json.WriteNumber("agreement", sets.Share);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>What a row is called: <c>L0</c>, <c>fvu</c>, <c>ce_clean</c>, <c>ce</c>, <c>delta</c>, <c>kl</c>.</summary>
    public static string NameOf(PrecisionRow row)
    {
        ArgumentNullException.ThrowIfNull(row);
        return row.Path[^1] == "default" ? row.Path[^2] : row.Path[^1];
    }

    private static PrecisionRow[] Rows(SaeResult exact, SaeResult fast, Bootstrap bootstrap)
    {
        int size = Total.Size, count = MeanMetrics.Paths.Count;
        double[][] both = [.. exact.SequenceSums.Zip(fast.SequenceSums, (a, b) => (double[])[.. a, .. b])];
        double[] ofFast = new double[count];
        (double Low, double High)[] intervals = bootstrap.Intervals(both, count, (sums, values) =>
        {
            MeanMetrics.Evaluate(sums[..size], exact.Width, values);
            MeanMetrics.Evaluate(sums[size..], fast.Width, ofFast);
            for (int i = 0; i < count; i++)
                values[i] = ofFast[i] - values[i];
        });
        return [.. Metrics.Select(path => Row(path))];

        PrecisionRow Row(string[] path)
        {
            (double low, double high) = intervals[MeanMetrics.Paths.TakeWhile(p => !p.SequenceEqual(path)).Count()];
            return new(path, exact.Metrics[path], fast.Metrics[path], low, high);
        }
    }

    private static ActiveSetAgreement Agreement(TokenSet tokens, Codes exact, Codes fast)
    {
        long positions = 0, identical = 0, ofExact = 0, ofFast = 0, both = 0, row = 0;
        for (int b = 0; b < tokens.Count; b++)
        {
            foreach (int token in tokens.Padded(b))
            {
                ReadOnlySpan<int> x = exact.Of(row), y = fast.Of(row++);
                if (tokens.IsSpecial(token))
                    continue;
                int shared = Shared(x, y);
                positions++;
                identical += shared == x.Length && shared == y.Length ? 1 : 0;
                (ofExact, ofFast, both) = (ofExact + x.Length, ofFast + y.Length, both + shared);
            }
        }

        return new(positions, identical, ofExact, ofFast, both);
    }

    /// <summary>Entries in both of two ascending lists.</summary>
    private static int Shared(ReadOnlySpan<int> a, ReadOnlySpan<int> b)
    {
        int shared = 0;
        for (int i = 0, j = 0; i < a.Length && j < b.Length;)
        {
            shared += a[i] == b[j] ? 1 : 0;
            (i, j) = (i + (a[i] <= b[j] ? 1 : 0), j + (b[j] <= a[i] ? 1 : 0));
        }

        return shared;
    }

    /// <summary>The codes of an evaluation's arrays, in the mapped file.</summary>
    private sealed unsafe class Codes(NpzFile file, string prefix)
    {
        private readonly long[] _start = file[$"{prefix}row_ptr"].ToInt64s();
        private readonly TensorView _feature = file[$"{prefix}feature"];

        public ReadOnlySpan<int> Of(long row) => new((int*)_feature.Pointer + _start[row], (int)(_start[row + 1] - _start[row]));
    }
}
