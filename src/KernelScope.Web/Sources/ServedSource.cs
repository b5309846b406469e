using System.Globalization;
using KernelScope.Hooks;
using KernelScope.Runtime;

namespace KernelScope.Web.Sources;

/// <summary>An SAE as clients name it: <c>20-gemmascope-res-16k</c>, a layer, a set and perhaps more.</summary>
internal sealed class ServedSource
{
    private readonly Lazy<float[]> _norms;

    public ServedSource(EngineSae sae)
    {
        Sae = sae;
        int dash = sae.Name.IndexOf('-', StringComparison.Ordinal);
        bool isNamed = dash > 0 && sae.Name.AsSpan(0, dash).IndexOfAnyExceptInRange('0', '9') < 0;
        Id = isNamed ? sae.Name : $"{sae.Site.Layer}-{sae.Name}";
        SourceSet = SetOf(Id);
        _norms = new Lazy<float[]>(Norms);
    }

    public EngineSae Sae { get; }

    public string Id { get; }

    public string SourceSet { get; }

    public int FeatureCount => Sae.Sae.FeatureCount;

    /// <summary>TransformerLens' name of where it reads, or ours where it has none.</summary>
    public string HookName => TransformerLensName(Sae.Site);

    /// <summary>‖W_dec[f]‖ of each feature, in float32 sums of doubles.</summary>
    public float[] DecoderNorms => _norms.Value;

    /// <summary>The set that an id names: what is between its layer and "__".</summary>
    public static string SetOf(string id) => id[(id.IndexOf('-', StringComparison.Ordinal) + 1)..].Split("__")[0];

    /// <summary>TransformerLens' name of a point.</summary>
    public static string TransformerLensName(HookPoint point) => point.Site switch
    {
        Site.Embed => "hook_embed",
        Site.ResidPre => Block(point, "hook_resid_pre"),
        Site.ResidMid => Block(point, "hook_resid_mid"),
        Site.ResidPost => Block(point, "hook_resid_post"),
        Site.Z => Block(point, "attn.hook_z"),
        Site.AttnOutPost => Block(point, "hook_attn_out"),
        Site.MlpOutPost => Block(point, "hook_mlp_out"),
        Site.MlpInUnit => Block(point, "ln2.hook_normalized"),
        _ => point.ToString(),
    };

    private static string Block(HookPoint point, string name) => $"blocks.{point.Layer.ToString(CultureInfo.InvariantCulture)}.{name}";

    private float[] Norms()
    {
        float[] norms = new float[FeatureCount];
        for (int f = 0; f < norms.Length; f++)
            norms[f] = Norm(Sae.Sae.DecoderRow(f));
        return norms;
    }

    public static float Norm(ReadOnlySpan<float> row)
    {
        double square = 0;
        foreach (float value in row)
            square += (double)value * value;
        return (float)Math.Sqrt(square);
    }
}
