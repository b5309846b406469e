using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using KernelScope.Files;

namespace KernelScope.Sae;

/// <summary>
/// A file layer_N.safetensors of a set of transcoders as circuit-tracer stores it, with the set's config.yaml beside it. ReLU and JumpReLU; its topk, which keeps negative values, is refused.
/// Of the YAML only lines "name: value" at the margin are read, which is what that file has.
/// </summary>
internal static partial class CircuitTracerConfig
{
    /// <summary>The set's settings.</summary>
    public const string ConfigName = "config.yaml";

    private const int MaxFileLength = 1 << 20;

    /// <summary>Whether a file's name is that of a layer.</summary>
    public static bool IsLayerFile(string path) => LayerFile().IsMatch(System.IO.Path.GetFileName(path));

    /// <summary>Whether a folder is such a set.</summary>
    public static bool IsSet(string folder) => RawFile.IsThere(System.IO.Path.Combine(folder, ConfigName))
        && Directory.EnumerateFiles(folder, "layer_*.safetensors").Any(IsLayerFile);

    /// <summary>The config for a layer's arrays.</summary>
    public static SaeConfig Read(string folder, string file, SaeArrays arrays)
    {
        string path = System.IO.Path.Combine(folder, ConfigName);
        Dictionary<string, string> settings = Settings(path);
        string Setting(string name) => settings.TryGetValue(name, out string? value) ? value
            : throw BadFile.At(path, $"there is no {name} in it.");
        if (Setting("model_kind") is string kind && kind != "transcoder_set")
            throw BadFile.At(path, $"the model_kind {BadFile.Quote(kind)} is not supported; transcoder_set is.");
        if (settings.ContainsKey("transcoders"))
            throw BadFile.At(path, "it lists its transcoders elsewhere, so that nothing says what the files beside it are.");
        bool hasThreshold = arrays.Has(SaeLayout.CircuitTracer.Threshold);
        if (settings.TryGetValue("activation", out string? activation) && activation is not ("relu" or "jump_relu" or "jumprelu"))
            throw BadFile.At(path, $"the activation {BadFile.Quote(activation)} is not supported; relu and jump_relu are.");
        if (activation is not null && activation == "relu" == hasThreshold)
            throw BadFile.At(path, $"the activation is {activation}, but {BadFile.Quote(System.IO.Path.GetFileName(file))} has " +
                $"{(hasThreshold ? "thresholds" : "no thresholds")}.");
        string layer = LayerFile().Match(System.IO.Path.GetFileName(file)).Groups[1].Value;
        string At(string hook) => string.Create(CultureInfo.InvariantCulture, $"blocks.{layer}.{hook}");
        string hookIn = At(Setting("feature_input_hook")), hookOut = At(Setting("feature_output_hook"));
        return new SaeConfig
        {
            Architecture = hasThreshold ? SaeArchitecture.JumpRelu : SaeArchitecture.Standard,
            IsTranscoder = true,
            InputDim = arrays.InputDim,
            OutputDim = arrays.OutputDim,
            FeatureCount = arrays.FeatureCount,
            Site = hookIn,
            SiteOut = hookOut,
            HookName = hookIn,
            HookNameOut = hookOut,
            ModelName = settings.GetValueOrDefault("model_name"),
        };
    }

    /// <summary>circuit-tracer's JumpReLU lets a negative pre-activation above a negative threshold pass; ours never does.</summary>
    public static void RequireNoNegative(SaeCheckpoint sae)
    {
        if (sae.Threshold is { } threshold && threshold.ToFloats().FirstOrDefault(t => t < 0) is < 0 and float negative)
            throw BadFile.At(sae.Path, $"{threshold.Name} holds {negative.ToString(CultureInfo.InvariantCulture)}: with a negative " +
                "threshold negative codes would count, which is not supported.");
    }

    private static Dictionary<string, string> Settings(string path)
    {
        var settings = new Dictionary<string, string>(StringComparer.Ordinal);
        byte[] bytes = RawFile.ReadAll(path, MaxFileLength);
        JsonText.RequireUtf8(bytes, path);
        foreach (string line in Encoding.UTF8.GetString(bytes).Split('\n'))
        {
            Match match = Line().Match(line.TrimEnd('\r'));
            if (match.Success && !settings.TryAdd(match.Groups[1].Value, match.Groups[2].Value.Trim().Trim('"', '\'')))
                throw BadFile.At(path, $"{match.Groups[1].Value} is there twice.");
        }

        foreach (string name in settings.Where(s => s.Value is "null" or "~").Select(s => s.Key).ToArray())
            settings.Remove(name);
        return settings;
    }

    [GeneratedRegex(@"\Alayer_([0-9]{1,4})\.safetensors\z")]
    private static partial Regex LayerFile();

    [GeneratedRegex(@"\A([A-Za-z_][A-Za-z0-9_]*):[ \t]*([^#]*)")]
    private static partial Regex Line();
}
