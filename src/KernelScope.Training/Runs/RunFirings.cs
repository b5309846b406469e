using KernelScope.Evaluation;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>Where some features fire, from the codes that a run holds: nothing is computed again.</summary>
internal static class RunFirings
{
    /// <summary>Reads the codes of every shard, one after the other.</summary>
    /// <param name="folder">The run.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="sae">Whose codes.</param>
    /// <param name="features">The chosen features.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two shards.</param>
    /// <exception cref="InvalidDataException">The run is not complete, or a file is damaged.</exception>
    public static FeatureFirings Collect(
        RunFolder folder, RunPlan plan, SaeRecord sae, IReadOnlyList<int> features, IProgress<double>? progress,
        CancellationToken cancellationToken)
    {
        var firings = new FeatureFirings(sae.Features, features);
        for (int n = 0; n < plan.Shards.Count; n++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ShardManifest manifest = ShardManifest.Find(folder, plan, n)
                ?? throw BadFile.At(folder.Path, $"the run is not complete: shard {n} of {plan.Shards.Count} is missing.");
            Add(firings, CodeShard.Read(folder, manifest, sae));
            progress?.Report((n + 1) / (double)plan.Shards.Count);
        }

        return firings;
    }

    private static void Add(FeatureFirings firings, CodeShard codes)
    {
        for (int r = 0; r < codes.Rows; r++)
        {
            int start = checked((int)codes.RowStart[r]), count = checked((int)(codes.RowStart[r + 1] - codes.RowStart[r]));
            firings.Add(codes.Sequence[r], codes.Position[r], codes.Feature.AsSpan(start, count), codes.Value.AsSpan(start, count));
        }
    }
}
