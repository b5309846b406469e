using System.Numerics;

namespace KernelScope.Cpu;

/// <summary>Arguments of <see cref="TopKOp{S, V}"/>.</summary>
internal unsafe struct TopKJob
{
    public float* X;
    public long XStride;
    public int Columns;
    public int K;

    /// <summary>Slices of a row.</summary>
    public int Slices;
    public int SliceColumns;

    /// <summary>Sort keys of the largest entries found, [rows, slices, k]; 0: none.</summary>
    public ulong* Keys;
}

/// <summary>Order of entries as one number.</summary>
/// <remarks>
/// An entry's sort key is its value's bits in order (NaN above all, −0 as 0) above its index counted from the end, so that of equal values the lower index is larger.
/// </remarks>
internal static class TopKKey
{
    /// <summary>The sort key of an entry.</summary>
    public static ulong Of(float value, int index)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        uint order = float.IsNaN(value) ? uint.MaxValue : value == 0 ? 0x80000000 : bits < 0x80000000 ? bits | 0x80000000 : ~bits;
        return ((ulong)order << 32) | (uint)(int.MaxValue - index);
    }

    /// <summary>The index of the entry with this key.</summary>
    public static int Index(ulong key) => int.MaxValue - (int)(uint)key;
}

/// <summary>The k largest entries of rows.</summary>
/// <remarks>
/// Partition: a unit is a slice of a row, passed once against the smallest of the k largest so far (a heap); <see cref="Merge"/> sorts a row's slices.
/// </remarks>
internal static unsafe class TopKOp<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    public static void Unit(void* argument, int unit, int worker)
    {
        var job = (TopKJob*)argument;
        int t = unit / job->Slices;
        int first = unit % job->Slices * job->SliceColumns;
        int end = Math.Min(first + job->SliceColumns, job->Columns);
        float* x = job->X + (t * job->XStride);
        ulong* heap = job->Keys + ((long)unit * job->K);
        int filled = Math.Min(job->K, end - first);
        for (int n = 0; n < filled; n++)
            heap[n] = TopKKey.Of(x[first + n], first + n);
        new Span<ulong>(heap + filled, job->K - filled).Clear();
        for (int n = (filled / 2) - 1; n >= 0; n--)
            SiftDown(heap, n, filled);
        Scan(x, first + filled, end, heap, filled);
    }

    private static void Scan(float* x, int first, int end, ulong* heap, int count)
    {
        int i = first;
        for (; i + S.Lanes <= end; i += S.Lanes)
        {
            // A NaN as the smallest of the largest compares as "not at most", and Offer turns it down.
            uint candidates = S.NotAtMostMask(S.Load(x + i), S.All(x[TopKKey.Index(heap[0])]));
            for (; candidates != 0; candidates &= candidates - 1)
                Offer(x, i + BitOperations.TrailingZeroCount(candidates), heap, count);
        }

        for (; i < end; i++)
            Offer(x, i, heap, count);
    }

    private static void Offer(float* x, int index, ulong* heap, int count)
    {
        ulong key = TopKKey.Of(x[index], index);
        if (key <= heap[0])
            return;
        heap[0] = key;
        SiftDown(heap, 0, count);
    }

    private static void SiftDown(ulong* heap, int at, int count)
    {
        ulong key = heap[at];
        for (int child = (2 * at) + 1; child < count; child = (2 * at) + 1)
        {
            if (child + 1 < count && heap[child + 1] < heap[child])
                child++;
            if (key <= heap[child])
                break;
            heap[at] = heap[child];
            at = child;
        }

        heap[at] = key;
    }

    /// <summary>Sorts the keys of row <paramref name="t"/>, smallest first.</summary>
    public static void Merge(void* argument, int t, int worker)
    {
        var job = (TopKJob*)argument;
        int count = job->Slices * job->K;
        new Span<ulong>(job->Keys + ((long)t * count), count).Sort();
    }
}
