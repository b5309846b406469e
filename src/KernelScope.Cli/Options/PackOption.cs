using System.CommandLine;

namespace KernelScope.Cli;

/// <summary>Which packed weights a run on the cpu uses.</summary>
internal enum PanelUse
{
    /// <summary>Those of the weights as they are, if there are some.</summary>
    Exact,

    /// <summary>The same, made if they are missing, old or damaged.</summary>
    Make,

    /// <summary>Those that were rounded to bfloat16, which must be there.</summary>
    Rounded,

    /// <summary>None.</summary>
    None,
}

/// <summary><c>--pack</c>: packed weights, made if they are not there; and <c>--panels</c>: rounded ones.</summary>
internal sealed class PackOption
{
    private readonly Option<bool> _pack;
    private readonly Option<string> _panels;

    public PackOption(Command verb, string more = "")
    {
        _pack = new("--pack")
        {
            Description = "Compute from packed weights on the cpu: if the model has no such file yet, or an old one, make it first, as " +
                "'kernelscope pack' does. Later runs find it without this." + more,
        };
        verb.Options.Add(_pack);
        _panels = Panels();
        verb.Options.Add(_panels);
    }

    /// <summary>The option <c>--panels</c> alone.</summary>
    public static Option<string> Panels()
    {
        var option = new Option<string>("--panels")
        {
            Description = "bf16: compute from the weights rounded to bfloat16 that 'kernelscope pack --as bf16' made, on the cpu. " +
                "Default: exact, which never uses those.",
            HelpName = "exact|bf16",
            DefaultValueFactory = _ => "exact",
        };
        option.Validators.Add(r => Parsing.Require(
            r, option, v => v is "exact" or "bf16", "'{0}' is not a choice of panels: there are exact and bf16."));
        return option;
    }

    /// <summary>What that option asks for.</summary>
    public static PanelUse UseOf(ParseResult parsed, Option<string> panels) =>
        parsed.GetRequiredValue(panels) == "bf16" ? PanelUse.Rounded : PanelUse.Exact;

    public bool IsGiven(ParseResult parsed) => parsed.GetValue(_pack);

    /// <summary>Which packed weights the options ask for.</summary>
    /// <exception cref="UsageException">Two different things.</exception>
    public PanelUse UseOf(ParseResult parsed)
    {
        PanelUse use = UseOf(parsed, _panels);
        if (!IsGiven(parsed))
            return use;
        return use == PanelUse.Exact ? PanelUse.Make
            : throw new UsageException("--pack makes the exact packed weights, and --panels bf16 uses the rounded ones; one of the two.");
    }
}
