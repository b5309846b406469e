using System.Globalization;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Sae;

/// <summary>
/// SAELens' cfg.json, flat (before 6.0) and with metadata, to a <see cref="SaeConfig"/>, with the defaults that SAELens 6 fills in.
/// What would change the numbers and is not computed here is refused by name.
/// </summary>
internal static class SaeLensConfig
{
    private const int MaxFileLength = 1 << 24;

    /// <summary>The config, and whether the weights must hold W_skip.</summary>
    public readonly record struct Result(SaeConfig Config, bool HasSkip);

    public static Result Read(string path)
    {
        using JsonDocument document = JsonText.ReadObject(path, MaxFileLength);
        return Parse(document.RootElement, path);
    }

    public static Result Parse(JsonElement root, string path)
    {
        var settings = new JsonSettings(root, path);
        bool hasMetadata = settings.TryGet("metadata", out JsonElement metadata);
        if (hasMetadata && metadata.ValueKind != JsonValueKind.Object)
            throw settings.Bad("metadata", metadata, "an object");
        var about = hasMetadata ? new JsonSettings(metadata, path) : settings;
        bool old = IsBefore6(settings.Text("sae_lens_version") ?? (hasMetadata ? about.Text("sae_lens_version") : null));
        // Before 6.0 everything lies at the top level; hook_name was hook_point still earlier.
        if (old)
            about = settings;

        string? hookName = about.Text("hook_name") ?? (old ? about.Text("hook_point") : null), hookNameOut = about.Text("hook_name_out");
        string architecture = settings.Text("architecture")
            ?? (old ? "standard" : throw BadFile.At(path, "there is no architecture in it."));
        (SaeArchitecture activation, bool transcoder, bool skip) = Architecture(architecture, path);
        CheckSupported(settings, about, old, activation, path);
        int inputDim = settings.Int("d_in", null, 1), outputDim = transcoder ? settings.Int("d_out", null, 1) : inputDim;
        var config = new SaeConfig
        {
            Architecture = activation,
            IsTranscoder = transcoder,
            InputDim = inputDim,
            OutputDim = outputDim,
            FeatureCount = settings.Int("d_sae", null, 1),
            K = activation == SaeArchitecture.TopK ? settings.Int("k", null, 1) : 0,
            ApplyDecoderBiasToInput = settings.Bool("apply_b_dec_to_input", true),
            Normalization = Normalization(settings),
            FlattensHeads = FlattensHeads(settings, old && hookName?.Contains("hook_z", StringComparison.Ordinal) == true),
            Site = hookName,
            SiteOut = hookNameOut ?? (transcoder ? null : hookName),
            HookName = hookName,
            HookNameOut = hookNameOut,
            ModelName = about.Text("model_name"),
            PrependBos = about.Bool("prepend_bos", true),
        };
        return new Result(config, skip);
    }

    private static (SaeArchitecture Activation, bool Transcoder, bool Skip) Architecture(string name, string path) => name switch
    {
        "jumprelu" => (SaeArchitecture.JumpRelu, false, false),
        "standard" => (SaeArchitecture.Standard, false, false),
        "jumprelu_transcoder" => (SaeArchitecture.JumpRelu, true, false),
        "jumprelu_skip_transcoder" => (SaeArchitecture.JumpRelu, true, true),
        "transcoder" => (SaeArchitecture.Standard, true, false),
        "skip_transcoder" => (SaeArchitecture.Standard, true, true),
        "topk" => (SaeArchitecture.TopK, false, false),
        // SAELens exports these as jumprelu, with the threshold that training found; before that they are not what runs on one text.
        "batchtopk" or "matryoshka_batchtopk" =>
            throw BadFile.At(path, $"the architecture {BadFile.Quote(name)} is that of a training checkpoint; save the SAE for inference " +
            "with SAELens first, which makes it a jumprelu."),
        _ => throw BadFile.At(path, $"the architecture {BadFile.Quote(name)} is not supported; jumprelu, standard, topk, transcoder, " +
            "skip_transcoder, jumprelu_transcoder and jumprelu_skip_transcoder are."),
    };

    private static void CheckSupported(JsonSettings settings, JsonSettings about, bool old, SaeArchitecture architecture, string path)
    {
        string? activation = settings.Text("activation_fn") ?? (old ? settings.Text("activation_fn_str") : null);
        if (activation is not (null or "relu") && !(activation == "topk" && architecture == SaeArchitecture.TopK))
            throw BadFile.At(path, $"the activation function {BadFile.Quote(activation)} is not supported; relu is.");
        if (settings.Bool("finetuning_scaling_factor", false))
            throw BadFile.At(path, "finetuning_scaling_factor is true: the features are scaled once more, which is not supported.");
        if (settings.Bool("rescale_acts_by_decoder_norm", false))
            throw BadFile.At(path, "rescale_acts_by_decoder_norm is true, which is not supported.");
        foreach (string name in (ReadOnlySpan<string>)["hook_head_index", "hook_head_index_out", "hook_point_head_index"])
            if (about.TryGet(name, out JsonElement head))
                throw about.Bad(name, head, "null; an SAE on a single head is not supported");
    }

    private static SaeNormalization Normalization(JsonSettings settings)
    {
        const string Name = "normalize_activations";
        if (!settings.TryGet(Name, out JsonElement value))
            return SaeNormalization.None;
        // Before it had names, the setting was a switch for what is now expected_average_only_in.
        string name = value.ValueKind switch
        {
            JsonValueKind.False => "none",
            JsonValueKind.True => "expected_average_only_in",
            JsonValueKind.String => value.GetString()!,
            _ => throw settings.Bad(Name, value, "a text"),
        };
        return name switch
        {
            "none" => SaeNormalization.None,
            "layer_norm" => SaeNormalization.LayerNorm,
            "constant_norm_rescale" => SaeNormalization.ConstantNorm,
            "expected_average_only_in" or "covariance_whitening" => throw BadFile.At(settings.Path,
                $"{Name} is {name}, which needs statistics of the training data that are not in the folder; fold them into the weights " +
                    "with SAELens first, then it says 'none'."),
            _ => throw BadFile.At(settings.Path, $"{Name} is {BadFile.Quote(name)}; none, layer_norm and constant_norm_rescale are " +
                "supported."),
        };
    }

    private static bool FlattensHeads(JsonSettings settings, bool fallback) => settings.Text("reshape_activations") switch
    {
        null => fallback,
        "none" => false,
        "hook_z" => true,
        string other => throw BadFile.At(settings.Path, $"reshape_activations is {BadFile.Quote(other)}; none and hook_z are supported."),
    };

    private static bool IsBefore6(string? version) =>
        version is null || !int.TryParse(version.AsSpan(0, Math.Max(0, version.IndexOf('.', StringComparison.Ordinal))), NumberStyles.None,
            CultureInfo.InvariantCulture, out int major) || major < 6;
}
