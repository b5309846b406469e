using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Runtime;

/// <summary>Hook points and a model's sizes.</summary>
internal static class ModelSites
{
    /// <summary>Number of layers that must run for a hook at a site; more than any model has where the site lies behind them all.</summary>
    public static int LayersNeededFor(HookPoint point) => point.Site switch
    {
        Site.Embed => 0,
        Site.FinalNorm or Site.Logits => int.MaxValue,
        _ => point.Layer + 1,
    };

    /// <summary>Refuses a point that the model does not have.</summary>
    /// <exception cref="ArgumentException">It has fewer layers.</exception>
    public static void Require(Gemma2Config config, HookPoint point)
    {
        if ((uint)point.Layer >= (uint)config.LayerCount)
            throw new ArgumentException($"There is no {point}: the model has layers 0 to {config.LayerCount - 1}.");
    }

    /// <summary>Refuses a point that the model does not have, or that has another width.</summary>
    /// <exception cref="ArgumentException">The message begins with <paramref name="who"/>.</exception>
    public static void Require(Gemma2Config config, HookPoint point, int width, string who)
    {
        Require(config, point);
        if (HookPoint.IsOverKeys(point.Site))
            throw new ArgumentException($"{who} {width} values, but {point} has one for each head and key, which is not a fixed number.");
        int there = WidthOf(config, point);
        if (there != width)
            throw new ArgumentException($"{who} {width} values, but {point} of the model has {there}.");
    }

    /// <summary>Values in a row at a point.</summary>
    public static int WidthOf(Gemma2Config config, HookPoint point) =>
        point.Width(
            config.ModelDim, config.HeadCount * config.HeadDim, config.KvHeadCount * config.HeadDim, config.MlpDim, config.VocabSize);
}
