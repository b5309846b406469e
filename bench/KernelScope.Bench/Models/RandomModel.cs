using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Bench.Models;

/// <summary>A checkpoint of random weights, as it would lie on the model hub: config.json and model.safetensors in bfloat16.</summary>
internal static class RandomModel
{
    // A multiple of 4, as the values want it, and large enough that all cores have something to do.
    private const int Batch = 4 << 20;

    /// <summary>Writes it into a folder.</summary>
    /// <param name="folder">It exists.</param>
    /// <param name="shape">Sizes.</param>
    /// <param name="progress">Told the share that is written; null: nobody.</param>
    /// <param name="cancellation">Stops it; the weights are then not there.</param>
    public static void Write(string folder, ModelShape shape, Action<double>? progress = null, CancellationToken cancellation = default)
    {
        File.WriteAllText(Path.Combine(folder, "config.json"), shape.Config);
        IReadOnlyList<TensorInfo> tensors = shape.Tensors();
        using var writer = new SafetensorsWriter(WeightsPath(folder), tensors);
        var normal = new NormalValues();
        var values = new BFloat16[Batch];
        double all = tensors.Sum(t => t.ElementCount), done = 0;
        long index = 0;
        foreach (TensorInfo tensor in tensors)
        {
            for (long left = tensor.ElementCount; left > 0;)
            {
                cancellation.ThrowIfCancellationRequested();
                int count = (int)Math.Min(left, Batch);
                normal.Fill(values, count, index);
                writer.Append<BFloat16>(values.AsSpan(0, count));
                left -= count;
                index += Batch;
                progress?.Invoke((done += count) / all);
            }
        }

        writer.Commit();
    }

    /// <summary>Where the weights of a folder are.</summary>
    public static string WeightsPath(string folder) => Path.Combine(folder, "model.safetensors");
}
