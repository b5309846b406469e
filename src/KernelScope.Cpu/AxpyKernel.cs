using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>One row of x against a matrix stored [in, out]: scaled stored rows are added up.</summary>
/// <remarks>
/// Equation: y[j] = Σ_i x[i]·W[i, j], one multiply-add after the other in the order of i. Eight stored rows are read at once, and y stays in the first-level cache.
/// Bytes: each weight once from memory; flops: 2·in·out.
/// </remarks>
internal static unsafe class AxpyKernel<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    private const int Group = 8;

    public static void Range<E>(Product* product, StoredMatrix* part, int first, int count, float* y, long stride)
        where E : struct, IElement
    {
        long rowBytes = (long)part->Outputs * E.Size;
        byte* w = part->Pointer + ((long)first * E.Size);
        for (int t = 0; t < product->Rows; t++)
        {
            float* x = product->X + (t * product->XStride);
            float* row = y + (t * stride);
            NativeMemory.Clear(row, (nuint)count * sizeof(float));
            int i = 0;
            for (; i + Group <= product->Inputs; i += Group)
                AddEight<E>(w + (i * rowBytes), rowBytes, x + i, row, count);
            for (; i < product->Inputs; i++)
                RowSum<S, V>.AddOne<E>(w + (i * rowBytes), x[i], row, count);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddEight<E>(byte* w, long rowBytes, float* x, float* y, int count)
        where E : struct, IElement
    {
        V x0 = S.All(x[0]), x1 = S.All(x[1]), x2 = S.All(x[2]), x3 = S.All(x[3]), x4 = S.All(x[4]), x5 = S.All(x[5]), x6 = S.All(x[6]),
            x7 = S.All(x[7]);
        byte* w3 = w + (3 * rowBytes);
        byte* w6 = w + (6 * rowBytes);
        int j = 0;
        for (; j + S.Lanes <= count; j += S.Lanes)
        {
            long at = (long)j * E.Size;
            V sum = S.MultiplyAdd(x0, E.Load<S, V>(w + at), S.Load(y + j));
            sum = S.MultiplyAdd(x1, E.Load<S, V>(w + rowBytes + at), sum);
            sum = S.MultiplyAdd(x2, E.Load<S, V>(w + (2 * rowBytes) + at), sum);
            sum = S.MultiplyAdd(x3, E.Load<S, V>(w3 + at), sum);
            sum = S.MultiplyAdd(x4, E.Load<S, V>(w3 + rowBytes + at), sum);
            sum = S.MultiplyAdd(x5, E.Load<S, V>(w3 + (2 * rowBytes) + at), sum);
            sum = S.MultiplyAdd(x6, E.Load<S, V>(w6 + at), sum);
            S.Store(S.MultiplyAdd(x7, E.Load<S, V>(w6 + rowBytes + at), sum), y + j);
        }

        for (int i = 0; j < count && i < Group; i++)
            RowSum<S, V>.AddTail<E>(w + (i * rowBytes) + ((long)j * E.Size), x[i], y + j, count - j);
    }
}
