using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>At which positions an evaluation replaces the activation.</summary>
public enum SpliceWhere
{
    /// <summary>Every position except those whose token is BOS: the default, since SAEs are not trained on BOS.</summary>
    KeepBos,

    /// <summary>Every position.</summary>
    All,

    /// <summary>Every position except those whose token is special (SAELens' ignore_tokens).</summary>
    KeepSpecial,
}

/// <summary>One spliced forward pass of an evaluation.</summary>
/// <param name="Mode">What replaces the activation.</param>
/// <param name="Where">At which positions.</param>
internal readonly record struct SpliceRun(SpliceMode Mode, SpliceWhere Where)
{
    /// <summary>The passes whose replacement depends on the SAE.</summary>
    public static readonly SpliceRun[] OfSae =
        [new(SpliceMode.Sae, SpliceWhere.KeepBos), new(SpliceMode.Sae, SpliceWhere.All), new(SpliceMode.Sae, SpliceWhere.KeepSpecial),
            new(SpliceMode.SaePlusError, SpliceWhere.All)];

    /// <summary>The passes that all SAEs of a site share.</summary>
    public static readonly SpliceRun[] OfSite =
    [
        new(SpliceMode.Zero, SpliceWhere.KeepBos), new(SpliceMode.Zero, SpliceWhere.All), new(SpliceMode.Zero, SpliceWhere.KeepSpecial),
        new(SpliceMode.Mean, SpliceWhere.KeepBos), new(SpliceMode.Mean, SpliceWhere.All), new(SpliceMode.Mean, SpliceWhere.KeepSpecial),
    ];

    /// <summary>All passes, in the order in which results list them.</summary>
    public static readonly SpliceRun[] Every = [.. OfSae[..3], .. OfSite, OfSae[3]];

    /// <summary>Those from which the default numbers come: delta loss and KL of <c>sae/keep_bos</c>, and the loss recovered against zero.</summary>
    public static readonly SpliceRun[] OfDefaults = [OfSae[0], OfSite[0]];

    /// <summary>The name in results: <c>sae/keep_bos</c>.</summary>
    public string Name => $"{ModeName}/{WhereName}";

    /// <summary>The name in arrays: <c>sae_keep_bos</c>.</summary>
    public string ArrayName => $"{ModeName}_{WhereName}";

    /// <summary>Whether the pass replaces the activation of a token.</summary>
    public bool Replaces(TokenSet tokens, int token) => Where switch
    {
        SpliceWhere.All => true,
        SpliceWhere.KeepBos => token != tokens.BosId,
        _ => !tokens.IsSpecial(token),
    };

    private string ModeName => Mode switch
    {
        SpliceMode.Sae => "sae",
        SpliceMode.SaePlusError => "sae_plus_error",
        SpliceMode.Zero => "zero",
        _ => "mean",
    };

    private string WhereName => Where switch
    {
        SpliceWhere.KeepBos => "keep_bos",
        SpliceWhere.All => "all",
        _ => "keep_special",
    };
}
