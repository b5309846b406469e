using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// Changes of single features: c_e = strength of a steer, or target − f(x) of a clamp, from the matrix that is read; then y += c_e·W_dec[f_e], e in order.
/// </summary>
/// <remarks>Two launches, because the matrix that is read may be the one that is written. Where c_e is 0 nothing is written.</remarks>
public static class SaeEdit
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 128;

    /// <summary>
    /// coefficients[t, e]. Kind 0 adds, 1 clamps. Grid (⌈edits/4⌉, rows), group 128, a warp an edit. Reads columns·sizeof(weight) bytes a clamp; 2·columns flops.
    /// </summary>
    public static void Coefficients<TWeight>(
        ArrayView<float> x,
        ArrayView<TWeight> weight,
        ArrayView<float> bias,
        ArrayView<float> threshold,
        ArrayView<int> features,
        ArrayView<int> kinds,
        ArrayView<float> targets,
        ArrayView<float> coefficients,
        int columns,
        int edits,
        int xStride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        int e = (Grid.IdxX * (GroupSize / KernelMath.WarpSize)) + (Group.IdxX / KernelMath.WarpSize);
        if (e >= edits)
            return;
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        int f = features[e];
        float coefficient = targets[e];
        if (kinds[e] == 1)
        {
            long row = Ptx.Once((long)f * columns);
            long source = Ptx.Once((long)Grid.IdxY * xStride);
            float sum = 0f;
            for (int i = lane; i < columns; i += KernelMath.WarpSize)
                sum = Ptx.MultiplyAdd(x[source + i], TWeight.Widen(weight[row + i]), sum);
            coefficient -= SaeEncode.Activate(KernelMath.WarpSum(sum), bias[f], threshold[f]);
        }

        if (lane == 0)
            coefficients[((long)Grid.IdxY * edits) + e] = coefficient;
    }

    /// <summary>
    /// Adds them. W_dec [features, outputs]. Grid (rows, ⌈outputs/128⌉), group 128. Reads outputs·sizeof(weight) bytes an edit and 4·outputs, writes 4·outputs.
    /// </summary>
    public static void Apply<TWeight>(
        ArrayView<float> coefficients, ArrayView<int> features, ArrayView<TWeight> weight, ArrayView<float> destination,
        int edits, int outputs, int stride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        int column = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (column >= outputs)
            return;
        long at = ((long)Grid.IdxX * stride) + column;
        float y = destination[at];
        for (int e = 0; e < edits; e++)
        {
            float c = coefficients[((long)Grid.IdxX * edits) + e];
            if (c != 0f)
                y = Ptx.MultiplyAdd(c, TWeight.Widen(weight[((long)features[e] * outputs) + column]), y);
        }

        destination[at] = y;
    }
}
