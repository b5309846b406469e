using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>The sizes that <c>bench</c> knows, as in the config.json of google/gemma-2-2b, -9b and -27b.</summary>
internal static class BenchShape
{
    public const string Demo = KernelScope.Demo.ModelName;
    public const string Default = "gemma-2-2b";

    public static readonly string[] Names = [Default, "gemma-2-9b", "gemma-2-27b", Demo];

    /// <summary>The settings of a released size.</summary>
    public static Gemma2Config ConfigOf(string name) => name switch
    {
        "gemma-2-2b" => Config(2304, 9216, 26, 8, 4, 256, 256),
        "gemma-2-9b" => Config(3584, 14336, 42, 16, 8, 256, 256),
        "gemma-2-27b" => Config(4608, 36864, 46, 32, 16, 128, 144),
        _ => throw new ArgumentException($"'{name}' is not a shape with a config of its own.", nameof(name)),
    };

    /// <summary>Parameters of one layer's matrices.</summary>
    public static double MatrixParameters(Gemma2Config c) =>
        ((double)c.ModelDim * c.HeadDim * ((2 * c.HeadCount) + (2 * c.KvHeadCount))) + (3.0 * c.ModelDim * c.MlpDim);

    private static Gemma2Config Config(int modelDim, int mlpDim, int layers, int heads, int kvHeads, int headDim, double queryScalar) =>
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
}
