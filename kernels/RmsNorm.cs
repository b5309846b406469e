using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>What a thread keeps of a row: its first three runs of four values.</summary>
internal struct RowQuads
{
#pragma warning disable CS1591 // Run n.
    public Float4 Q0, Q1, Q2;
#pragma warning restore CS1591
}

/// <summary>A row of a matrix.</summary>
internal struct RowPlace
{
    /// <summary>Its first value.</summary>
    public long Start;

    /// <summary>Its length.</summary>
    public int Columns;

    /// <summary>Whether runs of four values begin at multiples of 16 bytes.</summary>
    public bool Wide;
}

/// <summary>
/// u = x · (mean(x²) + ε)^(−1/2), y = u · (1 + g), each rounded to float32. All kernels here: grid (rows), group 512, static shared 64 bytes.
/// </summary>
/// <remarks>
/// The ladder: <see cref="Naive"/>, one thread a row, the definition; <see cref="Normalize"/> and <see cref="Row"/>, one group a row, a fixed tree of sums;
/// <see cref="AddNormedThenNorm"/>, the two norms between sub-layers and the addition in one pass over memory. The last three share their sums, so that
/// the fused form gives the bits of the plain forms: thread i sums the runs of four values i, i + 512, …, then a warp's tree, then the warps in order.
/// <see cref="GemvNorm"/> does the product before it too, for one row.
/// A thread's first three runs, of rows up to 6,144 values all there are, stay in registers between the sums and the results: every row is read once, 16 bytes a
/// lane and load, and the gains are on their way while the sums are made. With <c>wide</c> 0, for rows that begin anywhere or whose length is not a multiple of four,
/// values come one at a time, in the same order.
/// </remarks>
public static class RmsNorm
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 512;

    private const int Warps = GroupSize / KernelMath.WarpSize;
    private const int Run = 4 * GroupSize;

    /// <summary>The definition: one thread does a row. Grid (rows), group 1. The oracle of the others; not shipped.</summary>
    public static void Naive(ArrayView<float> x, ArrayView<float> gain, ArrayView<float> destination, float epsilon, int columns)
    {
        long row = (long)Grid.IdxX * columns;
        float sum = 0f;
        for (int j = 0; j < columns; j++)
            sum += x[row + j] * x[row + j];
        float factor = 1f / MathF.Sqrt((sum / columns) + epsilon);
        for (int j = 0; j < columns; j++)
            destination[row + j] = x[row + j] * factor * (1f + gain[j]);
    }

    /// <summary>u alone. Reads and writes 4·columns bytes a row; 3·columns flops. May be in place.</summary>
    public static void Normalize(ArrayView<float> x, ArrayView<float> destination, float epsilon, int columns, int xStride, int stride,
        int wide)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps);
        RowPlace source = PlaceOf(Grid.IdxX, xStride, columns, wide), target = PlaceOf(Grid.IdxX, stride, columns, wide);
        RowQuads row = Load(x, source);
        float factor = Factor(SumOfSquares(row, x, source), columns, epsilon, shared);
        int at = 4 * Group.IdxX;
        Store(destination, target, at, Scaled(row.Q0, factor));
        Store(destination, target, at + Run, Scaled(row.Q1, factor));
        Store(destination, target, at + (2 * Run), Scaled(row.Q2, factor));
        for (int j = at + (3 * Run); j < columns; j += Run)
            Store(destination, target, j, Scaled(LoadQuad(x, source, j), factor));
    }

    /// <summary>u and the gain. Reads 8·columns bytes (the gain comes from the L2 cache) and writes 4·columns a row; 5·columns flops. May be in place.</summary>
    public static void Row(ArrayView<float> x, ArrayView<float> gain, ArrayView<float> destination, float epsilon, int columns,
        int xStride, int stride, int wide)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps);
        RowPlace source = PlaceOf(Grid.IdxX, xStride, columns, wide), target = PlaceOf(Grid.IdxX, stride, columns, wide);
        RowPlace gains = PlaceOf(0, 0, columns, wide);
        RowQuads row = Load(x, source), g = Load(gain, gains);
        float factor = Factor(SumOfSquares(row, x, source), columns, epsilon, shared);
        int at = 4 * Group.IdxX;
        Store(destination, target, at, Gained(row.Q0, factor, g.Q0));
        Store(destination, target, at + Run, Gained(row.Q1, factor, g.Q1));
        Store(destination, target, at + (2 * Run), Gained(row.Q2, factor, g.Q2));
        for (int j = at + (3 * Run); j < columns; j += Run)
            Store(destination, target, j, Gained(LoadQuad(x, source, j), factor, LoadQuad(gain, gains, j)));
    }

    /// <summary>
    /// resid ← resid + RmsNorm(branch, postGain); normed ← RmsNorm(resid, nextGain). The branch is left as it was.
    /// Reads 8·columns and writes 8·columns bytes a row besides the gains; 11·columns flops.
    /// </summary>
    public static void AddNormedThenNorm(
        ArrayView<float> branch,
        ArrayView<float> postGain,
        ArrayView<float> nextGain,
        ArrayView<float> resid,
        ArrayView<float> normed,
        float epsilon,
        int columns,
        int branchStride,
        int residStride,
        int normedStride,
        int wide)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps);
        RowPlace source = PlaceOf(Grid.IdxX, branchStride, columns, wide), stream = PlaceOf(Grid.IdxX, residStride, columns, wide);
        RowPlace target = PlaceOf(Grid.IdxX, normedStride, columns, wide), gains = PlaceOf(0, 0, columns, wide);
        RowQuads row = Load(branch, source), sum = Load(resid, stream), post = Load(postGain, gains);
        float factor = Factor(SumOfSquares(row, branch, source), columns, epsilon, shared);
        sum.Q0 = Added(sum.Q0, Gained(row.Q0, factor, post.Q0));
        sum.Q1 = Added(sum.Q1, Gained(row.Q1, factor, post.Q1));
        sum.Q2 = Added(sum.Q2, Gained(row.Q2, factor, post.Q2));
        int at = 4 * Group.IdxX;
        Store(resid, stream, at, sum.Q0);
        Store(resid, stream, at + Run, sum.Q1);
        Store(resid, stream, at + (2 * Run), sum.Q2);
        for (int j = at + (3 * Run); j < columns; j += Run)
        {
            Float4 added = Gained(LoadQuad(branch, source, j), factor, LoadQuad(postGain, gains, j));
            Store(resid, stream, j, Added(LoadQuad(resid, stream, j), added));
        }

        // Beyond the registers each thread reads back only what it wrote itself.
        RowQuads after = Load(nextGain, gains);
        float next = Factor(SumOfSquares(sum, resid, stream), columns, epsilon, shared);
        Store(normed, target, at, Gained(sum.Q0, next, after.Q0));
        Store(normed, target, at + Run, Gained(sum.Q1, next, after.Q1));
        Store(normed, target, at + (2 * Run), Gained(sum.Q2, next, after.Q2));
        for (int j = at + (3 * Run); j < columns; j += Run)
            Store(normed, target, j, Gained(LoadQuad(resid, stream, j), next, LoadQuad(nextGain, gains, j)));
    }

    /// <summary>
    /// <see cref="AddNormedThenNorm"/> of one wide row by a group of 128 threads, of which thread i does the work of threads i, i + 128, i + 256 and i + 384. The branch was
    /// published by the groups of this launch; <paramref name="shared"/> has 16 values.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void AddPublishedThenNorm(
        ArrayView<float> branch,
        ArrayView<float> postGain,
        ArrayView<float> nextGain,
        ArrayView<float> resid,
        ArrayView<float> normed,
        float epsilon,
        int columns,
        ArrayView<float> shared)
    {
        const int Apart = 4 * Gemv.GroupSize;
        int at = Ptx.Once(4 * Group.IdxX);
        RowPlace row = PlaceOf(0, 0, columns, 1);
        Float4 sums = default;
        for (int j = at; j < columns; j += Run)
        {
            Float4 b0 = PublishedQuad(branch, columns, j), b1 = PublishedQuad(branch, columns, j + Apart),
                b2 = PublishedQuad(branch, columns, j + (2 * Apart)), b3 = PublishedQuad(branch, columns, j + (3 * Apart));
            sums.X = AddSquares(sums.X, b0);
            sums.Y = AddSquares(sums.Y, b1);
            sums.Z = AddSquares(sums.Z, b2);
            sums.W = AddSquares(sums.W, b3);
        }

        float factor = FactorOfFour(sums, columns, epsilon, shared);
        sums = default;
        for (int j = at; j < columns; j += Run)
        {
            Float4 b0 = PublishedQuad(branch, columns, j), b1 = PublishedQuad(branch, columns, j + Apart),
                b2 = PublishedQuad(branch, columns, j + (2 * Apart)), b3 = PublishedQuad(branch, columns, j + (3 * Apart));
            sums.X = AddSquares(sums.X, AddedAt(resid, postGain, row, j, b0, factor));
            sums.Y = AddSquares(sums.Y, AddedAt(resid, postGain, row, j + Apart, b1, factor));
            sums.Z = AddSquares(sums.Z, AddedAt(resid, postGain, row, j + (2 * Apart), b2, factor));
            sums.W = AddSquares(sums.W, AddedAt(resid, postGain, row, j + (3 * Apart), b3, factor));
        }

        // Each thread reads back only what it wrote itself.
        float next = FactorOfFour(sums, columns, epsilon, shared);
        for (int j = at; j < columns; j += Apart)
            Store(normed, row, j, Gained(LoadQuad(resid, row, j), next, LoadQuad(nextGain, row, j)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 PublishedQuad(ArrayView<float> x, int columns, int column) =>
        column < columns ? Ptx.Published4(ref x[column]) : default;

    /// <summary>resid + the normed branch, which resid becomes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 AddedAt(ArrayView<float> resid, ArrayView<float> gain, RowPlace row, int column, Float4 branch, float factor)
    {
        Float4 sum = Added(LoadQuad(resid, row, column), Gained(branch, factor, LoadQuad(gain, row, column)));
        Store(resid, row, column, sum);
        return sum;
    }

    /// <summary><see cref="Factor"/> of the sums that four threads would have; warp w does the work of warps w, w + 4, w + 8 and w + 12.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float FactorOfFour(Float4 sums, int columns, float epsilon, ArrayView<float> shared)
    {
        float s0 = KernelMath.WarpSum(sums.X), s1 = KernelMath.WarpSum(sums.Y), s2 = KernelMath.WarpSum(sums.Z),
            s3 = KernelMath.WarpSum(sums.W);
        Group.Barrier();
        if ((Group.IdxX & (KernelMath.WarpSize - 1)) == 0)
        {
            int warp = Group.IdxX / KernelMath.WarpSize;
            shared[warp] = s0;
            shared[warp + 4] = s1;
            shared[warp + 8] = s2;
            shared[warp + 12] = s3;
        }

        Group.Barrier();
        float sum = shared[0];
        for (int w = 1; w < Warps; w++)
            sum += shared[w];
        return Ptx.Once(1f / MathF.Sqrt((sum / columns) + epsilon));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static RowPlace PlaceOf(int row, int stride, int columns, int wide) =>
        new() { Start = Ptx.Once((long)row * stride), Columns = columns, Wide = wide != 0 };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static RowQuads Load(ArrayView<float> x, RowPlace place)
    {
        int at = 4 * Group.IdxX;
        return new RowQuads { Q0 = LoadQuad(x, place, at), Q1 = LoadQuad(x, place, at + Run), Q2 = LoadQuad(x, place, at + (2 * Run)) };
    }

    // Values beyond the row are 0, which no sum of squares notices.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 LoadQuad(ArrayView<float> x, RowPlace place, int column)
    {
        Float4 v = default;
        if (column >= place.Columns)
            return v;
        long at = place.Start + column;
        if (place.Wide)
        {
            ArrayView<Float4> quads = x.Cast<Float4>();
            return quads[at >> 2];
        }

        v.X = x[at];
        if (column + 1 < place.Columns)
            v.Y = x[at + 1];
        if (column + 2 < place.Columns)
            v.Z = x[at + 2];
        if (column + 3 < place.Columns)
            v.W = x[at + 3];
        return v;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(ArrayView<float> x, RowPlace place, int column, Float4 v)
    {
        if (column >= place.Columns)
            return;
        long at = place.Start + column;
        if (place.Wide)
        {
            ArrayView<Float4> quads = x.Cast<Float4>();
            quads[at >> 2] = v;
            return;
        }

        x[at] = v.X;
        if (column + 1 < place.Columns)
            x[at + 1] = v.Y;
        if (column + 2 < place.Columns)
            x[at + 2] = v.Z;
        if (column + 3 < place.Columns)
            x[at + 3] = v.W;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Scaled(Float4 v, float factor) =>
        new() { X = v.X * factor, Y = v.Y * factor, Z = v.Z * factor, W = v.W * factor };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Gained(Float4 v, float factor, Float4 gain) => new()
    {
        X = v.X * factor * (1f + gain.X),
        Y = v.Y * factor * (1f + gain.Y),
        Z = v.Z * factor * (1f + gain.Z),
        W = v.W * factor * (1f + gain.W),
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Added(Float4 a, Float4 b) => new() { X = a.X + b.X, Y = a.Y + b.Y, Z = a.Z + b.Z, W = a.W + b.W };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float AddSquares(float sum, Float4 v) =>
        Ptx.MultiplyAdd(v.W, v.W, Ptx.MultiplyAdd(v.Z, v.Z, Ptx.MultiplyAdd(v.Y, v.Y, Ptx.MultiplyAdd(v.X, v.X, sum))));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float SumOfSquares(RowQuads row, ArrayView<float> x, RowPlace place)
    {
        float sum = AddSquares(AddSquares(AddSquares(0f, row.Q0), row.Q1), row.Q2);
        for (int j = (4 * Group.IdxX) + (3 * Run); j < place.Columns; j += Run)
            sum = AddSquares(sum, LoadQuad(x, place, j));
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Factor(float sum, int columns, float epsilon, ArrayView<float> shared)
    {
        float mean = KernelMath.GroupSum(sum, shared, Warps) / columns;
        return Ptx.Once(1f / MathF.Sqrt(mean + epsilon));
    }
}
