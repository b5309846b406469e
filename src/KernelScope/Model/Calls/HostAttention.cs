using System.Runtime.InteropServices;
using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Model;

/// <summary>
/// Attention of one call of one session once more, on the host and in double, for those who listen at <see cref="Site.AttnScores"/> or <see cref="Site.AttnPattern"/>: no device stores either.
/// What nobody edits changes nothing: z stays as the device computed it. Where a hook edits a head's scores or weights at a position, z of that head and position is computed from what it left.
/// </summary>
internal sealed class HostAttention
{
    private readonly Device _device;
    private readonly KvLayer _cache;
    private readonly AttentionShape _shape;
    private readonly int _position;
    private readonly int _rows;
    private readonly int _keys;
    private readonly bool[] _edited;

    private HostAttention(Device device, KvLayer cache, AttentionShape shape, int position, int rows)
    {
        _device = device;
        _cache = cache;
        _shape = shape;
        _position = position;
        _rows = rows;
        _keys = position + rows;
        _edited = new bool[rows * shape.HeadCount];
        if ((long)rows * shape.HeadCount * _keys > Array.MaxLength)
            throw new InvalidOperationException($"Scores of {rows} tokens over {_keys} keys are more than {Array.MaxLength} values; " +
                "feed fewer tokens at a time.");
    }

    private int Width => _shape.HeadCount * _keys;

    /// <summary>Fires both sites; keys and values of the call are in the cache, and <paramref name="z"/> is computed.</summary>
    /// <param name="device">The device.</param>
    /// <param name="hooks">The session's hooks.</param>
    /// <param name="layer">The layer.</param>
    /// <param name="q">Queries after RoPE, [n, heads·d_head].</param>
    /// <param name="cache">The layer's cache.</param>
    /// <param name="position">Position of the first row.</param>
    /// <param name="shape">Heads, scale, cap, window.</param>
    /// <param name="z">Head outputs, [n, heads·d_head]; written only where a hook edited something.</param>
    public static void Fire(Device device, HookSet hooks, int layer, Mat q, KvLayer cache, int position, AttentionShape shape, Mat z)
    {
        var attention = new HostAttention(device, cache, shape, position, q.Rows);
        float[] values = attention.Scores(q);
        Mat mat = device.CreateMat(q.Rows, attention.Width, "attention scores");
        try
        {
            attention.Fire(hooks, Site.AttnScores, layer, mat, values);
            attention.Softmax(values);
            attention.Fire(hooks, Site.AttnPattern, layer, mat, values);
            if (attention._edited.Contains(true))
                attention.Mix(values, z);
        }
        finally
        {
            mat.Buffer.Dispose();
        }
    }

    /// <summary>Lets hooks see and edit values; remembers which heads of which rows are others afterwards.</summary>
    private void Fire(HookSet hooks, Site site, int layer, Mat mat, float[] values)
    {
        if (!hooks.Listens(site, layer))
            return;
        _device.Write(values, mat);
        hooks.FireOverKeys(site, layer, mat, _shape.HeadCount);
        float[] before = [.. values];
        _device.Read(mat, values);
        ForEachHead((t, h, _) => _edited[(t * _shape.HeadCount) + h] |=
            !MemoryMarshal.AsBytes(RowOf(before, t, h)).SequenceEqual(MemoryMarshal.AsBytes(RowOf(values, t, h))));
    }

    /// <summary>cap(scale·q·k), −∞ where the mask is, rounded once.</summary>
    private float[] Scores(Mat q)
    {
        float[] queries = new float[q.Rows * q.Columns], keys = Cached(_cache.Keys), scores = new float[_rows * Width];
        _device.Read(q, queries);
        int dim = _cache.HeadDim;
        ForEachHead((t, h, first) =>
        {
            ReadOnlySpan<float> query = queries.AsSpan((t * q.Columns) + (h * dim), dim);
            Span<float> row = RowOf(scores, t, h);
            row.Fill(float.NegativeInfinity);
            for (int j = first; j <= _position + t; j++)
            {
                double s = _shape.Scale * Dot(query, Slot(keys, h, j));
                row[j] = (float)(_shape.Softcap > 0 ? _shape.Softcap * Math.Tanh(s / _shape.Softcap) : s);
            }
        });
        return scores;
    }

    /// <summary>Softmax over the keys, in place. A row in which everything is masked becomes zeros, as in TransformerLens.</summary>
    private void Softmax(float[] values) => ForEachHead((t, h, _) =>
    {
        Span<float> row = RowOf(values, t, h);
        double max = double.NegativeInfinity, sum = 0;
        foreach (float s in row)
            max = Math.Max(max, s);
        foreach (float s in row)
            sum += double.IsNegativeInfinity(max) ? 0 : Math.Exp(s - max);
        for (int j = 0; j < row.Length; j++)
            row[j] = sum == 0 ? 0 : (float)(Math.Exp(row[j] - max) / sum);
    });

    /// <summary>z = Σ_j pattern_j·v_j where something was edited, over the keys that the cache holds; a weight on a key that the window has left behind counts for nothing.</summary>
    private void Mix(float[] pattern, Mat z)
    {
        int dim = _cache.HeadDim;
        float[] values = Cached(_cache.Values), mixed = new float[dim];
        double[] sum = new double[dim];
        for (int unit = 0; unit < _edited.Length; unit++)
        {
            if (!_edited[unit])
                continue;
            (int t, int h) = Math.DivRem(unit, _shape.HeadCount);
            ReadOnlySpan<float> row = RowOf(pattern, t, h);
            Array.Clear(sum);
            for (int j = Math.Max(0, _keys - _cache.Capacity); j < _keys; j++)
            {
                ReadOnlySpan<float> value = Slot(values, h, j);
                for (int i = 0; i < dim && row[j] != 0; i++)
                    sum[i] += (double)row[j] * value[i];
            }

            for (int i = 0; i < dim; i++)
                mixed[i] = (float)sum[i];
            _device.Write(mixed, z.RowRange(t, 1).ColumnRange(h * dim, dim));
        }
    }

    private void ForEachHead(Action<int, int, int> work) => _device.ForEach(_rows * _shape.HeadCount, unit =>
    {
        (int t, int h) = Math.DivRem(unit, _shape.HeadCount);
        work(t, h, _shape.Window > 0 ? Math.Max(0, _position + t - _shape.Window + 1) : 0);
    });

    private Span<float> RowOf(float[] values, int t, int h) => values.AsSpan((t * Width) + (h * _keys), _keys);

    /// <summary>The part of a ring that has been written, head by head.</summary>
    private float[] Cached(Mat ring)
    {
        int used = Math.Min(_keys, _cache.Capacity);
        float[] values = new float[_cache.KvHeadCount * used * ring.Columns];
        for (int h = 0; h < _cache.KvHeadCount; h++)
            _device.Read(ring.RowRange(h * _cache.Capacity, used), values.AsSpan(h * used * ring.Columns, used * ring.Columns));
        return _cache.Widened(values);
    }

    /// <summary>Key or value of position <paramref name="j"/> that query head <paramref name="h"/> reads.</summary>
    private ReadOnlySpan<float> Slot(float[] cached, int h, int j)
    {
        int used = Math.Min(_keys, _cache.Capacity), head = h / (_shape.HeadCount / _cache.KvHeadCount);
        return cached.AsSpan(((head * used) + (j % _cache.Capacity)) * _cache.HeadDim, _cache.HeadDim);
    }

    private static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
            sum += (double)a[i] * b[i];
        return sum;
    }
}
