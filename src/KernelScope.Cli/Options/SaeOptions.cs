using System.CommandLine;
using KernelScope.Hooks;

namespace KernelScope.Cli;

/// <summary>Which SAE, and where it belongs.</summary>
internal sealed class SaeOptions
{
    private readonly Option<string?> _sae = new("--sae")
    {
        Description = "SAE or transcoder: a Gemma Scope params.npz, a SAELens folder, a name that 'kernelscope catalog' lists (from " +
            $"the hub's cache), or one of the demo's: {string.Join(", ", Demo.SaeNames)}. Default with the demo model: {Demo.DefaultSae}.",
        HelpName = "PATH",
    };

    private readonly Option<string?> _site = new("--site")
    {
        Description = "Where it reads, if its path or cfg.json does not say so: " +
        "resid_post.3, or TransformerLens' blocks.3.hook_resid_post.",
        HelpName = "POINT"
    };
    private readonly Option<string?> _siteOut = new("--site-out")
    {
        Description = "Where a transcoder writes: mlp_out_post.3.",
        HelpName = "POINT"
    };

    public SaeOptions(Command verb)
    {
        _sae.CompletionSources.Add([.. Demo.SaeNames]);
        verb.Options.Add(_sae);
        verb.Options.Add(_site);
        verb.Options.Add(_siteOut);
    }

    /// <summary>The options that say where an SAE belongs.</summary>
    public Option[] Places => [_site, _siteOut];

    /// <summary>Whether one was named; else the default is taken.</summary>
    public bool IsGiven(ParseResult parsed) => parsed.GetValue(_sae) is not null;

    /// <summary>What was named; null: nothing.</summary>
    public string? NameOf(ParseResult parsed) => parsed.GetValue(_sae);

    /// <summary>What <c>--site</c> names, where a verb needs a site and no SAE; null: nothing.</summary>
    public HookPoint? SiteOf(ParseResult parsed) => Point(parsed, _site);

    /// <summary>Opens the SAE's files and settles where it belongs in the workbench's model.</summary>
    /// <exception cref="WorkException">There is none, or it does not fit the model.</exception>
    public SaeFiles Open(ParseResult parsed, Workbench bench) =>
        bench.AddSae(parsed.GetValue(_sae), Point(parsed, _site), Point(parsed, _siteOut));

    /// <summary>Several SAEs, by name or path.</summary>
    public static Option<string[]> Several() => new("--sae")
    {
        Description = "SAE or transcoder, repeatable: a Gemma Scope params.npz, a SAELens folder, a name that 'kernelscope catalog' " +
            $"lists (from the hub's cache), or one of the demo's: {string.Join(", ", Demo.SaeNames)}. Default with the demo " +
            $"model: {Demo.DefaultSae}.",
        HelpName = "PATH",
    };

    /// <summary>The name or path that was given, without a model for which there would be a default.</summary>
    public static Option<string> Required() => new("--sae")
    {
        Description = "SAE or transcoder: a Gemma Scope params.npz, a SAELens folder, a name that 'kernelscope catalog' lists (from " +
            $"the hub's cache), or one of the demo's: {string.Join(", ", Demo.SaeNames)}.",
        HelpName = "PATH",
        Required = true,
    };

    private static HookPoint? Point(ParseResult parsed, Option<string?> option) => parsed.GetValue(option) is string text
        ? Parsing.Point(text, option.Name) : null;
}
