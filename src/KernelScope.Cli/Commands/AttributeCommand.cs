using System.CommandLine;
using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary><c>attribute</c>: which features of which tokens a logit or a loss hangs on.</summary>
internal sealed class AttributeCommand : Verb
{
    private readonly PromptOptions _prompt;
    private readonly SaeOptions _sae;
    private readonly ProfileOption _profile;
    private readonly TargetOptions _target;
    private readonly Option<string[]> _labels = LabelOption.Create();
    private readonly Option<int> _top = new("--top")
    {
        Description = "Features shown for each token, and in the sum, at most.",
        HelpName = "K",
        DefaultValueFactory = _ => 5
    };

    public AttributeCommand(CommonOptions common, VerbEnvironment environment) : base(
        "attribute",
        "Attributes a logit, a difference of two logits, or the loss to the features of an SAE at its site, to first order:\n" +
        "activation times the gradient along the feature's decoder direction, for each token and summed over all tokens but BOS.",
        "  kernelscope attribute \"She loved the river more than anything. More than anything\" --target \" she\" --against \" he\"",
        common,
        environment)
    {
        _prompt = new PromptOptions(this, "TEXT", @default: null);
        _target = new TargetOptions(this);
        _top.Validators.Add(r => Parsing.Require(r, _top, v => v >= 1, "--top is {0}; it must be 1 or more."));
        Options.Add(_top);
        Options.Add(_labels);
        _sae = new SaeOptions(this);
        _profile = new ProfileOption(this);
    }

    protected override int Run(ParseResult parsed)
    {
        Prompt prompt = _prompt.Read(parsed, Streams);
        _target.Check(parsed);
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        int[] tokens = prompt.Tokens(files);
        Target target = _target.Read(parsed, files, tokens);
        SaeFiles saeFiles = _sae.Open(parsed, bench);
        LabelOption.Give(parsed.GetValue(_labels), files, [saeFiles], Streams, Cancellation);
        if (!StreamGradient.Sites.Contains(saeFiles.SiteOut.Site))
            throw new WorkException($"nothing can be attributed at {saeFiles.SiteOut}: there are gradients " +
                $"at {string.Join(", ", StreamGradient.Sites.Select(s => new Hooks.HookPoint(s, saeFiles.SiteOut.Layer)))}.");
        bench.IsProfiled = _profile.IsGiven(parsed);
        bench.Load(bench.Weights, ("SAE", saeFiles.Bytes),
            ("context", Session.BytesFor(files.Config, tokens.Length, tokens.Length)),
            ("gradients", StreamGradient.BytesFor(files.Config, tokens.Length)));
        using var attribution = new SaeAttribution(bench.Model, saeFiles.Sae, saeFiles.Site, saeFiles.SiteOut, tokens.Length);
        if (bench.Device is ProfilingDevice profiled)
        {
            // The first run's time is the compiler's too.
            attribution.Run(tokens, target.Metric, Cancellation);
            profiled.Reset();
        }

        FeatureAttributions attributions = attribution.Run(tokens, target.Metric, Cancellation);
        if (SaePlacement.Set(bench.Model, tokens) is { } set
            && SaePlacement.Find(bench.Model, saeFiles.Target, set, Cancellation) is string doubt)
            Streams.Warn(doubt);
        AttributeResult result = Result(parsed, attributions, target, tokens, files, saeFiles);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            AttributionView.Print(Streams, result, saeFiles.Meanings, files.BosId);
        ProfileOption.Print(bench);
        return ExitCode.Done;
    }

    private AttributeResult Result(ParseResult parsed, FeatureAttributions attributions, Target target, int[] tokens, ModelFiles files,
        SaeFiles sae)
    {
        int top = parsed.GetValue(_top);
        AttributedToken[] rows =
            [.. tokens.Select((id, t) => new AttributedToken(id, TokenText.Of(files.Tokenizer, id), Strongest(attributions, t, top)))];
        SummedAttribution[] sums = [.. attributions.Sum(t => tokens[t] != files.BosId).Take(top)
            .Select(s => new SummedAttribution(s.Feature, s.Attribution))];
        return new AttributeResult(files.Name, sae.Name, sae.Site.ToString(), target.Name, attributions.Value, rows, sums)
        {
            Position = target.Position,
            Target = target.Token,
            Against = target.Against,
            SiteOut = sae.SiteOut == sae.Site ? null : sae.SiteOut.ToString(),
        };
    }

    private static TokenAttribution[] Strongest(FeatureAttributions attributions, int row, int top)
    {
        CodeList codes = attributions.Codes;
        var all = new List<TokenAttribution>();
        for (long i = codes.RowStart[row]; i < codes.RowStart[row + 1]; i++)
            all.Add(new TokenAttribution(codes.Feature[i], codes.Value[i], attributions.Values[i]));
        return [.. all.OrderByDescending(a => Math.Abs(a.Attribution)).ThenBy(a => a.Index).Take(top)];
    }
}
