using System.CommandLine;
using KernelScope.Evaluation;
using KernelScope.Hooks;

namespace KernelScope.Cli;

/// <summary><c>lens</c>: which tokens the stream, or a feature's direction, points to.</summary>
internal sealed class LensCommand : Verb
{
    private readonly PromptOptions _prompt;
    private readonly Option<string?> _feature = new("--feature")
    {
        Description = "The tokens that feature F of the SAE promotes and " +
        "suppresses, instead of a text's.",
        HelpName = "F"
    };
    private readonly Option<int> _top = new("--top")
    {
        Description = "Tokens shown for each position, or in each list of a feature.",
        HelpName = "K",
        DefaultValueFactory = _ => 5
    };
    private readonly SaeOptions _sae;

    public LensCommand(CommonOptions common, VerbEnvironment environment) : base(
        "lens",
        "Shows which tokens the stream, or the direction of a feature, points to.\n" +
        "Logit lens: the tokens that the stream at --site points to at each position of a text, through the final norm, the " +
        "unembedding and the soft-cap.\n" +
        "Feature lens: with --feature, the tokens that a feature's decoder row promotes and suppresses, with the final norm's gain and " +
        "without.",
        "  kernelscope lens \"Once upon a time there lived a\" --site resid_post.3\n  kernelscope lens --feature 1738",
        common,
        environment)
    {
        _prompt = new PromptOptions(this, "TEXT", @default: null);
        _top.Validators.Add(r => Parsing.Require(r, _top, v => v >= 1, "--top is {0}; it must be 1 or more."));
        Options.Add(_feature);
        Options.Add(_top);
        _sae = new SaeOptions(this);
    }

    protected override void CheckOptions(ParseResult parsed)
    {
        if (parsed.GetValue(_feature) is null)
            Belongs(parsed, false, "--feature", _sae.Places[1]);
    }

    protected override int Run(ParseResult parsed)
    {
        if (parsed.GetValue(_feature) is string text)
        {
            if (_prompt.IsGiven(parsed))
                throw new UsageException("a feature's tokens hang on no text: give a text with --site, or --feature alone.");
            RunFeature(parsed, Parsing.Feature(text, _feature.Name));
        }
        else
        {
            if (_sae.IsGiven(parsed))
                throw new UsageException("--sae needs --feature: the lens of a text reads the stream, not an SAE.");
            RunText(parsed, _prompt.Read(parsed, Streams), _sae.SiteOf(parsed)
                ?? throw new UsageException("the site is missing: --site resid_post.3 (or --feature F)."));
        }

        return ExitCode.Done;
    }

    private void RunText(ParseResult parsed, Prompt prompt, HookPoint site)
    {
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        int[] tokens = prompt.Tokens(files);
        Sites.Require(files, site);
        if (!LogitLens.Sites.Contains(site.Site))
            throw new WorkException($"{site} is not a point of the stream; the lens reads {LogitLens.Names(site.Layer)}.");
        bench.Load(bench.Weights, ("context", bench.ContextBytes(tokens.Length)));
        LensToken[][] tops;
        using (var progress = new Progress(Streams, "Running"))
            tops = LogitLens.Run(bench.Model, tokens, site, parsed.GetValue(_top), progress, Cancellation);
        var result = new LensResult(files.Name, site.ToString(),
            [.. tokens.Zip(tops, (id, top) => new LensPosition(id, TokenText.Of(files.Tokenizer, id),
            [.. top.Select(k => new LensTokenRow(k.Id, TokenText.Of(files.Tokenizer, k.Id), k.Logit, k.Probability))]))]);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            LensView.Print(Streams, result);
    }

    private void RunFeature(ParseResult parsed, int feature)
    {
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        SaeFiles saeFiles = _sae.Open(parsed, bench);
        if (feature < 0 || feature >= saeFiles.Config.FeatureCount)
            throw new WorkException($"feature {feature} is outside the width of {saeFiles.Name}, which has features 0 " +
                $"to {saeFiles.Config.FeatureCount - 1}.");
        if (!FeatureLens.Sites.Contains(saeFiles.SiteOut.Site))
            throw new WorkException($"a feature at {saeFiles.SiteOut} is not a direction of the stream; the lens reads features " +
                $"at {string.Join(", ", FeatureLens.Sites.Select(s => new HookPoint(s, saeFiles.SiteOut.Layer)))}.");
        bench.Load(bench.Weights, ("SAE", saeFiles.Bytes));
        var lens = FeatureLens.Of(bench.Model, saeFiles.Sae, saeFiles.SiteOut, feature, parsed.GetValue(_top));
        if (new[] { lens.WithGain, lens.WithoutGain }.Any(t => t.Top.Concat(t.Bottom).Any(k => !float.IsFinite(k.Value))))
            throw new NotFiniteException($"the logits that feature {feature} adds");
        var result = new FeatureLensResult(files.Name, saeFiles.Name, saeFiles.SiteOut.ToString(), feature, Rows(lens.WithGain, files),
            Rows(lens.WithoutGain, files))
        { Meaning = saeFiles.Meanings.GetValueOrDefault(feature) };
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            LensView.Print(Streams, result);
    }

    private static PromotedRows Rows(PromotedTokens tokens, ModelFiles files) => new(Rows(tokens.Top, files), Rows(tokens.Bottom, files));

    private static PromotedRow[] Rows(IReadOnlyList<PromotedToken> tokens, ModelFiles files) =>
        [.. tokens.Select(t => new PromotedRow(t.Id, TokenText.Of(files.Tokenizer, t.Id), t.Value))];
}
