using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Runtime;

/// <summary>An SAE that an engine has open, and where it belongs in the model.</summary>
/// <remarks>Safe for any number of threads. The engine disposes the SAE.</remarks>
public sealed class EngineSae
{
    internal EngineSae(string name, JumpReluSae sae, HookPoint site, HookPoint? siteOut)
    {
        Name = name;
        Sae = sae;
        Site = site;
        SiteOut = siteOut;
    }

    /// <summary>What requests call it.</summary>
    public string Name { get; }

    /// <summary>The SAE on the engine's device.</summary>
    public JumpReluSae Sae { get; }

    /// <summary>The hook point that the SAE reads.</summary>
    public HookPoint Site { get; }

    /// <summary>
    /// Where edits act; null for a transcoder of which nothing says where it writes: its features can be read, not edited.
    /// </summary>
    public HookPoint? SiteOut { get; }

    /// <summary>Where an SAE belongs: as the source says, else as its files do.</summary>
    /// <exception cref="ArgumentException">Nothing says where, or its width is not that of the site.</exception>
    internal static (HookPoint Site, HookPoint? SiteOut) Place(SaeSource source, SaeConfig config, Gemma2Config model)
    {
        HookPoint site = source.Site ?? Parse(config.Site)
            ?? throw new ArgumentException($"Nothing says where the SAE '{source.Name}' reads; set its Site.");
        HookPoint? siteOut = source.SiteOut ?? (config.IsTranscoder ? Parse(config.SiteOut) : site);
        ModelSites.Require(model, site, config.InputDim, $"The SAE '{source.Name}' reads");
        if (siteOut is HookPoint target)
            ModelSites.Require(model, target, config.OutputDim, $"The SAE '{source.Name}' writes");
        return (site, siteOut);
    }

    /// <summary>This SAE, if an edit fits it.</summary>
    /// <exception cref="ArgumentException">It cannot be edited, or not so.</exception>
    internal EngineSae Editable(SaeEdit edit)
    {
        if (SiteOut is null)
            throw new ArgumentException($"Nothing says where the transcoder '{Name}' writes, so it cannot be edited; set its SiteOut.");
        EditPlaces.Require(edit.Place);
        if (!Enum.IsDefined(edit.Splice))
            throw new ArgumentException($"There is no SpliceMode {(int)edit.Splice}.");
        if (edit.Features is null)
            throw new ArgumentException($"Features of the edit of '{Name}' is null; an empty list changes no feature.");
        foreach (Devices.FeatureEdit feature in edit.Features)
        {
            if (!Enum.IsDefined(feature.Kind))
                throw new ArgumentException($"There is no FeatureEditKind {(int)feature.Kind} (feature {feature.Feature} of '{Name}').");
            if ((uint)feature.Feature >= (uint)Sae.FeatureCount)
                throw new ArgumentException(
                    $"Feature {feature.Feature} is outside the width of '{Name}', which has features 0 to {Sae.FeatureCount - 1}.");
            if (!float.IsFinite(feature.Value))
                throw new ArgumentException($"The value {feature.Value} for feature {feature.Feature} of '{Name}' is not a number.");
        }

        if (edit.Splice == SpliceMode.Mean && edit.Mean.Length != Sae.Parameters.OutputDim)
            throw new ArgumentException($"The mean for '{Name}' has {edit.Mean.Length} values; the site has {Sae.Parameters.OutputDim}.");
        return this;
    }

    private static HookPoint? Parse(string? name) => name is not null && HookPoint.TryParse(name, out HookPoint point) ? point : null;
}
