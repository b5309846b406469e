using KernelScope.Files;
using KernelScope.Measuring;
using KernelScope.Model;

namespace KernelScope.Bench.Cases;

/// <summary>The sizes of Gemma 2 2B, from its config.json.</summary>
internal static class Shape2B
{
    public const int ModelDim = 2304;
    public const int Mlp = 9216;
    public const int Heads = 8;
    public const int KvHeads = 4;
    public const int HeadDim = 256;
    public const int Qkv = (Heads + (2 * KvHeads)) * HeadDim;
    public const int Z = Heads * HeadDim;
    public const int Vocab = 256_000;
    public const int Layers = 26;
    public const int Window = 4096;
    public const float Softcap = 50;

    /// <summary>Weights of a layer's products.</summary>
    public const double LayerWeights = ((double)Qkv * ModelDim) + ((double)ModelDim * Z) + (3.0 * Mlp * ModelDim);

    /// <summary>The whole model.</summary>
    public static Gemma2Config Model { get; } = ModelSizes.ConfigOf("gemma-2-2b");

    /// <summary>One sliding and one global layer under a small vocabulary: what a long context costs is seen on them in a minute.</summary>
    public static Gemma2Config TwoLayers { get; } = Model with { LayerCount = 2, VocabSize = 16_384, ContextLength = 32_768 };

    /// <summary>Bytes that one token at a position reads, with its logits: bfloat16 weights, float32 keys and values.</summary>
    public static double Decode(Gemma2Config model, int position) =>
        (ModelSizes.Layers(model, 1, position, sizeof(ushort)) + ModelSizes.Head(model, sizeof(ushort))).Bytes;

    /// <summary>Operations of a prompt of some tokens from position 0, with the logits of its last token.</summary>
    public static double Prefill(Gemma2Config model, int tokens) =>
        (ModelSizes.Layers(model, tokens, 0, sizeof(ushort)) + ModelSizes.Head(model, sizeof(ushort))).Flops;

    /// <summary>The matrices of a layer.</summary>
    public static TensorInfo[] LayerTensors(string layer, DType type) =>
    [
        new($"{layer}.qkv", type, [Qkv, ModelDim]),
        new($"{layer}.o", type, [ModelDim, Z]),
        new($"{layer}.gate_up", type, [2 * Mlp, ModelDim]),
        new($"{layer}.down", type, [ModelDim, Mlp]),
    ];

    /// <summary>The matrices of some layers, and of the logits where they are wanted.</summary>
    public static IEnumerable<TensorInfo> Tensors(int layers, DType type, bool logits)
    {
        IEnumerable<TensorInfo> all = Enumerable.Range(0, layers).SelectMany(l => LayerTensors($"{l}", type));
        return logits ? all.Append(new TensorInfo("logits", type, [Vocab, ModelDim])) : all;
    }

    /// <summary>As in the names of cases.</summary>
    public static string Name(this DType type) => type == DType.F32 ? "f32" : "bf16";
}
