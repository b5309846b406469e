using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>A number of rows of x that is known when a kernel is compiled.</summary>
public interface IRowCount
{
    /// <summary>1, 2, 4 or 8.</summary>
    static abstract int Count { get; }
}

/// <summary>One row.</summary>
public struct Rows1 : IRowCount
{
    /// <inheritdoc/>
    public static int Count => 1;
}

/// <summary>Two rows.</summary>
public struct Rows2 : IRowCount
{
    /// <inheritdoc/>
    public static int Count => 2;
}

/// <summary>Four rows.</summary>
public struct Rows4 : IRowCount
{
    /// <inheritdoc/>
    public static int Count => 4;
}

/// <summary>Eight rows.</summary>
public struct Rows8 : IRowCount
{
    /// <inheritdoc/>
    public static int Count => 8;
}

/// <summary>Eight running sums, one a row of x.</summary>
public struct RowSums
{
#pragma warning disable CS1591 // Row n.
    public float R0, R1, R2, R3, R4, R5, R6, R7;
#pragma warning restore CS1591
}

/// <summary>Where eight rows of x begin, in 16-byte pieces.</summary>
public struct RowStarts
{
#pragma warning disable CS1591 // Row n; row 0 begins at 0.
    public long R1, R2, R3, R4, R5, R6, R7;
#pragma warning restore CS1591
}

/// <summary>
/// y[t, r] = Σ_i x[t, i]·W[r, i] for 1, 2, 4 or 8 rows t; W [out, in] row-major, dense. Bound by reading W once: out·in·sizeof(weight)
/// bytes, 2·out·in flops
/// a row of x; x comes from the caches.
/// </summary>
/// <remarks>
/// The ladder: <see cref="Plain"/>, a warp for each output, one weight a load, any shape and alignment; <see cref="Half"/> and <see
/// cref="Float"/>, a warp for
/// two outputs, 16 bytes a load from each, so that x is read once for both; loads under way before the first use: <c>ptx/resources.json</c>
/// (one row of bf16: 4, half of them weights). Rows of W and x are 16-byte aligned there, and
/// <c>in</c> is a multiple of 8. A lane's sum and the tree over lanes do not depend on the number of rows: a row gives the same bits alone
/// and among others.
/// The results of a warp are one value in each row: a store touches a sector for every row.
/// Eight values of x for 16 bytes of two-byte weights are two loads of 16 bytes, 32 bytes apart from lane to lane: each touches every
/// sector of the L1 cache for half of it.
/// <see cref="GatedHalf"/> and <see cref="GatedFloat"/> take row r of the gate and row r of the up matrix as the two outputs and write
/// gelu(gate)·up.
/// </remarks>
public static class Gemv
{
    /// <summary>Threads of a group: four warps.</summary>
    public const int GroupSize = 128;

    /// <summary>Outputs of a group of the wide forms.</summary>
    public const int TileColumns = GroupSize / KernelMath.WarpSize * 2;

    /// <summary>Any shape. Grid (⌈out/4⌉, rows of x), group 128. 2-byte weights are read 64 bytes a warp.</summary>
    public static void Plain<TWeight>(ArrayView<float> x, ArrayView<TWeight> weight, ArrayView<float> destination, int columns,
        int outputs, int xStride, int stride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        int r = (Grid.IdxX * (GroupSize / KernelMath.WarpSize)) + (Group.IdxX / KernelMath.WarpSize);
        if (r >= outputs)
            return;
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        long row = Ptx.Once((long)r * columns);
        long source = Ptx.Once((long)Grid.IdxY * xStride);
        float sum = 0f;
        for (int i = lane; i < columns; i += KernelMath.WarpSize)
            sum = Ptx.MultiplyAdd(x[source + i], TWeight.Widen(weight[row + i]), sum);
        sum = KernelMath.WarpSum(sum);
        if (lane == 0)
            destination[((long)Grid.IdxY * stride) + r] = sum;
    }

    /// <summary>Weights of two bytes. Grid (⌈out/8⌉), group 128; rows of x beyond <paramref name="rows"/> are not read.</summary>
    public static void Half<TWeight, TRows>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TRows : struct, IRowCount
    {
        int first = FirstOutput();
        if (first >= outputs)
            return;
        int second = first + 1 < outputs ? first + 1 : first;
        RowSums a = default, b = default;
        HalfDots<TWeight, TRows>(x, weight, (long)first * columns, (long)second * columns, rows, columns, xStride, ref a, ref b);
        WriteSums<TRows>(a, destination, first, rows, stride);
        if (second != first)
            WriteSums<TRows>(b, destination, second, rows, stride);
    }

    /// <summary>float32 weights. Launch as <see cref="Half"/>.</summary>
    public static void Float<TRows>(
        ArrayView<Float4> x, ArrayView<Float4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TRows : struct, IRowCount
    {
        int first = FirstOutput();
        if (first >= outputs)
            return;
        int second = first + 1 < outputs ? first + 1 : first;
        RowSums a = default, b = default;
        FloatDots<TRows>(x, weight, (long)first * columns, (long)second * columns, rows, columns, xStride, ref a, ref b);
        WriteSums<TRows>(a, destination, first, rows, stride);
        if (second != first)
            WriteSums<TRows>(b, destination, second, rows, stride);
    }

    /// <summary>
    /// h[t, r] = gelu(x·G_r)·(x·U_r), weight [2·outputs, in] with G above U. Grid (⌈outputs/4⌉), group 128.
    /// </summary>
    public static void GatedHalf<TWeight, TRows>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TRows : struct, IRowCount
    {
        int r = FirstOutput() / 2;
        if (r >= outputs)
            return;
        RowSums gate = default, up = default;
        HalfDots<TWeight, TRows>(x, weight, (long)r * columns, ((long)outputs + r) * columns, rows, columns, xStride, ref gate, ref up);
        WriteSums<TRows>(GatedSums<TRows>(gate, up), destination, r, rows, stride);
    }

    /// <summary>As <see cref="GatedHalf"/> for float32 weights.</summary>
    public static void GatedFloat<TRows>(
        ArrayView<Float4> x, ArrayView<Float4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TRows : struct, IRowCount
    {
        int r = FirstOutput() / 2;
        if (r >= outputs)
            return;
        RowSums gate = default, up = default;
        FloatDots<TRows>(x, weight, (long)r * columns, ((long)outputs + r) * columns, rows, columns, xStride, ref gate, ref up);
        WriteSums<TRows>(GatedSums<TRows>(gate, up), destination, r, rows, stride);
    }

    /// <summary>
    /// The dot products of two weight rows with every row of x, each in all lanes of the warp. Offsets and strides in values.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void HalfDots<TWeight, TRows>(
        ArrayView<Float4> x, ArrayView<Words4> weight, long first, long second, int rows, int columns, int xStride, ref RowSums a,
        ref RowSums b)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TRows : struct, IRowCount
    {
        int octets = Ptx.Once(columns / 8);
        RowStarts starts = Starts<TRows>(rows, xStride / 4);
        long rowA = Ptx.Once(first / 8), rowB = Ptx.Once(second / 8);
        int i = Group.IdxX & (KernelMath.WarpSize - 1);
        for (; i + KernelMath.WarpSize < octets; i += 2 * KernelMath.WarpSize)
        {
            Words4 a0 = weight[rowA + i], b0 = weight[rowB + i];
            Words4 a1 = weight[rowA + i + KernelMath.WarpSize], b1 = weight[rowB + i + KernelMath.WarpSize];
            AddOctets<TWeight, TRows>(x, 2L * i, starts, a0, b0, ref a, ref b);
            AddOctets<TWeight, TRows>(x, 2L * (i + KernelMath.WarpSize), starts, a1, b1, ref a, ref b);
        }

        if (i < octets)
            AddOctets<TWeight, TRows>(x, 2L * i, starts, weight[rowA + i], weight[rowB + i], ref a, ref b);
        SumLanes<TRows>(ref a);
        SumLanes<TRows>(ref b);
    }

    /// <summary>As <see cref="HalfDots"/> for float32 weights.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void FloatDots<TRows>(
        ArrayView<Float4> x, ArrayView<Float4> weight, long first, long second, int rows, int columns, int xStride, ref RowSums a,
        ref RowSums b)
        where TRows : struct, IRowCount
    {
        int quads = Ptx.Once(columns / 4);
        RowStarts starts = Starts<TRows>(rows, xStride / 4);
        long rowA = Ptx.Once(first / 4), rowB = Ptx.Once(second / 4);
        int i = Group.IdxX & (KernelMath.WarpSize - 1);
        for (; i + KernelMath.WarpSize < quads; i += 2 * KernelMath.WarpSize)
        {
            Float4 a0 = weight[rowA + i], b0 = weight[rowB + i];
            Float4 a1 = weight[rowA + i + KernelMath.WarpSize], b1 = weight[rowB + i + KernelMath.WarpSize];
            AddQuads<TRows>(x, i, starts, a0, b0, ref a, ref b);
            AddQuads<TRows>(x, i + KernelMath.WarpSize, starts, a1, b1, ref a, ref b);
        }

        if (i < quads)
            AddQuads<TRows>(x, i, starts, weight[rowA + i], weight[rowB + i], ref a, ref b);
        SumLanes<TRows>(ref a);
        SumLanes<TRows>(ref b);
    }

    /// <summary>The value of one row, chosen when the kernel runs.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float Pick(RowSums sums, int row)
    {
        float low = row == 0 ? sums.R0 : row == 1 ? sums.R1 : row == 2 ? sums.R2 : sums.R3;
        float high = row == 4 ? sums.R4 : row == 5 ? sums.R5 : row == 6 ? sums.R6 : sums.R7;
        return row < 4 ? low : high;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int FirstOutput() => (Grid.IdxX * TileColumns) + (Group.IdxX / KernelMath.WarpSize * 2);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddOctets<TWeight, TRows>(
        ArrayView<Float4> x, long at, RowStarts starts, Words4 a, Words4 b, ref RowSums sumA, ref RowSums sumB)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TRows : struct, IRowCount
    {
        Float4 a0 = Widen<TWeight>(a.X, a.Y), a1 = Widen<TWeight>(a.Z, a.W), b0 = Widen<TWeight>(b.X, b.Y), b1 = Widen<TWeight>(b.Z, b.W);
        AddQuads<TRows>(x, at, starts, a0, b0, ref sumA, ref sumB);
        AddQuads<TRows>(x, at + 1, starts, a1, b1, ref sumA, ref sumB);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Widen<TWeight>(uint first, uint second)
        where TWeight : unmanaged, IHalfWeight<TWeight> =>
        new() { X = TWeight.Low(first), Y = TWeight.High(first), Z = TWeight.Low(second), W = TWeight.High(second) };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddQuads<TRows>(ArrayView<Float4> x, long at, RowStarts starts, Float4 a, Float4 b, ref RowSums sumA,
        ref RowSums sumB)
        where TRows : struct, IRowCount
    {
        AddQuad(x, at, a, b, ref sumA.R0, ref sumB.R0);
        if (TRows.Count > 1)
            AddQuad(x, at + starts.R1, a, b, ref sumA.R1, ref sumB.R1);
        if (TRows.Count > 2)
        {
            AddQuad(x, at + starts.R2, a, b, ref sumA.R2, ref sumB.R2);
            AddQuad(x, at + starts.R3, a, b, ref sumA.R3, ref sumB.R3);
        }

        if (TRows.Count > 4)
        {
            AddQuad(x, at + starts.R4, a, b, ref sumA.R4, ref sumB.R4);
            AddQuad(x, at + starts.R5, a, b, ref sumA.R5, ref sumB.R5);
            AddQuad(x, at + starts.R6, a, b, ref sumA.R6, ref sumB.R6);
            AddQuad(x, at + starts.R7, a, b, ref sumA.R7, ref sumB.R7);
        }
    }

    // Rows that are not there are computed from the last one and not written: no branch in the loop.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static RowStarts Starts<TRows>(int rows, int quadStride)
        where TRows : struct, IRowCount
    {
        RowStarts starts = default;
        if (TRows.Count > 1)
            starts.R1 = Start(1, rows, quadStride);
        if (TRows.Count > 2)
        {
            starts.R2 = Start(2, rows, quadStride);
            starts.R3 = Start(3, rows, quadStride);
        }

        if (TRows.Count > 4)
        {
            starts.R4 = Start(4, rows, quadStride);
            starts.R5 = Start(5, rows, quadStride);
            starts.R6 = Start(6, rows, quadStride);
            starts.R7 = Start(7, rows, quadStride);
        }

        return starts;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static long Start(int row, int rows, int quadStride) => Ptx.Once((row < rows ? row : rows - 1) * (long)quadStride);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddQuad(ArrayView<Float4> x, long at, Float4 a, Float4 b, ref float sumA, ref float sumB)
    {
        Float4 v = x[at];
        sumA = Ptx.MultiplyAdd(v.W, a.W, Ptx.MultiplyAdd(v.Z, a.Z, Ptx.MultiplyAdd(v.Y, a.Y, Ptx.MultiplyAdd(v.X, a.X, sumA))));
        sumB = Ptx.MultiplyAdd(v.W, b.W, Ptx.MultiplyAdd(v.Z, b.Z, Ptx.MultiplyAdd(v.Y, b.Y, Ptx.MultiplyAdd(v.X, b.X, sumB))));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void SumLanes<TRows>(ref RowSums sums)
        where TRows : struct, IRowCount
    {
        sums.R0 = KernelMath.WarpSum(sums.R0);
        if (TRows.Count > 1)
            sums.R1 = KernelMath.WarpSum(sums.R1);
        if (TRows.Count > 2)
        {
            sums.R2 = KernelMath.WarpSum(sums.R2);
            sums.R3 = KernelMath.WarpSum(sums.R3);
        }

        if (TRows.Count > 4)
        {
            sums.R4 = KernelMath.WarpSum(sums.R4);
            sums.R5 = KernelMath.WarpSum(sums.R5);
            sums.R6 = KernelMath.WarpSum(sums.R6);
            sums.R7 = KernelMath.WarpSum(sums.R7);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static RowSums GatedSums<TRows>(RowSums gate, RowSums up)
        where TRows : struct, IRowCount
    {
        // Lane t does row t's gelu; every lane holds every sum.
        int t = Group.IdxX & 7;
        float h = KernelMath.Gelu(Pick(gate, t)) * Pick(up, t);
        return new RowSums { R0 = h, R1 = h, R2 = h, R3 = h, R4 = h, R5 = h, R6 = h, R7 = h };
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteSums<TRows>(RowSums sums, ArrayView<float> destination, int output, int rows, int stride)
        where TRows : struct, IRowCount
    {
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        if (lane < rows && lane < TRows.Count)
            destination[((long)lane * stride) + output] = Pick(sums, lane);
    }
}
