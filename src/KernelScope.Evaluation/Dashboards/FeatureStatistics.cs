using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>A token on which a feature fires.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct FiringToken
{
    internal FiringToken(int id, long count, double mean)
    {
        Id = id;
        Count = count;
        Mean = mean;
    }

    /// <summary>Id of the token.</summary>
    public int Id { get; init; }

    /// <summary>How often the feature fires on it.</summary>
    public long Count { get; init; }

    /// <summary>Mean activation at the positions of that token.</summary>
    public double Mean { get; init; }
}

/// <summary>Another feature, and how much it has to do with one.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct RelatedFeature
{
    internal RelatedFeature(int feature, double value, long count)
    {
        Feature = feature;
        Value = value;
        Count = count;
    }

    /// <summary>Index of the feature.</summary>
    public int Feature { get; init; }

    /// <summary>The cosine of the decoder rows; or the rows on which both fire over those on which one of them does.</summary>
    public double Value { get; init; }

    /// <summary>Rows on which both fire; 0 where it is about directions.</summary>
    public long Count { get; init; }
}

/// <summary>What a feature does over a corpus: how often it fires, how strongly, where most, and beside which others.</summary>
/// <remarks>Immutable: any number of threads may read it. The same corpus and options give the same bits.</remarks>
public sealed record FeatureStatistics
{
    private const int Listed = 10, Parts = 8;
    private static readonly double[] Shares = [0.5, 0.9, 0.99, 1];

    private FeatureStatistics()
    {
    }

    /// <summary>Index of the feature.</summary>
    public required int Feature { get; init; }

    /// <summary>Positions that count: their token is not special.</summary>
    public required long Counted { get; init; }

    /// <summary>Those of them at which it fires.</summary>
    public required long Firing { get; init; }

    /// <summary>Its mean activation where it fires; NaN if it does nowhere.</summary>
    public required double Mean { get; init; }

    /// <summary>Its largest activation; 0 if it fires nowhere.</summary>
    public required float Max { get; init; }

    /// <summary>Its activations where it fires.</summary>
    public required FeatureHistogram Activations { get; init; }

    /// <summary>The ⌈share·n⌉-th smallest of them, exactly, for the shares ½, 0.9, 0.99 and 1; empty if there is none.</summary>
    public required IReadOnlyDictionary<double, float> Quantiles { get; init; }

    /// <summary>The strongest examples, strongest first.</summary>
    public required IReadOnlyList<FeatureExample> Top { get; init; }

    /// <summary>Examples by ranges of the activation.</summary>
    public required IReadOnlyList<ExampleGroup> Groups { get; init; }

    /// <summary>How the examples were chosen.</summary>
    public required ExampleBinning Binning { get; init; }

    /// <summary>Number of different tokens on which it fires.</summary>
    public required int DistinctTokens { get; init; }

    /// <summary>The ten on which it fires most often, the lower id first among equals.</summary>
    public required IReadOnlyList<FiringToken> TopTokens { get; init; }

    /// <summary>The ten features that fire most alike, by the share of common rows; empty where that was not counted.</summary>
    public required IReadOnlyList<RelatedFeature> CoFiring { get; init; }

    /// <summary>In how many windows the largest activation lies in the first eighth of the window's length, the second, and so on.</summary>
    public required IReadOnlyList<long> PeakPositions { get; init; }

    /// <summary>The share of the firing positions that one document has, that of the most; null where documents are not known, or it fires nowhere.</summary>
    public double? LargestDocumentShare { get; init; }

    /// <summary>All positions of the corpus, those that do not count too.</summary>
    public required long Positions { get; init; }

    /// <summary>Firing over counted positions.</summary>
    public double Density => Counted == 0 ? 0 : Firing / (double)Counted;

    /// <summary>All examples: the strongest, then those of each range.</summary>
    internal IEnumerable<FeatureExample> Examples => Top.Concat(Groups.SelectMany(g => g.Examples));

    /// <summary>The same with what each token gave in each example that was asked about (<see cref="ExampleSources.QuestionsOf"/>).</summary>
    /// <param name="answers">Of the examples, in their order, which are taken out; empty: there are none.</param>
    internal FeatureStatistics WithSources(Queue<DirectAttribution> answers)
    {
        return answers.Count == 0 ? this : this with
        {
            Top = [.. Top.Select(With)],
            Groups = [.. Groups.Select(g => g with { Examples = [.. g.Examples.Select(With)] })],
        };

        FeatureExample With(FeatureExample example) =>
            ExampleSources.Of(Feature, example) is null ? example : example with { Sources = answers.Dequeue() };
    }

    /// <summary>Runs a corpus up to the SAE and collects where features fire.</summary>
    /// <param name="model">The model.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="site">Where it reads.</param>
    /// <param name="features">The chosen features.</param>
    /// <param name="tokens">The corpus, in windows.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <returns>The firings.</returns>
    /// <exception cref="ArgumentException">The SAE has no such feature.</exception>
    public static FeatureFirings Collect(
        Gemma2Model model, JumpReluSae sae, HookPoint site, IReadOnlyList<int> features, TokenSet tokens,
        IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(sae);
        ArgumentNullException.ThrowIfNull(tokens);
        var firings = new FeatureFirings(sae.FeatureCount, features);
        using Session session = model.NewSession(tokens.Length);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        for (int b = 0; b < tokens.Count; b++)
        {
            ReadOnlySpan<int> sequence = tokens.Sequence(b);
            session.Reset();
            for (int start = 0; start < sequence.Length; start += session.ChunkLength)
            {
                int count = Math.Min(session.ChunkLength, sequence.Length - start);
                SiteRun.Forward(model, session, site, sequence.Slice(start, count), cancellationToken);
            }

            for (int t = 0; t < sequence.Length; t++)
            {
                if (!tokens.IsSpecial(sequence[t]))
                    firings.Add(b, t, capture.Codes.FeaturesOf(t), capture.Codes.ValuesOf(t));
            }

            progress?.Report((b + 1) / (double)tokens.Count);
        }

        return firings;
    }

    /// <summary>Statistics of every chosen feature.</summary>
    /// <param name="firings">Where they fire.</param>
    /// <param name="tokens">The corpus that they were collected over.</param>
    /// <param name="options">How examples are chosen.</param>
    /// <returns>One for each chosen feature, in their order.</returns>
    public static IReadOnlyList<FeatureStatistics> Create(FeatureFirings firings, TokenSet tokens, FeatureStatisticsOptions options)
    {
        ArgumentNullException.ThrowIfNull(firings);
        ArgumentNullException.ThrowIfNull(tokens);
        ArgumentNullException.ThrowIfNull(options);
        return [.. firings.Features.Select((feature, slot) => Create(firings, slot, feature, tokens, options))];
    }

    /// <summary>The features whose decoder rows have the largest cosines with one's, ties by lower index; without itself.</summary>
    /// <param name="sae">The SAE.</param>
    /// <param name="feature">The feature.</param>
    /// <param name="count">How many.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>The nearest, nearest first.</returns>
    public static IReadOnlyList<RelatedFeature> Nearest(
        JumpReluSae sae, int feature, int count, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(sae);
        float[] own = sae.DecoderRow(feature);
        double ownNorm = Math.Sqrt(Dot(own, own));
        double[] cosines = new double[sae.FeatureCount];
        for (int f = 0; f < cosines.Length; f++)
        {
            if ((f & 1023) == 0)
                cancellationToken.ThrowIfCancellationRequested();
            float[] row = sae.DecoderRow(f);
            double cosine = Dot(own, row) / (ownNorm * Math.Sqrt(Dot(row, row)));
            cosines[f] = double.IsFinite(cosine) ? cosine : 0;
        }

        IEnumerable<int> others = Enumerable.Range(0, cosines.Length).Where(f => f != feature);
        return [.. others.OrderByDescending(f => cosines[f]).ThenBy(f => f).Take(count)
            .Select(f => new RelatedFeature(f, cosines[f], 0))];
    }

    /// <summary>Statistics of one feature.</summary>
    /// <param name="feature">Which.</param>
    /// <param name="places">Where it fires, by sequence and position.</param>
    /// <param name="counted">Positions that count.</param>
    /// <param name="tokens">The corpus.</param>
    /// <param name="options">How examples are chosen.</param>
    /// <param name="documents">The document of each sequence; null: not known.</param>
    internal static FeatureStatistics Of(
        int feature, FeaturePlace[] places, long counted, TokenSet tokens, FeatureStatisticsOptions options, long[]? documents = null)
    {
        float[] values = [.. places.Select(p => p.Activation)], ascending = [.. values];
        Array.Sort(ascending);
        var choice = new ExampleChoice(feature, places, counted, tokens, options);
        (IReadOnlyList<FeatureExample> top, IReadOnlyList<ExampleGroup> groups) = choice.Choose();
        FiringToken[] byToken = ByToken(places, tokens);
        return new FeatureStatistics
        {
            Feature = feature,
            Counted = counted,
            Positions = tokens.TokenCount,
            Firing = places.Length,
            Mean = places.Length == 0 ? double.NaN : values.Sum(v => (double)v) / places.Length,
            Max = ascending.Length == 0 ? 0 : ascending[^1],
            Activations = FeatureHistogram.Create(values),
            Quantiles = ascending.Length == 0
                ? new Dictionary<double, float>()
                : Shares.ToDictionary(s => s, s => ascending[Math.Max(1, (int)Math.Ceiling(s * ascending.Length)) - 1]),
            Top = top,
            Groups = groups,
            Binning = options.Binning,
            DistinctTokens = byToken.Length,
            TopTokens = [.. byToken.OrderByDescending(t => t.Count).ThenBy(t => t.Id).Take(Listed)],
            CoFiring = [],
            PeakPositions = PeakPositionsOf(choice, Math.Min(options.Window, tokens.Length), options.Window),
            LargestDocumentShare = documents is null || places.Length == 0 ? null
                : places.CountBy(p => documents[p.Sequence]).Max(d => d.Value) / (double)places.Length,
        };
    }

    /// <summary>The ten that fire most alike with a feature, by the rows on which both fire over those on which one of them does.</summary>
    /// <param name="others">Features that fire on some row with it.</param>
    /// <param name="together">On how many.</param>
    /// <param name="firing">On how many rows each feature fires.</param>
    /// <param name="own">On how many it does.</param>
    internal static RelatedFeature[] CoFiringOf(IEnumerable<int> others, long[] together, long[] firing, long own) =>
        [.. others.Select(f => new RelatedFeature(f, together[f] / (double)(own + firing[f] - together[f]), together[f]))
            .OrderByDescending(r => r.Value).ThenBy(r => r.Feature).Take(Listed)];

    private static FeatureStatistics Create(
        FeatureFirings firings, int slot, int feature, TokenSet tokens, FeatureStatisticsOptions options)
    {
        FeaturePlace[] places = firings.PlacesOf(slot);
        long[] together = firings.TogetherWith(slot);
        IEnumerable<int> others = Enumerable.Range(0, together.Length).Where(f => together[f] > 0);
        return Of(feature, places, firings.Counted, tokens, options) with
        {
            CoFiring = CoFiringOf(others, together, firings.Firing, places.Length),
        };
    }

    private static FiringToken[] ByToken(FeaturePlace[] places, TokenSet tokens)
    {
        var sums = new Dictionary<int, (long Count, double Sum)>();
        foreach (FeaturePlace place in places)
        {
            int id = tokens.Sequence(place.Sequence)[place.Position];
            (long count, double sum) = sums.GetValueOrDefault(id);
            sums[id] = (count + 1, sum + place.Activation);
        }

        return [.. sums.Select(s => new FiringToken(s.Key, s.Value.Count, s.Value.Sum / s.Value.Count))];
    }

    private static long[] PeakPositionsOf(ExampleChoice choice, int length, int window)
    {
        long[] counts = new long[Parts];
        foreach (FeaturePlace peak in choice.Peaks())
            counts[(int)((long)(peak.Position % window) * Parts / length)]++;
        return counts;
    }

    private static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int j = 0; j < a.Length; j++)
            sum += (double)a[j] * b[j];
        return sum;
    }
}
