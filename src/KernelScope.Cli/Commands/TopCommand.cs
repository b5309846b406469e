using System.CommandLine;
using KernelScope.Evaluation;

namespace KernelScope.Cli;

/// <summary><c>top</c>: where in a text a feature fires most.</summary>
internal sealed class TopCommand : Verb
{
    private static readonly double[] Shares = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1];
    private readonly Argument<string[]> _features = new("FEATURE")
    {
        Description = "The index of a feature of the SAE; with several " +
        "the answer is a list.",
        Arity = ArgumentArity.OneOrMore
    };
    private readonly Option<string?> _textFile = new("--text-file")
    {
        Description = "The text to search, UTF-8; '-' is standard input.",
        HelpName = "F"
    };
    private readonly Option<string?> _tokensFile = new("--tokens-file")
    {
        Description = "Token ids to search: a JSON list of lists; " +
        "'-' is standard input.",
        HelpName = "F.json"
    };
    private readonly Option<int?> _length = new("--length")
    {
        Description = "Tokens of a sequence that a text is cut into, BOS with " +
        "them. Default: 128.",
        HelpName = "N"
    };
    private readonly Option<int> _contexts = new("--contexts")
    {
        Description = "Places shown, strongest first.",
        HelpName = "N",
        DefaultValueFactory = _ => 10
    };
    private readonly Option<int> _window = new("--window")
    {
        Description = "Tokens shown before and after each place.",
        HelpName = "N",
        DefaultValueFactory = _ => 10
    };
    private readonly Option<string[]> _labels = LabelOption.Create();
    private readonly SaeOptions _sae;

    public TopCommand(CommonOptions common, VerbEnvironment environment) : base(
        "top",
        "Finds where in a text a feature fires most: the strongest places with the tokens around them, how its activations are " +
        "distributed, how often it fires. One pass, in bounded memory.\n" +
        "BOS, EOS and padding do not count. Quantiles are within 0.03 % of the exact ones.",
        "  kernelscope top 1738 --text-file demo --contexts 5\n  kernelscope top 1738 562 69 --text-file demo --contexts 2",
        common,
        environment)
    {
        _length.Validators.Add(r => Parsing.Require(r, _length, v => v >= 2, "--length is {0}; a sequence has at least 2 tokens, BOS " +
            "and one more."));
        _contexts.Validators.Add(r => Parsing.Require(r, _contexts, v => v is >= 1 and <= 100_000,
            "--contexts is {0}; it must be between 1 and 100000."));
        _window.Validators.Add(r => Parsing.Require(r, _window, v => v >= 0, "--window is {0}; it must be 0 or more."));
        Arguments.Add(_features);
        foreach (Option option in (Option[])[_textFile, _tokensFile, _length, _contexts, _window, _labels])
            Options.Add(option);
        _sae = new SaeOptions(this);
    }

    protected override int Run(ParseResult parsed)
    {
        int[] features = [.. parsed.GetRequiredValue(_features).Select(f => Parsing.Feature(f, "FEATURE")).Distinct()];
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        SaeFiles saeFiles = _sae.Open(parsed, bench);
        LabelOption.Give(parsed.GetValue(_labels), files, [saeFiles], Streams, Cancellation);
        if (Array.FindIndex(features, f => f < 0 || f >= saeFiles.Config.FeatureCount) is int bad and >= 0)
            throw new WorkException($"feature {features[bad]} is outside the width of {saeFiles.Name}, which has features 0 " +
                $"to {saeFiles.Config.FeatureCount - 1}.");
        TokenSet tokens = EvalTokens.Read(parsed.GetValue(_textFile), parsed.GetValue(_tokensFile), parsed.GetValue(_length), null, files,
            out string? doubt);
        bench.Load(bench.Weights, ("SAE", saeFiles.Bytes), ("context", bench.ContextBytes(tokens.Length)));
        if (doubt is not null)
            Streams.Warn(doubt);
        if (saeFiles.HasSiteOut && SaePlacement.Find(bench.Model, saeFiles.Target, tokens, Cancellation) is string misplaced)
            Streams.Warn(misplaced);
        IReadOnlyList<TopContexts> found;
        using (var progress = new Progress(Streams, "Searching"))
            found = TopContexts.Find(bench.Model, saeFiles.Sae, saeFiles.Site, features, tokens, parsed.GetValue(_contexts), progress,
                Cancellation);

        TopResult[] results = [.. features.Select((f, i) => Result(parsed, f, found[i], tokens, files, saeFiles))];
        if (Common.JsonOf(parsed) && results.Length > 1)
            JsonOutput.Write(Streams, new SeveralTopResult(files.Name, saeFiles.Name, saeFiles.Site.ToString(), results));
        else if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, results[0]);
        else
            Print(results);
        return ExitCode.Done;
    }

    private void Print(TopResult[] results)
    {
        foreach (TopResult result in results)
        {
            if (result != results[0])
                Streams.Output.WriteLine();
            TopView.Print(Streams, result);
        }
    }

    private TopResult Result(ParseResult parsed, int feature, TopContexts found, TokenSet tokens, ModelFiles files, SaeFiles saeFiles)
    {
        ContextRow[] contexts =
            [.. found.Places.Select(p => Context(p, found.OfSequences[p.Sequence], tokens, parsed.GetValue(_window), files))];
        QuantileRow[] quantiles = found.Active == 0 ? [] : [.. Shares.Select(s => new QuantileRow(s, found.Activations[s]))];
        double share = found.Active / (double)found.Counted;
        string site = saeFiles.Site.ToString();
        return new TopResult(files.Name, saeFiles.Name, site, feature, found.Counted, found.Active, share, found.Mean, quantiles, contexts)
        {
            Meaning = saeFiles.Meanings.GetValueOrDefault(feature),
        };
    }

    private static ContextRow Context(FeaturePlace place, float[] activations, TokenSet tokens, int window, ModelFiles files)
    {
        ReadOnlySpan<int> sequence = tokens.Sequence(place.Sequence);
        int first = Math.Max(0, place.Position - window), end = (int)Math.Min(sequence.Length, place.Position + (long)window + 1);
        NamedToken[] around = Array.ConvertAll(sequence[first..end].ToArray(), id => new NamedToken(id, TokenText.Of(files.Tokenizer, id)));
        return new ContextRow(place.Sequence, place.Position, place.Activation, place.Position - first, around, activations[first..end]);
    }
}
