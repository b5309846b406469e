using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>What happens at an SAE's site.</summary>
/// <param name="Features">Changes of features, in order.</param>
/// <param name="Mode">What replaces the activation before them.</param>
/// <param name="MeanFrom">Where the mean of <see cref="SpliceMode.Mean"/> comes from.</param>
/// <param name="Where">At which positions.</param>
internal sealed record Edits(IReadOnlyList<FeatureEdit> Features, SpliceMode Mode, string? MeanFrom, EditPlace Where)
{
    /// <summary>No edits.</summary>
    public static Edits None { get; } = new([], SpliceMode.None, null, EditPlace.AllButBos);

    /// <summary>Whether nothing happens.</summary>
    public bool AreNone => Features.Count == 0 && Mode == SpliceMode.None;

    /// <summary>Whether what is written hangs on what the SAE makes of an activation, or an activation is thrown away: at BOS neither means anything.</summary>
    public bool MindBos => Mode is SpliceMode.Sae or SpliceMode.Zero or SpliceMode.Mean
        || Features.Any(e => e.Kind == FeatureEditKind.Clamp);

    /// <summary>Refuses a feature that the SAE does not have, before anything long begins.</summary>
    /// <exception cref="WorkException">There is one, or its output cannot be written.</exception>
    public void Check(SaeFiles sae)
    {
        int count = sae.Config.FeatureCount;
        foreach (FeatureEdit edit in Features)
        {
            if (edit.Feature < 0 || edit.Feature >= count)
                throw new WorkException($"feature {edit.Feature} is outside the width of {sae.Name}, which has features 0 to {count - 1}.");
        }

        if (!AreNone && sae.SiteOut.Site == Site.Logits && sae.Site != sae.SiteOut)
            throw new WorkException("the logits exist for the last position only, so they cannot be written from another site.");
    }
}
