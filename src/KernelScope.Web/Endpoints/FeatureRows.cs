using System.Globalization;
using KernelScope.Evaluation;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>Features as rows, in the shape of Neuronpedia's.</summary>
internal static class FeatureRows
{
    private const int Listed = 10, Components = 3;
    private const double DenseShare = 0.1;

    /// <summary>Names, labels and density alone, as lists of features have them.</summary>
    public static FeatureRow Short(ServedModel model, ServedSource source, int index) => new(model.Id, source.Id, source.Id, Text(index))
    {
        SourceSetName = source.SourceSet,
        HookName = source.HookName,
        FracNonzero = model.CorpusOf(source)?.Density(index),
        Explanations = [.. model.Labels.Of(model.Id, source.Id, index).Select(Explanation)],
    };

    /// <summary>The row with what model and SAE say of the feature, and what it does over the corpus, if there is one.</summary>
    public static async Task<FeatureRow> FullAsync(ServedModel model, ServedSource source, int index, CancellationToken cancellationToken)
    {
        FeatureRow row = WithDirection(model, source, index, cancellationToken);
        if (model.CorpusOf(source) is not SourceCorpus corpus)
            return row;
        FeatureStatistics statistics = await corpus.OfAsync(index, cancellationToken).ConfigureAwait(false);
        return WithStatistics(model, corpus, row, statistics);
    }

    public static Explanation Explanation(FeatureLabel label) =>
        new(
            label.Id ?? $"{label.ModelId}/{label.Source}/{label.Index}", label.ModelId, label.Source, label.Source, Text(label.Index),
            label.Description)
        {
            TypeName = label.TypeName,
            ExplanationModelName = label.ModelName,
        };

    private static FeatureRow WithDirection(ServedModel model, ServedSource source, int index, CancellationToken cancellationToken)
    {
        float[] direction = source.Sae.Sae.DecoderRow(index);
        (int Feature, float Cosine)[] near = [.. ModelEndpoints.Nearest(source, direction, Listed + 1, cancellationToken)
            .Where(n => n.Feature != index).Take(Listed)];
        (int At, double Value)[] largest = [.. direction.Select((value, at) => (At: at, Value: (double)value))
            .OrderByDescending(v => Math.Abs(v.Value)).ThenBy(v => v.At).Take(Components)];
        double length = direction.Sum(v => Math.Abs((double)v));
        FeatureLogits? logits = source.Sae.SiteOut is Hooks.HookPoint site
            ? FeatureLogits.Create(model.Engine.Model, source.Sae.Sae, site, index, Listed) : null;
        return Short(model, source, index) with
        {
            PosStr = [.. (logits?.Top ?? []).Select(t => Piece(model, t.Id))],
            PosValues = [.. (logits?.Top ?? []).Select(t => Rounded(t.Value))],
            NegStr = [.. (logits?.Bottom ?? []).Select(t => Piece(model, t.Id))],
            NegValues = [.. (logits?.Bottom ?? []).Select(t => Rounded(t.Value))],
            LogitsHistValues = logits?.Histogram.Centres ?? [],
            LogitsHistHeights = logits?.Histogram.Counts ?? [],
            TopkCosSimIndices = [.. near.Select(n => n.Feature)],
            TopkCosSimValues = [.. near.Select(n => Rounded(n.Cosine))],
            AlignmentIndices = [.. largest.Select(v => v.At)],
            AlignmentValues = [.. largest.Select(v => Rounded(v.Value))],
            AlignmentL1 = [.. largest.Select(v => length == 0 ? 0 : Rounded(Math.Abs(v.Value) / length))],
            Kernelscope = new FeatureFacts { Site = source.Sae.Site.ToString(), SiteOut = source.Sae.SiteOut?.ToString() },
        };
    }

    private static FeatureRow WithStatistics(
        ServedModel model, SourceCorpus corpus, FeatureRow row, FeatureStatistics statistics) => row with
    {
        FracNonzero = statistics.Density,
        FreqHistValues = statistics.Activations.Centres,
        FreqHistHeights = statistics.Activations.Counts,
        MaxActApprox = statistics.Max,
        Activations = [.. Examples(model, row, statistics)],
        Kernelscope = row.Kernelscope! with
        {
            FiringPositions = statistics.Firing,
            CountedPositions = statistics.Counted,
            MaskedIds = corpus.Tokens.SpecialIds,
            Dataset = corpus.Name,
            Mean = statistics.Firing == 0 ? null : statistics.Mean,
            Quantiles = statistics.Quantiles.ToDictionary(q => q.Key.ToString(CultureInfo.InvariantCulture), q => (double)q.Value),
            DistinctTokens = statistics.DistinctTokens,
            TopTokens = [.. statistics.TopTokens.Select(t => new TokenShare(Piece(model, t.Id), t.Count, t.Mean))],
            Dead = statistics.Firing == 0,
            Dense = statistics.Density > DenseShare,
        },
    };

    private static IEnumerable<ActivationRow> Examples(ServedModel model, FeatureRow row, FeatureStatistics statistics)
    {
        // The bins of the strongest are null: the -1 of exported files is more than the Python client takes.
        IEnumerable<ActivationRow> top = statistics.Top.Select((e, i) => Example(model, row, e, $"top-{i}", null, null, null));
        IEnumerable<ActivationRow> rest = statistics.Groups.SelectMany(
            (g, n) => g.Examples.Select((e, i) => Example(model, row, e, $"{n}-{i}", g.From, g.To, g.Contains)));
        return top.Concat(rest).OrderByDescending(a => a.MaxValue);
    }

    /// <summary>The whole window without position 0, which holds BOS.</summary>
    private static ActivationRow Example(
        ServedModel model, FeatureRow row, FeatureExample example, string id, double? from, double? to, double? contains)
    {
        double[] values = [.. example.Values.Skip(1).Select(v => Rounded(v))];
        int largest = Array.IndexOf(values, values.Max());
        return new ActivationRow(
            $"{row.Source}-{row.Index}-{id}", row.ModelId, row.Layer, row.Source, row.Index,
            model.TokenTexts([.. example.Tokens.Skip(1)]), values, values[largest], largest, values.Min(), from, to, contains, example.Position - 1);
    }

    private static double Rounded(double value) => Math.Round(value, 3);

    private static string Piece(ServedModel model, int id) => model.Tokenizer.Contains(id) ? model.Tokenizer.Piece(id) : $"<{id}>";

    private static string Text(int index) => index.ToString(CultureInfo.InvariantCulture);
}
