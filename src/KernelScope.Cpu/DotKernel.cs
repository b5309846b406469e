using System.Runtime.CompilerServices;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Few rows of x against a matrix stored [out, in]: dot products along the stored rows.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[j, i]. A tile is 4 outputs by up to 6 rows, one vector accumulator each, so a loaded weight is used for all rows
/// and a loaded x for 4 outputs. Bytes: each weight once from memory (again from cache for more than 6 rows); flops: 2·rows·in·out.
/// </remarks>
internal static unsafe class DotKernel<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    private const int TileOutputs = 4;
    private const int TileRows = 6;

    // Bytes from what is computed with to what is asked for, in each of the rows that are read side by side; measured best of 0.5 to 4 kB.
    private const int Ahead = 1024;

    public static void Range<E>(Product* product, StoredMatrix* part, int first, int count, float* y, long stride)
        where E : struct, IElement
    {
        long rowBytes = (long)product->Inputs * E.Size;
        for (int j = 0; j < count; j += TileOutputs)
        {
            byte* w = part->Pointer + ((first + j) * rowBytes);
            int outputs = Math.Min(TileOutputs, count - j);
            for (int t = 0; t < product->Rows; t += TileRows)
            {
                int rows = Math.Min(TileRows, product->Rows - t);
                float* x = product->X + (t * product->XStride);
                Tile<E>(rows, w, rowBytes, outputs, x, product->XStride, product->Inputs, y + (t * stride) + j, stride);
            }
        }
    }

    private static void Tile<E>(int rows, byte* w, long rowBytes, int outputs, float* x, long xStride, int inputs, float* y, long stride)
        where E : struct, IElement
    {
        switch (rows)
        {
            case 1:
                Tile<E, OneRow>(w, rowBytes, outputs, x, xStride, inputs, y, stride);
                break;
            case 2:
                Tile<E, TwoRows>(w, rowBytes, outputs, x, xStride, inputs, y, stride);
                break;
            case 3:
                Tile<E, ThreeRows>(w, rowBytes, outputs, x, xStride, inputs, y, stride);
                break;
            case 4:
                Tile<E, FourRows>(w, rowBytes, outputs, x, xStride, inputs, y, stride);
                break;
            case 5:
                Tile<E, FiveRows>(w, rowBytes, outputs, x, xStride, inputs, y, stride);
                break;
            default:
                Tile<E, SixRows>(w, rowBytes, outputs, x, xStride, inputs, y, stride);
                break;
        }
    }

    // a_mr: row m of x with output r. Branches on T.Rows vanish; with fewer than 4 outputs the last stored row stands in for those that are missing.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Tile<E, T>(byte* w, long rowBytes, int outputs, float* x, long xStride, int inputs, float* y, long stride)
        where E : struct, IElement
        where T : struct, IRowCount
    {
        byte* w0 = w;
        byte* w1 = w + (Math.Min(1, outputs - 1) * rowBytes);
        byte* w2 = w + (Math.Min(2, outputs - 1) * rowBytes);
        byte* w3 = w + (Math.Min(3, outputs - 1) * rowBytes);
        V a00 = default, a01 = default, a02 = default, a03 = default, a10 = default, a11 = default, a12 = default, a13 = default;
        V a20 = default, a21 = default, a22 = default, a23 = default, a30 = default, a31 = default, a32 = default, a33 = default;
        V a40 = default, a41 = default, a42 = default, a43 = default, a50 = default, a51 = default, a52 = default, a53 = default;
        int whole = inputs / S.Lanes * S.Lanes;
        int i = 0;
        // One row is bound by the memory, which is asked for ahead. Its sums are those of several rows: a row gets the same bits alone and among others.
        for (; T.Rows == 1 && i + (2 * S.Lanes) <= whole; i += 2 * S.Lanes)
        {
            Prefetch.Passing(w0 + ((long)i * E.Size) + Ahead, 2 * S.Lanes * E.Size);
            Prefetch.Passing(w1 + ((long)i * E.Size) + Ahead, 2 * S.Lanes * E.Size);
            Prefetch.Passing(w2 + ((long)i * E.Size) + Ahead, 2 * S.Lanes * E.Size);
            Prefetch.Passing(w3 + ((long)i * E.Size) + Ahead, 2 * S.Lanes * E.Size);
            Add<E>(x + i, w0, w1, w2, w3, i, ref a00, ref a01, ref a02, ref a03);
            Add<E>(x + i + S.Lanes, w0, w1, w2, w3, i + S.Lanes, ref a00, ref a01, ref a02, ref a03);
        }

        for (; i < whole; i += S.Lanes)
        {
            long at = (long)i * E.Size;
            V v0 = E.Load<S, V>(w0 + at), v1 = E.Load<S, V>(w1 + at), v2 = E.Load<S, V>(w2 + at), v3 = E.Load<S, V>(w3 + at);
            Add(S.Load(x + i), v0, v1, v2, v3, ref a00, ref a01, ref a02, ref a03);
            if (T.Rows > 1)
                Add(S.Load(x + xStride + i), v0, v1, v2, v3, ref a10, ref a11, ref a12, ref a13);
            if (T.Rows > 2)
                Add(S.Load(x + (2 * xStride) + i), v0, v1, v2, v3, ref a20, ref a21, ref a22, ref a23);
            if (T.Rows > 3)
                Add(S.Load(x + (3 * xStride) + i), v0, v1, v2, v3, ref a30, ref a31, ref a32, ref a33);
            if (T.Rows > 4)
                Add(S.Load(x + (4 * xStride) + i), v0, v1, v2, v3, ref a40, ref a41, ref a42, ref a43);
            if (T.Rows > 5)
                Add(S.Load(x + (5 * xStride) + i), v0, v1, v2, v3, ref a50, ref a51, ref a52, ref a53);
        }

        Store(a00, a01, a02, a03, outputs, y);
        if (T.Rows > 1)
            Store(a10, a11, a12, a13, outputs, y + stride);
        if (T.Rows > 2)
            Store(a20, a21, a22, a23, outputs, y + (2 * stride));
        if (T.Rows > 3)
            Store(a30, a31, a32, a33, outputs, y + (3 * stride));
        if (T.Rows > 4)
            Store(a40, a41, a42, a43, outputs, y + (4 * stride));
        if (T.Rows > 5)
            Store(a50, a51, a52, a53, outputs, y + (5 * stride));
        if (whole < inputs)
            AddTail<E>(w + ((long)whole * E.Size), rowBytes, outputs, x + whole, xStride, T.Rows, inputs - whole, y, stride);
    }

    // A method of its own: a call inside the loop would push every accumulator out of its register.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void AddTail<E>(byte* w, long rowBytes, int outputs, float* x, long xStride, int rows, int inputs, float* y, long stride)
        where E : struct, IElement
    {
        for (int r = 0; r < outputs; r++)
        {
            V values = Partial.Load<S, V, E>(w + (r * rowBytes), inputs);
            for (int m = 0; m < rows; m++)
                y[(m * stride) + r] += S.Sum(S.Multiply(values, Partial.Load<S, V, ElementF32>((byte*)(x + (m * xStride)), inputs)));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add<E>(float* x, byte* w0, byte* w1, byte* w2, byte* w3, int i, ref V a0, ref V a1, ref V a2, ref V a3)
        where E : struct, IElement
    {
        long at = (long)i * E.Size;
        V u = S.Load(x);
        a0 = S.MultiplyAdd(u, E.Load<S, V>(w0 + at), a0);
        a1 = S.MultiplyAdd(u, E.Load<S, V>(w1 + at), a1);
        a2 = S.MultiplyAdd(u, E.Load<S, V>(w2 + at), a2);
        a3 = S.MultiplyAdd(u, E.Load<S, V>(w3 + at), a3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add(V u, V v0, V v1, V v2, V v3, ref V a0, ref V a1, ref V a2, ref V a3)
    {
        a0 = S.MultiplyAdd(u, v0, a0);
        a1 = S.MultiplyAdd(u, v1, a1);
        a2 = S.MultiplyAdd(u, v2, a2);
        a3 = S.MultiplyAdd(u, v3, a3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(V a0, V a1, V a2, V a3, int outputs, float* y)
    {
        y[0] = S.Sum(a0);
        if (outputs > 1)
            y[1] = S.Sum(a1);
        if (outputs > 2)
            y[2] = S.Sum(a2);
        if (outputs > 3)
            y[3] = S.Sum(a3);
    }
}
