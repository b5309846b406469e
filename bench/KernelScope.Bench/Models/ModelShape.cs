using System.Globalization;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Bench.Models;

/// <summary>The sizes of a Gemma 2 model, under the names of config.json.</summary>
internal sealed record ModelShape(int Dim, int Hidden, int Layers, int Heads, int KvHeads, int HeadDim, int Vocabulary,
    int Context, int Window = 4096)
{
    public const float AttentionSoftcap = 50, FinalSoftcap = 30, NormEpsilon = 1e-6f;

    /// <summary>Weights of a layer's products.</summary>
    public double LayerWeights => (((2.0 * Heads) + (2.0 * KvHeads)) * HeadDim * Dim) + (3.0 * Hidden * Dim);

    /// <summary>All weights; the unembedding is the embedding.</summary>
    public double Weights => Norms + ((double)Vocabulary * Dim) + (Layers * LayerWeights);

    private double Norms => ((4.0 * Layers) + 1) * Dim;

    /// <summary>Bytes that one token reads: all weights in bfloat16, and keys and values in float32 of so many positions.</summary>
    public double DecodeBytes(double positions) =>
        (sizeof(ushort) * Weights) + (Layers * positions * KvHeads * HeadDim * 2 * sizeof(float));

    /// <summary>Operations of a prompt of some tokens from position 0, with the logits of its last token; layers 0, 2, … see only the window.</summary>
    public double PrefillOperations(int tokens)
    {
        double all = tokens * (tokens + 1.0) / 2, beyond = Math.Max(0, tokens - Window), sliding = all - (beyond * (beyond + 1) / 2);
        int slidingLayers = (Layers + 1) / 2;
        double keys = (slidingLayers * sliding) + ((Layers - slidingLayers) * all);
        return (2 * tokens * Layers * LayerWeights) + (keys * Heads * HeadDim * 4) + (2.0 * Vocabulary * Dim);
    }

    /// <summary>The text of config.json.</summary>
    public string Config => string.Create(
        CultureInfo.InvariantCulture,
        $$"""
        {"model_type": "gemma2", "hidden_size": {{Dim}}, "intermediate_size": {{Hidden}}, "num_hidden_layers": {{Layers}}, "num_attention_heads": {{Heads}}, "num_key_value_heads": {{KvHeads}},
         "head_dim": {{HeadDim}}, "query_pre_attn_scalar": {{HeadDim}}, "vocab_size": {{Vocabulary}}, "sliding_window": {{Window}}, "max_position_embeddings": {{Context}},
         "attn_logit_softcapping": {{AttentionSoftcap}}, "final_logit_softcapping": {{FinalSoftcap}}, "rms_norm_eps": {{NormEpsilon}}}

        """);

    /// <summary>The tensors, in the order in which they are written.</summary>
    public IReadOnlyList<TensorInfo> Tensors()
    {
        List<TensorInfo> tensors =
            [new(TensorNames.Embedding, DType.BF16, [Vocabulary, Dim]), new(TensorNames.FinalNorm, DType.BF16, [Dim])];
        for (int l = 0; l < Layers; l++)
        {
            foreach (string norm in (string[])[TensorNames.InputNorm(l), TensorNames.PostAttentionNorm(l),
                TensorNames.PreFeedForwardNorm(l), TensorNames.PostFeedForwardNorm(l)])
                tensors.Add(new(norm, DType.BF16, [Dim]));
            tensors.Add(new(TensorNames.Query(l), DType.BF16, [Heads * HeadDim, Dim]));
            tensors.Add(new(TensorNames.Key(l), DType.BF16, [KvHeads * HeadDim, Dim]));
            tensors.Add(new(TensorNames.Value(l), DType.BF16, [KvHeads * HeadDim, Dim]));
            tensors.Add(new(TensorNames.Output(l), DType.BF16, [Dim, Heads * HeadDim]));
            tensors.Add(new(TensorNames.Gate(l), DType.BF16, [Hidden, Dim]));
            tensors.Add(new(TensorNames.Up(l), DType.BF16, [Hidden, Dim]));
            tensors.Add(new(TensorNames.Down(l), DType.BF16, [Dim, Hidden]));
        }

        return tensors;
    }
}
