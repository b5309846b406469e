using System.CommandLine;
using System.Globalization;
using KernelScope.Generation;

namespace KernelScope.Cli;

/// <summary>How far and how <c>generate</c> goes.</summary>
internal sealed class SamplingChoices
{
    private readonly Option<int> _maxNewTokens = new("--max-new-tokens")
    {
        Description = "New tokens, at most.",
        HelpName = "N",
        DefaultValueFactory = _ => 64
    };
    private readonly Option<double> _temperature = new("--temperature")
    {
        Description = "Divides the logits; 0 is greedy.",
        HelpName = "T",
        DefaultValueFactory = _ => 0
    };
    private readonly Option<int> _topK = new("--top-k")
    {
        Description = "Choose among the K most likely tokens; 0: all.",
        HelpName = "K",
        DefaultValueFactory = _ => 0
    };
    private readonly Option<double> _topP = new("--top-p")
    {
        Description = "Choose among the most likely tokens that together have " +
        "probability P.",
        HelpName = "P",
        DefaultValueFactory = _ => 1
    };
    private readonly Option<double> _minP = new("--min-p")
    {
        Description = "Choose among the tokens that are at least X times as " +
        "likely as the likeliest.",
        HelpName = "X",
        DefaultValueFactory = _ => 0
    };
    private readonly Option<ulong> _seed = new("--seed")
    {
        Description = "The same seed gives the same text. Without one it is drawn " +
        "anew, and told.",
        HelpName = "N"
    };
    private readonly Option<double> _repetition = new("--repetition-penalty")
    {
        Description = "Divides the logit of a token that the " +
        "text has already, if it is above 0; multiplies it, if below. 1: none.",
        HelpName = "X",
        DefaultValueFactory = _ => 1
    };
    private readonly Option<double> _frequency = new("--frequency-penalty")
    {
        Description = "Taken from a token's logit for each time " +
        "it was generated. 0: none.",
        HelpName = "X",
        DefaultValueFactory = _ => 0
    };
    private readonly Option<string[]> _bias = new("--logit-bias")
    {
        Description = "Add B to the logit of token ID: --logit-bias " +
        "108=-5. Repeatable.",
        HelpName = "ID=B",
        Arity = ArgumentArity.OneOrMore
    };
    private readonly Option<string[]> _stop = new("--stop")
    {
        Description = "End the text before this text. Repeatable.",
        HelpName = "TEXT",
        Arity = ArgumentArity.OneOrMore
    };
    private readonly Option<int?> _logProbs = new("--logprobs")
    {
        Description = "Show each token's log-probability, and the N " +
        "likeliest tokens with theirs: natural logarithms, before temperature and penalties.",
        HelpName = "N"
    };
    private readonly Option<bool> _ignoreEos = new("--ignore-eos")
    {
        Description = "Do not stop at an end-of-text token: always the " +
        "full number of tokens."
    };

    public SamplingChoices(Command verb)
    {
        _maxNewTokens.Validators.Add(r => Parsing.Require(r, _maxNewTokens, v => v >= 0, "--max-new-tokens is {0}; it must be 0 or more."));
        _temperature.Validators.Add(r => Parsing.Require(r, _temperature, v => double.IsFinite(v) && v >= 0,
            "--temperature is {0}; it must be 0 (greedy) or a positive number."));
        _topK.Validators.Add(r => Parsing.Require(r, _topK, v => v >= 0, "--top-k is {0}; it must be 0 (all) or a positive number."));
        _topP.Validators.Add(r => Parsing.Require(r, _topP, v => v is > 0 and <= 1, "--top-p is {0}; it must be above 0 and at most 1."));
        _minP.Validators.Add(r => Parsing.Require(r, _minP, v => v is >= 0 and <= 1, "--min-p is {0}; it must be 0 (all) to 1."));
        _seed.Validators.Add(r => Parsing.Require(r, _seed, _ => true, ""));
        _repetition.Validators.Add(r => Parsing.Require(r, _repetition, v => double.IsFinite(v) && v > 0,
            "--repetition-penalty is {0}; it must be a positive number (1: none)."));
        _frequency.Validators.Add(r => Parsing.Require(r, _frequency, double.IsFinite,
            "--frequency-penalty is {0}; it must be a number (0: none)."));
        _logProbs.Validators.Add(r => Parsing.Require(r, _logProbs, v => v >= 0,
            "--logprobs is {0}; it must be 0 (the chosen token's only) or more."));
        foreach (Option option in (Option[])[_maxNewTokens, _temperature, _topK, _topP, _minP, _seed, _repetition, _frequency, _bias,
            _stop, _logProbs, _ignoreEos])
            verb.Options.Add(option);
    }

    /// <summary>Whether log-probabilities are shown.</summary>
    public bool ShowsLogProbs(ParseResult parsed) => parsed.GetValue(_logProbs) is not null;

    /// <summary>Whether the seed is the user's, who needs not be told it.</summary>
    public bool HasSeed(ParseResult parsed) => IsGiven(parsed, _seed);

    /// <summary>Reads them.</summary>
    /// <exception cref="UsageException">One cannot act as it is given, or is malformed.</exception>
    public GenerationOptions Read(ParseResult parsed)
    {
        double temperature = parsed.GetValue(_temperature);
        string[] idle = [.. new Option[] { _topK, _topP, _minP, _seed }.Where(o => IsGiven(parsed, o)).Select(o => o.Name)];
        if (temperature == 0 && idle.Length > 0)
            throw new UsageException($"{string.Join(" and ", idle)}: at temperature 0 the likeliest token is always taken, so there " +
                "is nothing to choose; give --temperature too.");
        string[] stops = parsed.GetValue(_stop) ?? [];
        if (stops.Contains(""))
            throw new UsageException("--stop is an empty text, which would end every text at once.");
        return new GenerationOptions
        {
            MaxNewTokens = parsed.GetValue(_maxNewTokens),
            Sampling = new SamplingOptions
            {
                Temperature = temperature,
                TopK = parsed.GetValue(_topK),
                TopP = parsed.GetValue(_topP),
                MinP = parsed.GetValue(_minP),
                Seed = HasSeed(parsed) ? parsed.GetValue(_seed) : null,
                RepetitionPenalty = parsed.GetValue(_repetition),
                FrequencyPenalty = parsed.GetValue(_frequency),
                LogitBias = Bias(parsed.GetValue(_bias) ?? []),
            },
            StopIds = parsed.GetValue(_ignoreEos) ? [] : null,
            StopStrings = stops,
            LogProbs = parsed.GetValue(_logProbs),
        };
    }

    private static bool IsGiven(ParseResult parsed, Option option) => parsed.GetResult(option) is { Implicit: false };

    private Dictionary<int, double>? Bias(string[] given)
    {
        var bias = new Dictionary<int, double>();
        foreach (string text in given)
        {
            string[] parts = text.Split('=');
            if (parts.Length != 2 || !int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out int id)
                || !double.TryParse(parts[1], NumberStyles.Float, CultureInfo.InvariantCulture, out double value) || double.IsNaN(value)
                    || value > float.MaxValue)
                throw new UsageException($"{_bias.Name} needs a token id and a number, such as {_bias.Name} 108=-5; this is " +
                    $"'{Printable.Escape(text)}'.");
            if (!bias.TryAdd(id, value))
                throw new UsageException($"{_bias.Name} is given twice for token {id}.");
        }

        return bias.Count > 0 ? bias : null;
    }
}
