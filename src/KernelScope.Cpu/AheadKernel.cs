using System.Runtime.CompilerServices;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Tens of rows of x against a matrix stored [in, out]: while a panel of weights is multiplied, the next is copied, a vector for each input that passes.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[i, j], one multiply-add after the other in the order of i. Copying alone waits for memory and multiplying alone leaves memory idle; a worker's two panels
/// (512 outputs by 128 inputs, widened) lie in its second-level cache. Bytes: each weight once from memory; flops: 2·rows·in·out.
/// </remarks>
internal static unsafe class AheadKernel<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    private static int TileRows => S.TileRows / 2;

    private static int Columns => 4 * S.Lanes;

    public static void Range<E>(Product* product, StoredMatrix* part, int worker, int first, int count, float* y, long stride)
        where E : struct, IElement
    {
        int strips = count / AheadPanel.Outputs;
        if (strips > 0)
            Strips<E>(product, part, worker, first, strips, y, stride);
        int done = strips * AheadPanel.Outputs;
        if (done < count)
            StripKernel<S, V>.Range<E>(product, part, first + done, count - done, y + done, stride);
    }

    private static void Strips<E>(Product* product, StoredMatrix* part, int worker, int first, int strips, float* y, long stride)
        where E : struct, IElement
    {
        float* panel = product->Scratch + (worker * product->ScratchStride), other = panel + ((long)AheadPanel.Outputs * AheadPanel.Inputs);
        int panels = (product->Inputs + AheadPanel.Inputs - 1) / AheadPanel.Inputs;
        int tiles = (product->Rows + TileRows - 1) / TileRows;
        AheadCopy copy = Copy<E>(product, part, first, 0, other, 1);
        Finish<E>(ref copy);
        for (int n = 0; n < strips * panels; n++)
        {
            float* now = other;
            other = panel;
            panel = now;
            int j = n / panels * AheadPanel.Outputs, i = n % panels * AheadPanel.Inputs;
            int depth = Math.Min(AheadPanel.Inputs, product->Inputs - i);
            copy = n + 1 < strips * panels ? Copy<E>(product, part, first + ((n + 1) / panels * AheadPanel.Outputs),
                (n + 1) % panels * AheadPanel.Inputs, other, tiles) : default;
            for (int g = 0; g < AheadPanel.Outputs; g += Columns)
                Rows<E>(product, tiles, panel + ((long)g * depth), i, depth, y + j + g, stride, ref copy);
            Finish<E>(ref copy);
        }
    }

    private static AheadCopy Copy<E>(Product* product, StoredMatrix* part, int firstOutput, int firstInput, float* target, int tiles)
        where E : struct, IElement
    {
        int depth = Math.Min(AheadPanel.Inputs, product->Inputs - firstInput);
        return new AheadCopy
        {
            Source = part->Pointer + ((((long)firstInput * part->Outputs) + firstOutput) * E.Size),
            RowBytes = (long)part->Outputs * E.Size,
            Target = target,
            Depth = depth,
            BlocksLeft = depth / AheadPanel.Block,
            // A step copies a vector of each of eight rows while eight inputs pass; two vectors, where there are not enough steps otherwise.
            Vectors = AheadPanel.Outputs / Columns * tiles * (AheadPanel.Inputs / AheadPanel.Block) >= depth / AheadPanel.Block * (
                AheadPanel.Outputs / S.Lanes) ? 1 : 2,
        };
    }

    private static void Rows<E>(Product* product, int tiles, float* panel, int firstInput, int depth, float* y, long stride,
        ref AheadCopy copy)
        where E : struct, IElement
    {
        for (int t = 0; tiles > 0; tiles--)
        {
            int rows = (product->Rows - t + tiles - 1) / tiles;
            Tile<E>(rows, panel, product->X + (t * product->XStride) + firstInput, product->XStride, depth, y + (t * stride), stride,
                firstInput > 0, ref copy);
            t += rows;
        }
    }

    /// <summary>Copies what no step had room for, and the inputs that are not a whole block.</summary>
    private static void Finish<E>(ref AheadCopy copy)
        where E : struct, IElement
    {
        while (copy.BlocksLeft > 0)
        {
            CopyRows<E>(ref copy, AheadPanel.Block);
            copy.Advance(S.Lanes, Columns, E.Size);
        }

        for (int c = 0; copy.Depth % AheadPanel.Block != 0 && c < AheadPanel.Outputs; c += copy.Vectors * S.Lanes)
        {
            CopyRows<E>(ref copy, copy.Depth % AheadPanel.Block);
            copy.Advance(S.Lanes, Columns, E.Size);
        }

        copy.Depth = 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void CopyRows<E>(ref AheadCopy copy, int rows)
        where E : struct, IElement
    {
        byte* source = copy.Source;
        float* target = copy.Target;
        for (int r = 0; r < rows; r++)
        {
            for (int v = 0; v < copy.Vectors; v++)
                S.Store(E.Load<S, V>(source + (v * S.Lanes * E.Size)), target + (v * S.Lanes));
            source += copy.RowBytes;
            target += Columns;
        }
    }

    private static void Tile<E>(int rows, float* panel, float* x, long xStride, int depth, float* y, long stride, bool add,
        ref AheadCopy copy)
        where E : struct, IElement
    {
        switch (rows)
        {
            case 1:
                Tile<E, OneRow>(panel, x, xStride, depth, y, stride, add, ref copy);
                break;
            case 2:
                Tile<E, TwoRows>(panel, x, xStride, depth, y, stride, add, ref copy);
                break;
            case 3:
                Tile<E, ThreeRows>(panel, x, xStride, depth, y, stride, add, ref copy);
                break;
            case 4:
                Tile<E, FourRows>(panel, x, xStride, depth, y, stride, add, ref copy);
                break;
            case 5:
                Tile<E, FiveRows>(panel, x, xStride, depth, y, stride, add, ref copy);
                break;
            default:
                Tile<E, SixRows>(panel, x, xStride, depth, y, stride, add, ref copy);
                break;
        }
    }

    // a_mn: row m of x, vector n of outputs. Branches on T.Rows vanish.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Tile<E, T>(float* panel, float* x, long xStride, int depth, float* y, long stride, bool add, ref AheadCopy copying)
        where E : struct, IElement
        where T : struct, IRowCount
    {
        V a00 = default, a01 = default, a02 = default, a03 = default, a10 = default, a11 = default, a12 = default, a13 = default;
        V a20 = default, a21 = default, a22 = default, a23 = default, a30 = default, a31 = default, a32 = default, a33 = default;
        V a40 = default, a41 = default, a42 = default, a43 = default, a50 = default, a51 = default, a52 = default, a53 = default;
        if (add)
        {
            Quad<S, V>.Load(y, out a00, out a01, out a02, out a03);
            if (T.Rows > 1)
                Quad<S, V>.Load(y + stride, out a10, out a11, out a12, out a13);
            if (T.Rows > 2)
                Quad<S, V>.Load(y + (2 * stride), out a20, out a21, out a22, out a23);
            if (T.Rows > 3)
                Quad<S, V>.Load(y + (3 * stride), out a30, out a31, out a32, out a33);
            if (T.Rows > 4)
                Quad<S, V>.Load(y + (4 * stride), out a40, out a41, out a42, out a43);
            if (T.Rows > 5)
                Quad<S, V>.Load(y + (5 * stride), out a50, out a51, out a52, out a53);
        }

        float* w = panel;
        float* u = x;
        float* u3 = x + (3 * xStride);
        AheadCopy copy = copying;
        for (int i = 0; i < depth; i += AheadPanel.Block)
        {
            int inputs = Math.Min(AheadPanel.Block, depth - i);
            bool copies = copy.BlocksLeft > 0 && inputs == AheadPanel.Block, two = copies && copy.Vectors == 2;
            byte* source = copy.Source;
            float* target = copy.Target;
            long ahead = copy.Ahead(E.Size);
            for (int n = 0; n < inputs; n++)
            {
                V v0 = S.Load(w), v1 = S.Load(w + S.Lanes), v2 = S.Load(w + (2 * S.Lanes)), v3 = S.Load(w + (3 * S.Lanes));
                Quad<S, V>.Add(S.All(u[0]), v0, v1, v2, v3, ref a00, ref a01, ref a02, ref a03);
                if (T.Rows > 1)
                    Quad<S, V>.Add(S.All(u[xStride]), v0, v1, v2, v3, ref a10, ref a11, ref a12, ref a13);
                if (T.Rows > 2)
                    Quad<S, V>.Add(S.All(u[2 * xStride]), v0, v1, v2, v3, ref a20, ref a21, ref a22, ref a23);
                if (T.Rows > 3)
                    Quad<S, V>.Add(S.All(u3[0]), v0, v1, v2, v3, ref a30, ref a31, ref a32, ref a33);
                if (T.Rows > 4)
                    Quad<S, V>.Add(S.All(u3[xStride]), v0, v1, v2, v3, ref a40, ref a41, ref a42, ref a43);
                if (T.Rows > 5)
                    Quad<S, V>.Add(S.All(u3[2 * xStride]), v0, v1, v2, v3, ref a50, ref a51, ref a52, ref a53);
                w += Columns;
                u++;
                u3++;
                if (!copies)
                    continue;
                Prefetch.Passing(source + ahead, S.Lanes * E.Size);
                S.Store(E.Load<S, V>(source), target);
                if (two)
                {
                    Prefetch.Passing(source + ahead + (S.Lanes * E.Size), S.Lanes * E.Size);
                    S.Store(E.Load<S, V>(source + (S.Lanes * E.Size)), target + S.Lanes);
                }

                source += copy.RowBytes;
                target += Columns;
            }

            if (copies)
                copy.Advance(S.Lanes, Columns, E.Size);
        }

        copying = copy;
        Quad<S, V>.Store(a00, a01, a02, a03, y);
        if (T.Rows > 1)
            Quad<S, V>.Store(a10, a11, a12, a13, y + stride);
        if (T.Rows > 2)
            Quad<S, V>.Store(a20, a21, a22, a23, y + (2 * stride));
        if (T.Rows > 3)
            Quad<S, V>.Store(a30, a31, a32, a33, y + (3 * stride));
        if (T.Rows > 4)
            Quad<S, V>.Store(a40, a41, a42, a43, y + (4 * stride));
        if (T.Rows > 5)
            Quad<S, V>.Store(a50, a51, a52, a53, y + (5 * stride));
    }
}
