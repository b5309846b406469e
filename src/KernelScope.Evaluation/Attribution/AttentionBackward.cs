using KernelScope.Devices;

namespace KernelScope.Attribution;

/// <summary>The vector-Jacobian product of attention over a whole sequence: soft-cap, causal mask, window, grouped heads.</summary>
/// <remarks>
/// With p = softmax over the visible keys j of s_j = cap·tanh(u_j/cap), u_j = scale·q·k_j, and z = Σ p_j v_j:
/// dp_j = dz·v_j; ds_j = p_j(dp_j − Σ p·dp); du_j = ds_j(1 − (s_j/cap)²); dq = scale Σ du_j k_j; dk_j += scale·du_j q; dv_j += p_j dz.
/// </remarks>
internal sealed class AttentionBackward(AttentionShape shape, int kvHeadCount, int headDim)
{
    private double[] _probability = [];
    private double[] _score = [];

    /// <summary>Gradients of rotated queries and keys and of values.</summary>
    /// <param name="qkv">Rotated queries and keys, and values, [n, (heads + 2·kv heads)·d_head].</param>
    /// <param name="dz">Gradient of z, [n, heads·d_head].</param>
    /// <param name="ownOnly">Only what reaches a position through itself: a key's and value's gradient counts only where its own query reads it.</param>
    /// <param name="destination">Gradient of <paramref name="qkv"/>; overwritten.</param>
    public void Run(float[] qkv, float[] dz, bool ownOnly, float[] destination)
    {
        int queryDim = shape.HeadCount * headDim, row = queryDim + (2 * kvHeadCount * headDim), n = dz.Length / queryDim;
        if (_probability.Length < n)
        {
            _probability = new double[n];
            _score = new double[n];
        }

        double[] sums = new double[destination.Length];
        for (int t = 0; t < n; t++)
        {
            for (int h = 0; h < shape.HeadCount; h++)
            {
                int kv = h / (shape.HeadCount / kvHeadCount);
                int key = queryDim + (kv * headDim), value = key + (kvHeadCount * headDim);
                var heads = new Head(qkv, dz, sums, row, queryDim, h * headDim, key, value);
                Query(heads, t, ownOnly);
            }
        }

        for (int i = 0; i < sums.Length; i++)
            destination[i] = (float)sums[i];
    }

    private void Query(Head head, int t, bool ownOnly)
    {
        int first = shape.Window > 0 ? Math.Max(0, t - shape.Window + 1) : 0;
        Softmax(head, t, first);
        ReadOnlySpan<float> q = head.Qkv.AsSpan((t * head.Row) + head.Query, headDim), dz = head.Dz.AsSpan((t * head.QueryDim) + head.Query, headDim);
        double mean = 0;
        for (int j = first; j <= t; j++)
            mean += _probability[j] * Dot(dz, head.Qkv.AsSpan((j * head.Row) + head.Value, headDim));
        Span<double> dq = head.Sums.AsSpan((t * head.Row) + head.Query, headDim);
        for (int j = first; j <= t; j++)
        {
            ReadOnlySpan<float> k = head.Qkv.AsSpan((j * head.Row) + head.Key, headDim), v = head.Qkv.AsSpan((j * head.Row) + head.Value, headDim);
            double share = shape.Softcap > 0 ? _score[j] / shape.Softcap : 0;
            double du = shape.Scale * _probability[j] * (Dot(dz, v) - mean) * (1 - (share * share));
            Add(du, k, dq);
            if (ownOnly && j != t)
                continue;
            Add(du, q, head.Sums.AsSpan((j * head.Row) + head.Key, headDim));
            Add(_probability[j], dz, head.Sums.AsSpan((j * head.Row) + head.Value, headDim));
        }
    }

    private void Softmax(Head head, int t, int first)
    {
        ReadOnlySpan<float> q = head.Qkv.AsSpan((t * head.Row) + head.Query, headDim);
        double max = double.NegativeInfinity, sum = 0;
        for (int j = first; j <= t; j++)
        {
            double u = shape.Scale * Dot(q, head.Qkv.AsSpan((j * head.Row) + head.Key, headDim));
            _score[j] = shape.Softcap > 0 ? shape.Softcap * Math.Tanh(u / shape.Softcap) : u;
            max = Math.Max(max, _score[j]);
        }

        for (int j = first; j <= t; j++)
            sum += _probability[j] = Math.Exp(_score[j] - max);
        for (int j = first; j <= t; j++)
            _probability[j] /= sum;
    }

    private static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
            sum += (double)a[i] * b[i];
        return sum;
    }

    private static void Add(double factor, ReadOnlySpan<float> x, Span<double> y)
    {
        for (int i = 0; i < x.Length; i++)
            y[i] += factor * x[i];
    }

    /// <summary>Where one query head's values lie.</summary>
    private readonly record struct Head(float[] Qkv, float[] Dz, double[] Sums, int Row, int QueryDim, int Query, int Key, int Value);
}
