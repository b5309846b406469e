using System.Text.Json.Serialization;
using KernelScope.Evaluation;

namespace KernelScope.Cli;

/// <summary>Result of <c>dash</c>.</summary>
internal sealed record DashResult(
    string Model, string Sae, string Site, string? SiteOut, string Corpus, int Windows, long Tokens, IReadOnlyList<int> MaskedIds,
    ulong Seed, IReadOnlyList<DashFeature> Features)
{
    public static DashResult Create(FeaturePageSource source, IReadOnlyList<FeaturePage> pages) => new(
        source.Model, source.Sae, source.Site, source.SiteOut, source.Corpus, source.Tokens.Count, source.Tokens.TokenCount,
        source.Tokens.SpecialIds, source.Seed, [.. pages.Select(p => DashFeature.Create(source, p))]);
}

/// <summary>Result of <c>dash --out</c>.</summary>
internal sealed record DashFolderResult(
    string Out, string Model, string Sae, string Source, string Run, long CountedPositions, int Features, long Dead, long Dense,
    long Bytes);

/// <summary>One feature over the corpus.</summary>
internal sealed record DashFeature(
    int Index, long CountedPositions, long FiringPositions, double FracNonzero, double Mean, float MaxAct, string Binning)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Meaning { get; init; }

    public required IReadOnlyList<QuantileRow> Quantiles { get; init; }

    public required DashHistogram FreqHist { get; init; }

    public DashHistogram? LogitsHist { get; init; }

    public IReadOnlyList<DashLogit>? Promotes { get; init; }

    public IReadOnlyList<DashLogit>? Suppresses { get; init; }

    public required IReadOnlyList<DashRelated> Nearest { get; init; }

    public required IReadOnlyList<DashRelated> CoFiring { get; init; }

    public required IReadOnlyList<DashToken> TopTokens { get; init; }

    public required IReadOnlyList<long> PeakPositionHistogram { get; init; }

    public required int DistinctTokens { get; init; }

    public required IReadOnlyList<DashExample> Top { get; init; }

    public required IReadOnlyList<DashGroup> Groups { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<DashExample>? OwnTexts { get; init; }

    public static DashFeature Create(FeaturePageSource source, FeaturePage page)
    {
        FeatureStatistics s = page.Statistics;
        string binning = s.Binning == ExampleBinning.Quantile ? "quantile" : "saedashboard";
        return new DashFeature(s.Feature, s.Counted, s.Firing, s.Density, s.Mean, s.Max, binning)
        {
            Meaning = page.Labels is [string first, ..] ? first : null,
            Quantiles = [.. s.Quantiles.OrderBy(q => q.Key).Select(q => new QuantileRow(q.Key, q.Value))],
            FreqHist = DashHistogram.Create(s.Activations),
            LogitsHist = page.Logits is null ? null : DashHistogram.Create(page.Logits.Histogram),
            Promotes = page.Logits?.Top.Select(t => new DashLogit(t.Id, source.Piece(t.Id), t.Value)).ToArray(),
            Suppresses = page.Logits?.Bottom.Select(t => new DashLogit(t.Id, source.Piece(t.Id), t.Value)).ToArray(),
            Nearest = [.. page.Nearest.Select(n => new DashRelated(n.Feature, n.Value, null))],
            CoFiring = [.. s.CoFiring.Select(n => new DashRelated(n.Feature, n.Value, n.Count))],
            TopTokens = [.. s.TopTokens.Select(t => new DashToken(t.Id, source.Piece(t.Id), t.Count, t.Mean))],
            DistinctTokens = s.DistinctTokens,
            PeakPositionHistogram = s.PeakPositions,
            Top = [.. s.Top.Select(Example)],
            Groups = [.. s.Groups.Select(g => new DashGroup(g.From, g.To, g.Contains, [.. g.Examples.Select(Example)]))],
            OwnTexts = page.OwnTexts.Count == 0 ? null : [.. page.OwnTexts.Select(Example)],
        };

        DashExample Example(FeatureExample e) =>
            new(e.Sequence, e.Position, e.FirstPosition, e.Activation, [.. e.Tokens.Select(source.Text)], e.Values)
            {
                DfaValues = e.Sources?.Values,
                DfaTargetIndex = e.Sources?.Target,
            };
    }
}

internal sealed record DashHistogram(IReadOnlyList<double> Values, IReadOnlyList<long> Heights)
{
    public static DashHistogram Create(FeatureHistogram histogram) => new(histogram.Centres, histogram.Counts);
}

internal sealed record DashLogit(int Id, string Piece, float Value);

internal sealed record DashRelated(
    int Index, double Value, [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] long? Count);

internal sealed record DashToken(int Id, string Piece, long Count, double Mean);

internal sealed record DashExample(
    int Sequence, int Position, int FirstPosition, float Activation, IReadOnlyList<string> Tokens, IReadOnlyList<float> Values)
{
    /// <summary>For an attention SAE, what each token gave the largest of the values; without BOS at position 0, as its index is.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<float>? DfaValues { get; init; }

    /// <summary>The token that has the largest, counted in them.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? DfaTargetIndex { get; init; }
}

internal sealed record DashGroup(float From, float To, double Contains, IReadOnlyList<DashExample> Examples);
