using System.Globalization;
using KernelScope.Files;
using KernelScope.Measuring;
using KernelScope.Model;
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
    public static void Write(string folder, Gemma2Config shape, Action<double>? progress = null, CancellationToken cancellation = default)
    {
        File.WriteAllText(Path.Combine(folder, "config.json"), ConfigText(shape));
        IReadOnlyList<TensorInfo> tensors = ModelSizes.Tensors(shape, DType.BF16);
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

    /// <summary>The text of config.json.</summary>
    public static string ConfigText(Gemma2Config c) => string.Create(
        CultureInfo.InvariantCulture,
        $$"""
        {"model_type": "gemma2", "hidden_size": {{c.ModelDim}}, "intermediate_size": {{c.MlpDim}}, "num_hidden_layers": {{c.LayerCount}}, "num_attention_heads": {{c.HeadCount}}, "num_key_value_heads": {{c.KvHeadCount}},
         "head_dim": {{c.HeadDim}}, "query_pre_attn_scalar": {{c.QueryPreAttnScalar}}, "vocab_size": {{c.VocabSize}}, "sliding_window": {{c.SlidingWindow}}, "max_position_embeddings": {{c.ContextLength}},
         "attn_logit_softcapping": {{c.AttentionSoftcap}}, "final_logit_softcapping": {{c.FinalSoftcap}}, "rms_norm_eps": {{c.NormEpsilon}}}

        """);

    /// <summary>Where the weights of a folder are.</summary>
    public static string WeightsPath(string folder) => Path.Combine(folder, "model.safetensors");
}
