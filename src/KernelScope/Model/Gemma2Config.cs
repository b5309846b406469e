using KernelScope.Files;

namespace KernelScope.Model;

/// <summary>
/// The settings of a Gemma 2 model, from the hub's config.json in the forms of transformers 4 and 5, with generation_config.json's stop ids.
/// A missing key has the default of transformers' Gemma2Config. A setting that would change the numbers and is not computed here is refused by name.
/// </summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record Gemma2Config
{
    // Real ones have 818 bytes.
    internal const int MaxFileLength = 1 << 24;

    /// <summary>hidden_size, d_model: the width of the residual stream.</summary>
    public required int ModelDim { get; init; }

    /// <summary>intermediate_size, d_mlp: the width of the feed-forward block.</summary>
    public required int MlpDim { get; init; }

    /// <summary>Number of layers, num_hidden_layers.</summary>
    public required int LayerCount { get; init; }

    /// <summary>num_attention_heads: query heads.</summary>
    public required int HeadCount { get; init; }

    /// <summary>num_key_value_heads; divides <see cref="HeadCount"/>. Query head h uses key/value head h / (heads / kv_heads).</summary>
    public required int KvHeadCount { get; init; }

    /// <summary>head_dim; even. <see cref="HeadCount"/> times this is the query width, which is not <see cref="ModelDim"/> in any released size.</summary>
    public required int HeadDim { get; init; }

    /// <summary>query_pre_attn_scalar s: attention scores are scaled by s^-1/2. It need not be <see cref="HeadDim"/> (27B: 144 and 128).</summary>
    public required double QueryPreAttnScalar { get; init; }

    /// <summary>attn_logit_softcapping c: scores become c · tanh(score / c); 0 if there is no cap (null in the file).</summary>
    public required float AttentionSoftcap { get; init; }

    /// <summary>final_logit_softcapping c: logits become c · tanh(logit / c); 0 if there is no cap (null in the file).</summary>
    public required float FinalSoftcap { get; init; }

    /// <summary>sliding_window: a sliding layer's query sees this many keys, its own included.</summary>
    public required int SlidingWindow { get; init; }

    /// <summary>layer_types: for each layer whether its attention is limited to <see cref="SlidingWindow"/>; null if the file does not say.</summary>
    public IReadOnlyList<bool>? SlidingLayers { get; init; }

    /// <summary>max_position_embeddings: the longest sequence the model was trained for.</summary>
    public required int ContextLength { get; init; }

    /// <summary>rope_theta, or rope_parameters.rope_theta.</summary>
    public required double RopeTheta { get; init; }

    /// <summary>ε of every RMS norm, rms_norm_eps.</summary>
    public required float NormEpsilon { get; init; }

    /// <summary>vocab_size: rows of the embedding.</summary>
    public required int VocabSize { get; init; }

    /// <summary>bos_token_id; Gemma's 2 if the file says null.</summary>
    public int BosId { get; init; } = 2;

    /// <summary>The ids at which generation stops: generation_config.json's eos_token_id if it gives one, else config.json's. Empty if that is null.</summary>
    public IReadOnlyList<int> EosIds { get; init; } = [1];

    /// <summary>
    /// config.json's eos_token_id alone: what ends a text. Statistics leave these out; an instruction-tuned model's <see cref="EosIds"/> may also hold the id that ends a turn, which is text.
    /// </summary>
    public IReadOnlyList<int> TextEndIds { get; init; } = [1];

    /// <summary>pad_token_id; Gemma's 0 if the file says null.</summary>
    public int PadId { get; init; }

    /// <summary>tie_word_embeddings: whether the embedding is the output head where the weights hold no other. A head that they hold counts either way.</summary>
    // Not public, so that it is not a part of the text that tells models apart by content: the head's bytes are.
    internal bool MayTieHead { get; init; } = true;

    /// <summary>Whether a layer's attention is limited to <see cref="SlidingWindow"/> keys: as layer_types says, else layers 0, 2, 4 ...</summary>
    public bool IsSliding(int layer)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layer);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(layer, LayerCount);
        return SlidingLayers is null ? layer % 2 == 0 : SlidingLayers[layer];
    }

    /// <summary>Reads a folder's config.json and, if it has one, generation_config.json.</summary>
    /// <exception cref="InvalidDataException">A file is missing or malformed, is not Gemma 2's, or asks for something that is not supported.</exception>
    public static Gemma2Config Read(ModelFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        Gemma2Config config = Parse(RawFile.ReadAll(folder.ConfigPath, MaxFileLength), folder.ConfigPath);
        return folder.GenerationConfigPath is string path ? config.WithGeneration(RawFile.ReadAll(path, MaxFileLength), path) : config;
    }

    /// <summary>Parses a config.json.</summary>
    /// <param name="json">The file's bytes.</param>
    /// <param name="file">Its path, for messages.</param>
    /// <exception cref="InvalidDataException">It is malformed, not Gemma 2's, or asks for something that is not supported.</exception>
    public static Gemma2Config Parse(ReadOnlySpan<byte> json, string file)
    {
        using var document = JsonText.ParseObject(json.ToArray(), file);
        return Gemma2ConfigReader.Read(new JsonSettings(document.RootElement, file));
    }

    /// <summary>This config with generation_config.json's stop ids, if that file gives any.</summary>
    /// <param name="json">generation_config.json's bytes.</param>
    /// <param name="file">Its path, for messages.</param>
    /// <exception cref="InvalidDataException">It is malformed.</exception>
    public Gemma2Config WithGeneration(ReadOnlySpan<byte> json, string file) => StopIds(json, file) is int[] ids
        ? this with { EosIds = ids } : this;

    /// <summary>The stop ids of a generation_config.json; null if it gives none.</summary>
    /// <exception cref="InvalidDataException">It is malformed.</exception>
    internal static int[]? StopIds(ReadOnlySpan<byte> json, string file)
    {
        using var document = JsonText.ParseObject(json.ToArray(), file);
        var settings = new JsonSettings(document.RootElement, file);
        return settings.TryGet("eos_token_id", out _) ? Gemma2ConfigReader.Ids(settings, "eos_token_id", []) : null;
    }
}
