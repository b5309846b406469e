using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using KernelScope.Files;

namespace KernelScope.Sae;

/// <summary>
/// The cfg.json of a folder that EleutherAI's sparsify wrote, beside sae.safetensors. Its SAEs keep the k largest of relu(x·W_encᵀ + b_enc), where b_dec is first subtracted from x
/// unless it is a transcoder (sparsify/sparse_coder.py). The folder's name is the module that was hooked.
/// </summary>
internal static partial class SparsifyConfig
{
    /// <summary>The weights' file.</summary>
    public const string WeightsName = "sae.safetensors";

    private const int MaxFileLength = 1 << 24;

    /// <summary>The config, and whether the weights must hold W_skip.</summary>
    public static SaeLensConfig.Result Read(string path)
    {
        using JsonDocument document = JsonText.ReadObject(path, MaxFileLength);
        var settings = new JsonSettings(document.RootElement, path);
        if (settings.Text("activation") is string activation and not "topk")
            throw BadFile.At(path, $"the activation {BadFile.Quote(activation)} is not supported; topk is.");
        foreach (string name in (ReadOnlySpan<string>)["signed", "embed_skip", "gram_lookup"])
        {
            if (settings.Bool(name, false))
                throw BadFile.At(path, $"{name} is true, which is not supported.");
        }

        bool transcodes = settings.Bool("transcode", false);
        int inputDim = settings.Int("d_in", null, 1), features = settings.Int("num_latents", 0, 0);
        long width = features > 0 ? features : (long)inputDim * settings.Int("expansion_factor", 32, 1);
        if (width > int.MaxValue)
            throw BadFile.At(path, $"d_in {inputDim} times expansion_factor is {width}, which is over 2^31.");
        string hook = System.IO.Path.GetFileName(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))) ?? "";
        (string? site, string? siteOut) = Sites(hook, transcodes);
        var config = new SaeConfig
        {
            Architecture = SaeArchitecture.TopK,
            K = settings.Int("k", 32, 1),
            IsTranscoder = transcodes,
            InputDim = inputDim,
            OutputDim = inputDim,
            FeatureCount = (int)width,
            ApplyDecoderBiasToInput = !transcodes,
            Site = site,
            SiteOut = siteOut,
            HookName = hook,
        };
        return new SaeLensConfig.Result(config, settings.Bool("skip_connection", false));
    }

    // A layer's module gives the stream after it; mlp and self_attn give what the post-norm then reads.
    private static (string? Site, string? SiteOut) Sites(string hook, bool transcodes)
    {
        Match match = Module().Match(hook);
        if (!match.Success)
            return (null, null);
        string At(string name) => string.Create(CultureInfo.InvariantCulture, $"{name}.{match.Groups[1].Value}");
        return (match.Groups[2].Value, transcodes) switch
        {
            ("", false) => (At("resid_post"), At("resid_post")),
            ("", true) => (At("resid_pre"), At("resid_post")),
            (".mlp", false) => (At("mlp_out"), At("mlp_out")),
            (".mlp", true) => (At("mlp_in"), At("mlp_out")),
            (".self_attn", false) => (At("attn_out"), At("attn_out")),
            _ => (null, null),
        };
    }

    [GeneratedRegex(@"\A(?:model\.)?layers\.([0-9]{1,4})(\.mlp|\.self_attn)?\z")]
    private static partial Regex Module();
}
