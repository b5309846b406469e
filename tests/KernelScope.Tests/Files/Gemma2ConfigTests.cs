using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Model;

namespace KernelScope.Tests.Files;

/// <summary>The forms of config.json and generation_config.json that the hub has, and what is refused by name.</summary>
public sealed class Gemma2ConfigTests
{
    // The hub's config of gemma-2-27b, as transformers 4.42 wrote it.
    private const string Config27B = """
        {"architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid",
         "eos_token_id": 1, "final_logit_softcapping": 30.0, "head_dim": 128, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 4608,
         "initializer_range": 0.02, "intermediate_size": 36864, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 32, "num_hidden_layers": 46,
         "num_key_value_heads": 16, "pad_token_id": 0, "query_pre_attn_scalar": 144, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "sliding_window_size": 4096,
         "torch_dtype": "bfloat16", "transformers_version": "4.42.0.dev0", "use_cache": true, "vocab_size": 256000, "_attn_implementation": "eager"}
        """;

    [Fact]
    public void The_hubs_keys_are_read()
    {
        Gemma2Config config = Parse(Config27B);
        Assert.Equal((4608, 36864, 46, 32, 16, 128),
            (config.ModelDim, config.MlpDim, config.LayerCount, config.HeadCount, config.KvHeadCount, config.HeadDim));
        Assert.Equal((144.0, 50f, 30f, 4096, 8192, 10000.0, 1e-6f),
            (config.QueryPreAttnScalar, config.AttentionSoftcap, config.FinalSoftcap, config.SlidingWindow, config.ContextLength,
                config.RopeTheta, config.NormEpsilon));
        Assert.Equal((256000, 2, 0), (config.VocabSize, config.BosId, config.PadId));
        Assert.Equal([1], config.EosIds);
        Assert.Equal([true, false, true], Enumerable.Range(0, 3).Select(config.IsSliding));
    }

    [Fact]
    public void Missing_keys_have_the_defaults_of_transformers()
    {
        // Gemma2Config() of transformers 5.23 is the 2B model.
        Gemma2Config config = Parse("""{"model_type": "gemma2"}""");
        Assert.Equal((2304, 9216, 26, 8, 4, 256),
            (config.ModelDim, config.MlpDim, config.LayerCount, config.HeadCount, config.KvHeadCount, config.HeadDim));
        Assert.Equal((256.0, 50f, 30f, 4096, 8192, 10000.0, 1e-6f),
            (config.QueryPreAttnScalar, config.AttentionSoftcap, config.FinalSoftcap, config.SlidingWindow, config.ContextLength,
                config.RopeTheta, config.NormEpsilon));
        Assert.Equal((256000, 2, 0), (config.VocabSize, config.BosId, config.PadId));
        Assert.Equal([1], config.EosIds);
    }

    [Fact]
    public void Both_generations_of_keys_say_the_same()
    {
        Gemma2Config v4 = Parse(File.ReadAllText(HostileFiles.Path("config/valid/config.json"))),
            v5 = Parse(File.ReadAllText(HostileFiles.Path("config/valid-v5/config.json")));
        Assert.Equal([1, 107], v5.EosIds);
        Assert.Equal([1, 107], v5.TextEndIds);
        Assert.Equal(v4 with { EosIds = v5.EosIds, TextEndIds = v5.TextEndIds, SlidingLayers = v5.SlidingLayers }, v5);
        Assert.Equal(Enumerable.Range(0, 2).Select(v4.IsSliding), Enumerable.Range(0, 2).Select(v5.IsSliding));
    }

    [Fact]
    public void Layer_types_decide_over_the_even_odd_rule()
    {
        Gemma2Config config =
            Parse("""{"model_type": "gemma2", "num_hidden_layers": 3, "layer_types": ["full_attention", "full_attention", "sliding_attention"]}""");
        Assert.Equal([false, false, true], Enumerable.Range(0, 3).Select(config.IsSliding));
        Assert.Throws<ArgumentOutOfRangeException>(() => config.IsSliding(3));
    }

    [Fact]
    public void Theta_is_found_in_rope_parameters() =>
        Assert.Equal(1000, Parse("""{"model_type": "gemma2", "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}""")
            .RopeTheta);

    [Fact]
    public void Null_caps_are_no_caps()
    {
        Gemma2Config config = Parse("""{"model_type": "gemma2", "attn_logit_softcapping": null, "final_logit_softcapping": null}""");
        Assert.Equal((0f, 0f), (config.AttentionSoftcap, config.FinalSoftcap));
    }

    [Theory]
    [InlineData("""{"eos_token_id": [1, 107]}""", new[] { 1, 107 })]
    [InlineData("""{"eos_token_id": 107}""", new[] { 107 })]
    [InlineData("""{"eos_token_id": null}""", new[] { 1 })]
    [InlineData("""{"_from_model_config": true, "cache_implementation": "hybrid"}""", new[] { 1 })]
    public void Generation_config_decides_the_stop_ids_if_it_gives_any(string generation, int[] expected) =>
        Assert.Equal(expected, Parse(Config27B).WithGeneration(Encoding.UTF8.GetBytes(generation), "generation_config.json").EosIds);

    [Fact]
    public void A_folders_generation_config_is_read()
    {
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(Fixtures.Path("gemma2", "models", "eos-list"));
        Assert.Equal([1, 107], model.Config.EosIds);
        Sentences.Check(Assert.Throws<InvalidDataException>(() => Parse(Config27B).WithGeneration("[]"u8, "generation_config.json"))
            .Message, "generation_config.json");
    }

    [Theory]
    [InlineData("""{"rope_scaling": {"type": "linear", "factor": 2.0}}""", "rope_scaling.type")]
    [InlineData("""{"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}""", "yarn")]
    [InlineData("""{"rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0}}""", "llama3")]
    [InlineData("""{"rope_parameters": {"sliding_attention": {"rope_theta": 10000.0}, "full_attention": {"rope_theta": 1000000.0}}}""",
        "sliding_attention")]
    [InlineData("""{"rope_parameters": {"rope_type": "default", "rope_theta": 1.0}}""", "differ")]
    [InlineData("""{"attention_bias": true}""", "attention_bias")]
    [InlineData("""{"use_bidirectional_attention": true}""", "bidirectional")]
    [InlineData("""{"quantization_config": {"bits": 4}}""", "quantization_config")]
    [InlineData("""{"hidden_activation": "gelu"}""", "'gelu'")]
    [InlineData("""{"hidden_activation": null, "hidden_act": "silu"}""", "hidden_act is 'silu'")]
    [InlineData("""{"model_type": "gemma3_text"}""", "gemma3_text")]
    [InlineData("""{"bos_token_id": 256000}""", "bos_token_id")]
    [InlineData("""{"eos_token_id": "1"}""", "eos_token_id")]
    [InlineData("""{"num_attention_heads": 1000000, "num_key_value_heads": 1000000, "head_dim": 1000000}""", "over 2^31")]
    [InlineData("""{"sliding_window": null}""", "sliding_window is null")]
    [InlineData("""{"query_pre_attn_scalar": 1e60}""", "query_pre_attn_scalar")]
    [InlineData("""{"rms_norm_eps": 1e-60}""", "rms_norm_eps")]
    public void What_would_change_the_numbers_is_refused_by_name(string changes, string named)
    {
        JsonObject config = JsonNode.Parse(Config27B)!.AsObject();
        foreach ((string name, JsonNode? value) in JsonNode.Parse(changes)!.AsObject())
            config[name] = value?.DeepClone();
        string message = Assert.Throws<InvalidDataException>(() => Parse(config.ToJsonString())).Message;
        Assert.Contains(named, message, StringComparison.Ordinal);
        Sentences.Check(message, "config.json");
    }

    [Fact]
    public void A_key_twice_is_refused() =>
        Sentences.Check(Assert.Throws<InvalidDataException>(() => Parse("""{"model_type": "gemma2", "head_dim": 8, "head_dim": 16}"""))
            .Message, "config.json");

    [Theory]
    [InlineData("base", 2)]
    [InlineData("sharded", 2)]
    [InlineData("f16", 1)]
    [InlineData("mha", 4)]
    [InlineData("mqa-odd", 1)]
    public void Reference_models_open(string name, int kvHeads)
    {
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(Fixtures.Path("gemma2", "models", name));
        Assert.Equal(kvHeads, model.Config.KvHeadCount);
        Assert.Equal([(long)kvHeads * model.Config.HeadDim, model.Config.ModelDim], model.Layer(0).K.Shape.ToArray());
        Assert.Null(model.TokenizerPath);
    }

    private static Gemma2Config Parse(string json) => Gemma2Config.Parse(Encoding.UTF8.GetBytes(json), "config.json");
}
