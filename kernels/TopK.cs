using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// The k largest of each row, largest first, the lower index first among equals, NaN above all. A value and its index become one 64-bit key, so that an integer
/// order is the wanted order: no ties, the same lists every time.
/// </summary>
/// <remarks>
/// For k = 1, the next token of a greedy decode: <see cref="Largest"/>, then <see cref="WriteLargest"/>, no sort; 256,000 logits are 1 MB read by 125 groups,
/// which leave 1,000 bytes. For k ≤ 512: <see cref="Select"/> keeps the k best of every 1,024 values (a bitonic sort in 8 KiB of shared memory), <see cref="Reduce"/> does the same to the keys
/// that are left until one run of 1,024 or fewer remains, sorted.
/// The values of a list are gathered from all over their row: a sector for each.
/// For larger k: <see cref="Keys"/>, then <see cref="Step"/> for every pair of a bitonic sort of the row in global memory. Last, <see cref="Write"/>.
/// </remarks>
public static class TopK
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    /// <summary>Values that a group sorts.</summary>
    public const int Chunk = 1024;

    /// <summary>Threads of a group of <see cref="Largest"/>.</summary>
    public const int LargestGroupSize = 1024;

    /// <summary>Values that a group of <see cref="Largest"/> looks at.</summary>
    public const int LargestChunk = 2 * LargestGroupSize;

    /// <summary>keys[t, c]: the best of chunk c of 2,048. Grid (⌈columns/2048⌉, rows), group 1,024, static shared 256 bytes.</summary>
    public static void Largest(ArrayView<float> x, ArrayView<ulong> keys, int columns, int xStride)
    {
        ArrayView<ulong> shared = SharedMemory.Allocate1D<ulong>(KernelMath.WarpSize);
        long source = Ptx.Once((long)Grid.IdxY * xStride);
        int j = (Grid.IdxX * LargestChunk) + Group.IdxX;
        ulong key = 0, other = 0;
        if (j < columns)
            key = Key(x[source + j], j);
        if (j + LargestGroupSize < columns)
            other = Key(x[source + j + LargestGroupSize], j + LargestGroupSize);
        key = GroupLargest(key > other ? key : other, shared, LargestGroupSize / KernelMath.WarpSize);
        if (Group.IdxX == 0)
            keys[((long)Grid.IdxY * Grid.DimX) + Grid.IdxX] = key;
    }

    /// <summary>The lists of one pair, the best of the first <paramref name="count"/> keys of each row. Grid (1, rows), group 256, static shared 64 bytes.</summary>
    public static void WriteLargest(
        ArrayView<ulong> keys, ArrayView<float> x, ArrayView<long> rowStart, ArrayView<int> index, ArrayView<float> value, int count,
        int xStride)
    {
        ArrayView<ulong> shared = SharedMemory.Allocate1D<ulong>(GroupSize / KernelMath.WarpSize);
        long row = Ptx.Once((long)Grid.IdxY * count);
        ulong key = 0;
        for (int i = Group.IdxX; i < count; i += GroupSize)
        {
            ulong other = keys[row + i];
            key = key > other ? key : other;
        }

        key = GroupLargest(key, shared, GroupSize / KernelMath.WarpSize);
        if (Group.IdxX > 0)
            return;
        int j = (int)~(uint)key;
        rowStart[Grid.IdxY + 1] = Grid.IdxY + 1;
        if (Grid.IdxY == 0)
            rowStart[0] = 0;
        index[Grid.IdxY] = j;
        value[Grid.IdxY] = x[((long)Grid.IdxY * xStride) + j];
    }

    /// <summary>keys[t, c·keep + i]: the keep best of chunk c, best first; missing ones are 0. Grid (⌈columns/1024⌉, rows), group 256.</summary>
    public static void Select(ArrayView<float> x, ArrayView<ulong> keys, int columns, int keep, int xStride)
    {
        ArrayView<ulong> shared = SharedMemory.Allocate1D<ulong>(Chunk);
        long source = Ptx.Once((long)Grid.IdxY * xStride);
        for (int i = Group.IdxX; i < Chunk; i += GroupSize)
        {
            int j = (Grid.IdxX * Chunk) + i;
            ulong key = 0;
            if (j < columns)
                key = Key(x[source + j], j);
            shared[i] = key;
        }

        Sort(shared);
        Keep(shared, keys, keep);
    }

    /// <summary>The same, of the first <paramref name="count"/> keys of each row. Grid (⌈count/1024⌉, rows), group 256.</summary>
    public static void Reduce(ArrayView<ulong> source, ArrayView<ulong> keys, int count, int keep, int sourceStride)
    {
        ArrayView<ulong> shared = SharedMemory.Allocate1D<ulong>(Chunk);
        for (int i = Group.IdxX; i < Chunk; i += GroupSize)
        {
            int j = (Grid.IdxX * Chunk) + i;
            ulong key = 0;
            if (j < count)
                key = source[((long)Grid.IdxY * sourceStride) + j];
            shared[i] = key;
        }

        Sort(shared);
        Keep(shared, keys, keep);
    }

    /// <summary>The keys of whole rows, followed by zeros up to <paramref name="pitch"/>, a power of two. Grid (⌈pitch/256⌉, rows), group 256.</summary>
    public static void Keys(ArrayView<float> x, ArrayView<ulong> keys, int columns, int xStride, int pitch)
    {
        int j = (Grid.IdxX * GroupSize) + Group.IdxX;
        if (j >= pitch)
            return;
        ulong key = 0;
        if (j < columns)
            key = Key(x[((long)Grid.IdxY * xStride) + j], j);
        keys[((long)Grid.IdxY * pitch) + j] = key;
    }

    /// <summary>
    /// One step of a bitonic sort, largest first: for run = 2, 4, … pitch and for distance = run/2, run/4, … 1. Grid (⌈pitch/512⌉, rows), group 256.
    /// </summary>
    public static void Step(ArrayView<ulong> keys, int pitch, int run, int distance)
    {
        int pair = (Grid.IdxX * GroupSize) + Group.IdxX;
        if (pair >= pitch / 2)
            return;
        int low = LowOf(pair, distance);
        long at = ((long)Grid.IdxY * pitch) + low;
        ulong a = keys[at], b = keys[at + distance];
        if (a < b == ((low & run) == 0))
        {
            keys[at] = b;
            keys[at + distance] = a;
        }
    }

    /// <summary>
    /// The lists: row t has k pairs from t·k on. Grid (⌈k/256⌉, rows), group 256. <paramref name="keysStride"/> is the distance of two rows' sorted keys.
    /// </summary>
    public static void Write(
        ArrayView<ulong> keys, ArrayView<float> x, ArrayView<long> rowStart, ArrayView<int> index, ArrayView<float> value,
        int k, int keysStride, int xStride)
    {
        int i = (Grid.IdxX * GroupSize) + Group.IdxX;
        if (i == 0)
        {
            rowStart[Grid.IdxY + 1] = (long)(Grid.IdxY + 1) * k;
            if (Grid.IdxY == 0)
                rowStart[0] = 0;
        }

        if (i >= k)
            return;
        int j = (int)~(uint)keys[((long)Grid.IdxY * keysStride) + i];
        long at = ((long)Grid.IdxY * k) + i;
        index[at] = j;
        value[at] = x[((long)Grid.IdxY * xStride) + j];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Key(float value, int index)
    {
        // −0 and 0 are equal. Negative numbers: all bits turned, so that a larger one has a larger key; positive ones lie above them.
        uint bits = Interop.FloatAsInt(value == 0f ? 0f : value);
        bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
        bits = float.IsNaN(value) ? 0xFFFFFFFFu : bits;
        return ((ulong)bits << 32) | ~(uint)index;
    }

    // The larger of two lanes' keys, in both.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong LargerOf(ulong key, int distance)
    {
        ulong other = ((ulong)(uint)Warp.ShuffleXor((int)(key >> 32), distance) << 32) | (uint)Warp.ShuffleXor((int)key, distance);
        return key > other ? key : other;
    }

    // The largest key of a group, in every thread.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong GroupLargest(ulong key, ArrayView<ulong> shared, int warps)
    {
        key = LargerOf(key, 16);
        key = LargerOf(key, 8);
        key = LargerOf(key, 4);
        key = LargerOf(key, 2);
        key = LargerOf(key, 1);
        if ((Group.IdxX & (KernelMath.WarpSize - 1)) == 0)
            shared[Group.IdxX / KernelMath.WarpSize] = key;
        Group.Barrier();
        for (int w = 0; w < warps; w++)
            key = key > shared[w] ? key : shared[w];
        return key;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int LowOf(int pair, int distance) => ((pair & ~(distance - 1)) << 1) | (pair & (distance - 1));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Sort(ArrayView<ulong> shared)
    {
        Group.Barrier();
        for (int run = 2; run <= Chunk; run <<= 1)
        {
            for (int distance = run >> 1; distance > 0; distance >>= 1)
            {
                for (int pair = Group.IdxX; pair < Chunk / 2; pair += GroupSize)
                {
                    int low = LowOf(pair, distance);
                    ulong a = shared[low], b = shared[low + distance];
                    if (a < b == ((low & run) == 0))
                    {
                        shared[low] = b;
                        shared[low + distance] = a;
                    }
                }

                Group.Barrier();
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Keep(ArrayView<ulong> shared, ArrayView<ulong> keys, int keep)
    {
        long target = Ptx.Once((((long)Grid.IdxY * Grid.DimX) + Grid.IdxX) * keep);
        for (int i = Group.IdxX; i < keep; i += GroupSize)
            keys[target + i] = shared[i];
    }
}
