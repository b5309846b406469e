using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// Ops without reuse: one thread an element. Launch: grid (rows, ⌈columns/256⌉), group 256. Each reads its operands once and writes its result once
/// (4 bytes an element and operand), coalesced; rows may have a stride.
/// </summary>
public static class Elementwise
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    /// <summary>y ← x.</summary>
    public static void Copy(ArrayView<float> x, ArrayView<float> destination, int columns, int xStride, int stride)
    {
        int j = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (j < columns)
            destination[((long)Grid.IdxX * stride) + j] = x[((long)Grid.IdxX * xStride) + j];
    }

    /// <summary>
    /// y ← y + α·x, the product rounded, then the sum; 2 flops an element. A stride <paramref name="xStride"/> of 0 adds one row to all.
    /// </summary>
    public static void AddScaled(ArrayView<float> x, ArrayView<float> destination, float alpha, int columns, int xStride, int stride)
    {
        int j = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (j < columns)
            destination[((long)Grid.IdxX * stride) + j] += alpha * x[((long)Grid.IdxX * xStride) + j];
    }

    /// <summary>y = u·(1 + g), 1 + g rounded first; 2 flops an element. May be in place.</summary>
    public static void ApplyGain(ArrayView<float> unit, ArrayView<float> gain, ArrayView<float> destination, int columns,
        int unitStride, int stride)
    {
        int j = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (j < columns)
            destination[((long)Grid.IdxX * stride) + j] = unit[((long)Grid.IdxX * unitStride) + j] * (1f + gain[j]);
    }

    /// <summary>x ← cap·tanh(x/cap), in place; about 30 flops an element.</summary>
    public static void Softcap(ArrayView<float> x, float cap, int columns, int stride)
    {
        int j = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (j < columns)
            x[((long)Grid.IdxX * stride) + j] = KernelMath.Softcap(x[((long)Grid.IdxX * stride) + j], cap);
    }

    /// <summary>
    /// y = x rounded to the nearest even bfloat16, still float32: what the fast precision multiplies, for the products that are not made on tensor cores.
    /// </summary>
    public static void RoundToBFloat16(ArrayView<float> x, ArrayView<float> destination, int columns, int xStride, int stride)
    {
        int j = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (j >= columns)
            return;
        float value = x[((long)Grid.IdxX * xStride) + j];
        uint bits = Interop.FloatAsInt(value);
        bits = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
        destination[((long)Grid.IdxX * stride) + j] = float.IsNaN(value) ? value : Interop.IntAsFloat(bits);
    }

    /// <summary>
    /// h = gelu(gate) ⊙ up for a row that holds the <paramref name="columns"/> gate values, then as many up values: the plain form of the gated products.
    /// </summary>
    public static void GeluMultiply(ArrayView<float> gateUp, ArrayView<float> destination, int columns, int gateUpStride, int stride)
    {
        int j = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (j < columns)
        {
            long gate = ((long)Grid.IdxX * gateUpStride) + j;
            destination[((long)Grid.IdxX * stride) + j] = KernelMath.Gelu(gateUp[gate]) * gateUp[gate + columns];
        }
    }
}
