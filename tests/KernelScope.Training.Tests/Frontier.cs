using KernelScope.Tests;

namespace KernelScope.Training.Tests;

/// <summary>The synthetic problem of <c>fixtures/sae/frontier</c>: 16,000 rows of 64 from a known dictionary of 256 directions.</summary>
internal static class Frontier
{
    public static string Data => Fixtures.Path("sae", "frontier", "data.npz");

    public static StoredRows Rows(double validation = 0.02, long seed = 0) =>
        StoredRows.Open(Data, "train", validation: validation, seed: seed);

    /// <summary>A small run of its recipe.</summary>
    public static TrainingOptions Small(TrainingActivation activation = TrainingActivation.JumpRelu, long steps = 120) => new()
    {
        Width = 96,
        Activation = activation,
        Sparsity = activation == TrainingActivation.JumpRelu ? 0.01 : activation == TrainingActivation.Relu ? 0.02 : 0,
        K = activation is TrainingActivation.TopK or TrainingActivation.BatchTopK ? 4 : 0,
        Steps = steps,
        Batch = 128,
        LearningRate = 0.005,
        LearningRateWarmUp = 20,
        SparsityWarmUp = 40,
        Bandwidth = 0.1,
        Threshold = 0.1,
    };
}
