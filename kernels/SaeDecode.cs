using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// y = b_dec + Σ value_f · W_dec[f] over a row's list, in its order; W_dec [features, outputs] dense, as its file has it.
/// </summary>
/// <remarks>
/// The ladder: <see cref="Plain"/>, one product after the other; <see cref="Rows"/>, four weights in flight, the sums in the same order: the same bits;
/// <see cref="RowsPlusError"/>, the same and the splice's error term at once, so that the reconstruction is never stored.
/// Reads outputs·sizeof(weight) bytes an active feature, coalesced along a feature's row, and 8 bytes an active feature and group for the list (one value for all lanes);
/// 2·outputs flops an active feature. Writes 4·outputs bytes a row.
/// </remarks>
public static class SaeDecode
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 64;

    /// <summary>Grid (rows, ⌈outputs/64⌉), group 64. The oracle of <see cref="Rows"/>; not shipped.</summary>
    public static void Plain<TWeight>(
        ArrayView<long> rowStart,
        ArrayView<int> feature,
        ArrayView<float> value,
        ArrayView<TWeight> weight,
        ArrayView<float> bias,
        ArrayView<float> destination,
        int outputs,
        int stride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        int column = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (column >= outputs)
            return;
        float sum = bias[column];
        for (long i = rowStart[Grid.IdxX]; i < rowStart[Grid.IdxX + 1]; i++)
            sum = Ptx.MultiplyAdd(value[i], TWeight.Widen(weight[((long)feature[i] * outputs) + column]), sum);
        destination[((long)Grid.IdxX * stride) + column] = sum;
    }

    /// <summary>Grid (rows, ⌈outputs/64⌉), group 64: small groups, so that one row of 2304 outputs spreads over 36 of them.</summary>
    public static void Rows<TWeight>(
        ArrayView<long> rowStart,
        ArrayView<int> feature,
        ArrayView<float> value,
        ArrayView<TWeight> weight,
        ArrayView<float> bias,
        ArrayView<float> destination,
        int outputs,
        int stride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        int column = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (column >= outputs)
            return;
        destination[((long)Grid.IdxX * stride) + column] = Sum(rowStart, feature, value, weight, bias, outputs, column);
    }

    /// <summary>
    /// y ← (y − x̂) + x̂, x̂ as <see cref="Rows"/> makes it, the difference rounded, then the sum: an activation that went through the SAE with the SAE's error kept. Launch as
    /// <see cref="Rows"/>. Reads and writes y, 8·outputs bytes a row; the three plain ops (decode, −x̂, +x̂) would move 28·outputs.
    /// </summary>
    public static void RowsPlusError<TWeight>(
        ArrayView<long> rowStart,
        ArrayView<int> feature,
        ArrayView<float> value,
        ArrayView<TWeight> weight,
        ArrayView<float> bias,
        ArrayView<float> destination,
        int outputs,
        int stride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        int column = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (column >= outputs)
            return;
        float sum = Sum(rowStart, feature, value, weight, bias, outputs, column);
        long at = ((long)Grid.IdxX * stride) + column;
        destination[at] = destination[at] - sum + sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Sum<TWeight>(
        ArrayView<long> rowStart, ArrayView<int> feature, ArrayView<float> value, ArrayView<TWeight> weight, ArrayView<float> bias,
        int outputs, int column)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        long i = rowStart[Grid.IdxX];
        long end = Ptx.Once(rowStart[Grid.IdxX + 1]);
        float sum = bias[column];
        for (; i + 4 <= end; i += 4)
        {
            float w0 = Weight(weight, feature[i], outputs, column), w1 = Weight(weight, feature[i + 1], outputs, column);
            float w2 = Weight(weight, feature[i + 2], outputs, column), w3 = Weight(weight, feature[i + 3], outputs, column);
            sum = Ptx.MultiplyAdd(value[i], w0, sum);
            sum = Ptx.MultiplyAdd(value[i + 1], w1, sum);
            sum = Ptx.MultiplyAdd(value[i + 2], w2, sum);
            sum = Ptx.MultiplyAdd(value[i + 3], w3, sum);
        }

        for (; i < end; i++)
            sum = Ptx.MultiplyAdd(value[i], Weight(weight, feature[i], outputs, column), sum);
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Weight<TWeight>(ArrayView<TWeight> weight, int feature, int outputs, int column)
        where TWeight : unmanaged, IWeight<TWeight> =>
        TWeight.Widen(weight[((long)feature * outputs) + column]);
}
