using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>From which tokens of its window an example of an attention SAE has its largest activation.</summary>
internal static class ExampleSources
{
    /// <summary>One example's question.</summary>
    /// <param name="Feature">The feature.</param>
    /// <param name="Sequence">The sequence of the corpus.</param>
    /// <param name="Target">The position of the largest activation.</param>
    /// <param name="First">The first position of the answer.</param>
    /// <param name="End">The position after its last.</param>
    public readonly record struct Question(int Feature, int Sequence, int Target, int First, int End);

    /// <summary>The question of an example; null where nothing is active. BOS at position 0 is not part of the answer.</summary>
    public static Question? Of(int feature, FeatureExample example)
    {
        int skipped = example.Skipped;
        return example.Tokens.Count == skipped || !(example.Values[example.Peak] > 0) ? null : new Question(
            feature, example.Sequence, example.FirstPosition + example.Peak, example.FirstPosition + skipped,
            example.FirstPosition + example.Tokens.Count);
    }

    /// <summary>Runs each sequence that somebody asks about once, as far as the last question goes and up to the SAE's layer.</summary>
    /// <param name="model">The model.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="site">Where it reads: at z.</param>
    /// <param name="tokens">The corpus.</param>
    /// <param name="questions">What is asked.</param>
    /// <param name="threads">Of the arithmetic beside the model; changes no bit.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <returns>The answers, in the order of the questions.</returns>
    public static DirectAttribution[] Read(
        Gemma2Model model, JumpReluSae sae, HookPoint site, TokenSet tokens, IReadOnlyList<Question> questions, int threads,
        IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var answers = new DirectAttribution[questions.Count];
        if (answers.Length == 0)
            return answers;
        int[] order = [.. Enumerable.Range(0, answers.Length).OrderBy(i => questions[i].Sequence)];
        HookPoint[] points = SourceAttribution.PointsOf(site);
        using Session session = model.NewSession(tokens.Length);
        using var cache = new ActivationCache(session.Hooks, points, tokens.Length);
        for (int at = 0; at < order.Length;)
        {
            int next = at, sequence = questions[order[at]].Sequence, length = 0;
            for (; next < order.Length && questions[order[next]].Sequence == sequence; next++)
                length = Math.Max(length, questions[order[next]].End);
            session.Reset();
            ReadOnlySpan<int> ids = tokens.Sequence(sequence)[..length];
            for (int start = 0; start < length; start += session.ChunkLength)
            {
                int count = Math.Min(session.ChunkLength, length - start);
                SiteRun.Forward(model, session, site, ids.Slice(start, count), cancellationToken);
            }

            var attribution = new SourceAttribution(model, sae, site, [.. points.Select(p => cache.Values(p).ToArray())]);
            Parallel.For(
                at, next, new ParallelOptions { MaxDegreeOfParallelism = threads, CancellationToken = cancellationToken }, i =>
                {
                    Question asked = questions[order[i]];
                    answers[order[i]] = attribution.Of(asked.Feature, asked.Target, asked.First, asked.End);
                });
            at = next;
            progress?.Report(at / (double)order.Length);
        }

        return answers;
    }

    /// <summary>Adds the answers to examples of some features, where the SAE has such.</summary>
    public static IReadOnlyList<FeatureStatistics> AddTo(
        IReadOnlyList<FeatureStatistics> features, Gemma2Model model, JumpReluSae sae, HookPoint site, TokenSet tokens, int threads,
        IProgress<double>? progress, CancellationToken cancellationToken)
    {
        if (!SourceAttribution.IsFor(site))
            return features;
        Question[] questions = [.. features.SelectMany(QuestionsOf)];
        var answers = new Queue<DirectAttribution>(Read(model, sae, site, tokens, questions, threads, progress, cancellationToken));
        return [.. features.Select(feature => feature.WithSources(answers))];
    }

    /// <summary>The questions of a feature's examples, in their order.</summary>
    public static IEnumerable<Question> QuestionsOf(FeatureStatistics feature) =>
        feature.Examples.Select(e => Of(feature.Feature, e)).OfType<Question>();
}
