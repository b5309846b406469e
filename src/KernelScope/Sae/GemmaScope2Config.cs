using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using KernelScope.Files;

namespace KernelScope.Sae;

/// <summary>The config.json of a Gemma Scope 2 folder, beside params.safetensors: JumpReLU SAEs and transcoders of one layer. What has several layers or a skip path is refused by name.</summary>
internal static partial class GemmaScope2Config
{
    /// <summary>The settings' file.</summary>
    public const string ConfigName = "config.json";

    /// <summary>The weights' file.</summary>
    public const string WeightsName = "params.safetensors";

    private const int MaxFileLength = 1 << 24;

    /// <summary>The config for arrays of these sizes.</summary>
    public static SaeConfig Read(string path, SaeArrays arrays)
    {
        using JsonDocument document = JsonText.ReadObject(path, MaxFileLength);
        var settings = new JsonSettings(document.RootElement, path);
        string architecture = settings.Text("architecture") ?? throw BadFile.At(path, "there is no architecture in it.");
        if (architecture is not ("jump_relu" or "jumprelu"))
            throw BadFile.At(path, $"the architecture {BadFile.Quote(architecture)} is not supported; jump_relu is.");
        string? kind = settings.Text("type");
        if (kind is not (null or "sae" or "transcoder"))
            throw BadFile.At(path, $"the type {BadFile.Quote(kind)} is not supported; sae and transcoder are.");
        // Readers of these files do not agree on which way round the matrix stands.
        if (settings.Bool("affine_connection", false) || arrays.Has("affine_skip_connection"))
            throw BadFile.At(path, "it has an affine skip connection, which is not supported.");
        string? hookIn = settings.Text("hf_hook_point_in"), hookOut = settings.Text("hf_hook_point_out");
        bool transcoder = kind == "transcoder" || (kind is null && hookOut is not null && hookOut != hookIn)
            || arrays.InputDim != arrays.OutputDim;
        return new SaeConfig
        {
            Architecture = SaeArchitecture.JumpRelu,
            IsTranscoder = transcoder,
            InputDim = arrays.InputDim,
            OutputDim = arrays.OutputDim,
            FeatureCount = arrays.FeatureCount,
            Site = Site(hookIn),
            SiteOut = transcoder ? Site(hookOut) : Site(hookIn),
            HookName = hookIn,
            HookNameOut = hookOut,
            ModelName = settings.Text("model_name"),
        };
    }

    private static string? Site(string? hook)
    {
        Match match = Module().Match(hook ?? "");
        string? name = match.Groups[2].Value switch
        {
            "output" => "resid_post",
            "self_attn.o_proj.input" => "z",
            "post_feedforward_layernorm.output" => "mlp_out_post",
            "pre_feedforward_layernorm.output" => "mlp_in",
            _ => null,
        };
        return name is null ? null : string.Create(CultureInfo.InvariantCulture, $"{name}.{match.Groups[1].Value}");
    }

    [GeneratedRegex(@"\Amodel\.layers\.([0-9]{1,4})\.([a-z_.]+)\z")]
    private static partial Regex Module();
}
