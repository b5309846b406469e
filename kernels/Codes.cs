using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// From the lists of all tiles to one ordered list a row: row r is entries rowStart[r] … rowStart[r + 1] − 1 of feature and value. Integer sums only: exact.
/// </summary>
/// <remarks>
/// Three launches: <see cref="ScanTiles"/> turns a row's tile counts into places, <see cref="ScanRows"/> the rows' totals into starts,
/// <see cref="Gather"/> moves the pairs. Together 20 bytes a tile and 16 an active feature.
/// </remarks>
public static class Codes
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    private const int Warps = GroupSize / KernelMath.WarpSize;

    /// <summary>places[t, n] = Σ_{m &lt; n} counts[t, m]; rowCounts[t] = Σ counts[t]. Grid (rows), group 256.</summary>
    public static void ScanTiles(ArrayView<int> counts, ArrayView<int> places, ArrayView<int> rowCounts, int tiles)
    {
        ArrayView<int> shared = SharedMemory.Allocate1D<int>(Warps);
        long row = Ptx.Once((long)Grid.IdxX * tiles);
        int before = 0;
        for (int start = 0; start < tiles; start += GroupSize)
        {
            int n = start + Group.IdxX;
            int count = 0;
            if (n < tiles)
                count = counts[row + n];
            int place = before + GroupExclusiveSum(count, shared);
            if (n < tiles)
                places[row + n] = place;
            before += Total(shared);
            Group.Barrier();
        }

        if (Group.IdxX == 0)
            rowCounts[Grid.IdxX] = before;
    }

    /// <summary>
    /// rowStart[first + t + 1] = rowStart[first] + Σ_{s ≤ t} rowCounts[s] for <paramref name="rows"/> rows; with first = 0, rowStart[0] = 0 is written too.
    /// Grid (1), group 256: a long run of rows is encoded in pieces, each behind the last.
    /// </summary>
    public static void ScanRows(ArrayView<int> rowCounts, ArrayView<long> rowStart, int first, int rows)
    {
        ArrayView<int> shared = SharedMemory.Allocate1D<int>(Warps);
        long before = 0;
        if (first > 0)
            before = rowStart[first];
        else if (Group.IdxX == 0)
            rowStart[0] = 0;
        for (int start = 0; start < rows; start += GroupSize)
        {
            int t = start + Group.IdxX;
            int count = 0;
            if (t < rows)
                count = rowCounts[t];
            int place = GroupExclusiveSum(count, shared);
            if (t < rows)
                rowStart[first + t + 1] = before + place + count;
            before += Total(shared);
            Group.Barrier();
        }
    }

    /// <summary>
    /// Moves the pairs of tile n of row t to rowStart[first + t] + places[t, n]. Grid (⌈tiles/8⌉, rows), group 256: a warp a tile.
    /// Pairs that would lie at or beyond <paramref name="capacity"/> of the destination, or of the source, are left out: the starts say how many there are.
    /// </summary>
    public static void Gather(
        ArrayView<int> counts,
        ArrayView<int> places,
        ArrayView<long> offsets,
        ArrayView<int> tileFeatures,
        ArrayView<float> tileValues,
        ArrayView<long> rowStart,
        ArrayView<int> feature,
        ArrayView<float> value,
        long sourceCapacity,
        long capacity,
        int first,
        int tiles)
    {
        int n = (Grid.IdxX * Warps) + (Group.IdxX / KernelMath.WarpSize);
        if (n >= tiles)
            return;
        long list = Ptx.Once(((long)Grid.IdxY * tiles) + n);
        long source = Ptx.Once(offsets[list]);
        long target = Ptx.Once(rowStart[first + Grid.IdxY] + places[list]);
        int count = Ptx.Once(counts[list]);
        for (int i = Group.IdxX & (KernelMath.WarpSize - 1); i < count; i += KernelMath.WarpSize)
        {
            if (source + i < sourceCapacity && target + i < capacity)
            {
                feature[target + i] = tileFeatures[source + i];
                value[target + i] = tileValues[source + i];
            }
        }
    }

    // Leaves the warps' totals in shared memory.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int GroupExclusiveSum(int x, ArrayView<int> shared)
    {
        int inWarp = KernelMath.WarpExclusiveSum(x);
        if ((Group.IdxX & (KernelMath.WarpSize - 1)) == KernelMath.WarpSize - 1)
            shared[Group.IdxX / KernelMath.WarpSize] = inWarp + x;
        Group.Barrier();
        int below = 0;
        for (int w = 0; w < Group.IdxX / KernelMath.WarpSize; w++)
            below += shared[w];
        return below + inWarp;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Total(ArrayView<int> shared)
    {
        int sum = shared[0];
        for (int w = 1; w < Warps; w++)
            sum += shared[w];
        return sum;
    }
}
