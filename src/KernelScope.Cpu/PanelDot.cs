using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Few rows of x against a packed matrix (<see cref="PanelLayout"/>): a panel's outputs live in registers while its inputs pass by as one stream.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[j, i]; in blocks of 256 inputs, one input after the other, whatever the number of rows: a row gets the same bits alone and among others. There are no sums across a vector. Of compact panels the sum is made of values as the window's codes read, and multiplied by its scale, a power of two, which changes no bit of it;
/// at the end each exception adds w·x and takes away what its code added. Where many tiles pass over a compact panel, its blocks are widened once instead, to pairs of bfloat16 in the first-level cache, exceptions in their places.
/// Bytes: each weight once from memory (again from the first-level cache for more rows than a tile has); flops: 2·rows·in·out.
/// </remarks>
internal static unsafe class PanelDot<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>Most rows of a tile: two accumulators each, beside the weights and, of two-byte types, what widens them.</summary>
    private static int TileRows<E>()
        where E : struct, IPanelElement => S.Lanes >= 16 ? 8 : E.IsWide ? 6 : 5;

    /// <summary>Inputs that are summed before the sum joins those before it: long sums lose fewer bits so, and a block stays in the first-level cache for the panel's other tiles.</summary>
    private const int BlockInputs = TransposePanel.Inputs;

    // With more rows, narrow vectors take a compact panel from a widened copy: each pass over it would take its codes apart again.
    private const int StreamedRows = 8;

    /// <summary>Outputs of a tile of several rows: the whole panel with AVX-512, a part of it with narrower vectors.</summary>
    private static int Columns => 2 * S.Lanes;

    /// <summary>Outputs of a tile of so many rows.</summary>
    private static int Width(int rows) => rows <= 2 && S.Lanes < 16 ? 2 * Columns : Columns;

    /// <summary>Some outputs of all rows. <paramref name="pairs"/> is memory for a widened block.</summary>
    public static void Range<E>(Product* product, StoredMatrix* part, uint* pairs, int first, int count, float* y, long stride)
        where E : struct, IPanelElement
    {
        float* sums = stackalloc float[product->Rows * PanelLayout.Outputs];
        bool widens = E.HasWindow && S.Lanes < 16 && product->Rows > StreamedRows;
        int end = first + count;
        for (int j = first / PanelLayout.Outputs * PanelLayout.Outputs; j < end; j += PanelLayout.Outputs)
        {
            int index = j / PanelLayout.Outputs;
            int skip = Math.Max(first - j, 0), columns = Math.Min(PanelLayout.Outputs, end - j) - skip;
            bool isWhole = columns == PanelLayout.Outputs;
            float* here = y + (j + skip - first), target = isWhole ? here : sums;
            long targetStride = isWhole ? stride : PanelLayout.Outputs;
            if (widens)
                Widened(product, part, index, pairs, target, targetStride);
            else
                Panel<E>(product, part, index, target, targetStride);
            for (int m = 0; !isWhole && m < product->Rows; m++)
                NativeMemory.Copy(sums + (m * PanelLayout.Outputs) + skip, here + (m * stride), (nuint)columns * sizeof(float));
        }
    }

    private static void Widened(Product* product, StoredMatrix* part, int index, uint* pairs, float* y, long stride)
    {
        byte* panel = part->Panels + (index * part->PanelBytes);
        for (int i = 0; i < product->Inputs; i += BlockInputs)
        {
            int depth = Math.Min(BlockInputs, product->Inputs - i);
            byte* block = panel + ((long)(i / PanelLayout.CompactInputs) * PanelLayout.CompactBytes);
            Bf16Blocks<S, V>.ExpandPanel(part, index, block, i, depth, pairs);
            Block<PanelBf16>(product, (byte*)pairs, i, depth, 1, y, stride);
        }
    }

    private static void Panel<E>(Product* product, StoredMatrix* part, int index, float* y, long stride)
        where E : struct, IPanelElement
    {
        byte* panel = part->Panels + (index * part->PanelBytes);
        float scale = E.HasWindow ? part->Windows[index].Scale : 1;
        int inputs = product->Inputs;
        PrefetchTo ahead = Ahead<E>(product->Rows);
        for (int i = 0; i == 0 || i < inputs; i += BlockInputs)
            Block<E>(product, panel + ((long)(i / E.GroupInputs) * E.GroupBytes), i, Math.Min(BlockInputs, inputs - i), scale, y,
                stride, ahead);

        if (E.HasWindow)
            AddExceptions(product, part, index, y, stride);
    }

    /// <summary>Where the panels that come next are prefetched to: several tiles read them again, which a passing line might not live to see.</summary>
    private static PrefetchTo Ahead<E>(int rows)
        where E : struct, IPanelElement
    {
        // These take float32 as fast as memory gives it, and are up to 1.2 times as slow with prefetches of ours beside the processor's own.
        if (E.IsWide && (S.Lanes < 16 ? rows == 1 : rows is > 1 and <= 4))
            return PrefetchTo.Nothing;
        if (E.IsWide && S.Lanes < 16)
            return PrefetchTo.NextBlock;
        return rows > TileRows<E>() ? PrefetchTo.Near : PrefetchTo.Passing;
    }

    private static void AddExceptions(Product* product, StoredMatrix* part, int index, float* y, long stride)
    {
        float* x = product->X;
        long xStride = product->XStride;
        float zero = part->Windows[index].Zero;
        foreach (PanelException e in part->Table.ExceptionsOf(index))
        {
            for (int m = 0; m < product->Rows; m++)
            {
                float* sum = y + (m * stride) + e.Output;
                float u = x[(m * xStride) + e.Input];
                *sum = MathF.FusedMultiplyAdd(-zero, u, MathF.FusedMultiplyAdd(e.Value, u, *sum));
            }
        }
    }

    /// <summary>All rows over some inputs of a panel, in tiles of nearly equal height. The sums of the inputs before are in y.</summary>
    /// <param name="product">The product.</param>
    /// <param name="block">The panel's weights of those inputs.</param>
    /// <param name="firstInput">The first of them.</param>
    /// <param name="inputs">Their number.</param>
    /// <param name="scale">What sums are multiplied by.</param>
    /// <param name="y">The sums of the first row.</param>
    /// <param name="stride">Distance of rows of y.</param>
    /// <param name="ahead">Where weights behind these are prefetched to; nothing where the block is in a cache and what follows it will not be read.</param>
    public static void Block<E>(Product* product, byte* block, int firstInput, int inputs, float scale, float* y, long stride,
        PrefetchTo ahead = PrefetchTo.Nothing)
        where E : struct, IPanelElement
    {
        int rows = product->Rows, tiles = (rows + TileRows<E>() - 1) / TileRows<E>(), height = (rows + tiles - 1) / tiles;
        int passes = tiles * (PanelLayout.Outputs / Width(height)), pass = 0;
        long xStride = product->XStride;
        for (int t = 0; t < rows; t += height)
        {
            float* x = product->X + (t * xStride) + firstInput, sums = y + (t * stride);
            int here = Math.Min(height, rows - t), width = Width(here);
            for (int j = 0; j < PanelLayout.Outputs; j += width, pass++)
            {
                var next = new PanelPrefetch(ahead, pass, passes, block, inputs / E.GroupInputs, E.GroupBytes);
                byte* w = block + (j * sizeof(float));
                if (width > Columns)
                    Broad<E>(here, w, x, xStride, inputs, scale, sums + j, stride, firstInput > 0, next);
                else
                    Tile<E>(here, w, x, xStride, inputs, scale, sums + j, stride, firstInput > 0, next);
            }
        }
    }

    private static void Tile<E>(int rows, byte* w, float* x, long xStride, int inputs, float scale, float* y, long stride, bool add,
        PanelPrefetch next)
        where E : struct, IPanelElement
    {
        switch (rows)
        {
            case 1:
                Tile<E, OneRow>(w, x, xStride, inputs, scale, y, stride, add, next);
                break;
            case 2:
                Tile<E, TwoRows>(w, x, xStride, inputs, scale, y, stride, add, next);
                break;
            case 3:
                Tile<E, ThreeRows>(w, x, xStride, inputs, scale, y, stride, add, next);
                break;
            case 4:
                Tile<E, FourRows>(w, x, xStride, inputs, scale, y, stride, add, next);
                break;
            case 5:
                Tile<E, FiveRows>(w, x, xStride, inputs, scale, y, stride, add, next);
                break;
            case 6:
                Tile<E, SixRows>(w, x, xStride, inputs, scale, y, stride, add, next);
                break;
            case 7:
                Tile<E, SevenRows>(w, x, xStride, inputs, scale, y, stride, add, next);
                break;
            default:
                Tile<E, EightRows>(w, x, xStride, inputs, scale, y, stride, add, next);
                break;
        }
    }

    // a_mn: row m of x, vector n of outputs. Branches on T.Rows vanish.
    // Inlined into the switch, this is too much for the compiler's budget, and accumulators travel through memory.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Tile<E, T>(byte* w, float* x, long xStride, int inputs, float scale, float* y, long stride, bool add,
        PanelPrefetch next)
        where E : struct, IPanelElement
        where T : struct, IRowCount
    {
        V a00 = default, a01 = default, a10 = default, a11 = default, a20 = default, a21 = default;
        V a30 = default, a31 = default, a40 = default, a41 = default, a50 = default, a51 = default, a60 = default, a61 = default,
            a70 = default, a71 = default;
        byte* end = w + ((long)(inputs / E.GroupInputs) * E.GroupBytes);
        for (; w < end; w += E.GroupBytes, x += E.GroupInputs)
        {
            next.Issue(w, E.GroupBytes);
            Step<E, T>(w, 0, x, xStride, ref a00, ref a01, ref a10, ref a11, ref a20, ref a21, ref a30, ref a31, ref a40, ref a41, ref a50,
                ref a51, ref a60, ref a61, ref a70, ref a71);
            if (E.GroupInputs == 8)
            {
                Step<E, T>(w, 1, x + 2, xStride, ref a00, ref a01, ref a10, ref a11, ref a20, ref a21, ref a30, ref a31, ref a40, ref a41,
                    ref a50, ref a51, ref a60, ref a61, ref a70, ref a71);
                Step<E, T>(w, 2, x + 4, xStride, ref a00, ref a01, ref a10, ref a11, ref a20, ref a21, ref a30, ref a31, ref a40, ref a41,
                    ref a50, ref a51, ref a60, ref a61, ref a70, ref a71);
                Step<E, T>(w, 3, x + 6, xStride, ref a00, ref a01, ref a10, ref a11, ref a20, ref a21, ref a30, ref a31, ref a40, ref a41,
                    ref a50, ref a51, ref a60, ref a61, ref a70, ref a71);
            }
        }

        int rest = inputs % E.GroupInputs, pair = 0;
        for (; pair < rest / 2; pair++, x += 2)
            Step<E, T>(w, pair, x, xStride, ref a00, ref a01, ref a10, ref a11, ref a20, ref a21, ref a30, ref a31, ref a40, ref a41,
                ref a50, ref a51, ref a60, ref a61, ref a70, ref a71);
        if (inputs % 2 != 0)
        {
            V e0 = E.Single<S, V>(w, pair), e1 = E.Single<S, V>(w + (S.Lanes * sizeof(float)), pair);
            Add(x[0], e0, e1, ref a00, ref a01);
            if (T.Rows > 1)
                Add(x[xStride], e0, e1, ref a10, ref a11);
            if (T.Rows > 2)
                Add(x[2 * xStride], e0, e1, ref a20, ref a21);
            if (T.Rows > 3)
                Add(x[3 * xStride], e0, e1, ref a30, ref a31);
            if (T.Rows > 4)
                Add(x[4 * xStride], e0, e1, ref a40, ref a41);
            if (T.Rows > 5)
                Add(x[5 * xStride], e0, e1, ref a50, ref a51);
            if (T.Rows > 6)
                Add(x[6 * xStride], e0, e1, ref a60, ref a61);
            if (T.Rows > 7)
                Add(x[7 * xStride], e0, e1, ref a70, ref a71);
        }

        Store<E>(a00, a01, scale, y, add);
        if (T.Rows > 1)
            Store<E>(a10, a11, scale, y + stride, add);
        if (T.Rows > 2)
            Store<E>(a20, a21, scale, y + (2 * stride), add);
        if (T.Rows > 3)
            Store<E>(a30, a31, scale, y + (3 * stride), add);
        if (T.Rows > 4)
            Store<E>(a40, a41, scale, y + (4 * stride), add);
        if (T.Rows > 5)
            Store<E>(a50, a51, scale, y + (5 * stride), add);
        if (T.Rows > 6)
            Store<E>(a60, a61, scale, y + (6 * stride), add);
        if (T.Rows > 7)
            Store<E>(a70, a71, scale, y + (7 * stride), add);
    }

    /// <summary>One row or two: their tiles are four vectors wide, so that as many chains of multiply-adds run side by side.</summary>
    private static void Broad<E>(int rows, byte* w, float* x, long xStride, int inputs, float scale, float* y, long stride, bool add,
        PanelPrefetch next)
        where E : struct, IPanelElement
    {
        if (rows == 1)
            Broad<E, OneRow>(w, x, xStride, inputs, scale, y, stride, add, next);
        else
            Broad<E, TwoRows>(w, x, xStride, inputs, scale, y, stride, add, next);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Broad<E, T>(byte* w, float* x, long xStride, int inputs, float scale, float* y, long stride, bool add,
        PanelPrefetch next)
        where E : struct, IPanelElement
        where T : struct, IRowCount
    {
        V a0 = default, a1 = default, a2 = default, a3 = default, b0 = default, b1 = default, b2 = default, b3 = default;
        byte* end = w + ((long)(inputs / E.GroupInputs) * E.GroupBytes);
        for (; w < end; w += E.GroupBytes)
        {
            next.Issue(w, E.GroupBytes);
            for (int pair = 0; pair < E.GroupInputs / 2; pair++, x += 2)
                Pair<E, T>(w, pair, x, xStride, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
        }

        int last = 0;
        for (; last < inputs % E.GroupInputs / 2; last++, x += 2)
            Pair<E, T>(w, last, x, xStride, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
        if (inputs % 2 != 0)
        {
            V w0 = E.Single<S, V>(w, last), w1 = E.Single<S, V>(w + (S.Lanes * sizeof(float)), last);
            V w2 = E.Single<S, V>(w + (2 * S.Lanes * sizeof(float)), last), w3 = E.Single<S, V>(w + (3 * S.Lanes * sizeof(float)), last);
            Quad<S, V>.Add(S.All(x[0]), w0, w1, w2, w3, ref a0, ref a1, ref a2, ref a3);
            if (T.Rows > 1)
                Quad<S, V>.Add(S.All(x[xStride]), w0, w1, w2, w3, ref b0, ref b1, ref b2, ref b3);
        }

        Store<E>(a0, a1, scale, y, add);
        Store<E>(a2, a3, scale, y + (2 * S.Lanes), add);
        if (T.Rows > 1)
        {
            Store<E>(b0, b1, scale, y + stride, add);
            Store<E>(b2, b3, scale, y + stride + (2 * S.Lanes), add);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Pair<E, T>(byte* w, int pair, float* x, long xStride, ref V a0, ref V a1, ref V a2, ref V a3, ref V b0, ref V b1,
        ref V b2, ref V b3)
        where E : struct, IPanelElement
        where T : struct, IRowCount
    {
        PairOfTwo<E, T>(w, pair, x, xStride, ref a0, ref a1, ref b0, ref b1);
        PairOfTwo<E, T>(w + (2 * S.Lanes * sizeof(float)), pair, x, xStride, ref a2, ref a3, ref b2, ref b3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PairOfTwo<E, T>(byte* w, int pair, float* x, long xStride, ref V a0, ref V a1, ref V b0, ref V b1)
        where E : struct, IPanelElement
        where T : struct, IRowCount
    {
        E.Pair<S, V>(w, pair, out V e0, out V o0);
        E.Pair<S, V>(w + (S.Lanes * sizeof(float)), pair, out V e1, out V o1);
        AddPair(x, e0, e1, o0, o1, ref a0, ref a1);
        if (T.Rows > 1)
            AddPair(x + xStride, e0, e1, o0, o1, ref b0, ref b1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step<E, T>(
        byte* w, int pair, float* x, long xStride,
        ref V a00, ref V a01, ref V a10, ref V a11, ref V a20, ref V a21, ref V a30, ref V a31, ref V a40, ref V a41, ref V a50, ref V a51,
        ref V a60, ref V a61, ref V a70, ref V a71)
        where E : struct, IPanelElement
        where T : struct, IRowCount
    {
        E.Pair<S, V>(w, pair, out V e0, out V o0);
        E.Pair<S, V>(w + (S.Lanes * sizeof(float)), pair, out V e1, out V o1);
        AddPair(x, e0, e1, o0, o1, ref a00, ref a01);
        if (T.Rows > 1)
            AddPair(x + xStride, e0, e1, o0, o1, ref a10, ref a11);
        if (T.Rows > 2)
            AddPair(x + (2 * xStride), e0, e1, o0, o1, ref a20, ref a21);
        if (T.Rows > 3)
            AddPair(x + (3 * xStride), e0, e1, o0, o1, ref a30, ref a31);
        if (T.Rows > 4)
            AddPair(x + (4 * xStride), e0, e1, o0, o1, ref a40, ref a41);
        if (T.Rows > 5)
            AddPair(x + (5 * xStride), e0, e1, o0, o1, ref a50, ref a51);
        if (T.Rows > 6)
            AddPair(x + (6 * xStride), e0, e1, o0, o1, ref a60, ref a61);
        if (T.Rows > 7)
            AddPair(x + (7 * xStride), e0, e1, o0, o1, ref a70, ref a71);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddPair(float* x, V e0, V e1, V o0, V o1, ref V a0, ref V a1)
    {
        Add(x[0], e0, e1, ref a0, ref a1);
        Add(x[1], o0, o1, ref a0, ref a1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add(float x, V w0, V w1, ref V a0, ref V a1)
    {
        V u = S.All(x);
        a0 = S.MultiplyAdd(u, w0, a0);
        a1 = S.MultiplyAdd(u, w1, a1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<E>(V a0, V a1, float scale, float* y, bool add)
        where E : struct, IPanelElement
    {
        if (E.HasWindow)
        {
            a0 = S.Multiply(a0, S.All(scale));
            a1 = S.Multiply(a1, S.All(scale));
        }

        S.Store(add ? S.Add(S.Load(y), a0) : a0, y);
        S.Store(add ? S.Add(S.Load(y + S.Lanes), a1) : a1, y + S.Lanes);
    }
}
