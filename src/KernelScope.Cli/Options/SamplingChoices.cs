using System.CommandLine;
using KernelScope.Generation;

namespace KernelScope.Cli;

/// <summary>How far and how <c>generate</c> goes.</summary>
internal sealed class SamplingChoices
{
    private readonly Option<int> _maxNewTokens = new("--max-new-tokens") { Description = "New tokens, at most.", HelpName = "N", DefaultValueFactory = _ => 64 };
    private readonly Option<double> _temperature = new("--temperature") { Description = "Divides the logits; 0 is greedy.", HelpName = "T", DefaultValueFactory = _ => 0 };
    private readonly Option<int> _topK = new("--top-k") { Description = "Choose among the K most likely tokens; 0: all.", HelpName = "K", DefaultValueFactory = _ => 0 };
    private readonly Option<double> _topP = new("--top-p") { Description = "Choose among the most likely tokens that together have probability P.", HelpName = "P", DefaultValueFactory = _ => 1 };
    private readonly Option<ulong> _seed = new("--seed") { Description = "The same seed gives the same text.", HelpName = "N", DefaultValueFactory = _ => 0 };
    private readonly Option<bool> _ignoreEos = new("--ignore-eos") { Description = "Do not stop at an end-of-text token: always the full number of tokens." };

    public SamplingChoices(Command verb)
    {
        _maxNewTokens.Validators.Add(r => Parsing.Require(r, _maxNewTokens, v => v >= 0, "--max-new-tokens is {0}; it must be 0 or more."));
        _temperature.Validators.Add(r => Parsing.Require(r, _temperature, v => double.IsFinite(v) && v >= 0, "--temperature is {0}; it must be 0 (greedy) or a positive number."));
        _topK.Validators.Add(r => Parsing.Require(r, _topK, v => v >= 0, "--top-k is {0}; it must be 0 (all) or a positive number."));
        _topP.Validators.Add(r => Parsing.Require(r, _topP, v => v is > 0 and <= 1, "--top-p is {0}; it must be above 0 and at most 1."));
        _seed.Validators.Add(r => Parsing.Require(r, _seed, _ => true, ""));
        foreach (Option option in (Option[])[_maxNewTokens, _temperature, _topK, _topP, _seed, _ignoreEos])
            verb.Options.Add(option);
    }

    public GenerationOptions Of(ParseResult parsed) => new()
    {
        MaxNewTokens = parsed.GetValue(_maxNewTokens),
        Sampling = new SamplingOptions { Temperature = parsed.GetValue(_temperature), TopK = parsed.GetValue(_topK), TopP = parsed.GetValue(_topP), Seed = parsed.GetValue(_seed) },
        StopIds = parsed.GetValue(_ignoreEos) ? [] : null,
    };
}
