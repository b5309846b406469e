using System.Globalization;

namespace KernelScope.Model;

/// <summary>The names of Gemma 2's tensors in a safetensors file. All are weights; there are no biases. A linear layer is row-major [out, in], y = x Wᵀ.</summary>
/// <remarks>Any number of threads may call it.</remarks>
internal static class TensorNames
{
    /// <summary>Token embedding [vocab, hidden]; also the output head where the file has no other.</summary>
    public const string Embedding = "model.embed_tokens.weight";

    /// <summary>An output head of its own [vocab, hidden].</summary>
    public const string OutputHead = "lm_head.weight";

    /// <summary>Gain of the norm before the head [hidden].</summary>
    public const string FinalNorm = "model.norm.weight";

    /// <summary>Gain of the norm before attention [hidden].</summary>
    public static string InputNorm(int layer) => InLayer(layer, "input_layernorm");

    /// <summary>Gain of the norm on attention's output [hidden].</summary>
    public static string PostAttentionNorm(int layer) => InLayer(layer, "post_attention_layernorm");

    /// <summary>Gain of the norm before the feed-forward block [hidden].</summary>
    public static string PreFeedForwardNorm(int layer) => InLayer(layer, "pre_feedforward_layernorm");

    /// <summary>Gain of the norm on the feed-forward block's output [hidden].</summary>
    public static string PostFeedForwardNorm(int layer) => InLayer(layer, "post_feedforward_layernorm");

    /// <summary>Queries [heads · head_dim, hidden]; head h is rows h · head_dim to (h + 1) · head_dim.</summary>
    public static string Query(int layer) => InLayer(layer, "self_attn.q_proj");

    /// <summary>Keys [kv_heads · head_dim, hidden].</summary>
    public static string Key(int layer) => InLayer(layer, "self_attn.k_proj");

    /// <summary>Values [kv_heads · head_dim, hidden].</summary>
    public static string Value(int layer) => InLayer(layer, "self_attn.v_proj");

    /// <summary>Attention's output projection [hidden, heads · head_dim].</summary>
    public static string Output(int layer) => InLayer(layer, "self_attn.o_proj");

    /// <summary>Gate [intermediate, hidden].</summary>
    public static string Gate(int layer) => InLayer(layer, "mlp.gate_proj");

    /// <summary>Up [intermediate, hidden].</summary>
    public static string Up(int layer) => InLayer(layer, "mlp.up_proj");

    /// <summary>Down [hidden, intermediate].</summary>
    public static string Down(int layer) => InLayer(layer, "mlp.down_proj");

    /// <summary>All tensors of a layer.</summary>
    public static IEnumerable<string> OfLayer(int layer) =>
    [
        InputNorm(layer), PostAttentionNorm(layer), PreFeedForwardNorm(layer), PostFeedForwardNorm(layer),
        Query(layer), Key(layer), Value(layer), Output(layer), Gate(layer), Up(layer), Down(layer),
    ];

    private static string InLayer(int layer, string name) =>
        string.Create(CultureInfo.InvariantCulture, $"model.layers.{layer}.{name}.weight");
}
