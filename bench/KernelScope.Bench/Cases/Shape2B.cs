using KernelScope.Bench.Models;
using KernelScope.Files;

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
    public static ModelShape Model { get; } = new(ModelDim, Mlp, Layers, Heads, KvHeads, HeadDim, Vocab, Context: 8192);

    /// <summary>One sliding and one global layer under a small vocabulary: what a long context costs is seen on them in a minute.</summary>
    public static ModelShape TwoLayers { get; } = Model with { Layers = 2, Vocabulary = 16_384, Context = 32_768 };

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
