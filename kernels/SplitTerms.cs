using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// x as the terms that tensor cores multiply: planes of bfloat16 [terms, rows, columns]. Exact: high = x rounded, middle = (x − high) rounded, low = x − high − middle, which is
/// exact. Fast: high alone.
/// </summary>
/// <remarks>
/// Grid (rows, ⌈columns/1024⌉), group 256; rows 16-byte aligned, columns a multiple of 8. A thread reads 16 bytes and writes 8 to each plane: 4 + 2·terms bytes a value, once for
/// a product that would otherwise split x in every tile of its outputs.
/// </remarks>
public static class SplitTerms
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    /// <summary>The planes of an operand's precision.</summary>
    public static void Planes<TOperand>(ArrayView<Float4> x, ArrayView<Words2> planes, int columns, int xStride)
        where TOperand : struct, ITensorOperand
    {
        int quad = (Grid.IdxY * GroupSize) + Group.IdxX, quads = columns / 4;
        if (quad >= quads)
            return;
        Float4 v = x[((long)Grid.IdxX * (xStride / 4)) + quad];
        Words2 high = default, middle = default, low = default;
        TensorFragments.Split<TOperand>(new Float2 { X = v.X, Y = v.Y }, out high.X, out middle.X, out low.X);
        TensorFragments.Split<TOperand>(new Float2 { X = v.Z, Y = v.W }, out high.Y, out middle.Y, out low.Y);
        long at = Ptx.Once(((long)Grid.IdxX * quads) + quad), plane = Ptx.Once((long)Grid.DimX * quads);
        planes[at] = high;
        if (TOperand.Terms > 1)
        {
            planes[at + plane] = middle;
            planes[at + (2 * plane)] = low;
        }
    }
}
