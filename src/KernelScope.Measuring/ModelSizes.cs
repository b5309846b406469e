using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Measuring;

/// <summary>The sizes that were released, as in the config.json of google/gemma-2-2b, -9b and -27b, and what a model of some sizes holds and computes.</summary>
internal static class ModelSizes
{
    /// <summary>Names of the released ones.</summary>
    public static IReadOnlyList<string> Released { get; } = ["gemma-2-2b", "gemma-2-9b", "gemma-2-27b"];

    /// <summary>The settings of a released size.</summary>
    public static Gemma2Config ConfigOf(string name) => name switch
    {
        "gemma-2-2b" => Create(2304, 9216, 26, 8, 4, 256, 256),
        "gemma-2-9b" => Create(3584, 14336, 42, 16, 8, 256, 256),
        "gemma-2-27b" => Create(4608, 36864, 46, 32, 16, 128, 144),
        _ => throw new ArgumentException($"'{name}' is not a shape with a config of its own.", nameof(name)),
    };

    /// <summary>Settings of some sizes; all else is as released.</summary>
    public static Gemma2Config Create(int modelDim, int mlpDim, int layers, int heads, int kvHeads, int headDim, double queryScalar) =>
        new()
        {
            ModelDim = modelDim,
            MlpDim = mlpDim,
            LayerCount = layers,
            HeadCount = heads,
            KvHeadCount = kvHeads,
            HeadDim = headDim,
            QueryPreAttnScalar = queryScalar,
            AttentionSoftcap = 50,
            FinalSoftcap = 30,
            SlidingWindow = 4096,
            ContextLength = 8192,
            RopeTheta = 10_000,
            NormEpsilon = 1e-6f,
            VocabSize = 256_000,
        };

    /// <summary>Weights of one layer's matrices.</summary>
    public static double LayerWeights(Gemma2Config c) =>
        ((double)c.ModelDim * c.HeadDim * ((2 * c.HeadCount) + (2 * c.KvHeadCount))) + (3.0 * c.ModelDim * c.MlpDim);

    /// <summary>All weights: the embedding, which is the head too, the layers' matrices with four norms each, and the last norm.</summary>
    public static double Weights(Gemma2Config c) =>
        ((double)c.VocabSize * c.ModelDim) + (c.LayerCount * LayerWeights(c)) + (((4.0 * c.LayerCount) + 1) * c.ModelDim);

    /// <summary>The least that a step through all layers must do; norms and the stream between them are small beside the matrices.</summary>
    /// <param name="c">The model's sizes.</param>
    /// <param name="rows">Tokens of the step.</param>
    /// <param name="position">Position of the first.</param>
    /// <param name="elementBytes">Bytes of a weight.</param>
    /// <param name="cacheType">Type of keys and values.</param>
    public static OpCost Layers(Gemma2Config c, int rows, int position, double elementBytes, DType cacheType = DType.F32)
    {
        double weights = c.LayerCount * LayerWeights(c);
        OpCost sum = new(weights * elementBytes, 2 * weights * rows);
        for (int l = 0; l < c.LayerCount; l++)
            sum += OpCost.Attend(rows, position, c.HeadCount, c.KvHeadCount, c.HeadDim, c.IsSliding(l) ? c.SlidingWindow : 0, cacheType);
        return sum;
    }

    /// <summary>The least that the logits of one token need.</summary>
    public static OpCost Head(Gemma2Config c, double elementBytes) =>
        OpCost.Linear(1, c.ModelDim, c.VocabSize, elementBytes * c.ModelDim * c.VocabSize);

    /// <summary>The tensors of a checkpoint, in the order in which they are written.</summary>
    public static List<TensorInfo> Tensors(Gemma2Config c, DType type)
    {
        long model = c.ModelDim, mlp = c.MlpDim, query = (long)c.HeadCount * c.HeadDim, keyValue = (long)c.KvHeadCount * c.HeadDim;
        List<TensorInfo> tensors = [new(TensorNames.Embedding, type, [c.VocabSize, model]), new(TensorNames.FinalNorm, type, [model])];
        for (int l = 0; l < c.LayerCount; l++)
        {
            foreach (string norm in (string[])[TensorNames.InputNorm(l), TensorNames.PostAttentionNorm(l),
                TensorNames.PreFeedForwardNorm(l), TensorNames.PostFeedForwardNorm(l)])
                tensors.Add(new(norm, type, [model]));
            tensors.Add(new(TensorNames.Query(l), type, [query, model]));
            tensors.Add(new(TensorNames.Key(l), type, [keyValue, model]));
            tensors.Add(new(TensorNames.Value(l), type, [keyValue, model]));
            tensors.Add(new(TensorNames.Output(l), type, [model, query]));
            tensors.Add(new(TensorNames.Gate(l), type, [mlp, model]));
            tensors.Add(new(TensorNames.Up(l), type, [mlp, model]));
            tensors.Add(new(TensorNames.Down(l), type, [model, mlp]));
        }

        return tensors;
    }
}
