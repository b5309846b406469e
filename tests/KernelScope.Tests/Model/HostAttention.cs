using KernelScope.Devices;

namespace KernelScope.Tests.Model;

/// <summary>Attention in plain double, independent of any device, with switches for the mistakes that one can make in it.</summary>
internal sealed class HostAttention
{
    /// <summary>Whether query position p sees key position j, given the window (0: none) and the number of keys stored.</summary>
    public Func<int, int, int, bool> Sees { get; init; } = (p, j, window) => j <= p && (window == 0 || j > p - window);

    /// <summary>The capped score from q·k, scale and cap (0: none).</summary>
    public Func<double, double, double, double> Score { get; init; } = (dot, scale, cap) => cap > 0 ? cap * Math.Tanh(dot * scale / cap)
        : dot * scale;

    /// <summary>Added to the sum of exponentials, beside the largest score.</summary>
    public Func<double, double> Sink { get; init; } = _ => 0;

    /// <summary>The key/value head of a query head.</summary>
    public Func<int, int, int, int> KvHead { get; init; } = (head, heads, kvHeads) => head / (heads / kvHeads);

    /// <summary>Whether keys that are not seen still count in the denominator.</summary>
    public bool MasksAfterSoftmax { get; init; }

    public float[] Run(float[] q, float[] keys, float[] values, int rows, KvLayer cache, int position, AttentionShape shape)
    {
        int dim = cache.HeadDim, width = shape.HeadCount * dim, stored = position + rows;
        float[] z = new float[rows * width];
        for (int t = 0; t < rows; t++)
        {
            for (int head = 0; head < shape.HeadCount; head++)
            {
                int kv = KvHead(head, shape.HeadCount, cache.KvHeadCount), p = position + t;
                var scores = new Dictionary<int, double>();
                for (int j = Math.Max(0, stored - cache.Capacity); j < stored; j++)
                {
                    double dot = 0;
                    for (int i = 0; i < dim; i++)
                        dot += (double)q[(t * width) + (head * dim) + i] * keys[Entry(j) + i];
                    if (Sees(p, j, shape.Window) || MasksAfterSoftmax)
                        scores[j] = Score(dot, shape.Scale, shape.Softcap);
                }

                double max = scores.Count == 0 ? 0 : scores.Values.Max(), sum = scores.Values.Sum(s => Math.Exp(s - max)) + Sink(max);
                foreach ((int j, double score) in scores.Where(s => Sees(p, s.Key, shape.Window)))
                {
                    for (int i = 0; i < dim; i++)
                        z[(t * width) + (head * dim) + i] += (float)(Math.Exp(score - max) / sum * values[Entry(j) + i]);
                }

                int Entry(int j) => ((kv * cache.Capacity) + (j % cache.Capacity)) * dim;
            }
        }

        return z;
    }
}
