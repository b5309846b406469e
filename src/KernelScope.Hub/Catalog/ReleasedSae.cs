using System.Globalization;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Hub.Catalog;

/// <summary>What the SAEs of a release read: the part of a Gemma Scope repository's name after the last dash.</summary>
public enum ReleaseKind
{
    /// <summary>The residual stream after a layer.</summary>
    Residual,
    /// <summary>MLP outputs after the post-norm.</summary>
    Mlp,
    /// <summary>Head outputs side by side, before W_O.</summary>
    Attention,
    /// <summary>From the normed stream without its gain to MLP outputs after the post-norm.</summary>
    Transcoder,
    /// <summary>Rows of the embedding table before they are scaled, which is not a hook point.</summary>
    Embedding,
}

/// <summary>
/// A published SAE or transcoder, as far as its name says: what <see cref="ReleaseCatalog"/> lists. It is a hint: the file decides what its widths are, and
/// whoever published the files warns of small labelling errors (2b-pt-res lists L0 74 and 75 of one SAE at layer 13, width 65k).
/// </summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record ReleasedSae
{
    internal ReleasedSae(string release, ReleaseKind kind, int layer, string widthName, int l0, bool isCanonical, bool isListed,
        string? neuronpediaId)
    {
        Release = release;
        Kind = kind;
        Layer = layer;
        WidthName = widthName;
        L0 = l0;
        IsCanonical = isCanonical;
        IsListed = isListed;
        NeuronpediaId = neuronpediaId;
    }

    /// <summary>The repository's name without its owner: <c>gemma-scope-2b-pt-res</c>.</summary>
    public string Release { get; init; }

    /// <summary>The kind of activation that it reads.</summary>
    public ReleaseKind Kind { get; init; }

    /// <summary>The layer; −1 for the embedding.</summary>
    public int Layer { get; init; }

    /// <summary>The width as in the path: <c>16k</c>.</summary>
    public string WidthName { get; init; }

    /// <summary>Mean number of active features that its authors measured, rounded.</summary>
    public int L0 { get; init; }

    /// <summary>Whether SAELens calls it the canonical one of its layer and width: the L0 nearest to 100.</summary>
    public bool IsCanonical { get; init; }

    /// <summary>Whether the catalogue has it; false for a name that only has the right form.</summary>
    public bool IsListed { get; init; }

    /// <summary>Its page on Neuronpedia, <c>gemma-2-2b/20-gemmascope-res-16k</c>, as SAELens' directory of October 2025 gives it; null if it has none there.</summary>
    public string? NeuronpediaId { get; init; }

    /// <summary>The owner of all repositories.</summary>
    public const string Owner = "google";

    // Of the models' config.json; 27B's heads · d_head is 32 · 128. (SAELens' loader says 4608 for an attention SAE of 27B, of which none was published.)
    private static readonly Dictionary<string, (int Model, int Heads)> Widths =
        new(StringComparer.Ordinal) { ["2b"] = (2304, 2048), ["9b"] = (3584, 4096), ["27b"] = (4608, 4096) };

    /// <summary>The repository: <c>google/gemma-scope-2b-pt-res</c>.</summary>
    public string Repository => $"{Owner}/{Release}";

    /// <summary>Its folder in the repository: <c>layer_20/width_16k/average_l0_71</c>.</summary>
    public string Folder => string.Create(CultureInfo.InvariantCulture, $"{Place}/average_l0_{L0}");

    /// <summary>Its file in the repository.</summary>
    public string File => $"{Folder}/{SaeCheckpoint.ParamsName}";

    /// <summary>What we call it: release and folder.</summary>
    public string Name => $"{Release}/{Folder}";

    /// <summary>SAELens' canonical id, <c>layer_20/width_16k/canonical</c> of the release <c>gemma-scope-2b-pt-res-canonical</c>; null if it is not canonical.</summary>
    public string? CanonicalId => IsCanonical ? $"{Place}/canonical" : null;

    /// <summary>Size of the model: 2b, 9b or 27b.</summary>
    public string ModelSize => Release.Split('-')[2];

    /// <summary>
    /// The model it was trained on: <c>gemma-2-2b</c>; on the hub, <c>google/gemma-2-2b</c>. For gemma-scope-9b-it-res that is gemma-2-9b-it, as SAELens' loader says;
    /// its directory says gemma-2-9b for the release that is not canonical, which is wrong.
    /// </summary>
    public string Model => Release.Split('-')[3] == "it" ? $"gemma-2-{ModelSize}-it" : $"gemma-2-{ModelSize}";

    /// <summary>Where it reads; null for the embedding.</summary>
    public HookPoint? Site => Kind switch
    {
        ReleaseKind.Residual => new(Hooks.Site.ResidPost, Layer),
        ReleaseKind.Mlp => new(Hooks.Site.MlpOutPost, Layer),
        ReleaseKind.Attention => new(Hooks.Site.Z, Layer),
        ReleaseKind.Transcoder => new(Hooks.Site.MlpInUnit, Layer),
        _ => null,
    };

    /// <summary>Where it writes; <see cref="Site"/> but for a transcoder.</summary>
    public HookPoint? SiteOut => Kind == ReleaseKind.Transcoder ? new(Hooks.Site.MlpOutPost, Layer) : Site;

    /// <summary>SAELens' and TransformerLens' name of where it reads.</summary>
    public string HookName => Kind switch
    {
        ReleaseKind.Embedding => "hook_embed",
        ReleaseKind.Residual => Block("hook_resid_post"),
        ReleaseKind.Mlp => Block("hook_mlp_out"),
        ReleaseKind.Attention => Block("attn.hook_z"),
        _ => Block("ln2.hook_normalized"),
    };

    /// <summary>As <see cref="HookName"/>, of where it writes; null unless it is a transcoder.</summary>
    public string? HookNameOut => Kind == ReleaseKind.Transcoder ? Block("hook_mlp_out") : null;

    /// <summary>d_in: width of what it reads.</summary>
    public int InputDim => Kind == ReleaseKind.Attention ? Widths[ModelSize].Heads : Widths[ModelSize].Model;

    /// <summary>d_out: width of what it writes.</summary>
    public int OutputDim => InputDim;

    /// <summary>d_sae: 4k is 4096, 1m is 1048576, and all between are powers of two as well.</summary>
    public int FeatureCount => Features(WidthName)!.Value;

    /// <summary>Bytes of the arrays in float32. A few of the files are compressed and smaller.</summary>
    public long ParameterBytes => 4 * ((2L * InputDim * FeatureCount) + (2L * FeatureCount) + OutputDim);

    private string Place => Layer < 0 ? $"embedding/width_{WidthName}"
        : string.Create(CultureInfo.InvariantCulture, $"layer_{Layer}/width_{WidthName}");

    /// <summary>The number of features that a width's name stands for; null if it is none of Gemma Scope's.</summary>
    internal static int? Features(string widthName) => widthName switch
    {
        "4k" => 1 << 12,
        "16k" => 1 << 14,
        "32k" => 1 << 15,
        "65k" => 1 << 16,
        "131k" => 1 << 17,
        "262k" => 1 << 18,
        "524k" => 1 << 19,
        "1m" => 1 << 20,
        _ => null,
    };

    /// <summary>The kind that a repository's last word stands for.</summary>
    internal static ReleaseKind KindOf(string word) => word switch
    {
        "res" => ReleaseKind.Residual,
        "mlp" => ReleaseKind.Mlp,
        "att" => ReleaseKind.Attention,
        _ => ReleaseKind.Transcoder,
    };

    private string Block(string hook) => string.Create(CultureInfo.InvariantCulture, $"blocks.{Layer}.{hook}");
}
