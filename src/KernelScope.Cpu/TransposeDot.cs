using System.Runtime.CompilerServices;

namespace KernelScope.Cpu;

/// <summary>Where the two strips lie that <see cref="TransposeDot{S, V}"/> works on at once.</summary>
internal interface IStrips
{
    /// <summary>Whether the second is the next rows; else it is the next block of the same rows.</summary>
    static abstract bool OfRows { get; }
}

internal readonly struct StripsOfRows : IStrips
{
    public static bool OfRows => true;
}

internal readonly struct StripsOfBlocks : IStrips
{
    public static bool OfRows => false;
}

/// <summary>One to four rows of x against a matrix stored [out, in]: blocks of it are transposed in registers and multiplied there.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[j, i], in the order of <see cref="TransposeKernel{S, V}"/>: blocks of 256 inputs, each from zero and one input after the other.
/// Partition: a strip is as many stored rows as lanes, 16 bytes of each at a time; its sums are one chain of multiply-adds, so two strips run side by side. They are two groups of rows; or two blocks of the same rows,
/// where rows lie a multiple of 4 KiB apart: all their lines fall into one set of a first-level cache, which has room for eight.
/// The group that comes next is prefetched into the second-level cache from end to end, in two or four streams of whole rows, which the processor's own prefetching joins; rows so long that two groups do not stay there
/// it follows better alone. Strips of 16 rows are prefetched into the first-level cache, 256 bytes ahead in each row.
/// Bytes: each weight once from memory; flops: 2·rows·in·out. Share of a user's job: nearly all products of a token that is decoded from unpacked weights, and attention's scores; none of prefill 512.
/// </remarks>
internal static unsafe class TransposeDot<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    private const int BlockInputs = TransposePanel.Inputs;

    // Bytes of a row that are transposed at a time: four words.
    private const int StepBytes = 16;

    private const int LineBytes = 64;

    // Rows so far apart have all their lines in the same sets of a first-level cache.
    private const int SetBytes = 4096;

    // Bytes of a group of rows of which two fit a second-level cache.
    private const int AheadBytes = 1 << 18;

    // Bytes in each of 32 stored rows from what is transposed to what is prefetched: 5 lines of each have room in a first-level cache.
    private const int InRowBytes = 256;

    /// <summary>Inputs, from the first on, that <see cref="Range{E}"/> takes: none of many rows, else all, or all but a last block that is not made of whole steps.</summary>
    /// <remarks>More rows are as fast by way of a panel, which all of them read.</remarks>
    public static int Inputs<E>(Product* product)
        where E : struct, IWordElement
    {
        // A float16 takes registers to widen that four rows need.
        if (product->Rows > (SharesSets<E>(product) || typeof(E) == typeof(PanelF16) ? 3 : 4))
            return 0;
        return product->Inputs % (StepBytes / sizeof(float) * E.WordInputs) == 0 ? product->Inputs
            : product->Inputs / BlockInputs * BlockInputs;
    }

    /// <summary>Whether all stored rows have their lines in the same sets of the first-level cache.</summary>
    public static bool SharesSets<E>(Product* product)
        where E : struct, IWordElement => (long)product->Inputs * sizeof(float) / E.WordInputs % SetBytes == 0;

    /// <summary>Computes those inputs of some outputs, whose number is a multiple of 32.</summary>
    public static void Range<E>(Product* product, byte* w, int count, int inputs, float* y, long stride)
        where E : struct, IWordElement
    {
        switch (product->Rows)
        {
            case 1:
                Range<E, OneRow>(product, w, count, inputs, y, stride);
                break;
            case 2:
                Range<E, TwoRows>(product, w, count, inputs, y, stride);
                break;
            case 3:
                Range<E, ThreeRows>(product, w, count, inputs, y, stride);
                break;
            default:
                Range<E, FourRows>(product, w, count, inputs, y, stride);
                break;
        }
    }

    private static void Range<E, T>(Product* product, byte* w, int count, int inputs, float* y, long stride)
        where E : struct, IWordElement
        where T : struct, IRowCount
    {
        if (SharesSets<E>(product))
            Range<E, T, StripsOfBlocks>(product, w, count, inputs, y, stride);
        else
            Range<E, T, StripsOfRows>(product, w, count, inputs, y, stride);
    }

    private static void Range<E, T, D>(Product* product, byte* w, int count, int inputs, float* y, long stride)
        where E : struct, IWordElement
        where T : struct, IRowCount
        where D : struct, IStrips
    {
        int wordBytes = sizeof(float) / E.WordInputs, group = D.OfRows ? 2 * S.Lanes : S.Lanes;
        long rowBytes = (long)product->Inputs * wordBytes;
        // Rows of a multiple of 4 KiB have whole blocks, and an even number of them.
        int blocks = D.OfRows ? BlockInputs : 2 * BlockInputs;
        // A step reads as many lines as there are streams.
        long stream = group / (2 * S.Lanes * StepBytes / LineBytes) * rowBytes;
        for (int j = 0; j < count; j += group)
        {
            byte* rows = w + (j * rowBytes);
            byte* ahead = D.OfRows && group * rowBytes > AheadBytes ? null : rows + (group * rowBytes);
            for (int i = 0; i < inputs; i += blocks)
            {
                int steps = Math.Min(BlockInputs, inputs - i) * wordBytes / StepBytes;
                Tile<E, T, D>(rows + ((long)i * wordBytes), rowBytes, product->X + i, product->XStride, steps, ahead, stream,
                    rowBytes - ((long)i * wordBytes), y + j, stride, i > 0);
                if (ahead != null)
                    ahead += steps * LineBytes;
            }
        }
    }

    // a_m: row m of x by the first strip; b_m: by the second. Branches on T.Rows vanish.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Tile<E, T, D>(byte* w, long rowBytes, float* x, long xStride, int steps, byte* ahead, long stream, long left,
        float* y, long stride, bool add)
        where E : struct, IWordElement
        where T : struct, IRowCount
        where D : struct, IStrips
    {
        V a0 = default, a1 = default, a2 = default, a3 = default, b0 = default, b1 = default, b2 = default, b3 = default;
        byte* second = w + (D.OfRows ? S.Lanes * rowBytes : BlockInputs * sizeof(float) / E.WordInputs);
        int apart = D.OfRows ? 0 : BlockInputs;
        for (int n = 0; n < steps; n++)
        {
            if (S.Lanes > 8)
            {
                InRows(w, rowBytes, n, left);
            }
            else if (ahead != null)
            {
                Ahead(ahead, stream);
                ahead += LineBytes;
            }

            if (T.Rows == 1)
            {
                Both<E, D>(w, second, rowBytes, x, ref a0, ref b0);
            }
            else
            {
                Strip<E, T>(w, rowBytes, x, xStride, ref a0, ref a1, ref a2, ref a3);
                Strip<E, T>(second, rowBytes, x + apart, xStride, ref b0, ref b1, ref b2, ref b3);
            }

            w += StepBytes;
            second += StepBytes;
            x += StepBytes / sizeof(float) * E.WordInputs;
        }

        Store<D>(a0, b0, y, add);
        if (T.Rows > 1)
            Store<D>(a1, b1, y + stride, add);
        if (T.Rows > 2)
            Store<D>(a2, b2, y + (2 * stride), add);
        if (T.Rows > 3)
            Store<D>(a3, b3, y + (3 * stride), add);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Ahead(byte* start, long stream)
    {
        Prefetch.Line(start);
        Prefetch.Line(start + stream);
        if (S.Lanes > 4)
        {
            Prefetch.Line(start + (2 * stream));
            Prefetch.Line(start + (3 * stream));
        }
    }

    /// <summary>A quarter of the rows at each of the four steps that a line lasts. Behind a row's end the row begins that is read next.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void InRows(byte* w, long rowBytes, int step, long left)
    {
        int quarter = step % (LineBytes / StepBytes), rows = S.Lanes / 2;
        long next = (step * StepBytes) + InRowBytes < left ? InRowBytes : InRowBytes + (((2 * S.Lanes) - 1) * rowBytes);
        byte* line = w + next + (quarter * ((rows * rowBytes) - StepBytes));
        for (int r = 0; r < rows; r++)
            Prefetch.Passing(line + (r * rowBytes), LineBytes);
    }

    /// <summary>A step of both strips for one row of x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Both<E, D>(byte* w, byte* second, long rowBytes, float* x, ref V a, ref V b)
        where E : struct, IWordElement
        where D : struct, IStrips
    {
        S.TransposeFour(w, rowBytes, out V w0, out V w1, out V w2, out V w3);
        S.TransposeFour(second, rowBytes, out V v0, out V v1, out V v2, out V v3);
        AddBoth<E, D>(w0, v0, x, ref a, ref b);
        AddBoth<E, D>(w1, v1, x + E.WordInputs, ref a, ref b);
        AddBoth<E, D>(w2, v2, x + (2 * E.WordInputs), ref a, ref b);
        AddBoth<E, D>(w3, v3, x + (3 * E.WordInputs), ref a, ref b);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddBoth<E, D>(V w, V v, float* x, ref V a, ref V b)
        where E : struct, IWordElement
        where D : struct, IStrips
    {
        E.Widen<S, V>(w, out V w0, out V w1);
        E.Widen<S, V>(v, out V v0, out V v1);
        V u = S.All(x[0]);
        a = S.MultiplyAdd(u, w0, a);
        b = S.MultiplyAdd(D.OfRows ? u : S.All(x[BlockInputs]), v0, b);
        if (E.WordInputs > 1)
        {
            u = S.All(x[1]);
            a = S.MultiplyAdd(u, w1, a);
            b = S.MultiplyAdd(D.OfRows ? u : S.All(x[BlockInputs + 1]), v1, b);
        }
    }

    /// <summary>A step of one strip for several rows of x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Strip<E, T>(byte* w, long rowBytes, float* x, long xStride, ref V a0, ref V a1, ref V a2, ref V a3)
        where E : struct, IWordElement
        where T : struct, IRowCount
    {
        S.TransposeFour(w, rowBytes, out V w0, out V w1, out V w2, out V w3);
        AddRows<E, T>(w0, x, xStride, ref a0, ref a1, ref a2, ref a3);
        AddRows<E, T>(w1, x + E.WordInputs, xStride, ref a0, ref a1, ref a2, ref a3);
        AddRows<E, T>(w2, x + (2 * E.WordInputs), xStride, ref a0, ref a1, ref a2, ref a3);
        AddRows<E, T>(w3, x + (3 * E.WordInputs), xStride, ref a0, ref a1, ref a2, ref a3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRows<E, T>(V w, float* x, long xStride, ref V a0, ref V a1, ref V a2, ref V a3)
        where E : struct, IWordElement
        where T : struct, IRowCount
    {
        E.Widen<S, V>(w, out V w0, out V w1);
        Add<E>(x, w0, w1, ref a0);
        if (T.Rows > 1)
            Add<E>(x + xStride, w0, w1, ref a1);
        if (T.Rows > 2)
            Add<E>(x + (2 * xStride), w0, w1, ref a2);
        if (T.Rows > 3)
            Add<E>(x + (3 * xStride), w0, w1, ref a3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add<E>(float* x, V w0, V w1, ref V a)
        where E : struct, IWordElement
    {
        a = S.MultiplyAdd(S.All(x[0]), w0, a);
        if (E.WordInputs > 1)
            a = S.MultiplyAdd(S.All(x[1]), w1, a);
    }

    // Two blocks of the same rows join one after the other.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<D>(V a, V b, float* y, bool add)
        where D : struct, IStrips
    {
        V first = add ? S.Add(S.Load(y), a) : a;
        if (D.OfRows)
        {
            S.Store(first, y);
            S.Store(add ? S.Add(S.Load(y + S.Lanes), b) : b, y + S.Lanes);
        }
        else
        {
            S.Store(S.Add(first, b), y);
        }
    }
}
