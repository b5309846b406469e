using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Model;

/// <summary>How √d_model, the factor of the embeddings, is rounded.</summary>
public enum EmbeddingScale
{
    /// <summary>√d_model in float32: transformers in float32, llama.cpp, and the float32 runs that the Gemma Scope SAEs were trained on.</summary>
    Exact,

    /// <summary>
    /// √d_model rounded to the dtype of the embedding: transformers in bfloat16, gemma_pytorch and gemma.cpp. 9B: 59.75 instead of 59.8665; 2B: 48 either way.
    /// </summary>
    RoundedToWeights,
}

/// <summary>The factor itself.</summary>
internal static class EmbeddingScaleValue
{
    public static float Of(this EmbeddingScale scale, Gemma2Config config, DType weights)
    {
        float root = MathF.Sqrt(config.ModelDim);
        return (scale, weights) switch
        {
            (EmbeddingScale.RoundedToWeights, DType.BF16) => (float)(BFloat16)root,
            (EmbeddingScale.RoundedToWeights, DType.F16) => (float)(Half)root,
            _ => root,
        };
    }
}
