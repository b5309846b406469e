using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Few rows of x against a matrix stored [out, in]: blocks of it are transposed into a panel that stays in the first-level cache, and multiplied as stored panels are.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[j, i], in blocks of 256 inputs, one input after the other. Lanes are outputs, so there are no sums across a vector, and a row gets the bits that
/// <see cref="TileProduct{F}"/> gives it among hundreds. Two-byte values are transposed as pairs, which halves the shuffles (float16 of few rows only). One to four rows need no panel for most inputs: <see cref="TransposeDot{S, V}"/>.
/// Bytes: each weight once from memory; flops: 2·rows·in·out.
/// </remarks>
internal static unsafe class TransposeKernel<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>Inputs of a panel.</summary>
    private const int PanelInputs = TransposePanel.Inputs;

    // With more rows, float16 is widened as it is transposed: .NET has no intrinsic for the processor's conversion, and each pass over pairs would widen them again. AVX-512, where that was not measured, keeps pairs.
    private static int PairRows => S.Lanes == 16 ? int.MaxValue : 4;

    // Bytes in each stored row from what is transposed to what is prefetched; measured best of 256 to 2048.
    private const int Ahead = 512;

    /// <summary>Some outputs of all rows. <paramref name="panel"/> is memory for <see cref="TransposePanel.Length"/> values.</summary>
    public static void Range<E>(Product* product, StoredMatrix* part, float* panel, int first, int count, float* y, long stride)
        where E : struct, IElement
    {
        if (typeof(E) == typeof(ElementBf16))
            Range<E, ElementF32, PanelBf16>(product, part, panel, first, count, y, stride);
        else if (typeof(E) == typeof(ElementF16) && product->Rows <= PairRows)
            Range<E, ElementF32, PanelF16>(product, part, panel, first, count, y, stride);
        else if (typeof(E) == typeof(ElementF16))
            Range<E, ElementF16, PanelF32>(product, part, panel, first, count, y, stride);
        else
            Range<E, E, PanelF32>(product, part, panel, first, count, y, stride);
    }

    // W is what a word of the panel is read as: a value, or a pair of them whose bits are moved. Where all stored rows share a set of a first-level cache, 16 of them have no room in it, and vectors of 8 take them.
    private static void Range<E, W, P>(Product* product, StoredMatrix* part, float* panel, int first, int count, float* y, long stride)
        where E : struct, IElement
        where W : struct, IElement
        where P : struct, IWordElement
    {
        float* sums = stackalloc float[product->Rows * PanelLayout.Outputs];
        long rowBytes = (long)product->Inputs * E.Size;
        int inputs = W.Size == sizeof(float) ? InputsInRegisters<P>(product) : 0;
        int inRegisters = inputs > 0 ? count / PanelLayout.Outputs * PanelLayout.Outputs : 0;
        if (inRegisters > 0 && S.Lanes == 4)
            TransposeDot<Simd128, Vector128<float>>.Range<P>(product, part->Pointer + (first * rowBytes), inRegisters, inputs, y, stride);
        else if (inRegisters > 0 && S.Lanes == 16 && !TransposeDot<S, V>.SharesSets<P>(product))
            TransposeDot<S, V>.Range<P>(product, part->Pointer + (first * rowBytes), inRegisters, inputs, y, stride);
        else if (inRegisters > 0)
            TransposeDot<Simd256, Vector256<float>>.Range<P>(product, part->Pointer + (first * rowBytes), inRegisters, inputs, y, stride);
        for (int j = 0; j < count; j += PanelLayout.Outputs)
        {
            int outputs = Math.Min(PanelLayout.Outputs, count - j);
            bool whole = outputs == PanelLayout.Outputs;
            float* target = whole ? y + j : sums;
            long targetStride = whole ? stride : PanelLayout.Outputs;
            for (int i = j < inRegisters ? inputs : 0; i < product->Inputs; i += PanelInputs)
            {
                int depth = Math.Min(PanelInputs, product->Inputs - i);
                Fill<W>(part->Pointer + ((first + j) * rowBytes) + ((long)i * E.Size), rowBytes, outputs, depth * E.Size,
                    (long)i * E.Size, panel);
                PanelDot<S, V>.Block<P>(product, (byte*)panel, i, depth, 1, target, targetStride);
            }

            for (int m = 0; !whole && m < product->Rows; m++)
                NativeMemory.Copy(sums + (m * PanelLayout.Outputs), y + (m * stride) + j, (nuint)outputs * sizeof(float));
        }
    }

    /// <summary>Inputs, from the first on, that <see cref="TransposeDot{S, V}"/> takes: with AVX-512, of rows that only vectors of 8 can take, those of one row, because there more were not measured.</summary>
    private static int InputsInRegisters<P>(Product* product)
        where P : struct, IWordElement =>
        S.Lanes == 16 && product->Rows > 1 && TransposeDot<S, V>.SharesSets<P>(product) ? 0
            : TransposeDot<Simd256, Vector256<float>>.Inputs<P>(product);

    /// <summary>Transposes <paramref name="bytes"/> bytes of each of some stored rows. Behind a row's end the row begins that is read next, a panel further on.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Fill<W>(byte* w, long rowBytes, int outputs, int bytes, long offset, float* panel)
        where W : struct, IElement
    {
        int words = bytes / W.Size;
        long next = rowBytes - offset;
        for (int r = 0; r < outputs; r += S.Lanes)
        {
            byte* rows = w + (r * rowBytes);
            int count = Math.Min(S.Lanes, outputs - r), whole = count == S.Lanes ? words / S.Lanes * S.Lanes : 0;
            for (int p = 0; p < whole; p += S.Lanes)
            {
                byte* source = rows + ((long)p * W.Size);
                long ahead = ((long)p * W.Size) + Ahead < next ? Ahead : Ahead + ((PanelLayout.Outputs - 1) * rowBytes);
                for (int n = 0; n < S.Lanes; n++)
                    Prefetch.Near(source + ahead + (n * rowBytes), S.Lanes * W.Size);
                S.Transpose<W>(source, rowBytes, panel + (p * PanelLayout.Outputs) + r, PanelLayout.Outputs);
            }

            if (whole * W.Size < bytes)
                Edge<W>(rows + ((long)whole * W.Size), rowBytes, count, bytes - (whole * W.Size),
                    panel + (whole * PanelLayout.Outputs) + r);
        }
    }

    /// <summary>Words that are not a whole block, one by one: nothing is read past a row's end, where the file's may be.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Edge<W>(byte* w, long rowBytes, int outputs, int bytes, float* panel)
        where W : struct, IElement
    {
        byte* padded = stackalloc byte[16 * sizeof(double)];
        float* values = stackalloc float[16];
        int block = S.Lanes * W.Size;
        for (int r = 0; r < outputs; r++)
        {
            float* column = panel + r;
            for (int done = 0; done < bytes; done += block)
            {
                int here = Math.Min(block, bytes - done);
                NativeMemory.Clear(padded, 16 * sizeof(double));
                NativeMemory.Copy(w + (r * rowBytes) + done, padded, (nuint)here);
                S.Store(W.Load<S, V>(padded), values);
                for (int p = 0; p * W.Size < here; p++, column += PanelLayout.Outputs)
                    *column = values[p];
            }
        }
    }
}
