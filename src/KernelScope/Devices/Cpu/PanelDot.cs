using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KernelScope.Files;

namespace KernelScope.Devices.Cpu;

/// <summary>Few rows of x against a packed matrix (<see cref="PanelLayout"/>): a panel's outputs live in registers while its inputs pass by as one stream.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[j, i]; in blocks of 256 inputs; of one row a block's even and odd inputs are summed apart, of several one input follows the other. There are no sums across a vector.
/// Bytes: each weight once from memory (again from cache for more than 6 rows); flops: 2·rows·in·out.
/// </remarks>
internal static unsafe class PanelDot<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    private const int TileRows = 6;

    /// <summary>Pairs of inputs that are summed before the sum joins those before it: long sums lose fewer bits so, and a block stays in the first-level cache for the panel's other tiles.</summary>
    private const int BlockPairs = 128;

    // Bytes from what is computed with to what is asked for; measured best of 1 to 8 kB.
    private const int Ahead = 2048;

    /// <summary>Outputs of a tile: the whole panel with AVX-512, a part of it with narrower vectors.</summary>
    private static int Columns => 2 * S.Lanes;

    public static void Range<E>(Product* product, StoredPart* part, int first, int count, float* y, long stride)
        where E : struct, IPanelElement
    {
        float* sums = stackalloc float[TileRows * PanelLayout.Outputs];
        long panelBytes = PanelLayout.PanelBytes(part->DType, product->Inputs);
        int end = first + count;
        for (int j = first / PanelLayout.Outputs * PanelLayout.Outputs; j < end; j += PanelLayout.Outputs)
        {
            byte* panel = part->Panels + (j / PanelLayout.Outputs * panelBytes);
            int skip = Math.Max(first - j, 0), columns = Math.Min(PanelLayout.Outputs, end - j) - skip;
            float* target = y + (j + skip - first);
            for (int t = 0; t < product->Rows; t += TileRows)
            {
                int rows = Math.Min(TileRows, product->Rows - t);
                float* x = product->X + (t * product->XStride);
                if (columns == PanelLayout.Outputs)
                {
                    Panel<E>(rows, panel, x, product->XStride, product->Inputs, target + (t * stride), stride);
                    continue;
                }

                Panel<E>(rows, panel, x, product->XStride, product->Inputs, sums, PanelLayout.Outputs);
                for (int m = 0; m < rows; m++)
                    NativeMemory.Copy(sums + (m * PanelLayout.Outputs) + skip, target + ((t + m) * stride), (nuint)columns * sizeof(float));
            }
        }
    }

    private static void Panel<E>(int rows, byte* panel, float* x, long xStride, int inputs, float* y, long stride)
        where E : struct, IPanelElement
    {
        int pairs = (inputs + 1) / 2;
        int p = 0;
        do
        {
            int count = Math.Min(BlockPairs, pairs - p);
            int values = Math.Min(2 * count, inputs - (2 * p));
            for (int j = 0; j < PanelLayout.Outputs; j += Columns)
                Tile<E>(rows, panel + ((long)p * E.PairBytes) + (j * sizeof(float)), x + (2 * p), xStride, values, y + j, stride, p > 0);
            p += count;
        }
        while (p < pairs);
    }

    private static void Tile<E>(int rows, byte* w, float* x, long xStride, int inputs, float* y, long stride, bool add)
        where E : struct, IPanelElement
    {
        switch (rows)
        {
            case 1:
                Tile<E, OneRow>(w, x, xStride, inputs, y, stride, add);
                break;
            case 2:
                Tile<E, TwoRows>(w, x, xStride, inputs, y, stride, add);
                break;
            case 3:
                Tile<E, ThreeRows>(w, x, xStride, inputs, y, stride, add);
                break;
            case 4:
                Tile<E, FourRows>(w, x, xStride, inputs, y, stride, add);
                break;
            case 5:
                Tile<E, FiveRows>(w, x, xStride, inputs, y, stride, add);
                break;
            default:
                Tile<E, SixRows>(w, x, xStride, inputs, y, stride, add);
                break;
        }
    }

    // a_mn: row m of x, vector n of outputs. Branches on T.Rows vanish. One row has too few accumulators to keep the multipliers busy: its odd inputs go to a1n.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile<E, T>(byte* w, float* x, long xStride, int inputs, float* y, long stride, bool add)
        where E : struct, IPanelElement
        where T : struct, IRowCount
    {
        V a00 = default, a01 = default, a10 = default, a11 = default, a20 = default, a21 = default;
        V a30 = default, a31 = default, a40 = default, a41 = default, a50 = default, a51 = default;
        byte* end = w + ((long)(inputs / 2) * E.PairBytes);
        for (; w < end; w += E.PairBytes, x += 2)
        {
            // Of several rows the second pass finds the panel in a cache, and must.
            if (T.Rows == 1)
                Prefetch.Passing(w + Ahead, E.PairBytes);
            E.Pair<S, V>(w, out V e0, out V o0);
            E.Pair<S, V>(w + (S.Lanes * sizeof(float)), out V e1, out V o1);
            Add(x[0], e0, e1, ref a00, ref a01);
            if (T.Rows == 1)
                Add(x[1], o0, o1, ref a10, ref a11);
            else
                Add(x[1], o0, o1, ref a00, ref a01);
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
        }

        if (inputs % 2 != 0)
        {
            V e0 = E.Single<S, V>(w), e1 = E.Single<S, V>(w + (S.Lanes * sizeof(float)));
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
        }

        if (T.Rows == 1)
        {
            a00 = S.Add(a00, a10);
            a01 = S.Add(a01, a11);
        }

        Store(a00, a01, y, add);
        if (T.Rows > 1)
            Store(a10, a11, y + stride, add);
        if (T.Rows > 2)
            Store(a20, a21, y + (2 * stride), add);
        if (T.Rows > 3)
            Store(a30, a31, y + (3 * stride), add);
        if (T.Rows > 4)
            Store(a40, a41, y + (4 * stride), add);
        if (T.Rows > 5)
            Store(a50, a51, y + (5 * stride), add);
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
    private static void Store(V a0, V a1, float* y, bool add)
    {
        S.Store(add ? S.Add(S.Load(y), a0) : a0, y);
        S.Store(add ? S.Add(S.Load(y + S.Lanes), a1) : a1, y + S.Lanes);
    }
}
