using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>What decides whether a feature is active.</summary>
internal struct Limits
{
    /// <summary>b_enc.</summary>
    public float Bias;

    /// <summary>θ.</summary>
    public float Threshold;
}

/// <summary>
/// a = x·W_encᵀ + b_enc; active where a &gt; θ and a &gt; 0 (strict). One pass over W_enc [features, columns] (feature-major), with bias, threshold and compaction:
/// [rows × features] is never stored.
/// </summary>
/// <remarks>
/// Each group makes, for every row, the ordered list of its tile's active features; <see cref="Codes"/> then puts the lists of all tiles behind each other. No order of
/// execution shows in the result. The ladder: <see cref="Plain"/>, a warp a feature, any shape; <see cref="Half"/> and <see cref="Float"/>, 1 to 8 rows, the loads
/// of <see cref="Gemv"/> (a warp has its two features to itself; their bias and threshold come with the first weights); <see cref="Tile"/>, many rows, the products of <see cref="GemmFma"/>; the tensor-core form is in the file of its products.
/// Lists of tile n of row t: <c>counts[t·tiles + n]</c> pairs from <c>offsets[t·tiles + n]</c> on in <c>features</c> and <c>values</c>.
/// Forms for few rows give each tile of F features room for all of them, at (t·tiles + n)·F, and touch only what is active; the tiled forms take room from a cursor.
/// Reads features·columns·sizeof(weight) bytes, 2·features·columns flops a row, and writes 8 bytes an active feature and 12 a tile and row.
/// Beside weights of two bytes x is read as in <see cref="Gemv"/>, two loads of 16 bytes a lane, of which each touches every sector of the L1 cache for half of it. In the tiles without tensor cores a thread reads bias and threshold of its four features one at a time,
/// because a vector may start anywhere: each load touches every sector of its 256 bytes for a quarter of it.
/// </remarks>
public static class SaeEncode
{
    /// <summary>Threads of a group of the forms for few rows.</summary>
    public const int GroupSize = 128;

    /// <summary>Features of a tile.</summary>
    public const int TileFeatures = 64;

    private const int Warps = GroupSize / KernelMath.WarpSize;
    private const int MaxRows = 8;

    /// <summary>Any shape and alignment, one row a group: grid (tiles, rows), group 128.</summary>
    public static void Plain<TWeight>(
        ArrayView<float> x,
        ArrayView<TWeight> weight,
        ArrayView<float> bias,
        ArrayView<float> threshold,
        ArrayView<int> counts,
        ArrayView<long> offsets,
        ArrayView<int> features,
        ArrayView<float> values,
        int columns,
        int featureCount,
        int xStride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(TileFeatures);
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        long source = Ptx.Once((long)Grid.IdxY * xStride);
        for (int n = Group.IdxX / KernelMath.WarpSize; n < TileFeatures; n += Warps)
        {
            int f = Ptx.Once((Grid.IdxX * TileFeatures) + n);
            float sum = 0f;
            if (f < featureCount)
            {
                long row = Ptx.Once((long)f * columns);
                for (int i = lane; i < columns; i += KernelMath.WarpSize)
                    sum = Ptx.MultiplyAdd(x[source + i], TWeight.Widen(weight[row + i]), sum);
            }

            sum = KernelMath.WarpSum(sum);
            if (lane == 0)
                shared[n] = f < featureCount ? Activate(sum, bias[f], threshold[f]) : 0f;
        }

        Group.Barrier();
        if (Group.IdxX < KernelMath.WarpSize)
            WriteList(shared, 0, TileFeatures, Grid.IdxY, counts, offsets, features, values);
    }

    /// <summary>
    /// 1, 2, 4 or 8 rows, weights of two bytes, 16-byte aligned rows, columns a multiple of 8.
    /// Grid (tiles), group 128. Tiles of <paramref name="tileFeatures"/> ≤ 64 features: with 16, 16,384 features fill a GPU.
    /// </summary>
    public static void Half<TWeight, TRows>(
        ArrayView<Float4> x,
        ArrayView<Words4> weight,
        ArrayView<float> bias,
        ArrayView<float> threshold,
        ArrayView<int> counts,
        ArrayView<long> offsets,
        ArrayView<int> features,
        ArrayView<float> values,
        int rows,
        int columns,
        int featureCount,
        int xStride,
        int tileFeatures)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TRows : struct, IRowCount
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(MaxRows * Pitch(TileFeatures));
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        for (int n = Group.IdxX / KernelMath.WarpSize * 2; n < tileFeatures; n += 2 * Warps)
        {
            int first = Ptx.Once((Grid.IdxX * tileFeatures) + n);
            Limits limits = LimitsOf(bias, threshold, first + (lane / 16), featureCount);
            RowSums a = default, b = default;
            if (first < featureCount)
            {
                int second = first + 1 < featureCount ? first + 1 : first;
                Gemv.HalfDots<TWeight, TRows>(x, weight, (long)first * columns, (long)second * columns, lane, KernelMath.WarpSize, rows,
                    columns, xStride, ref a, ref b);
            }

            Keep<TRows>(a, b, limits, shared, n);
        }

        Group.Barrier();
        for (int t = Group.IdxX / KernelMath.WarpSize; t < rows; t += Warps)
            WriteList(shared, t * Pitch(TileFeatures), tileFeatures, t, counts, offsets, features, values);
    }

    /// <summary>As <see cref="Half"/> for float32 weights.</summary>
    public static void Float<TRows>(
        ArrayView<Float4> x,
        ArrayView<Float4> weight,
        ArrayView<float> bias,
        ArrayView<float> threshold,
        ArrayView<int> counts,
        ArrayView<long> offsets,
        ArrayView<int> features,
        ArrayView<float> values,
        int rows,
        int columns,
        int featureCount,
        int xStride,
        int tileFeatures)
        where TRows : struct, IRowCount
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(MaxRows * Pitch(TileFeatures));
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        for (int n = Group.IdxX / KernelMath.WarpSize * 2; n < tileFeatures; n += 2 * Warps)
        {
            int first = Ptx.Once((Grid.IdxX * tileFeatures) + n);
            Limits limits = LimitsOf(bias, threshold, first + (lane / 16), featureCount);
            RowSums a = default, b = default;
            if (first < featureCount)
            {
                int second = first + 1 < featureCount ? first + 1 : first;
                Gemv.FloatDots<TRows>(x, weight, (long)first * columns, (long)second * columns, lane, KernelMath.WarpSize, rows,
                    columns, xStride, ref a, ref b);
            }

            Keep<TRows>(a, b, limits, shared, n);
        }

        Group.Barrier();
        for (int t = Group.IdxX / KernelMath.WarpSize; t < rows; t += Warps)
            WriteList(shared, t * Pitch(TileFeatures), tileFeatures, t, counts, offsets, features, values);
    }

    /// <summary>
    /// Many rows on every GPU: grid (tiles, ⌈rows/64⌉), group 256. Lists take their room from <paramref name="cursor"/>[0], 0 before the launch; beyond
    /// <paramref name="capacity"/> pairs nothing is written, but all are counted.
    /// </summary>
    public static void Tile<TWeight>(
        ArrayView<float> x,
        ArrayView<TWeight> weight,
        ArrayView<float> bias,
        ArrayView<float> threshold,
        ArrayView<int> counts,
        ArrayView<long> offsets,
        ArrayView<int> features,
        ArrayView<float> values,
        ArrayView<long> cursor,
        long capacity,
        int rows,
        int columns,
        int featureCount,
        int xStride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        ArrayView<Float4> xs = SharedMemory.Allocate1D<Float4>(16 * 68 / 4);
        ArrayView<Float4> ws = SharedMemory.Allocate1D<Float4>(16 * 68 / 4);
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(GemmFma.TileRows * Pitch(TileFeatures));
        Tile4X4 tile = default;
        GemmFma.Accumulate(x, weight, xs, ws, (Grid.IdxX * TileFeatures) + (Group.IdxX / 16), 16, featureCount, rows, columns,
            xStride, ref tile);
        int n = Group.IdxX % 16 * 4;
        int f = (Grid.IdxX * TileFeatures) + n;
        int at = (Group.IdxX / 16 * 4 * Pitch(TileFeatures)) + n;
        // A feature that is not there has the threshold NaN, which nothing is above.
        Float4 b = LoadFour(bias, f, featureCount, 0f), theta = LoadFour(threshold, f, featureCount, float.NaN);
        KeepRow(tile.R0, b, theta, shared, at);
        KeepRow(tile.R1, b, theta, shared, at + Pitch(TileFeatures));
        KeepRow(tile.R2, b, theta, shared, at + (2 * Pitch(TileFeatures)));
        KeepRow(tile.R3, b, theta, shared, at + (3 * Pitch(TileFeatures)));
        Group.Barrier();
        WriteLists(shared, TileFeatures, Grid.IdxY * GemmFma.TileRows, GemmFma.TileRows, GemmFma.GroupSize, rows, counts, offsets,
            features, values, cursor, capacity);
    }

    /// <summary>relu(a)·[a &gt; θ]: 0 stands for inactive, since an active feature is positive. NaN is inactive.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float Activate(float sum, float bias, float threshold)
    {
        float a = sum + bias;
        return a > threshold && a > 0f ? a : 0f;
    }

    /// <summary>Distance of two rows of a tile of activations in shared memory: rows fall on different banks.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static int Pitch(int tileFeatures) => tileFeatures + 1;

    /// <summary>
    /// Writes the lists of a tile of activations [tileRows, tileFeatures] in shared memory, a warp a row; rows from <paramref name="firstRow"/> on, tile Grid.IdxX.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void WriteLists(
        ArrayView<float> shared,
        int tileFeatures,
        int firstRow,
        int tileRows,
        int groupSize,
        int rows,
        ArrayView<int> counts,
        ArrayView<long> offsets,
        ArrayView<int> features,
        ArrayView<float> values,
        ArrayView<long> cursor,
        long capacity)
    {
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        for (int n = Group.IdxX / KernelMath.WarpSize; n < tileRows; n += groupSize / KernelMath.WarpSize)
        {
            int t = firstRow + n;
            if (t >= rows)
                continue;
            int count = 0;
            for (int i = lane; i < tileFeatures + lane; i += KernelMath.WarpSize)
            {
                // All lanes vote, also where the tile ends within a warp.
                float value = 0f;
                if (i < tileFeatures)
                    value = shared[(n * Pitch(tileFeatures)) + i];
                count += IntrinsicMath.PopCount(Ptx.Ballot(value > 0f));
            }

            long start = 0;
            if (lane == 0)
            {
                if (count > 0)
                    start = Atomic.Add(ref cursor[0], count);
                counts[((long)t * Grid.DimX) + Grid.IdxX] = count;
                offsets[((long)t * Grid.DimX) + Grid.IdxX] = start;
            }

            start = Ptx.Once(((long)Warp.Shuffle((int)(start >> 32), 0) << 32) | (uint)Warp.Shuffle((int)start, 0));
            WritePairs(shared, n * Pitch(tileFeatures), tileFeatures, start, capacity, features, values);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteList(
        ArrayView<float> shared, int from, int tileFeatures, int t, ArrayView<int> counts, ArrayView<long> offsets, ArrayView<int> features,
        ArrayView<float> values)
    {
        long list = ((long)t * Grid.DimX) + Grid.IdxX;
        long start = Ptx.Once(list * tileFeatures);
        int count = WritePairs(shared, from, tileFeatures, start, long.MaxValue, features, values);
        if ((Group.IdxX & (KernelMath.WarpSize - 1)) == 0)
        {
            counts[list] = count;
            offsets[list] = start;
        }
    }

    // A lane's place is behind the active lanes below it.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WritePairs(
        ArrayView<float> shared, int from, int tileFeatures, long start, long capacity, ArrayView<int> features, ArrayView<float> values)
    {
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        int count = 0;
        for (int first = 0; first < tileFeatures; first += KernelMath.WarpSize)
        {
            int i = first + lane;
            float value = 0f;
            if (i < tileFeatures)
                value = shared[from + i];
            uint active = Ptx.Ballot(value > 0f);
            long at = start + count + IntrinsicMath.PopCount(active & ((1u << lane) - 1u));
            if (value > 0f && at < capacity)
            {
                features[at] = (Grid.IdxX * tileFeatures) + i;
                values[at] = value;
            }

            count += IntrinsicMath.PopCount(active);
        }

        return count;
    }

    // Of a feature that is not there the threshold is NaN, which nothing is above.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Limits LimitsOf(ArrayView<float> bias, ArrayView<float> threshold, int f, int featureCount)
    {
        Limits limits = new() { Bias = 0f, Threshold = float.NaN };
        if (f < featureCount)
        {
            limits.Bias = bias[f];
            limits.Threshold = threshold[f];
        }

        return limits;
    }

    // The activations of two features, which lie at n and n + 1 of a row.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Keep<TRows>(RowSums first, RowSums second, Limits limits, ArrayView<float> shared, int n)
        where TRows : struct, IRowCount
    {
        float sum = Gemv.LaneSum<TRows>(first, second);
        int lane = Group.IdxX & (KernelMath.WarpSize - 1), lanes = 16 / TRows.Count;
        if ((lane & (lanes - 1)) == 0)
            shared[((lane & 15) / lanes * Pitch(TileFeatures)) + n + (lane / 16)] = Activate(sum, limits.Bias, limits.Threshold);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 LoadFour(ArrayView<float> view, int f, int featureCount, float otherwise)
    {
        Float4 result = new() { X = otherwise, Y = otherwise, Z = otherwise, W = otherwise };
        if (f < featureCount)
            result.X = view[f];
        if (f + 1 < featureCount)
            result.Y = view[f + 1];
        if (f + 2 < featureCount)
            result.Z = view[f + 2];
        if (f + 3 < featureCount)
            result.W = view[f + 3];
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void KeepRow(Float4 sums, Float4 bias, Float4 threshold, ArrayView<float> shared, int at)
    {
        shared[at] = Activate(sums.X, bias.X, threshold.X);
        shared[at + 1] = Activate(sums.Y, bias.Y, threshold.Y);
        shared[at + 2] = Activate(sums.Z, bias.Z, threshold.Z);
        shared[at + 3] = Activate(sums.W, bias.W, threshold.W);
    }
}
