using System.Globalization;
using KernelScope.Evaluation;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>Features as rows, in the shape of Neuronpedia's.</summary>
internal static class FeatureRows
{
    private const int Listed = 10;
    private const double DenseShare = 0.1;

    /// <summary>Names, labels and density alone, as lists of features have them.</summary>
    public static FeatureRow Short(ServedModel model, ServedSource source, int index) =>
        Short(RowNames.From(model, source), index) with
        {
            FracNonzero = model.Density(source, index),
            Explanations = [.. model.Labels.Of(model.Id, source.Id, index).Select(Explanation)],
        };

    /// <summary>
    /// The row as its dashboard on disk has it; else what model and SAE say of the feature, and what it does over the corpus, if there
    /// is one.
    /// </summary>
    public static async Task<FeatureRow> FullAsync(ServedModel model, ServedSource source, int index, CancellationToken cancellationToken)
    {
        FeatureRow row = await ReadAsync(model, source, index, cancellationToken).ConfigureAwait(false);
        return row with { Kernelscope = row.Kernelscope! with { FeatureCount = source.FeatureCount } };
    }

    private static async Task<FeatureRow> ReadAsync(ServedModel model, ServedSource source, int index, CancellationToken cancellationToken)
    {
        FeatureRow names = Short(model, source, index);
        if (model.DashboardOf(source) is { } dashboard && dashboard.Has(index))
            return AsServed(model, names, dashboard.Read(index));
        RowNames rowNames = RowNames.From(model, source);
        FeatureRow row = WithDirection(rowNames, names, DirectionOf(model, source, index, cancellationToken));
        if (model.CorpusOf(source) is not SourceCorpus corpus)
            return row;
        FeatureStatistics statistics = await corpus.OfAsync(index, cancellationToken).ConfigureAwait(false);
        row = WithStatistics(rowNames, row, statistics, corpus.Tokens.SpecialIds, corpus.Name);
        return row with { Kernelscope = row.Kernelscope! with { L0 = corpus.L0, BosPolicy = corpus.BosPolicy } };
    }

    public static Explanation Explanation(FeatureLabel label) =>
        new(
            label.Id ?? $"{label.ModelId}/{label.Source}/{label.Index}", label.ModelId, label.Source, label.Source, Text(label.Index),
            label.Description)
        {
            TypeName = label.TypeName,
            ExplanationModelName = label.ModelName,
        };

    /// <summary>Names alone.</summary>
    public static FeatureRow Short(RowNames source, int index) => new(source.ModelId, source.Source, source.Source, Text(index))
    {
        SourceSetName = source.SourceSet,
        HookName = source.HookName,
    };

    /// <summary>Adds what the parameters say.</summary>
    public static FeatureRow WithDirection(RowNames source, FeatureRow row, FeatureDirection direction) => row with
    {
        PosStr = [.. (direction.Logits?.Top ?? []).Select(t => source.Piece(t.Id))],
        PosValues = [.. (direction.Logits?.Top ?? []).Select(t => Rounded(t.Value))],
        NegStr = [.. (direction.Logits?.Bottom ?? []).Select(t => source.Piece(t.Id))],
        NegValues = [.. (direction.Logits?.Bottom ?? []).Select(t => Rounded(t.Value))],
        LogitsHistValues = direction.Logits?.Histogram.Centres ?? [],
        LogitsHistHeights = direction.Logits?.Histogram.Counts ?? [],
        TopkCosSimIndices = [.. direction.Nearest.Select(n => n.Feature)],
        TopkCosSimValues = [.. direction.Nearest.Select(n => Rounded(n.Value))],
        AlignmentIndices = [.. direction.Alignment.Select(a => a.At)],
        AlignmentValues = [.. direction.Alignment.Select(a => Rounded(a.Value))],
        AlignmentL1 = [.. direction.Alignment.Select(a => Rounded(a.Share))],
        DecoderWeightsDist = [.. direction.HeadShares.Select(Rounded)],
        Kernelscope = new FeatureFacts
        {
            Site = source.Site,
            SiteOut = source.SiteOut,
            NearestEncoder = [.. direction.NearestEncoder.Select(n => n.Feature)],
        },
    };

    /// <summary>Adds what it does over a corpus.</summary>
    public static FeatureRow WithStatistics(
        RowNames source, FeatureRow row, FeatureStatistics statistics, IReadOnlyList<int> maskedIds, string dataset)
    {
        bool isTheirs = statistics.Binning == ExampleBinning.SaeDashboard;
        return row with
        {
            FracNonzero = isTheirs ? Math.Round(statistics.Firing / (double)statistics.Positions, 5) : statistics.Density,
            FreqHistValues = statistics.Activations.Centres,
            FreqHistHeights = statistics.Activations.Counts,
            MaxActApprox = statistics.Max,
            Activations = [.. Examples(source, row, statistics)],
            Kernelscope = row.Kernelscope! with
            {
                FiringPositions = statistics.Firing,
                CountedPositions = statistics.Counted,
                MaskedIds = maskedIds,
                Dataset = dataset,
                Binning = isTheirs ? "saedashboard" : "quantile",
                Mean = statistics.Firing == 0 ? null : statistics.Mean,
                Quantiles = statistics.Quantiles.OrderBy(q => q.Key)
                    .ToDictionary(q => q.Key.ToString(CultureInfo.InvariantCulture), q => (double)q.Value),
                DistinctTokens = statistics.DistinctTokens,
                TopTokens = [.. statistics.TopTokens.Select(t => new TokenShare(source.Piece(t.Id), t.Count, t.Mean))],
                CoFiring = [.. statistics.CoFiring.Select(c => new CoFiringFeature(c.Feature, Rounded(c.Value), c.Count))],
                PeakPositions = statistics.PeakPositions,
                ByDocument = statistics.LargestDocumentShare is double share ? new DocumentShare(share) : null,
                Dead = statistics.Firing == 0,
                Dense = statistics.Density > DenseShare,
            },
        };
    }

    private static FeatureDirection DirectionOf(ServedModel model, ServedSource source, int index, CancellationToken cancellationToken)
    {
        float[] row = source.Sae.Sae.DecoderRow(index);
        RelatedFeature[] near = [.. ModelEndpoints.Nearest(source, row, Listed + 1, cancellationToken)
            .Where(n => n.Feature != index).Take(Listed).Select(n => new RelatedFeature(n.Feature, n.Cosine, 0))];
        FeatureLogits? logits = source.Sae.SiteOut is Hooks.HookPoint site
            ? FeatureLogits.Create(model.Engine.Model, source.Sae.Sae, site, index, Listed) : null;
        return new FeatureDirection(
            index, logits, near, [], FeatureDirections.AlignmentOf(row),
            FeatureDirections.HeadSharesOf(row, source.Sae.SiteOut, model.Config.HeadDim));
    }

    /// <summary>
    /// A stored row under the names of this server, with its labels, and with tokens as texts: files hold pieces of the vocabulary, and
    /// −1 where the Python client takes null.
    /// </summary>
    private static FeatureRow AsServed(ServedModel model, FeatureRow names, FeatureRow stored) => stored with
    {
        ModelId = names.ModelId,
        Layer = names.Layer,
        Source = names.Source,
        Index = names.Index,
        SourceSetName = names.SourceSetName,
        HookName = names.HookName,
        Explanations = names.Explanations.Count > 0 ? names.Explanations
            : [.. stored.Explanations.Select(e => e with
            {
                ModelId = names.ModelId,
                Layer = names.Layer,
                Source = names.Source,
                Index = names.Index,
            })],
        Activations = [.. stored.Activations.OrderByDescending(a => a.MaxValue).Select(a => a with
        {
            ModelId = names.ModelId,
            Layer = names.Layer,
            Source = names.Source,
            Index = names.Index,
            Tokens = [.. a.Tokens.Select(p => model.Tokenizer.TryGetId(p, out int id) ? model.TokenText(id) : p)],
            BinMin = a.BinContains < 0 ? null : a.BinMin,
            BinMax = a.BinContains < 0 ? null : a.BinMax,
            BinContains = a.BinContains < 0 ? null : a.BinContains,
        })],
    };

    private static IEnumerable<ActivationRow> Examples(RowNames source, FeatureRow row, FeatureStatistics statistics)
    {
        // The bins of the strongest are null: the -1 of exported files is more than the Python client takes.
        IEnumerable<ActivationRow> top = statistics.Top.Select((e, i) => Example(source, row, e, $"top-{i}", null, null, null));
        IEnumerable<ActivationRow> rest = statistics.Groups.SelectMany(
            (g, n) => g.Examples.Select((e, i) => Example(source, row, e, $"{n}-{i}", g.From, g.To, g.Contains)));
        return top.Concat(rest).OrderByDescending(a => a.MaxValue);
    }

    /// <summary>The whole window without position 0, which holds BOS.</summary>
    private static ActivationRow Example(
        RowNames source, FeatureRow row, FeatureExample example, string id, double? from, double? to, double? contains)
    {
        int skipped = example.Skipped, largest = example.Peak - skipped;
        double[] values = [.. example.Values.Skip(skipped).Select(v => Rounded(v))];
        return new ActivationRow(
            $"{row.ModelId}-{row.Source}-{row.Index}-{id}", row.ModelId, row.Layer, row.Source, row.Index,
            [.. example.Tokens.Skip(skipped).Select(source.Token)], values, values.Length == 0 ? 0 : values[largest], largest,
            values.Length == 0 ? 0 : values.Min(), from, to, contains, example.Position - example.FirstPosition - skipped)
        {
            DfaValues = [.. (example.Sources?.Values ?? []).Select(v => Rounded(v))],
            DfaTargetIndex = example.Sources?.Target ?? -1,
            DfaMaxValue = Rounded(example.Sources?.Max ?? 0),
        };
    }

    private static double Rounded(double value) => Math.Round(value, 3);

    private static string Text(int index) => index.ToString(CultureInfo.InvariantCulture);
}
