using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>A pair of a head, and how it turns.</summary>
internal struct RopePair
{
    /// <summary>Column of its first value in a row of queries, keys and values.</summary>
    public int At;

    /// <summary>Distance of its second value.</summary>
    public int Half;

    /// <summary>Its head.</summary>
    public int Head;

    /// <summary>Its number within the head.</summary>
    public int Index;

    /// <summary>The position.</summary>
    public int Position;

    /// <summary>Cosine of its angle.</summary>
    public float Cos;

    /// <summary>Sine of its angle.</summary>
    public float Sin;
}

/// <summary>
/// Rotation of the pairs (i, i + d/2) of each head by the angles of its position, and the write into the ring cache [kv head][position mod capacity][d].
/// Launch: grid (rows, ⌈pairs/128⌉), group 128, one thread a pair. Reads and writes each value once, coalesced.
/// </summary>
/// <remarks>
/// The position is read from device memory, so that a captured graph can be replayed for the next token. The tables hold d/2 cosines, then d/2 sines a
/// position, made by the host in double. The ladder: <see cref="Rotate"/> and <see cref="Store{TKv}"/>; <see cref="RotateThenStore{TKv}"/>, both in one pass, same bits;
/// <see cref="GemvRope"/>, the projection before them as well, for one row; <see cref="RowsRotateThenStore{TKv}"/>, the same for rows of several sequences, whose positions and caches come from <see cref="RowPlaces"/>, 40 bytes a row that each warp reads.
/// Into a cache of bfloat16 keys and values are rounded as they are written: 2 bytes each.
/// </remarks>
public static class Rope
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 128;

    /// <summary>Rotates the heads of x [rows, heads·d] in place; 6 flops a pair. Pairs: heads·d/2.</summary>
    public static void Rotate(ArrayView<float> x, ArrayView<float> cosSin, ArrayView<int> position, int headDim, int pairs, int stride)
    {
        int pair = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (pair >= pairs)
            return;
        int half = headDim / 2;
        int i = pair % half;
        long at = ((long)Grid.IdxX * stride) + (pair / half * headDim) + i;
        Float2 rotated = Turn(x[at], x[at + half], cosSin, ((long)(position[0] + Grid.IdxX) * headDim) + i, half);
        x[at] = rotated.X;
        x[at + half] = rotated.Y;
    }

    /// <summary>Puts rows of k and v [rows, kv heads·d] into the cache. Pairs: kv heads·d/2.</summary>
    public static void Store<TKv>(
        ArrayView<float> k,
        ArrayView<float> v,
        ArrayView<int> position,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        int headDim,
        int pairs,
        int capacity,
        int kStride,
        int vStride)
        where TKv : unmanaged, IKvValue<TKv>
    {
        int pair = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (pair >= pairs)
            return;
        int half = headDim / 2;
        int i = pair % half;
        int head = pair / half;
        int column = (head * headDim) + i;
        long source = ((long)Grid.IdxX * kStride) + column;
        long sourceV = ((long)Grid.IdxX * vStride) + column;
        long target = ((((long)head * capacity) + ((position[0] + Grid.IdxX) % capacity)) * headDim) + i;
        keys[target] = TKv.Narrow(k[source]);
        keys[target + half] = TKv.Narrow(k[source + half]);
        values[target] = TKv.Narrow(v[sourceV]);
        values[target + half] = TKv.Narrow(v[sourceV + half]);
    }

    /// <summary>
    /// <see cref="Rotate"/> of the query and key heads in place, then <see cref="Store{TKv}"/>. A row of qkv holds the query heads, the key heads and the value
    /// heads. Pairs: (heads + 2·kv heads)·d/2.
    /// </summary>
    public static void RotateThenStore<TKv>(
        ArrayView<float> qkv,
        ArrayView<float> cosSin,
        ArrayView<int> position,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        int headCount,
        int kvHeadCount,
        int headDim,
        int capacity,
        int stride)
        where TKv : unmanaged, IKvValue<TKv>
    {
        RotateThenStoreRow(qkv, cosSin, Grid.IdxX, position[0] + Grid.IdxX, keys, 0, values, 0, headCount, kvHeadCount,
            headDim, capacity, stride);
    }

    /// <summary>As <see cref="RotateThenStore{TKv}"/>, of rows of several sequences.</summary>
    public static void RowsRotateThenStore<TKv>(
        ArrayView<float> qkv,
        ArrayView<float> cosSin,
        ArrayView<long> places,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        int headCount,
        int kvHeadCount,
        int headDim,
        int stride)
        where TKv : unmanaged, IKvValue<TKv>
    {
        int row = Ptx.Once(RowPlaces.Row(places, Grid.IdxX)), position = Ptx.Once(RowPlaces.Position(places, Grid.IdxX)),
            capacity = Ptx.Once(RowPlaces.Capacity(places, Grid.IdxX));
        long keyStart = Ptx.Once(RowPlaces.Keys(places, Grid.IdxX)), valueStart = Ptx.Once(RowPlaces.Values(places, Grid.IdxX));
        RotateThenStoreRow(qkv, cosSin, row, position, keys, keyStart, values, valueStart, headCount, kvHeadCount, headDim,
            capacity, stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void RotateThenStoreRow<TKv>(
        ArrayView<float> qkv,
        ArrayView<float> cosSin,
        int row,
        int p,
        ArrayView<TKv> keys,
        long keyStart,
        ArrayView<TKv> values,
        long valueStart,
        int headCount,
        int kvHeadCount,
        int headDim,
        int capacity,
        int stride)
        where TKv : unmanaged, IKvValue<TKv>
    {
        int half = headDim / 2;
        int pair = (Grid.IdxY * GroupSize) + Group.IdxX;
        int head = pair / half;
        if (head >= headCount + (2 * kvHeadCount))
            return;
        int i = pair % half;
        long at = ((long)row * stride) + ((long)head * headDim) + i;
        float first = qkv[at];
        float second = qkv[at + half];
        if (head < headCount + kvHeadCount)
        {
            Float2 rotated = Turn(first, second, cosSin, ((long)p * headDim) + i, half);
            first = rotated.X;
            second = rotated.Y;
            qkv[at] = first;
            qkv[at + half] = second;
        }

        var place = new RopePair { Half = half, Head = head, Index = i, Position = p };
        StoreIfKept(new Float2 { X = first, Y = second }, place, keys, keyStart, values, valueStart, headCount, kvHeadCount,
            headDim, capacity);
    }

    /// <summary>A pair of a key or of a value goes into the ring; one of a query does not.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void StoreIfKept<TKv>(
        Float2 y,
        RopePair pair,
        ArrayView<TKv> keys,
        long keyStart,
        ArrayView<TKv> values,
        long valueStart,
        int headCount,
        int kvHeadCount,
        int headDim,
        int capacity)
        where TKv : unmanaged, IKvValue<TKv>
    {
        if (pair.Head < headCount)
            return;
        int stored = pair.Head - headCount;
        if (stored < kvHeadCount)
        {
            long target = keyStart + ((((long)stored * capacity) + (pair.Position % capacity)) * headDim) + pair.Index;
            keys[target] = TKv.Narrow(y.X);
            keys[target + pair.Half] = TKv.Narrow(y.Y);
        }
        else
        {
            long target = valueStart + ((((long)(stored - kvHeadCount) * capacity) + (pair.Position % capacity)) * headDim) + pair.Index;
            values[target] = TKv.Narrow(y.X);
            values[target + pair.Half] = TKv.Narrow(y.Y);
        }
    }

    /// <summary>Pair <paramref name="number"/> of a row, without its angle.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static RopePair PairAt(int number, int headDim)
    {
        int half = headDim / 2, head = number / half, i = number % half;
        return new RopePair { At = Ptx.Once((head * headDim) + i), Half = half, Head = head, Index = i };
    }

    /// <summary>Adds the angle. Only thread 0 of a group, which turns the pair, reads it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void ReadAngle(ref RopePair pair, int headDim, ArrayView<int> position, ArrayView<float> cosSin)
    {
        if (Group.IdxX != 0)
            return;
        pair.Position = position[0];
        long at = ((long)pair.Position * headDim) + pair.Index;
        pair.Cos = cosSin[at];
        pair.Sin = cosSin[at + pair.Half];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float2 Turn(float first, float second, ArrayView<float> cosSin, long at, int half)
    {
        float cos = cosSin[at];
        float sin = cosSin[at + half];
        return Turn(first, second, cos, sin);
    }

    /// <summary>(x·cos − y·sin, y·cos + x·sin), products rounded.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Float2 Turn(float first, float second, float cos, float sin) => new()
    {
        X = (first * cos) - (second * sin),
        Y = (second * cos) + (first * sin),
    };
}
