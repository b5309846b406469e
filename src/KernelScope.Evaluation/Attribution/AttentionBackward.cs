using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using KernelScope.Devices;

namespace KernelScope.Attribution;

/// <summary>The vector-Jacobian product of attention over a whole sequence: soft-cap, causal mask, window, grouped heads. In double, on the device's threads.</summary>
/// <remarks>
/// With p = softmax over the visible keys j of s_j = cap·tanh(u_j/cap), u_j = scale·q·k_j, and z = Σ p_j v_j:
/// dp_j = dz·v_j; ds_j = p_j(dp_j − Σ p·dp); du_j = ds_j(1 − (s_j/cap)²); dq = scale Σ du_j k_j; dk_j += scale·du_j q; dv_j += p_j dz.
/// <para>
/// One key/value head after the other, a block of queries at a time: units of a few queries give p, du and dq, then units of a few keys add the block to dk and dv. Every sum runs in one
/// order, whoever runs the units. Memory: <see cref="BytesFor"/>, whatever the number of heads.
/// </para>
/// </remarks>
internal sealed unsafe class AttentionBackward(Device device, AttentionShape shape, int kvHeadCount, int headDim)
{
    private const int BlockQueries = 64;
    private const int UnitQueries = 8;
    private const int UnitKeys = 32;

    private readonly int _group = shape.HeadCount / kvHeadCount;
    private readonly int _dim = DoubleTiles.Padded(headDim);

    /// <summary>Bytes of the work space for <paramref name="n"/> positions.</summary>
    public static long BytesFor(int n, int group, int headDim) =>
        sizeof(double) * n * ((2L * group * BlockQueries) + ((4L + (3 * group)) * DoubleTiles.Padded(headDim)));

    /// <summary>Gradients of rotated queries and keys and of values.</summary>
    /// <param name="qkv">Rotated queries and keys, and values, [n, (heads + 2·kv heads)·d_head].</param>
    /// <param name="dz">Gradient of z, [n, heads·d_head].</param>
    /// <param name="ownOnly">Only what reaches a position through itself: a key's and value's gradient counts only where its own query reads it.</param>
    /// <param name="destination">Gradient of <paramref name="qkv"/>; overwritten.</param>
    public void Run(ReadOnlySpan<float> qkv, ReadOnlySpan<float> dz, bool ownOnly, Span<float> destination)
    {
        int queryDim = shape.HeadCount * headDim, row = queryDim + (2 * kvHeadCount * headDim), n = dz.Length / queryDim;
        double* memory = (double*)NativeMemory.AlignedAlloc(checked((nuint)BytesFor(n, _group, headDim)), 64);
        try
        {
            fixed (float* values = qkv, gradient = dz, result = destination)
            {
                var job = new Job
                {
                    Qkv = values,
                    Dz = gradient,
                    Destination = result,
                    Row = row,
                    QueryDim = queryDim,
                    Count = n,
                    OwnOnly = ownOnly
                };
                Place(ref job, memory);
                for (int kv = 0; kv < kvHeadCount; kv++)
                    RunHead(job, kv);
            }
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }

    private void Place(ref Job job, double* memory)
    {
        long head = (long)job.Count * _dim, block = (long)_group * BlockQueries * job.Count;
        job.K = memory;
        job.V = job.K + head;
        job.DK = job.V + head;
        job.DV = job.DK + head;
        job.Q = job.DV + head;
        job.DzHead = job.Q + (_group * head);
        job.DQ = job.DzHead + (_group * head);
        job.P = job.DQ + (_group * head);
        job.DU = job.P + block;
    }

    private void RunHead(Job job, int kv)
    {
        int n = job.Count, blocks = Ceiling(n, BlockQueries), key = job.QueryDim + (kv * headDim), query = kv * _group * headDim;
        NativeMemory.Clear(job.DK, (nuint)(2L * n * _dim * sizeof(double)));
        NativeMemory.Clear(job.DQ, (nuint)((long)_group * n * _dim * sizeof(double)));
        device.ForEach(blocks, b => Widen(job, b, key, query));
        for (int b = 0; b < blocks; b++)
        {
            int first = b * BlockQueries, count = Math.Min(BlockQueries, n - first), units = Ceiling(count, UnitQueries),
                from = FirstKey(first);
            device.ForEach(_group * units, u => Queries(job, u / units, first, count, (u % units) * UnitQueries));
            device.ForEach(Ceiling(first + count - from, UnitKeys), u => Keys(job, first, count, from + (u * UnitKeys)));
        }

        device.ForEach(blocks, b => Narrow(job, b, key, query));
    }

    /// <summary>p, du and dq of a few queries of one head.</summary>
    private void Queries(Job job, int g, int blockStart, int blockCount, int start)
    {
        int count = Math.Min(UnitQueries, blockCount - start), t = blockStart + start, n = job.Count, end = t + count;
        int blockFrom = FirstKey(blockStart), from = FirstKey(t), blockEnd = blockStart + blockCount;
        long at = (((long)g * n) + t) * _dim, scores = (((long)g * BlockQueries) + start) * n;
        double* p = job.P + scores, du = job.DU + scores;
        DoubleTiles.Dots(job.Q + at, count, job.K + ((long)from * _dim), end - from, _dim, p + from, n);
        DoubleTiles.Dots(job.DzHead + at, count, job.V + ((long)from * _dim), end - from, _dim, du + from, n);
        for (int i = 0; i < count; i++)
        {
            int first = FirstKey(t + i), visible = t + i + 1 - first;
            Softmax(p + (i * (long)n) + first, du + (i * (long)n) + first, visible);
            // What the block's other queries see and this one does not.
            Hide(p + (i * (long)n), blockFrom, first, first + visible, blockEnd);
            Hide(du + (i * (long)n), blockFrom, first, first + visible, blockEnd);
        }

        DoubleTiles.Mix(du + from, n, 1, count, job.K + ((long)from * _dim), end - from, job.DQ + at, _dim);
    }

    /// <summary>q·k becomes p, and dz·v becomes du, over the visible keys of a query.</summary>
    private void Softmax(double* s, double* dp, int count)
    {
        double max = Scores(s, count);
        Vector256<double> sums = default, means = default;
        int j = 0;
        for (; j <= count - DoubleTiles.Lanes; j += DoubleTiles.Lanes)
        {
            Vector256<double> e = Vector256.Exp(Vector256.Load(s + j) - Vector256.Create(max));
            sums += e;
            means += e * Vector256.Load(dp + j);
        }

        double sum = Vector256.Sum(sums), mean = Vector256.Sum(means);
        for (; j < count; j++)
        {
            double e = Math.Exp(s[j] - max);
            sum += e;
            mean += e * dp[j];
        }

        mean /= sum;
        double perCap = shape.Softcap > 0 ? 1.0 / shape.Softcap : 0;
        for (j = 0; j <= count - DoubleTiles.Lanes; j += DoubleTiles.Lanes)
        {
            Vector256<double> score = Vector256.Load(s + j), share = score * perCap, p = Vector256.Exp(score - Vector256.Create(max)) / sum;
            (shape.Scale * p * (Vector256.Load(dp + j) - Vector256.Create(mean)) * (Vector256<double>.One - (share * share))).Store(dp + j);
            p.Store(s + j);
        }

        for (; j < count; j++)
        {
            double share = s[j] * perCap;
            s[j] = Math.Exp(s[j] - max) / sum;
            dp[j] = shape.Scale * s[j] * (dp[j] - mean) * (1 - (share * share));
        }
    }

    /// <summary>q·k becomes cap(scale·q·k); gives the largest.</summary>
    private double Scores(double* s, int count)
    {
        double max = double.NegativeInfinity;
        Vector256<double> most = Vector256.Create(max);
        int j = 0;
        for (; j <= count - DoubleTiles.Lanes; j += DoubleTiles.Lanes)
        {
            Vector256<double> u = Vector256.Load(s + j) * shape.Scale;
            u = shape.Softcap > 0 ? shape.Softcap * BackwardMath.Tanh(u / shape.Softcap) : u;
            u.Store(s + j);
            most = Vector256.Max(most, u);
        }

        for (; j < count; j++)
        {
            double u = s[j] * shape.Scale;
            s[j] = shape.Softcap > 0 ? shape.Softcap * Math.Tanh(u / shape.Softcap) : u;
            max = Math.Max(max, s[j]);
        }

        for (int lane = 0; lane < DoubleTiles.Lanes; lane++)
            max = Math.Max(max, most[lane]);
        return max;
    }

    private static void Hide(double* row, int from, int first, int end, int blockEnd)
    {
        new Span<double>(row + from, first - from).Clear();
        new Span<double>(row + end, blockEnd - end).Clear();
    }

    /// <summary>What a block of queries adds to dk and dv of a few keys.</summary>
    private void Keys(Job job, int blockStart, int blockCount, int from)
    {
        int n = job.Count, end = Math.Min(from + UnitKeys, blockStart + blockCount);
        for (int g = 0; g < _group; g++)
        {
            if (job.OwnOnly)
            {
                for (int t = Math.Max(from, blockStart); t < end; t++)
                    Add(job, g, t - blockStart, 1, t, 1, t);
            }
            else
            {
                // Queries before the first key see none of these.
                int skipped = Math.Max(0, from - blockStart);
                Add(job, g, skipped, blockCount - skipped, from, end - from, blockStart + skipped);
            }
        }
    }

    /// <summary>dk[keys] += duᵀ·q and dv[keys] += pᵀ·dz over rows of the block, which begin at position <paramref name="t"/>.</summary>
    private void Add(Job job, int g, int row, int rows, int key, int keys, int t)
    {
        long scores = ((((long)g * BlockQueries) + row) * job.Count) + key, at = (((long)g * job.Count) + t) * _dim,
            target = (long)key * _dim;
        DoubleTiles.Mix(job.DU + scores, 1, job.Count, keys, job.Q + at, rows, job.DK + target, _dim);
        DoubleTiles.Mix(job.P + scores, 1, job.Count, keys, job.DzHead + at, rows, job.DV + target, _dim);
    }

    private void Widen(Job job, int block, int key, int query)
    {
        for (int t = block * BlockQueries; t < Math.Min(job.Count, (block + 1) * BlockQueries); t++)
        {
            float* row = job.Qkv + ((long)t * job.Row);
            Widen(row + key, job.K + ((long)t * _dim));
            Widen(row + key + (kvHeadCount * headDim), job.V + ((long)t * _dim));
            for (int g = 0; g < _group; g++)
            {
                long at = (((long)g * job.Count) + t) * _dim;
                Widen(row + query + (g * headDim), job.Q + at);
                Widen(job.Dz + ((long)t * job.QueryDim) + query + (g * headDim), job.DzHead + at);
            }
        }
    }

    private void Widen(float* source, double* destination)
    {
        for (int d = 0; d < _dim; d++)
            destination[d] = d < headDim ? source[d] : 0;
    }

    private void Narrow(Job job, int block, int key, int query)
    {
        for (int t = block * BlockQueries; t < Math.Min(job.Count, (block + 1) * BlockQueries); t++)
        {
            float* row = job.Destination + ((long)t * job.Row);
            Narrow(job.DK + ((long)t * _dim), row + key);
            Narrow(job.DV + ((long)t * _dim), row + key + (kvHeadCount * headDim));
            for (int g = 0; g < _group; g++)
                Narrow(job.DQ + ((((long)g * job.Count) + t) * _dim), row + query + (g * headDim));
        }
    }

    private void Narrow(double* source, float* destination)
    {
        for (int d = 0; d < headDim; d++)
            destination[d] = (float)source[d];
    }

    private static int Ceiling(int count, int size) => (count + size - 1) / size;

    private int FirstKey(int t) => shape.Window > 0 ? Math.Max(0, t - shape.Window + 1) : 0;

    /// <summary>Where things lie: the caller's rows, and of the head at work doubles [positions, padded d_head], [query heads · positions, padded d_head] and [query heads · block, positions].</summary>
    private struct Job
    {
        public float* Qkv, Dz, Destination;
        public int Row, QueryDim, Count;
        public bool OwnOnly;
        public double* K, V, DK, DV, Q, DzHead, DQ, P, DU;
    }
}
