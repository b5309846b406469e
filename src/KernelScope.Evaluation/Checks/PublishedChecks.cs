using System.Globalization;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Text;

namespace KernelScope.Evaluation;

/// <summary>Real Gemma 2 weights and Gemma Scope SAEs against numbers that others have published: a check of what no stored golden of a small model can show, the files and the conventions.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class PublishedChecks
{
    private const string GemmaCpp = "gemma.cpp, gemma_test CrossEntropySmall";
    private const string Transformers = "transformers, tests/models/gemma2 (bfloat16)";
    private const string SaeBench = "SAEBench, gemma-scope-2b-pt-res at commit 5f2bf51: 250 x 128 tokens of OpenWebText";
    private const string Tutorial = "Gemma Scope tutorial, residual layer 20, width 16k, average_l0_71";
    private const double BitsLimit = 0.02;
    private const double L0Limit = 0.15;
    private const double ExplainedLimit = 0.05;
    private const double DeltaLimit = 0.05;
    private const double RecoveredLimit = 0.01;
    private const double TutorialLimit = 20;
    private const string Lack = "it needs real weights: --model google/gemma-2-2b, or a folder with them";
    private const string GreedyTolerance = "the same 20 tokens";
    private static readonly string BitsTolerance = string.Create(CultureInfo.InvariantCulture, $"within {BitsLimit}");
    private static readonly string TableTolerance =
        string.Create(CultureInfo.InvariantCulture,
            $"L0 within {100 * L0Limit:0} %, variance explained within {ExplainedLimit}, delta loss within {DeltaLimit} nats, loss "
                + $"recovered within {RecoveredLimit}");
    private static readonly string TutorialTolerance = string.Create(CultureInfo.InvariantCulture, $"70 within {TutorialLimit}");
    private const int GreedyTokens = 20;
    private const int Width16K = 16384;
    private const int TutorialLayer = 20;
    private const int TutorialLabel = 71;

    /// <summary>What would run, had it the weights.</summary>
    public static IEnumerable<VerificationCheck> Lacking() =>
    [
        VerificationCheck.NotRun("bits a character", Lack, GemmaCpp, BitsTolerance),
        VerificationCheck.NotRun("greedy texts", Lack, Transformers, GreedyTolerance),
        VerificationCheck.NotRun("SAEBench's table", $"{Lack}; and --sae with --text-file", SaeBench, TableTolerance),
        VerificationCheck.NotRun("features of the tutorial's prompt", $"{Lack}; and --sae", Tutorial, TutorialTolerance),
    ];

    /// <summary>Checks of a model, each run when it is asked for.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tokenizer">Its tokenizer; null: nothing can run.</param>
    /// <param name="name">Its name or path: the instruction-tuned ones have <c>-it</c> in theirs, and other greedy texts.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    public static IEnumerable<VerificationCheck> OfModel(
        Gemma2Model model, GemmaTokenizer? tokenizer, string name, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(name);
        string? size = PublishedNumbers.SizeOf(model.Config);
        string? reason = tokenizer is null ? "the model has no tokenizer.model"
            : size is null ? "nobody has published numbers of a model of this shape" : null;
        if (reason is not null)
        {
            yield return VerificationCheck.NotRun("bits a character", reason, GemmaCpp, BitsTolerance);
            yield return VerificationCheck.NotRun("greedy texts", reason, Transformers, GreedyTolerance);
            yield break;
        }

        yield return BitsPerCharacter(model, tokenizer!, size!, cancellationToken);
        GreedyText[] texts = PublishedNumbers.Greedy(size!);
        if (texts.Length == 0 || IsInstructionTuned(name))
            yield return VerificationCheck.NotRun("greedy texts", texts.Length == 0 ? $"there are none of {size}"
                : "they are of the base models", Transformers, GreedyTolerance);
        else
        {
            foreach (GreedyText text in texts)
                yield return Greedy(model, tokenizer!, text, cancellationToken);
        }
    }

    /// <summary>Checks of an SAE, each run when it is asked for.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tokenizer">Its tokenizer.</param>
    /// <param name="target">The SAE, named by its path; null: none was given.</param>
    /// <param name="text">Text like SAEBench's; null: none was given.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    public static IEnumerable<VerificationCheck> OfSae(
        Gemma2Model model, GemmaTokenizer? tokenizer, SaeTarget? target, TokenSet? text, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        bool known = target is not null && PublishedNumbers.SizeOf(model.Config) == "2B" && target.Site.Site == Site.ResidPost
            && target.Site == target.SiteOut && target.Sae.FeatureCount == Width16K;
        double? label = target is null ? null : ReleaseDoubt.ReleasedL0(target.Name);
        string reason = target is null ? "it needs an SAE: --sae PATH"
            : "it is of gemma-2-2b's residual SAEs of width 16k, with the L0 in their path; this is another";
        SaeBenchRow? row = known ? Array.Find(PublishedNumbers.SaeBench, r => r.Layer == target!.Site.Layer && r.Label == label) : null;
        if (row is null)
            yield return VerificationCheck.NotRun("SAEBench's table", known ? "the table has other layers or other L0s"
                : reason, SaeBench, TableTolerance);
        else if (text is null)
            yield return VerificationCheck.NotRun("SAEBench's table",
                "it needs text like OpenWebText, 250 sequences of 128 tokens: --text-file F", SaeBench, TableTolerance);
        else
        {
            foreach (VerificationCheck check in Table(model, target!, text, row, cancellationToken))
                yield return check;
        }

        if (!known || tokenizer is null || target!.Site.Layer != TutorialLayer || label != TutorialLabel)
            yield return VerificationCheck.NotRun("features of the tutorial's prompt", target is null ? reason
                : "it is of gemma-2-2b's layer_20/width_16k/average_l0_71", Tutorial, TutorialTolerance);
        else
            yield return TutorialFeatures(model, tokenizer, target, cancellationToken);
    }

    /// <summary>
    /// (log₂ V + Σ_t −log₂ p(token t)) / characters: gemma.cpp counts BOS as a token that any of the vocabulary could have been.
    /// </summary>
    internal static double MeasureBitsPerCharacter(
        Gemma2Model model, GemmaTokenizer tokenizer, string text, CancellationToken cancellationToken)
    {
        int[] tokens = [tokenizer.BosId, .. tokenizer.Encode(text)];
        using Session session = model.NewSession(tokens.Length, tokens.Length);
        model.Forward(tokens, session, LogitRows.None, cancellationToken);
        double[] losses = new double[tokens.Length - 1];
        model.NextTokenLoss(tokens.AsSpan(1), session, losses);
        return (Math.Log2(model.Config.VocabSize) + (losses.Sum() / Math.Log(2))) / text.Length;
    }

    /// <summary>The text that a model continues a prompt with, greedily.</summary>
    internal static string Continue(Gemma2Model model, GemmaTokenizer tokenizer, string prompt, CancellationToken cancellationToken)
    {
        int[] tokens = [tokenizer.BosId, .. tokenizer.Encode(prompt)];
        using Session session = model.NewSession(tokens.Length + GreedyTokens);
        int[] continued =
            [.. new Generator(session, new GenerationOptions { MaxNewTokens = GreedyTokens, StopIds = [] }).Generate(
                tokens, cancellationToken)];
        return tokenizer.Decode(continued);
    }

    private static bool IsInstructionTuned(string name) => name.Contains("-it", StringComparison.OrdinalIgnoreCase);

    private static VerificationCheck BitsPerCharacter(
        Gemma2Model model, GemmaTokenizer tokenizer, string size, CancellationToken cancellationToken)
    {
        double expected = PublishedNumbers.BitsPerCharacter(size),
            measured = MeasureBitsPerCharacter(model, tokenizer, PublishedNumbers.CrossEntropyText, cancellationToken);
        return VerificationCheck.Within(
            string.Create(CultureInfo.InvariantCulture, $"bits a character: {measured:0.000}, published {expected:0.00}"),
            Math.Abs(measured - expected),
            BitsLimit,
            GemmaCpp,
            "off by a few hundredths: other weights (gemma.cpp does not say whether base or instruction-tuned) or their quantisation; "
                + "by more: the tokenizer, a norm, a soft-cap or the embedding scale is wrong");
    }

    private static VerificationCheck Greedy(
        Gemma2Model model, GemmaTokenizer tokenizer, GreedyText text, CancellationToken cancellationToken)
    {
        string actual = Continue(model, tokenizer, text.Prompt, cancellationToken);
        int same = actual.AsSpan().CommonPrefixLength(text.Continuation);
        int missing = Math.Max(actual.Length, text.Continuation.Length) - same;
        return VerificationCheck.Within(
            $"greedy text after \"{text.Prompt}\": characters from the first that differs",
            missing,
            0,
            Transformers,
            $"it gave \"{actual}\" instead of \"{text.Continuation}\": a text that parts late is a near tie that bfloat16 rounds the "
                + "other way; one that parts at once is a wrong model");
    }

    /// <summary>An SAE's metrics on a text against a row of SAEBench's table.</summary>
    internal static IEnumerable<VerificationCheck> Table(
        Gemma2Model model, SaeTarget target, TokenSet text, SaeBenchRow row, CancellationToken cancellationToken)
    {
        MetricTable metrics =
            new SaeEvaluation(model, [target], text, new EvaluationOptions { Bootstrap = new Bootstrap(1), Gradients = false }).Run(
                cancellationToken: cancellationToken).Saes[0].Metrics;
        const string Miss =
            "text unlike OpenWebText moves it a little; far off: the SAE, its site, or BOS (which must begin every sequence and not count)";
        yield return Near("L0, ratio", metrics["L0"] / row.L0, 1, L0Limit);
        if (row.Explained is double explained)
            yield return Near("variance explained", metrics["saelens", "ignore_special", "explained_variance_legacy"], explained,
                ExplainedLimit);
        yield return Near("delta loss, nats", metrics["splices", "sae/keep_bos", "delta", "default"],
            row.SplicedLoss - PublishedNumbers.SaeBenchCleanLoss, DeltaLimit);
        yield return Near("loss recovered", metrics["splices", "sae/keep_bos", "loss_recovered", "default"], row.Recovered, RecoveredLimit);

        VerificationCheck Near(string what, double measured, double published, double limit) =>
            VerificationCheck.Within(
                string.Create(CultureInfo.InvariantCulture, $"{target.Name}: {what}: {measured:0.####}, published {published:0.####}"),
                Math.Abs(measured - published), limit, SaeBench, Miss);
    }

    private static VerificationCheck TutorialFeatures(
        Gemma2Model model, GemmaTokenizer tokenizer, SaeTarget target, CancellationToken cancellationToken)
    {
        int[] tokens = [tokenizer.BosId, .. tokenizer.Encode(PublishedNumbers.TutorialPrompt)];
        using Session session = model.NewSession(tokens.Length, tokens.Length);
        using var capture = new FeatureCapture(session.Hooks, target.Sae, target.Site);
        model.ForwardTo(target.Site.Layer + 1, tokens, session, cancellationToken);
        // The tutorial counts activations above 1 and drops BOS.
        double mean = Enumerable.Range(1, tokens.Length - 1).Average(r => capture.Codes.ValuesOf(r).ToArray().Count(v => v > 1));
        return VerificationCheck.Within(
            string.Create(CultureInfo.InvariantCulture,
                $"{target.Name}: features of the tutorial's prompt: {mean:0.0}, published about 70"),
            Math.Abs(mean - 70),
            TutorialLimit,
            Tutorial,
            "a few hundred: BOS is missing or counted, or the site is wrong; near 0: the site or the model is wrong");
    }
}
