using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// y = b_dec + Σ value_f · W_dec[f] over a row's list, in its order; W_dec [features, outputs] dense, as its file has it.
/// </summary>
/// <remarks>
/// The ladder: <see cref="Plain"/>, one product after the other; <see cref="Rows"/>, the list goes through shared memory, 64 pairs at a time and the next 64 on their way, and sixteen
/// weights a lane are in flight, the sums in the same order: the same bits; a row of 70 features waits for memory seven times, not forty.
/// <see cref="RowsPlusError"/>, the same and the splice's error term at once, so that the reconstruction is never stored.
/// Reads outputs·sizeof(weight) bytes an active feature, coalesced along a feature's row, and 8 bytes an active feature and group for the list;
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
        ArrayView<int> features = SharedMemory.Allocate1D<int>(GroupSize);
        ArrayView<float> values = SharedMemory.Allocate1D<float>(GroupSize);
        int column = (Grid.IdxY * GroupSize) + Group.IdxX;
        float sum = Sum(rowStart, feature, value, weight, bias, features, values, outputs, column);
        if (column < outputs)
            destination[((long)Grid.IdxX * stride) + column] = sum;
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
        ArrayView<int> features = SharedMemory.Allocate1D<int>(GroupSize);
        ArrayView<float> values = SharedMemory.Allocate1D<float>(GroupSize);
        int column = (Grid.IdxY * GroupSize) + Group.IdxX;
        float sum = Sum(rowStart, feature, value, weight, bias, features, values, outputs, column);
        long at = ((long)Grid.IdxX * stride) + column;
        if (column < outputs)
            destination[at] = destination[at] - sum + sum;
    }

    // All threads of a group take part, for the barriers; those without a column read the last one's weights.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Sum<TWeight>(
        ArrayView<long> rowStart, ArrayView<int> feature, ArrayView<float> value, ArrayView<TWeight> weight, ArrayView<float> bias,
        ArrayView<int> features, ArrayView<float> values, int outputs, int column)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        long start = Ptx.Once(rowStart[Grid.IdxX]), end = Ptx.Once(rowStart[Grid.IdxX + 1]);
        float nextValue = 0f;
        int nextFeature = 0;
        int source = Ptx.Once(column < outputs ? column : outputs - 1);
        float sum = bias[source];
        if (start + Group.IdxX < end)
        {
            nextFeature = feature[start + Group.IdxX];
            nextValue = value[start + Group.IdxX];
        }

        for (; start < end; start += GroupSize)
        {
            features[Group.IdxX] = nextFeature;
            values[Group.IdxX] = nextValue;
            Group.Barrier();
            long next = start + GroupSize + Group.IdxX;
            if (next < end)
            {
                nextFeature = feature[next];
                nextValue = value[next];
            }

            int count = Ptx.Once(end - start < GroupSize ? (int)(end - start) : GroupSize);
            int i = 0;
            for (; i + 16 <= count; i += 16)
            {
                Float4 a = Four(weight, features, i, 4, outputs, source), b = Four(weight, features, i + 4, 4, outputs, source);
                Float4 c = Four(weight, features, i + 8, 4, outputs, source), d = Four(weight, features, i + 12, 4, outputs, source);
                sum = Add(sum, values, i, 4, a);
                sum = Add(sum, values, i + 4, 4, b);
                sum = Add(sum, values, i + 8, 4, c);
                sum = Add(sum, values, i + 12, 4, d);
            }

            for (; i < count; i += 8)
            {
                int left = Ptx.Once(count - i);
                Float4 a = Four(weight, features, i, left, outputs, source), b = Four(weight, features, i + 4, left - 4, outputs, source);
                sum = Add(sum, values, i, left, a);
                sum = Add(sum, values, i + 4, left - 4, b);
            }

            Group.Barrier();
        }

        return sum;
    }

    // The weights of four features of the list, as far as there are any.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Four<TWeight>(ArrayView<TWeight> weight, ArrayView<int> features, int i, int left, int outputs, int column)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        Float4 w = default;
        if (left > 0)
            w.X = Weight(weight, features[i], outputs, column);
        if (left > 1)
            w.Y = Weight(weight, features[i + 1], outputs, column);
        if (left > 2)
            w.Z = Weight(weight, features[i + 2], outputs, column);
        if (left > 3)
            w.W = Weight(weight, features[i + 3], outputs, column);
        return w;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Add(float sum, ArrayView<float> values, int i, int left, Float4 w)
    {
        if (left > 0)
            sum = Ptx.MultiplyAdd(values[i], w.X, sum);
        if (left > 1)
            sum = Ptx.MultiplyAdd(values[i + 1], w.Y, sum);
        if (left > 2)
            sum = Ptx.MultiplyAdd(values[i + 2], w.Z, sum);
        if (left > 3)
            sum = Ptx.MultiplyAdd(values[i + 3], w.W, sum);
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Weight<TWeight>(ArrayView<TWeight> weight, int feature, int outputs, int column)
        where TWeight : unmanaged, IWeight<TWeight> =>
        TWeight.Widen(weight[((long)feature * outputs) + column]);
}
