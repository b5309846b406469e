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

/// <summary>Sums of eight outputs, of eight rows each.</summary>
public struct RowSums8
{
#pragma warning disable CS1591 // Output by output.
    public RowSums A, B, C, D, E, F, G, H;
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
/// cref="Float"/>, a group for two outputs (or a gate and its up), so that x is read once for both and that 2,304 outputs fill a GPU: its four
/// warps share the inputs, thread t takes the 16-byte pieces t, t + 128, … of a row. Four loads of weights are under way in each thread
/// before the first is used, 2 KiB a warp: a barrier of the warp behind them keeps the assembler from moving them down to their use. Rows of W and x
/// are 16-byte aligned there, and <c>in</c> is a multiple of 8.
/// A sum goes over a thread's pieces in order, then over the tree of the lanes, then over the warps in order, whatever the number of rows: a row
/// gives the same bits alone and among others. In the tree each lane passes on the half of its sums that its partner goes on with
/// (<see cref="LaneSum"/>): 5 shuffles for one row and 16 for eight, not 10 and 80.
/// From sm_90 on a group with weights of two bytes asks for the first of them before it waits for the launch before (<see cref="WaitForGrid"/>).
/// <see cref="EightRowsHalf"/> makes eight outputs of eight rows, the weights of two bytes, each sum as in <see cref="Half"/>: with two outputs a group asks the L1 cache for eight times as much x as
/// weights, and that, not the weights, would take the time of a step of eight sequences. It loads eight pieces of weights before the first use, 4 KiB a warp; 222 to 226 registers on sm_75, two groups a multiprocessor. Newer devices have <see cref="GemvRing"/>.
/// The results of a group are one or two values in each row: a store touches a sector for every row.
/// Eight values of x for 16 bytes of two-byte weights are two loads of 16 bytes, 32 bytes apart from lane to lane: each touches every
/// sector of the L1 cache for half of it.
/// </remarks>
public static class Gemv
{
    /// <summary>Threads of a group: four warps.</summary>
    public const int GroupSize = 128;

    /// <summary>Outputs of a group of the wide forms; of the gated ones half as many.</summary>
    public const int TileColumns = 2;

    /// <summary>Outputs of a group of <see cref="EightRowsHalf"/>; of the gated form half as many.</summary>
    public const int WideTileColumns = 8;

    private const int Warps = GroupSize / KernelMath.WarpSize;

    /// <summary>Values of shared memory: two sums of eight rows for every warp.</summary>
    internal const int SharedSums = Warps * TileColumns * 8;

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

    /// <summary>
    /// Weights of two bytes. Grid (⌈out/2⌉), group 128; rows of x beyond <paramref name="rows"/> are not read. With <paramref name="cap"/> above 0 what is
    /// written is cap·tanh(y/cap): the logits, which then go through memory once, not three times.
    /// </summary>
    public static void Half<TWeight, TRows>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride, float cap)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TRows : struct, IRowCount
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(SharedSums);
        int first = Grid.IdxX * TileColumns;
        int second = first + 1 < outputs ? first + 1 : first;
        RowSums a = default, b = default;
        HalfDots<TWeight, TRows>(x, weight, (long)first * columns, (long)second * columns, rows, columns, xStride, ref a, ref b);
        WriteSums<TRows>(a, b, shared, destination, first, rows, outputs, stride, cap);
    }

    /// <summary>Up to eight rows, weights of two bytes. Grid (⌈out/8⌉), group 128; otherwise as <see cref="Half"/>, with the same bits.</summary>
    public static void EightRowsHalf<TWeight>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride, float cap)
        where TWeight : unmanaged, IHalfWeight<TWeight>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(SharedSums);
        int first = Grid.IdxX * WideTileColumns;
        RowSums8 sums = default;
        EightDots<TWeight>(x, weight, first, 1, outputs, 0, rows, columns, xStride, ref sums);
        WriteSums<Rows8>(sums.A, sums.B, shared, destination, first, rows, outputs, stride, cap);
        Group.Barrier();
        WriteSums<Rows8>(sums.C, sums.D, shared, destination, first + 2, rows, outputs, stride, cap);
        Group.Barrier();
        WriteSums<Rows8>(sums.E, sums.F, shared, destination, first + 4, rows, outputs, stride, cap);
        Group.Barrier();
        WriteSums<Rows8>(sums.G, sums.H, shared, destination, first + 6, rows, outputs, stride, cap);
    }

    /// <summary>float32 weights. Launch as <see cref="Half"/>.</summary>
    public static void Float<TRows>(
        ArrayView<Float4> x, ArrayView<Float4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride, float cap)
        where TRows : struct, IRowCount
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(SharedSums);
        int first = Grid.IdxX * TileColumns;
        int second = first + 1 < outputs ? first + 1 : first;
        RowSums a = default, b = default;
        FloatDots<TRows>(x, weight, (long)first * columns, (long)second * columns, Group.IdxX, GroupSize, rows, columns, xStride,
            ref a, ref b);
        WriteSums<TRows>(a, b, shared, destination, first, rows, outputs, stride, cap);
    }

    /// <summary>
    /// h[t, r] = gelu(x·G_r)·(x·U_r), weight [2·outputs, in] with G above U. Grid (outputs), group 128.
    /// </summary>
    public static void GatedHalf<TWeight, TRows>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TRows : struct, IRowCount
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(SharedSums);
        int r = Grid.IdxX;
        RowSums gate = default, up = default;
        HalfDots<TWeight, TRows>(x, weight, (long)r * columns, ((long)outputs + r) * columns, rows, columns, xStride, ref gate, ref up);
        WriteGated<TRows>(gate, up, shared, destination, r, rows, stride);
    }

    /// <summary>As <see cref="GatedHalf"/> with four gates and their ups a group. Grid (⌈outputs/4⌉), group 128.</summary>
    public static void EightRowsGatedHalf<TWeight>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TWeight : unmanaged, IHalfWeight<TWeight>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(SharedSums);
        int first = Grid.IdxX * (WideTileColumns / 2);
        RowSums8 sums = default;
        EightDots<TWeight>(x, weight, first, 0, outputs, outputs, rows, columns, xStride, ref sums);
        WriteGatedOf(sums.A, sums.B, shared, destination, first, rows, outputs, stride);
        WriteGatedOf(sums.C, sums.D, shared, destination, first + 1, rows, outputs, stride);
        WriteGatedOf(sums.E, sums.F, shared, destination, first + 2, rows, outputs, stride);
        WriteGatedOf(sums.G, sums.H, shared, destination, first + 3, rows, outputs, stride);
    }

    /// <summary>As <see cref="GatedHalf"/> for float32 weights.</summary>
    public static void GatedFloat<TRows>(
        ArrayView<Float4> x, ArrayView<Float4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TRows : struct, IRowCount
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(SharedSums);
        int r = Grid.IdxX;
        RowSums gate = default, up = default;
        FloatDots<TRows>(x, weight, (long)r * columns, ((long)outputs + r) * columns, Group.IdxX, GroupSize, rows, columns, xStride,
            ref gate, ref up);
        WriteGated<TRows>(gate, up, shared, destination, r, rows, stride);
    }

    /// <summary>
    /// Asks for the first 4 KiB of a group's two rows of two-byte weights, which begin at values <paramref name="first"/> and <paramref name="second"/>, then waits for the launch before this
    /// one: no kernel writes weights, so they may come while that one ends.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void WaitForGrid(ArrayView<Words4> weight, long first, long second, int columns)
    {
        // A thread asks for 64 bytes, or again for the last piece of a shorter row.
        int piece = Math.Min((Group.IdxX & 63) * 4, (columns / 8) - 1);
        Ptx.Prefetch(ref weight.SubView(((Group.IdxX < 64 ? first : second) / 8) + piece).Cast<uint>()[0]);
        Ptx.WaitForGrid();
    }

    /// <summary><see cref="WaitForGrid"/>, then the dot products of a group.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void HalfDots<TWeight, TRows>(
        ArrayView<Float4> x, ArrayView<Words4> weight, long first, long second, int rows, int columns, int xStride, ref RowSums a,
        ref RowSums b)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TRows : struct, IRowCount
    {
        WaitForGrid(weight, first, second, columns);
        HalfDots<TWeight, TRows>(x, weight, first, second, Group.IdxX, GroupSize, rows, columns, xStride, ref a, ref b);
    }

    /// <summary>
    /// This thread's part of the dot products of two weight rows with every row of x: the pieces from <paramref name="i"/> on,
    /// <paramref name="step"/> apart, both the same to a multiple of 32 in all lanes of a warp. Offsets and strides in values.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void HalfDots<TWeight, TRows>(
        ArrayView<Float4> x, ArrayView<Words4> weight, long first, long second, int i, int step, int rows, int columns, int xStride,
        ref RowSums a, ref RowSums b)
        where TWeight : unmanaged, IHalfWeight<TWeight>
        where TRows : struct, IRowCount
    {
        int octets = Ptx.Once(columns / 8);
        RowStarts starts = Starts<TRows>(rows, xStride / 4);
        long rowA = Ptx.Once(first / 8), rowB = Ptx.Once(second / 8);
        // While the last lane of the warp has two pieces, all have.
        for (; (i | (KernelMath.WarpSize - 1)) + step < octets; i += 2 * step)
        {
            Words4 a0 = weight[rowA + i], b0 = weight[rowB + i], a1 = weight[rowA + i + step], b1 = weight[rowB + i + step];
            Warp.Barrier();
            AddOctets<TWeight, TRows>(x, 2L * i, starts, a0, b0, ref a, ref b);
            AddOctets<TWeight, TRows>(x, 2L * (i + step), starts, a1, b1, ref a, ref b);
        }

        for (; i < octets; i += step)
            AddOctets<TWeight, TRows>(x, 2L * i, starts, weight[rowA + i], weight[rowB + i], ref a, ref b);
    }

    // Outputs that are not there are computed from the last one and not written. Of a pair the second is the next output, or with apart = 0 the up, 'up' rows further.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void EightDots<TWeight>(
        ArrayView<Float4> x, ArrayView<Words4> weight, int first, int apart, int outputs, int up, int rows, int columns, int xStride,
        ref RowSums8 sums)
        where TWeight : unmanaged, IHalfWeight<TWeight>
    {
        int octets = Ptx.Once(columns / 8), pairs = 1 + apart;
        RowStarts starts = Starts<Rows8>(rows, xStride / 4);
        // Both of a pair are the same row, an up apart, where there is an up.
        long top = Ptx.Once((long)first * octets), other = Ptx.Once((long)up * octets);
        int b = Ptx.Once(Further(first, apart, outputs, octets)), c = Ptx.Once(Further(first, pairs, outputs, octets));
        int d = Ptx.Once(Further(first, pairs + apart, outputs, octets)), e = Ptx.Once(Further(first, 2 * pairs, outputs, octets));
        int f = Ptx.Once(Further(first, (2 * pairs) + apart, outputs, octets)), g = Ptx.Once(Further(first, 3 * pairs, outputs, octets));
        int h = Ptx.Once(Further(first, (3 * pairs) + apart, outputs, octets));
        for (int i = Group.IdxX; i < octets; i += GroupSize)
        {
            long at = Ptx.Once(top + i), atOther = Ptx.Once(at + other);
            Words4 wa = weight[at], wb = weight[atOther + b], wc = weight[at + c], wd = weight[atOther + d];
            Words4 we = weight[at + e], wf = weight[atOther + f], wg = weight[at + g], wh = weight[atOther + h];
            // While the last lane of the warp has a piece, all have.
            if ((i | (KernelMath.WarpSize - 1)) < octets)
                Warp.Barrier();
            AddEight(x, 2L * i, starts, WidenFirst<TWeight>(wa), WidenFirst<TWeight>(wb), WidenFirst<TWeight>(wc), WidenFirst<TWeight>(wd),
                WidenFirst<TWeight>(we), WidenFirst<TWeight>(wf), WidenFirst<TWeight>(wg), WidenFirst<TWeight>(wh), ref sums);
            AddEight(x, (2L * i) + 1, starts, WidenLast<TWeight>(wa), WidenLast<TWeight>(wb), WidenLast<TWeight>(wc),
                WidenLast<TWeight>(wd), WidenLast<TWeight>(we), WidenLast<TWeight>(wf), WidenLast<TWeight>(wg), WidenLast<TWeight>(wh),
                ref sums);
        }
    }

    // Pieces from the first output to the one that is n further, or to the last.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Further(int first, int n, int outputs, int octets) => (first + n < outputs ? n : outputs - 1 - first) * octets;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Float4 WidenFirst<TWeight>(Words4 w)
        where TWeight : unmanaged, IHalfWeight<TWeight> => Widen<TWeight>(w.X, w.Y);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Float4 WidenLast<TWeight>(Words4 w)
        where TWeight : unmanaged, IHalfWeight<TWeight> => Widen<TWeight>(w.Z, w.W);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddEight(ArrayView<Float4> x, long at, RowStarts starts, Float4 a, Float4 b, Float4 c, Float4 d, Float4 e, Float4 f,
        Float4 g, Float4 h, ref RowSums8 s)
    {
        AddFour(x[at], a, b, c, d, ref s.A.R0, ref s.B.R0, ref s.C.R0, ref s.D.R0, e, f, g, h, ref s.E.R0, ref s.F.R0, ref s.G.R0,
            ref s.H.R0);
        AddFour(x[at + starts.R1], a, b, c, d, ref s.A.R1, ref s.B.R1, ref s.C.R1, ref s.D.R1, e, f, g, h, ref s.E.R1, ref s.F.R1,
            ref s.G.R1, ref s.H.R1);
        AddFour(x[at + starts.R2], a, b, c, d, ref s.A.R2, ref s.B.R2, ref s.C.R2, ref s.D.R2, e, f, g, h, ref s.E.R2, ref s.F.R2,
            ref s.G.R2, ref s.H.R2);
        AddFour(x[at + starts.R3], a, b, c, d, ref s.A.R3, ref s.B.R3, ref s.C.R3, ref s.D.R3, e, f, g, h, ref s.E.R3, ref s.F.R3,
            ref s.G.R3, ref s.H.R3);
        AddFour(x[at + starts.R4], a, b, c, d, ref s.A.R4, ref s.B.R4, ref s.C.R4, ref s.D.R4, e, f, g, h, ref s.E.R4, ref s.F.R4,
            ref s.G.R4, ref s.H.R4);
        AddFour(x[at + starts.R5], a, b, c, d, ref s.A.R5, ref s.B.R5, ref s.C.R5, ref s.D.R5, e, f, g, h, ref s.E.R5, ref s.F.R5,
            ref s.G.R5, ref s.H.R5);
        AddFour(x[at + starts.R6], a, b, c, d, ref s.A.R6, ref s.B.R6, ref s.C.R6, ref s.D.R6, e, f, g, h, ref s.E.R6, ref s.F.R6,
            ref s.G.R6, ref s.H.R6);
        AddFour(x[at + starts.R7], a, b, c, d, ref s.A.R7, ref s.B.R7, ref s.C.R7, ref s.D.R7, e, f, g, h, ref s.E.R7, ref s.F.R7,
            ref s.G.R7, ref s.H.R7);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddFour(Float4 v, Float4 a, Float4 b, Float4 c, Float4 d, ref float sa, ref float sb, ref float sc, ref float sd,
        Float4 e, Float4 f, Float4 g, Float4 h, ref float se, ref float sf, ref float sg, ref float sh)
    {
        sa = Dot(v, a, sa);
        sb = Dot(v, b, sb);
        sc = Dot(v, c, sc);
        sd = Dot(v, d, sd);
        se = Dot(v, e, se);
        sf = Dot(v, f, sf);
        sg = Dot(v, g, sg);
        sh = Dot(v, h, sh);
    }

    /// <summary>As the dot products of weights of two bytes, for float32 weights.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void FloatDots<TRows>(
        ArrayView<Float4> x, ArrayView<Float4> weight, long first, long second, int i, int step, int rows, int columns, int xStride,
        ref RowSums a, ref RowSums b)
        where TRows : struct, IRowCount
    {
        int quads = Ptx.Once(columns / 4);
        RowStarts starts = Starts<TRows>(rows, xStride / 4);
        long rowA = Ptx.Once(first / 4), rowB = Ptx.Once(second / 4);
        for (; (i | (KernelMath.WarpSize - 1)) + step < quads; i += 2 * step)
        {
            Float4 a0 = weight[rowA + i], b0 = weight[rowB + i], a1 = weight[rowA + i + step], b1 = weight[rowB + i + step];
            Warp.Barrier();
            AddQuads<TRows>(x, i, starts, a0, b0, ref a, ref b);
            AddQuads<TRows>(x, i + step, starts, a1, b1, ref a, ref b);
        }

        for (; i < quads; i += step)
            AddQuads<TRows>(x, i, starts, weight[rowA + i], weight[rowB + i], ref a, ref b);
    }

    /// <summary>
    /// Σ over the lanes of a warp, one of the 2·rows sums in each lane: with L = 16/rows lanes a sum, lane l has that of output l/16 and row
    /// (l mod 16)/L. Of its sums a lane keeps one half and passes on the other, at distance 16, 8, … until one is left. The terms of a sum meet
    /// as in <see cref="KernelMath.WarpSum"/>, so that its bits do not depend on the number of rows.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float LaneSum<TRows>(RowSums a, RowSums b)
        where TRows : struct, IRowCount
    {
        float s0 = Halve(a.R0, b.R0, 16);
        if (TRows.Count > 1)
        {
            float s1 = Halve(a.R1, b.R1, 16);
            if (TRows.Count > 2)
            {
                float s2 = Halve(a.R2, b.R2, 16), s3 = Halve(a.R3, b.R3, 16);
                if (TRows.Count > 4)
                {
                    s0 = Halve(s0, Halve(a.R4, b.R4, 16), 8);
                    s1 = Halve(s1, Halve(a.R5, b.R5, 16), 8);
                    s2 = Halve(s2, Halve(a.R6, b.R6, 16), 8);
                    s3 = Halve(s3, Halve(a.R7, b.R7, 16), 8);
                }

                s0 = Halve(s0, s2, TRows.Count > 4 ? 4 : 8);
                s1 = Halve(s1, s3, TRows.Count > 4 ? 4 : 8);
            }

            s0 = Halve(s0, s1, 16 / TRows.Count);
        }

        if (TRows.Count < 2)
            s0 += Warp.ShuffleXor(s0, 8);
        if (TRows.Count < 4)
            s0 += Warp.ShuffleXor(s0, 4);
        if (TRows.Count < 8)
            s0 += Warp.ShuffleXor(s0, 2);
        return s0 + Warp.ShuffleXor(s0, 1);
    }

    // The lanes below the distance go on with the first sum, the others with the second.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Halve(float first, float second, int distance)
    {
        bool upper = (Group.IdxX & distance) != 0;
        return (upper ? second : first) + Warp.ShuffleXor(upper ? first : second, distance);
    }

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
        sumA = Dot(v, a, sumA);
        sumB = Dot(v, b, sumB);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float Dot(Float4 v, Float4 w, float sum) =>
        Ptx.MultiplyAdd(v.W, w.W, Ptx.MultiplyAdd(v.Z, w.Z, Ptx.MultiplyAdd(v.Y, w.Y, Ptx.MultiplyAdd(v.X, w.X, sum))));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteSums<TRows>(
        RowSums a, RowSums b, ArrayView<float> shared, ArrayView<float> destination, int first, int rows, int outputs, int stride,
        float cap)
        where TRows : struct, IRowCount
    {
        ShareSums<TRows>(a, b, shared);
        int output = first + (Group.IdxX / TRows.Count), row = Group.IdxX & (TRows.Count - 1);
        if (Group.IdxX >= TileColumns * TRows.Count || row >= rows || output >= outputs)
            return;
        float sum = WarpsSum<TRows>(shared, Group.IdxX);
        destination[((long)row * stride) + output] = cap > 0f ? KernelMath.Softcap(sum, cap) : sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteGated<TRows>(
        RowSums gate, RowSums up, ArrayView<float> shared, ArrayView<float> destination, int output, int rows, int stride)
        where TRows : struct, IRowCount
    {
        ShareSums<TRows>(gate, up, shared);
        int row = Group.IdxX;
        if (row < TRows.Count && row < rows)
        {
            float h = KernelMath.Gelu(WarpsSum<TRows>(shared, row)) * WarpsSum<TRows>(shared, row + TRows.Count);
            destination[((long)row * stride) + output] = h;
        }
    }

    // An output that is not there is left out by the whole group.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteGatedOf(
        RowSums gate, RowSums up, ArrayView<float> shared, ArrayView<float> destination, int output, int rows, int outputs, int stride)
    {
        if (output < outputs)
            WriteGated<Rows8>(gate, up, shared, destination, output, rows, stride);
        Group.Barrier();
    }

    // shared[w·2·rows + output·rows + row]: the sums of warp w.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void ShareSums<TRows>(RowSums a, RowSums b, ArrayView<float> shared)
        where TRows : struct, IRowCount
    {
        float sum = LaneSum<TRows>(a, b);
        int lanes = 16 / TRows.Count;
        // Sum l/L of warp w is number (32w + l)/L of all.
        if ((Group.IdxX & (lanes - 1)) == 0)
            shared[Group.IdxX / lanes] = sum;
        Group.Barrier();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float WarpsSum<TRows>(ArrayView<float> shared, int at)
        where TRows : struct, IRowCount
    {
        float sum = shared[at];
        for (int w = 1; w < Warps; w++)
            sum += shared[(w * TileColumns * TRows.Count) + at];
        return sum;
    }
}
