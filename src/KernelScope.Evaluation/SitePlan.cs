using KernelScope.Attribution;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>An SAE and where it belongs.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record SaeTarget
{
    /// <summary>An SAE with its name and its places.</summary>
    /// <param name="name">How results name it, usually its path.</param>
    /// <param name="sae">The SAE or transcoder, on the model's device.</param>
    /// <param name="site">Where it reads.</param>
    /// <param name="siteOut">Where its output belongs: <paramref name="site"/>, or a transcoder's output site.</param>
    public SaeTarget(string name, JumpReluSae sae, HookPoint site, HookPoint siteOut)
    {
        Name = name;
        Sae = sae;
        Site = site;
        SiteOut = siteOut;
    }

    /// <summary>How results name it, usually its path.</summary>
    public string Name { get; init; }

    /// <summary>The SAE or transcoder, on the model's device.</summary>
    public JumpReluSae Sae { get; init; }

    /// <summary>The hook point that the SAE reads.</summary>
    public HookPoint Site { get; init; }

    /// <summary>Where its output belongs: <see cref="Site"/>, or a transcoder's output site.</summary>
    public HookPoint SiteOut { get; init; }

    /// <summary>Whether it maps one site to another.</summary>
    public bool IsTranscoder => Site != SiteOut;
}

/// <summary>What results need to know of an SAE, without its parameters.</summary>
/// <param name="Name">How results name it.</param>
/// <param name="Site">Where it reads.</param>
/// <param name="SiteOut">Where its output belongs.</param>
/// <param name="InputDim">d_in.</param>
/// <param name="OutputDim">d_out.</param>
internal sealed record EvaluatedSae(string Name, HookPoint Site, HookPoint SiteOut, int InputDim, int OutputDim)
{
    private static readonly Site[] SaelensSites = [Hooks.Site.ResidPost, Hooks.Site.MlpOutPost, Hooks.Site.Z];

    /// <summary>Whether SAELens' own numbers are defined for it.</summary>
    public bool HasSaelens => Site == SiteOut && SaelensSites.Contains(Site.Site);

    /// <summary>Of an SAE that is there.</summary>
    public static EvaluatedSae From(SaeTarget target) =>
        new(target.Name, target.Site, target.SiteOut, target.Sae.Config.InputDim, target.Sae.Config.OutputDim);
}

/// <summary>A site with its SAEs: where to listen, where to write, and from which layer on a splice runs.</summary>
/// <remarks>
/// <c>resid_post.L</c> is <c>resid_pre.L+1</c> and <c>embed</c> is <c>resid_pre.0</c>, where the values are the same; so a splice there repeats one layer less. After the last layer, which is where "layer
/// number of layers" begins, only the final norm is left. <c>mlp_out_post.L</c> is the last that a layer adds to the stream: the sum of <c>resid_mid.L</c> and a splice there is the stream before the next layer.
/// </remarks>
internal sealed class SitePlan
{
    private SitePlan(HookPoint site, HookPoint siteOut, int[] saes, int layerCount, int inputDim, int outputDim)
    {
        Site = site;
        SiteOut = siteOut;
        Saes = saes;
        InputDim = inputDim;
        OutputDim = outputDim;
        Read = Canonical(site, layerCount);
        Write = Canonical(siteOut, layerCount);
        StartLayer = LayerOf(Write, layerCount) + (AddsToStream ? 1 : 0);
        FirstLayer = Math.Min(LayerOf(Write, layerCount), LayerOf(Read, layerCount));
        EndLayer = Write.Site switch { Hooks.Site.ResidPre => Write.Layer, Hooks.Site.FinalNorm => layerCount, _ => Write.Layer + 1 };
    }

    /// <summary>Where the SAEs read, as results name it.</summary>
    public HookPoint Site { get; }

    /// <summary>Where their output belongs, as results name it.</summary>
    public HookPoint SiteOut { get; }

    /// <summary>The SAEs, by index.</summary>
    public int[] Saes { get; }

    /// <summary>Width of the input site.</summary>
    public int InputDim { get; }

    /// <summary>Width of the output site.</summary>
    public int OutputDim { get; }

    /// <summary>Where the hook listens.</summary>
    public HookPoint Read { get; }

    /// <summary>Where the hook writes.</summary>
    public HookPoint Write { get; }

    /// <summary>Whether a spliced pass begins with the sum of the stream in the middle of the layer and the spliced values.</summary>
    public bool AddsToStream => Write.Site == Hooks.Site.MlpOutPost;

    /// <summary>The layer before which a spliced pass begins; the number of layers: after the last.</summary>
    public int StartLayer { get; }

    /// <summary>The layer before which a clean pass must begin to see both sites.</summary>
    public int FirstLayer { get; }

    /// <summary>Number of layers after which the output site has been seen.</summary>
    public int EndLayer { get; }

    /// <summary>Whether the SAEs read and write one place.</summary>
    public bool IsOneSite => Read == Write;

    /// <summary>Whether the backward pass gives a gradient at the output site.</summary>
    public bool HasGradient => StreamGradient.Sites.Contains(Write.Site);

    /// <summary>Groups SAEs by site, in the order in which sites first appear.</summary>
    /// <exception cref="ArgumentException">An SAE whose widths are not its site's, that reads after it writes, or a site that cannot be replaced.</exception>
    public static SitePlan[] Create(IReadOnlyList<SaeTarget> targets, Gemma2Config config)
    {
        foreach (SaeTarget target in targets)
            Check(target, config);
        return Create([.. targets.Select(EvaluatedSae.From)], config.LayerCount);
    }

    /// <summary>The same of SAEs that were checked before, without a model.</summary>
    public static SitePlan[] Create(IReadOnlyList<EvaluatedSae> saes, int layerCount) =>
        [.. Enumerable.Range(0, saes.Count).GroupBy(s => (saes[s].Site, saes[s].SiteOut)).Select(g => new SitePlan(g.Key.Site,
            g.Key.SiteOut, [.. g], layerCount, saes[g.First()].InputDim, saes[g.First()].OutputDim))];

    /// <summary>Number of values in a row at a site.</summary>
    public static int WidthOf(HookPoint point, Gemma2Config config) =>
        point.Width(config.ModelDim, config.HeadCount * config.HeadDim, config.KvHeadCount * config.HeadDim, config.MlpDim,
            config.VocabSize);

    /// <summary>Whether the first fires no later than the second.</summary>
    public static bool IsInOrder(HookPoint site, HookPoint siteOut) => Order(site) <= Order(siteOut);

    private static void Check(SaeTarget target, Gemma2Config config)
    {
        foreach (HookPoint point in (ReadOnlySpan<HookPoint>)[target.Site, target.SiteOut])
        {
            if (point.Site == Hooks.Site.Logits)
                throw new ArgumentException($"{target.Name}: an SAE cannot be evaluated at the logits.");
            if (point.Layer >= config.LayerCount)
                throw new ArgumentException($"{target.Name}: there is no {point}; the model has layers 0 to {config.LayerCount - 1}.");
        }

        int input = WidthOf(target.Site, config), output = WidthOf(target.SiteOut, config);
        if (target.Sae.Config.InputDim != input)
            throw new ArgumentException(
                $"{target.Name}: the SAE reads {target.Sae.Config.InputDim} values; {target.Site} has {input} in this model.");
        if (target.Sae.Config.OutputDim != output)
            throw new ArgumentException(
                $"{target.Name}: the SAE writes {target.Sae.Config.OutputDim} values; {target.SiteOut} has {output} in this model.");
        if (!IsInOrder(target.Site, target.SiteOut))
            throw new ArgumentException(
                $"{target.Name}: it reads {target.Site}, which comes after {target.SiteOut}, where its output belongs.");
    }

    /// <summary>Ascending in the order in which hook points fire.</summary>
    private static long Order(HookPoint point) => point.Site switch
    {
        Hooks.Site.Embed => -1,
        Hooks.Site.FinalNorm => long.MaxValue,
        _ => ((long)point.Layer << 8) + (int)point.Site,
    };

    private static HookPoint Canonical(HookPoint point, int layerCount) => point.Site switch
    {
        Hooks.Site.Embed => new(Hooks.Site.ResidPre, 0),
        Hooks.Site.ResidPost when point.Layer + 1 < layerCount => new(Hooks.Site.ResidPre, point.Layer + 1),
        _ => point,
    };

    /// <summary>The highest layer before which a pass can begin and see the point.</summary>
    private static int LayerOf(HookPoint point, int layerCount) =>
        point.Site is Hooks.Site.FinalNorm or Hooks.Site.ResidPost ? layerCount : point.Layer;
}
