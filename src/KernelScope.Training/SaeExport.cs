using System.Globalization;
using System.Text.Json;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Training;

/// <summary>Writes a trained SAE as Gemma Scope and as SAELens store theirs.</summary>
internal static class SaeExport
{
    // From this one on cfg.json has its metadata apart; it is what our files follow.
    private const string SaeLensVersion = "6.0.0";

    /// <summary><c>res/layer_3/width_16k/average_l0_71/params.npz</c>: the kind from the site, as far as it is one of Gemma
    /// Scope's.</summary>
    public static string GemmaScopePath(FoldedSae sae, TrainedPlace place, double l0) => Path.Combine(
        WidthPath(sae.Width, sae.IsTranscoder, place),
        string.Create(CultureInfo.InvariantCulture, $"average_l0_{Math.Round(l0):0}"),
        SaeCheckpoint.ParamsName);

    /// <summary>That path without its last two parts.</summary>
    public static string WidthPath(int width, bool isTranscoder, TrainedPlace place)
    {
        string? kind = place.Site?.Site switch
        {
            Site.ResidPost when !isTranscoder => "res",
            Site.Z when !isTranscoder => "att",
            Site.MlpOutPost when !isTranscoder => "mlp",
            Site.MlpInUnit when isTranscoder && place.SiteOut?.Site == Site.MlpOutPost => "transcoder",
            _ => null,
        };
        string last = $"width_{Width(width)}";
        return kind is null ? last
            : Path.Combine(kind, string.Create(CultureInfo.InvariantCulture, $"layer_{place.Site!.Value.Layer}"), last);
    }

    /// <summary>A <c>params.npz</c>.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void WriteParams(FoldedSae sae, string path)
    {
        OutputPlace.CreateFolder(Path.GetDirectoryName(path)!);
        using var writer = new NpzWriter(path);
        foreach ((TensorInfo info, ReadOnlyMemory<float> values) in Tensors(sae, withThreshold: true))
            writer.Add(info.Name, values.Span, info.Shape);
        writer.Commit();
    }

    /// <summary>A folder that SAELens loads.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void WriteSaeLens(FoldedSae sae, TrainedPlace place, string folder)
    {
        OutputPlace.CreateFolder(folder);
        (TensorInfo Info, ReadOnlyMemory<float> Values)[] tensors = SaeLensTensors(sae);
        WriteTensors(new SafetensorsWriter(Path.Combine(folder, SaeCheckpoint.WeightsName), tensors.Select(t => t.Info)), tensors);
        JsonFile.Write(Path.Combine(folder, SaeCheckpoint.ConfigName), json => WriteConfig(json, sae, place));
    }

    /// <summary>The arrays that SAELens knows.</summary>
    public static (TensorInfo Info, ReadOnlyMemory<float> Values)[] SaeLensTensors(FoldedSae sae) =>
        [.. Tensors(sae, withThreshold: IsJump(sae))];

    /// <summary>Writes all arrays, and disposes the writer.</summary>
    public static void WriteTensors(SafetensorsWriter writer, (TensorInfo Info, ReadOnlyMemory<float> Values)[] tensors)
    {
        using (writer)
        {
            foreach ((_, ReadOnlyMemory<float> values) in tensors)
                writer.Append(values.Span);
            writer.Commit();
        }
    }

    /// <summary>SAELens' word for what was trained.</summary>
    /// <exception cref="NotSupportedException">It has none.</exception>
    public static string Architecture(TrainingActivation activation, bool isTranscoder, bool skip) => (activation, isTranscoder) switch
    {
        (TrainingActivation.TopK, true) =>
            throw new NotSupportedException("There is no file format for TopK transcoders; jumprelu, batchtopk and relu have one."),
        (TrainingActivation.TopK, false) => "topk",
        (TrainingActivation.Relu, true) => skip ? "skip_transcoder" : "transcoder",
        (TrainingActivation.Relu, false) => "standard",
        (_, true) => skip ? "jumprelu_skip_transcoder" : "jumprelu_transcoder",
        _ => "jumprelu",
    };

    private static bool IsJump(FoldedSae sae) => sae.Activation is TrainingActivation.JumpRelu or TrainingActivation.BatchTopK;

    /// <summary>SAELens' cfg.json.</summary>
    public static void WriteConfig(Utf8JsonWriter json, FoldedSae sae, TrainedPlace place)
    {
        json.WriteStartObject();
        json.WriteString("architecture", Architecture(sae.Activation, sae.IsTranscoder, !sae.Skip.IsEmpty));
        json.WriteNumber("d_in", sae.InputDim);
        json.WriteNumber("d_sae", sae.Width);
        if (sae.IsTranscoder)
            json.WriteNumber("d_out", sae.OutputDim);
        if (sae.K > 0)
        {
            json.WriteNumber("k", sae.K);
            json.WriteBoolean("rescale_acts_by_decoder_norm", false);
        }

        json.WriteString("dtype", "float32");
        json.WriteString("device", "cpu");
        json.WriteBoolean("apply_b_dec_to_input", false);
        json.WriteString("normalize_activations", "none");
        json.WriteString("reshape_activations", place.Site?.Site == Site.Z ? "hook_z" : "none");
        json.WriteStartObject("metadata");
        json.WriteString("sae_lens_version", SaeLensVersion);
        json.WriteNull("sae_lens_training_version");
        json.WriteString("model_name", place.ModelName);
        json.WriteString("hook_name", place.Site?.TransformerLensName);
        if (sae.IsTranscoder)
            json.WriteString("hook_name_out", place.SiteOut?.TransformerLensName);
        json.WriteNull("hook_head_index");
        json.WriteBoolean("prepend_bos", true);
        if (sae.Target is (double target, double sparsity))
        {
            json.WriteNumber("target_l0", target);
            json.WriteNumber("sparsity", sparsity);
        }

        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static IEnumerable<(TensorInfo Info, ReadOnlyMemory<float> Values)> Tensors(FoldedSae sae, bool withThreshold)
    {
        yield return (Info("W_enc", sae.InputDim, sae.Width), sae.Encoder);
        yield return (Info("W_dec", sae.Width, sae.OutputDim), sae.Decoder);
        yield return (Info("b_enc", sae.Width), sae.EncoderBias);
        yield return (Info("b_dec", sae.OutputDim), sae.DecoderBias);
        if (withThreshold)
            yield return (Info("threshold", sae.Width), sae.Threshold);
        if (!sae.Skip.IsEmpty)
            yield return (Info("W_skip", sae.OutputDim, sae.InputDim), sae.Skip);
    }

    private static TensorInfo Info(string name, params ReadOnlySpan<long> shape) => new(name, DType.F32, shape);

    private static string Width(int width) => width switch
    {
        >= 1 << 20 when width % (1 << 20) == 0 => string.Create(CultureInfo.InvariantCulture, $"{width >> 20}m"),
        >= 1 << 10 when width % (1 << 10) == 0 => string.Create(CultureInfo.InvariantCulture, $"{width >> 10}k"),
        _ => width.ToString(CultureInfo.InvariantCulture),
    };
}
