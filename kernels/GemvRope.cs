using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// The projection to queries, keys and values of one row, and what <see cref="Rope"/> does with it: y = x·Wᵀ, W [(heads + 2·kv heads)·d, in]; the pairs (i, i + d/2) of
/// the query and key heads turned by the angles of the position; keys and values written into the ring cache.
/// </summary>
/// <remarks>
/// The ladder: <see cref="Gemv"/>, then <see cref="Rope.RotateThenStore{TKv}"/>, two launches, of which the second has too little to do to fill a GPU;
/// <see cref="Half{TWeight, TKv}"/> and <see cref="Float{TKv}"/>, one: a group makes the two values of a pair, where the plain form makes two neighbours. The sums are those of
/// <see cref="Gemv"/> and the rotation is that of <see cref="Rope"/>: same bits.
/// Grid ((heads + 2·kv heads)·d/2), group 128, static shared 256 bytes. Bound by reading W once: out·in·sizeof(weight) bytes and 2·out·in flops; beside these 8 bytes of angles and
/// 4 of the position a group, read before the sums so that nothing waits for them, and 4·out bytes of y and 2·kv heads·d values of the cache written, one value a store.
/// Rows of W and x are 16-byte aligned, and <c>in</c> is a multiple of 8.
/// Eight values of x for 16 bytes of two-byte weights are two loads of 16 bytes, 32 bytes apart from lane to lane: each touches every
/// sector of the L1 cache for half of it.
/// </remarks>
public static class GemvRope
{
    /// <summary>Weights of two bytes.</summary>
    public static void Half<TWeight, TKv>(
        ArrayView<Float4> x,
        ArrayView<Words4> weight,
        ArrayView<float> qkv,
        ArrayView<float> cosSin,
        ArrayView<int> position,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        int columns,
        int headCount,
        int kvHeadCount,
        int headDim,
        int capacity)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TKv : unmanaged, IKvValue<TKv>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Gemv.SharedSums);
        RopePair pair = Rope.PairAt(Grid.IdxX, headDim);
        Gemv.WaitForGrid(weight, (long)pair.At * columns, ((long)pair.At + pair.Half) * columns, columns);
        Rope.ReadAngle(ref pair, headDim, position, cosSin);
        RowSums a = default, b = default;
        Gemv.HalfDots<TWeight, Rows1>(x, weight, (long)pair.At * columns, ((long)pair.At + pair.Half) * columns, Group.IdxX,
            Gemv.GroupSize, 1, columns, 0, ref a, ref b);
        TurnAndStore(a, b, shared, pair, qkv, keys, values, headCount, kvHeadCount, headDim, capacity);
    }

    /// <summary>float32 weights.</summary>
    public static void Float<TKv>(
        ArrayView<Float4> x,
        ArrayView<Float4> weight,
        ArrayView<float> qkv,
        ArrayView<float> cosSin,
        ArrayView<int> position,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        int columns,
        int headCount,
        int kvHeadCount,
        int headDim,
        int capacity)
        where TKv : unmanaged, IKvValue<TKv>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Gemv.SharedSums);
        RopePair pair = Rope.PairAt(Grid.IdxX, headDim);
        Rope.ReadAngle(ref pair, headDim, position, cosSin);
        RowSums a = default, b = default;
        Gemv.FloatDots<Rows1>(x, weight, (long)pair.At * columns, ((long)pair.At + pair.Half) * columns, Group.IdxX,
            Gemv.GroupSize, 1, columns, 0, ref a, ref b);
        TurnAndStore(a, b, shared, pair, qkv, keys, values, headCount, kvHeadCount, headDim, capacity);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void TurnAndStore<TKv>(
        RowSums a,
        RowSums b,
        ArrayView<float> shared,
        RopePair pair,
        ArrayView<float> qkv,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        int headCount,
        int kvHeadCount,
        int headDim,
        int capacity)
        where TKv : unmanaged, IKvValue<TKv>
    {
        Gemv.ShareSums<Rows1>(a, b, shared);
        if (Group.IdxX != 0)
            return;
        Float2 y = new() { X = Gemv.WarpsSum<Rows1>(shared, 0), Y = Gemv.WarpsSum<Rows1>(shared, 1) };
        if (pair.Head < headCount + kvHeadCount)
            y = Rope.Turn(y.X, y.Y, pair.Cos, pair.Sin);
        qkv[pair.At] = y.X;
        qkv[pair.At + pair.Half] = y.Y;
        Rope.StoreIfKept(y, pair, keys, 0, values, 0, headCount, kvHeadCount, headDim, capacity);
    }
}
