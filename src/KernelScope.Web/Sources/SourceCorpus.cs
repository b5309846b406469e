using System.Collections.Concurrent;
using KernelScope.Evaluation;
using KernelScope.Generation;
using KernelScope.Runtime;

namespace KernelScope.Web.Sources;

/// <summary>
/// A source's codes of the corpus that feature pages show, kept in memory: 8 bytes an active feature. They are read when somebody first
/// asks, through the engine's queue like every request. For an attention SAE, queries, keys and values of the sequences that examples came
/// from are kept as well.
/// </summary>
internal sealed class SourceCorpus(KernelScopeEngine engine, ServedSource source, TokenSet tokens, string name)
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(50);
    private const int FewestExpected = 50;
    private readonly Lock _gate = new();
    private readonly ConcurrentDictionary<int, Task<SourceAttribution>> _attention = [];
    private Task<Codes>? _reading;

    /// <summary>The corpus.</summary>
    public TokenSet Tokens => tokens;

    /// <summary>What the corpus is called.</summary>
    public string Name => name;

    /// <summary>Where BOS is, in the words of a run's plan; null where it is not at the beginning of every sequence.</summary>
    public string? BosPolicy { get; } =
        Enumerable.Range(0, tokens.Count).All(b => tokens.Sequence(b)[0] == engine.Model.Config.BosId) ? "first of each sequence" : null;

    /// <summary>The share of positions on which a feature fires; null while nobody has read the corpus.</summary>
    public double? Density(int feature)
    {
        Task<Codes>? reading = _reading;
        return reading is { IsCompletedSuccessfully: true } ? reading.Result.Firing[feature] / (double)reading.Result.Counted : null;
    }

    /// <summary>
    /// Whether a feature is known to fire on more than a share of positions: not before the corpus was read, and not by so few positions
    /// that the share is a guess.
    /// </summary>
    public bool IsDenser(int feature, double share)
    {
        Task<Codes>? reading = _reading;
        return reading is { IsCompletedSuccessfully: true } && IsEnough(reading.Result.Counted, share) && Density(feature) > share;
    }

    /// <summary>Whether so many positions say whether a feature fires on more than a share of them.</summary>
    public static bool IsEnough(long counted, double share) => counted * share >= FewestExpected;

    /// <summary>What a feature does over the corpus.</summary>
    public async Task<FeatureStatistics> OfAsync(int feature, CancellationToken cancellationToken)
    {
        Codes codes = await ReadAsync().WaitAsync(cancellationToken).ConfigureAwait(false);
        var firings = new FeatureFirings(source.FeatureCount, [feature]);
        foreach (Row row in codes.Rows)
            firings.Add(row.Sequence, row.Position, row.Features, row.Values);
        FeatureStatistics statistics = FeatureStatistics.Create(firings, tokens, new FeatureStatisticsOptions())[0];
        return PromptAttribution.IsFor(source) ? await WithSourcesAsync(statistics, cancellationToken).ConfigureAwait(false) : statistics;
    }

    /// <summary>Active features of a counted position, on average; null while nobody has read the corpus.</summary>
    public double? L0 => _reading is { IsCompletedSuccessfully: true } reading
        ? reading.Result.Firing.Sum() / (double)reading.Result.Counted : null;

    /// <summary>Reads the corpus, once; a failure is tried again by the next who asks.</summary>
    public Task ReadyAsync(CancellationToken cancellationToken) => ReadAsync().WaitAsync(cancellationToken);

    private Task<Codes> ReadAsync()
    {
        lock (_gate)
        {
            if (_reading is null or { IsFaulted: true } or { IsCanceled: true })
                _reading = Task.Run(CollectAsync);
            return _reading;
        }
    }

    private async Task<Codes> CollectAsync()
    {
        var rows = new List<Row>();
        long[] firing = new long[source.FeatureCount];
        for (int b = 0; b < tokens.Count; b++)
        {
            int[] sequence = tokens.Sequence(b).ToArray();
            IReadOnlyList<TokenFeatures> read = await ReadAsync(sequence).ConfigureAwait(false);
            for (int t = 0; t < sequence.Length; t++)
            {
                if (tokens.IsSpecial(sequence[t]))
                    continue;
                FeatureActivation[] active = [.. read[t].Features[0].Top.OrderBy(a => a.Feature)];
                rows.Add(new Row(b, t, Array.ConvertAll(active, a => a.Feature), Array.ConvertAll(active, a => a.Activation)));
                foreach (FeatureActivation one in active)
                    firing[one.Feature]++;
            }
        }

        return new Codes(rows, firing);
    }

    private Task<IReadOnlyList<TokenFeatures>> ReadAsync(int[] sequence)
    {
        var report = new FeatureReport { Sae = source.Sae.Name, Top = int.MaxValue };
        var request = new FeaturesRequest { Tokens = sequence, Features = [report] };
        return WhenFreeAsync(() => engine.FeaturesAsync(request));
    }

    /// <summary>What attention did on the sequences of examples: each is read when an example of it is first shown, and kept.</summary>
    private async Task<FeatureStatistics> WithSourcesAsync(FeatureStatistics statistics, CancellationToken cancellationToken)
    {
        ExampleSources.Question[] questions = [.. ExampleSources.QuestionsOf(statistics)];
        var answers = new DirectAttribution[questions.Length];
        for (int i = 0; i < answers.Length; i++)
        {
            (int feature, int sequence, int target, int first, int end) = questions[i];
            Task<SourceAttribution> reading = _attention.GetOrAdd(sequence, ReadAttentionAsync);
            // A failure is tried again by the next who asks.
            if (reading.IsFaulted || reading.IsCanceled)
                _attention.TryRemove(KeyValuePair.Create(sequence, reading));
            answers[i] = (await reading.WaitAsync(cancellationToken).ConfigureAwait(false)).Of(feature, target, first, end);
        }

        return statistics.WithSources(new(answers));
    }

    private Task<SourceAttribution> ReadAttentionAsync(int sequence)
    {
        int[] ids = tokens.Sequence(sequence).ToArray();
        return WhenFreeAsync(() => PromptAttribution.ReadAsync(engine, source, ids, CancellationToken.None));
    }

    /// <summary>Waits where the queue is full: requests of clients go first.</summary>
    private static async Task<T> WhenFreeAsync<T>(Func<Task<T>> ask)
    {
        while (true)
        {
            try
            {
                return await ask().ConfigureAwait(false);
            }
            catch (EngineBusyException)
            {
                await Task.Delay(Pause).ConfigureAwait(false);
            }
        }
    }

    private sealed record Row(int Sequence, int Position, int[] Features, float[] Values);

    private sealed record Codes(List<Row> Rows, long[] Firing)
    {
        public long Counted => Rows.Count;
    }
}
