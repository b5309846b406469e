using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Some rows of x against a matrix stored [in, out]: eight stored rows are read side by side where they lie, and the sums of a strip of outputs stay in a cache.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[i, j], one multiply-add after the other in the order of i, as <see cref="RegisterTile{S, V}"/> does it.
/// Partition: a strip's outputs are taken four vectors at a time by up to 6 rows (3 where there are 16 registers). Bytes: each weight once from memory, again from the
/// first-level cache for further rows; flops: 2·rows·in·out.
/// </remarks>
internal static unsafe class StripKernel<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>Stored rows that are read side by side. Of a width that is a power of two all of them lie in one set of a cache, which has no room for many more.</summary>
    private const int Depth = 8;

    // Bytes in each stored row from what is computed with to what is prefetched; measured best of 0.25 to 4 kB.
    private const int Ahead = 1024;

    /// <summary>Rows of x that share a loaded weight, as many as the registers hold.</summary>
    private static int TileRows => S.TileRows / 2;

    private static int Columns => 4 * S.Lanes;

    public static void Range<E>(Product* product, StoredMatrix* part, int first, int count, float* y, long stride)
        where E : struct, IElement
    {
        byte* w = part->Pointer + ((long)first * E.Size);
        int whole = count / Columns * Columns;
        if (whole > 0)
            Strip<E>(product, w, (long)part->Outputs * E.Size, whole, y, stride);
        if (whole < count)
            Rest<E>(product, w + ((long)whole * E.Size), (long)part->Outputs * E.Size, count - whole, y + whole, stride);
    }

    private static void Strip<E>(Product* product, byte* w, long rowBytes, int count, float* y, long stride)
        where E : struct, IElement
    {
        for (int i = 0; i < product->Inputs; i += Depth)
        {
            int depth = Math.Min(Depth, product->Inputs - i);
            // Behind the last block the next strip begins.
            long next = i + depth < product->Inputs ? depth * rowBytes : ((long)count * E.Size) - (i * rowBytes);
            Rows<E>(product, 0, product->Rows, w + (i * rowBytes), rowBytes, next, i, depth, y, stride, count);
        }
    }

    /// <summary>The last outputs, fewer than a tile has: their weights go through a block of zeros.</summary>
    private static void Rest<E>(Product* product, byte* w, long rowBytes, int count, float* y, long stride)
        where E : struct, IElement
    {
        const int MaxRows = 32, MaxColumns = 64;
        float* weights = stackalloc float[Depth * MaxColumns];
        float* sums = stackalloc float[MaxRows * MaxColumns];
        NativeMemory.Clear(weights, Depth * MaxColumns * sizeof(float));
        for (int t = 0; t < product->Rows; t += MaxRows)
        {
            int rows = Math.Min(MaxRows, product->Rows - t);
            for (int i = 0; i < product->Inputs; i += Depth)
            {
                int depth = Math.Min(Depth, product->Inputs - i);
                for (int r = 0; r < depth; r++)
                {
                    byte* row = w + ((i + r) * rowBytes);
                    for (int j = 0; j < count; j += S.Lanes)
                        S.Store(Partial.Load<S, V, E>(row + ((long)j * E.Size), Math.Min(S.Lanes, count - j)), weights + (r * Columns) + j);
                }

                Rows<ElementF32>(product, t, rows, (byte*)weights, Columns * sizeof(float), 0, i, depth, sums, Columns, Columns);
            }

            for (int r = 0; r < rows; r++)
                NativeMemory.Copy(sums + (r * Columns), y + ((t + r) * stride), (nuint)count * sizeof(float));
        }
    }

    /// <summary>A block of inputs for some rows of x, in tiles of nearly equal height.</summary>
    private static void Rows<E>(Product* product, int firstRow, int count, byte* w, long rowBytes, long next, int firstInput, int depth,
        float* y, long stride, int outputs)
        where E : struct, IElement
    {
        float* x = product->X + (firstRow * product->XStride) + firstInput;
        int tiles = (count + TileRows - 1) / TileRows;
        for (int t = 0; tiles > 0; tiles--)
        {
            int rows = (count - t + tiles - 1) / tiles;
            Block<E>(rows, w, rowBytes, t == 0 ? next : 0, x + (t * product->XStride), product->XStride, depth, y + (t * stride), stride,
                outputs, firstInput > 0);
            t += rows;
        }
    }

    private static void Block<E>(int rows, byte* w, long rowBytes, long next, float* x, long xStride, int depth, float* y, long stride,
        int count, bool add)
        where E : struct, IElement
    {
        switch (rows)
        {
            case 1:
                Block<E, OneRow>(w, rowBytes, next, x, xStride, depth, y, stride, count, add);
                break;
            case 2:
                Block<E, TwoRows>(w, rowBytes, next, x, xStride, depth, y, stride, count, add);
                break;
            case 3:
                Block<E, ThreeRows>(w, rowBytes, next, x, xStride, depth, y, stride, count, add);
                break;
            case 4:
                Block<E, FourRows>(w, rowBytes, next, x, xStride, depth, y, stride, count, add);
                break;
            case 5:
                Block<E, FiveRows>(w, rowBytes, next, x, xStride, depth, y, stride, count, add);
                break;
            default:
                Block<E, SixRows>(w, rowBytes, next, x, xStride, depth, y, stride, count, add);
                break;
        }
    }

    // a_mn: row m of x, vector n of outputs. Branches on T.Rows vanish. next: from the block's first weight to the one that will be needed after the block's last; 0: nothing is asked for.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Block<E, T>(byte* w, long rowBytes, long next, float* x, long xStride, int depth, float* y, long stride,
        int count, bool add)
        where E : struct, IElement
        where T : struct, IRowCount
    {
        int distance = Math.Min(Ahead / E.Size, count);
        for (int j = 0; j < count; j += Columns)
        {
            V a00 = default, a01 = default, a02 = default, a03 = default, a10 = default, a11 = default, a12 = default, a13 = default;
            V a20 = default, a21 = default, a22 = default, a23 = default, a30 = default, a31 = default, a32 = default, a33 = default;
            V a40 = default, a41 = default, a42 = default, a43 = default, a50 = default, a51 = default, a52 = default, a53 = default;
            float* sums = y + j;
            if (add)
            {
                Quad<S, V>.Load(sums, out a00, out a01, out a02, out a03);
                if (T.Rows > 1)
                    Quad<S, V>.Load(sums + stride, out a10, out a11, out a12, out a13);
                if (T.Rows > 2)
                    Quad<S, V>.Load(sums + (2 * stride), out a20, out a21, out a22, out a23);
                if (T.Rows > 3)
                    Quad<S, V>.Load(sums + (3 * stride), out a30, out a31, out a32, out a33);
                if (T.Rows > 4)
                    Quad<S, V>.Load(sums + (4 * stride), out a40, out a41, out a42, out a43);
                if (T.Rows > 5)
                    Quad<S, V>.Load(sums + (5 * stride), out a50, out a51, out a52, out a53);
            }

            byte* p = w + ((long)j * E.Size);
            long ahead = next == 0 ? 0 : j + distance < count ? distance * E.Size : next + ((distance - count) * E.Size);
            float* u = x;
            float* u3 = x + (3 * xStride);
            for (int i = 0; i < depth; i++)
            {
                if (ahead != 0)
                    Prefetch.Passing(p + ahead, Columns * E.Size);
                V v0 = E.Load<S, V>(p), v1 = E.Load<S, V>(p + (S.Lanes * E.Size)), v2 = E.Load<S, V>(p + (2 * S.Lanes * E.Size)),
                    v3 = E.Load<S, V>(p + (3 * S.Lanes * E.Size));
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
                p += rowBytes;
                u++;
                u3++;
            }

            Quad<S, V>.Store(a00, a01, a02, a03, sums);
            if (T.Rows > 1)
                Quad<S, V>.Store(a10, a11, a12, a13, sums + stride);
            if (T.Rows > 2)
                Quad<S, V>.Store(a20, a21, a22, a23, sums + (2 * stride));
            if (T.Rows > 3)
                Quad<S, V>.Store(a30, a31, a32, a33, sums + (3 * stride));
            if (T.Rows > 4)
                Quad<S, V>.Store(a40, a41, a42, a43, sums + (4 * stride));
            if (T.Rows > 5)
                Quad<S, V>.Store(a50, a51, a52, a53, sums + (5 * stride));
        }
    }
}
