using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>Which hook points of a model hold how many values.</summary>
internal static class Sites
{
    /// <summary>Refuses a point that the model does not have.</summary>
    public static void Require(ModelFiles model, HookPoint point)
    {
        if (point.Layer >= model.Config.LayerCount)
            throw new WorkException($"there is no {point} in {model.Name}: it has layers 0 to {model.Config.LayerCount - 1}.");
    }

    /// <summary>Refuses a point that the model does not have, or that has another width.</summary>
    public static void Require(ModelFiles model, HookPoint point, int width, string who)
    {
        Gemma2Config config = model.Config;
        Require(model, point);
        if (HookPoint.IsOverKeys(point.Site))
            throw new WorkException($"{who} {width} values; {point} has one for each head and key, so its width is not " +
                $"fixed; {Fitting(config, width)}.");
        int actual = WidthOf(config, point);
        if (actual != width)
            throw new WorkException($"{who} {width} values, but {point} of {model.Name} has {actual}; {Fitting(config, width)}.");
    }

    public static int WidthOf(Gemma2Config config, HookPoint point) =>
        point.Width(config.ModelDim, config.HeadCount * config.HeadDim, config.KvHeadCount * config.HeadDim, config.MlpDim,
        config.VocabSize);

    /// <summary>The sites of a width, in words: <c>z.0-5 would fit</c>.</summary>
    public static string Fitting(Gemma2Config config, int width)
    {
        string last = config.LayerCount > 1 ? $"0-{config.LayerCount - 1}" : "0";
        string[] fitting = [.. HookPoint.All(1).Where(p => WidthOf(config, p) == width)
            .Select(p => HookPoint.IsPerLayer(p.Site) ? $"{p.ToString()[..^1]}{last}" : p.ToString())];
        return fitting.Length == 0 ? "no site of the model has that many" : $"sites that would fit: {string.Join(", ", fitting)}";
    }

    /// <summary>Where a point comes in a forward pass, to be compared with another's.</summary>
    public static int Order(HookPoint point) => point.Order;
}
