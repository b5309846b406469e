using System.CommandLine;
using KernelScope.Devices;

namespace KernelScope.Cli;

/// <summary>How many features of a token are shown, and how strong they must be.</summary>
internal sealed class TopOptions
{
    private readonly Option<int> _top = new("--top")
    {
        Description = "Features shown for each token, at most.",
        HelpName = "K",
        DefaultValueFactory = _ => 5
    };
    private readonly Option<double> _minimum = new("--min-activation")
    {
        Description = "Only features with at least this activation.",
        HelpName = "X",
        DefaultValueFactory = _ => 0
    };

    public TopOptions(Command verb)
    {
        _top.Validators.Add(r => Parsing.Require(r, _top, v => v >= 1, "--top is {0}; it must be 1 or more."));
        _minimum.Validators.Add(r => Parsing.Require(r, _minimum, double.IsFinite, "--min-activation is {0}; it must be a number."));
        verb.Options.Add(_top);
        verb.Options.Add(_minimum);
    }

    /// <summary>Both options.</summary>
    public Option[] Options => [_top, _minimum];

    /// <summary>The activation below which a feature is not shown.</summary>
    public double MinimumOf(ParseResult parsed) => parsed.GetValue(_minimum);

    /// <summary>The features of a row to show: strongest first, the lower index first among equals.</summary>
    public FeatureActivation[] Choose(ParseResult parsed, CodeList codes, int row, IReadOnlySet<int>? hidden = null)
    {
        ReadOnlySpan<int> features = codes.FeaturesOf(row);
        ReadOnlySpan<float> values = codes.ValuesOf(row);
        double minimum = parsed.GetValue(_minimum);
        var chosen = new List<FeatureActivation>();
        for (int i = 0; i < features.Length; i++)
        {
            if (values[i] >= minimum && hidden?.Contains(features[i]) != true)
                chosen.Add(new FeatureActivation(features[i], values[i]));
        }

        chosen.Sort((a, b) => a.Activation != b.Activation ? b.Activation.CompareTo(a.Activation) : a.Index.CompareTo(b.Index));
        return [.. chosen.Take(parsed.GetValue(_top))];
    }
}
