using System.CommandLine;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary><c>top</c>: where in a text a feature fires most.</summary>
internal sealed class TopCommand : Verb
{
    private static readonly double[] Shares = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1];
    private readonly Argument<string> _feature = new("FEATURE") { Description = "The index of a feature of the SAE." };
    private readonly Option<string?> _textFile = new("--text-file") { Description = "The text to search, UTF-8.", HelpName = "F" };
    private readonly Option<string?> _tokensFile = new("--tokens-file") { Description = "Token ids to search: a JSON list of lists.", HelpName = "F.json" };
    private readonly Option<int?> _length = new("--length") { Description = "Tokens of a sequence that a text is cut into, BOS with them. Default: 128.", HelpName = "N" };
    private readonly Option<int> _contexts = new("--contexts") { Description = "Places shown, strongest first.", HelpName = "N", DefaultValueFactory = _ => 10 };
    private readonly Option<int> _window = new("--window") { Description = "Tokens shown before and after each place.", HelpName = "N", DefaultValueFactory = _ => 10 };
    private readonly SaeOptions _sae;

    public TopCommand(CommonOptions common, Surroundings surroundings) : base(
        "top",
        "Finds where in a text a feature fires most: the strongest places with the tokens around them, how its activations are distributed, how often it fires. One pass, in bounded memory.\n" +
        "BOS, EOS and padding do not count. Quantiles are within 0.03 % of the exact ones.",
        "  kernelscope top 1738 --text-file tales.txt --contexts 5",
        common,
        surroundings)
    {
        _length.Validators.Add(r => Parsing.Require(r, _length, v => v >= 2, "--length is {0}; a sequence has at least 2 tokens, BOS and one more."));
        _contexts.Validators.Add(r => Parsing.Require(r, _contexts, v => v is >= 1 and <= 100_000, "--contexts is {0}; it must be between 1 and 100000."));
        _window.Validators.Add(r => Parsing.Require(r, _window, v => v >= 0, "--window is {0}; it must be 0 or more."));
        Arguments.Add(_feature);
        foreach (Option option in (Option[])[_textFile, _tokensFile, _length, _contexts, _window])
            Options.Add(option);
        _sae = new SaeOptions(this);
    }

    protected override int Run(ParseResult parsed)
    {
        int feature = Parsing.Feature(parsed.GetRequiredValue(_feature), "FEATURE");
        using ModelFiles files = ModelFiles.Open(Common.ModelOf(parsed));
        using SaeFiles saeFiles = _sae.Open(parsed, files);
        if (feature < 0 || feature >= saeFiles.Config.FeatureCount)
            throw new WorkException($"feature {feature} is outside the width of {saeFiles.Name}, which has features 0 to {saeFiles.Config.FeatureCount - 1}.");
        TokenSet tokens = EvalTokens.Read(parsed.GetValue(_textFile), parsed.GetValue(_tokensFile), parsed.GetValue(_length), null, files);
        using Device device = Common.OpenDevice(parsed, Streams, ("weights", files.WeightBytes), ("SAE", saeFiles.Bytes), ("context", Session.BytesFor(files.Config, tokens.Length)));
        using Gemma2Model model = files.Load(device, Streams, Cancellation);
        using JumpReluSae sae = saeFiles.Load(device);
        if (saeFiles.HasSiteOut && SaeDoubt.Of(model, new SaeTarget(saeFiles.Name, sae, saeFiles.Site, saeFiles.SiteOut), tokens, Cancellation) is string doubt)
            SaeDoubt.Warn(Streams, doubt);
        TopContexts found;
        using (var progress = new Progress(Streams, "Searching"))
            found = TopContexts.Find(model, sae, saeFiles.Site, feature, tokens, parsed.GetValue(_contexts), progress, Cancellation);

        ContextRow[] contexts = [.. found.Places.Select(p => Context(p, tokens, parsed.GetValue(_window), files))];
        QuantileRow[] quantiles = found.Active == 0 ? [] : [.. Shares.Select(s => new QuantileRow(s, found.Activations[s]))];
        var result = new TopResult(files.Name, saeFiles.Name, saeFiles.Site.ToString(), feature, found.Counted, found.Active, found.Active / (double)found.Counted, found.Mean, quantiles, contexts) { Meaning = saeFiles.Meanings.GetValueOrDefault(feature) };
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            TopView.Print(Streams, result);
        return ExitCode.Done;
    }

    private static ContextRow Context(FeaturePlace place, TokenSet tokens, int window, ModelFiles files)
    {
        ReadOnlySpan<int> sequence = tokens.Sequence(place.Sequence);
        int first = Math.Max(0, place.Position - window), end = (int)Math.Min(sequence.Length, place.Position + (long)window + 1);
        NamedToken[] around = Array.ConvertAll(sequence[first..end].ToArray(), id => new NamedToken(id, TokenText.Of(files.Tokenizer, id)));
        return new ContextRow(place.Sequence, place.Position, place.Activation, place.Position - first, around);
    }
}
