using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Model;

/// <summary>config.json to <see cref="Gemma2Config"/>: both generations of keys, defaults, ranges, and the refusal of what would compute something else in silence.</summary>
internal static class Gemma2ConfigReader
{
    private const string Activation = "gelu_pytorch_tanh";

    public static Gemma2Config Read(JsonSettings settings)
    {
        CheckSupported(settings);
        int layers = settings.Int("num_hidden_layers", 26, 1);
        int heads = settings.Int("num_attention_heads", 8, 1), kvHeads = settings.Int("num_key_value_heads", 4, 1),
            headDim = settings.Int("head_dim", 256, 1);
        int vocabulary = settings.Int("vocab_size", 256000, 1);
        if (heads % kvHeads != 0)
            throw BadFile.At(settings.Path, $"num_attention_heads {heads} is not a multiple of num_key_value_heads {kvHeads}.");
        if (headDim % 2 != 0)
            throw BadFile.At(settings.Path, $"head_dim is {headDim}; rotary embedding turns pairs, so it must be even.");
        if ((long)heads * headDim > int.MaxValue)
            throw BadFile.At(settings.Path, $"num_attention_heads {heads} times head_dim {headDim} is over 2^31.");

        return new Gemma2Config
        {
            ModelDim = settings.Int("hidden_size", 2304, 1),
            MlpDim = settings.Int("intermediate_size", 9216, 1),
            LayerCount = layers,
            HeadCount = heads,
            KvHeadCount = kvHeads,
            HeadDim = headDim,
            QueryPreAttnScalar = settings.Positive("query_pre_attn_scalar", 256),
            AttentionSoftcap = (float)settings.PositiveOrOff("attn_logit_softcapping", 50),
            FinalSoftcap = (float)settings.PositiveOrOff("final_logit_softcapping", 30),
            SlidingWindow = settings.Int("sliding_window", 4096, 1),
            SlidingLayers = LayerTypes(settings, layers),
            ContextLength = settings.Int("max_position_embeddings", 8192, 1),
            RopeTheta = RopeTheta(settings),
            NormEpsilon = (float)settings.Positive("rms_norm_eps", 1e-6),
            VocabSize = vocabulary,
            BosId = FirstInVocabulary(settings, "bos_token_id", 2, vocabulary),
            PadId = Ids(settings, "pad_token_id", [0]) is [int pad, ..] ? pad : 0,
            EosIds = Ids(settings, "eos_token_id", [1]),
            TextEndIds = Ids(settings, "eos_token_id", [1]),
            MayTieHead = settings.Bool("tie_word_embeddings", true),
        };
    }

    /// <summary>An id or a list of ids; the fallback if the key is absent, empty if it is null.</summary>
    public static int[] Ids(JsonSettings settings, string name, int[] fallback)
    {
        if (!settings.Has(name))
            return fallback;
        if (!settings.TryGet(name, out JsonElement value))
            return [];
        var ids = new List<int>();
        foreach (JsonElement item in value.ValueKind == JsonValueKind.Array ? value.EnumerateArray().ToArray() : [value])
        {
            // -1 is how some exporters write "none".
            if (!JsonSettings.AsInt(item, out int id) || id < -1)
                throw settings.Bad(name, item, "a token id or a list of them");
            if (id >= 0)
                ids.Add(id);
        }
        return [.. ids];
    }

    // Everything that transformers would compute and we do not. Unknown keys are normal and mean nothing here.
    private static void CheckSupported(JsonSettings settings)
    {
        if (settings.Text("model_type") is not string type)
            throw BadFile.At(settings.Path, "there is no model_type in it: this is not the config.json of a Gemma 2 model.");
        if (type != "gemma2")
            throw BadFile.At(settings.Path, $"the model_type is {BadFile.Quote(type)}; only 'gemma2' is supported.");
        // hidden_activation decides in transformers; hidden_act is its older name, and counts where the newer is not given.
        string name = settings.TryGet("hidden_activation", out _) ? "hidden_activation" : "hidden_act";
        if ((settings.Text(name) ?? Activation) is string act && act != Activation)
            throw BadFile.At(settings.Path, $"{name} is {BadFile.Quote(act)}; only '{Activation}' is supported.");
        if (settings.Bool("attention_bias", false))
            throw BadFile.At(settings.Path, "attention_bias is true; biases are not supported.");
        if (settings.Bool("use_bidirectional_attention", false))
            throw BadFile.At(settings.Path, "use_bidirectional_attention is true; only causal attention is supported.");
        if (settings.TryGet("quantization_config", out _))
            throw BadFile.At(settings.Path, "it has a quantization_config; quantized weights are not supported.");
    }

    private static bool[]? LayerTypes(JsonSettings settings, int layers)
    {
        if (!settings.TryGet("layer_types", out JsonElement list))
            return null;
        if (list.ValueKind != JsonValueKind.Array)
            throw settings.Bad("layer_types", list, "a list");
        if (list.GetArrayLength() != layers)
            throw BadFile.At(settings.Path, $"layer_types has {list.GetArrayLength()} entries for {layers} layers.");
        var sliding = new List<bool>();
        foreach (JsonElement item in list.EnumerateArray())
        {
            string? kind = item.ValueKind == JsonValueKind.String ? item.GetString() : null;
            sliding.Add(kind switch
            {
                "sliding_attention" => true,
                "full_attention" => false,
                _ => throw settings.Bad($"layer_types[{sliding.Count}]", item, "'sliding_attention' or 'full_attention'"),
            });
        }
        return [.. sliding];
    }

    // transformers 4: rope_theta and rope_scaling; transformers 5: rope_parameters with both.
    private static double RopeTheta(JsonSettings settings)
    {
        CheckRope(settings, "rope_scaling");
        double plain = settings.Positive("rope_theta", 10000);
        if (CheckRope(settings, "rope_parameters") is not JsonElement parameters
            || !parameters.TryGetProperty("rope_theta", out JsonElement nested))
            return plain;
        if (!JsonSettings.AsPositive(nested, out double theta))
            throw settings.Bad("rope_parameters.rope_theta", nested, "a positive number");
        if (settings.Has("rope_theta") && plain != theta)
            throw BadFile.At(settings.Path, $"rope_theta and rope_parameters.rope_theta differ ({JsonText.Kind(nested)}).");
        return theta;
    }

    private static JsonElement? CheckRope(JsonSettings settings, string name)
    {
        if (!settings.TryGet(name, out JsonElement parameters))
            return null;
        if (parameters.ValueKind != JsonValueKind.Object)
            throw settings.Bad(name, parameters, "an object");
        foreach (JsonProperty property in parameters.EnumerateObject())
        {
            bool fine = property.Name switch
            {
                "rope_type" or "type" => property.Value.ValueKind == JsonValueKind.String && property.Value.GetString() == "default",
                "partial_rotary_factor" => property.Value.ValueKind == JsonValueKind.Number
                    && property.Value.TryGetDouble(out double factor) && factor == 1,
                // Transformers 5 also knows one set of parameters per kind of layer; Gemma 2 has one for all.
                _ => property.Value.ValueKind != JsonValueKind.Object,
            };
            if (!fine)
                throw BadFile.At(settings.Path, $"{name}.{BadFile.Printable(property.Name, 60)} is {JsonText.Kind(property.Value)}; only " +
                    "the default rotary embedding is supported.");
        }
        return parameters;
    }

    private static int FirstInVocabulary(JsonSettings settings, string name, int fallback, int vocabulary)
    {
        int id = Ids(settings, name, [fallback]) is [int first, ..] ? first : fallback;
        // The fallback of a tiny vocabulary need not exist; nobody is told of it unless a text is run.
        return id < vocabulary || !settings.Has(name) ? id
            : throw BadFile.At(settings.Path, $"{name} is {id}, outside the vocabulary of {vocabulary}.");
    }
}
