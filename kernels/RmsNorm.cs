using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// u = x · (mean(x²) + ε)^(−1/2), y = u · (1 + g), each rounded to float32. All kernels here: grid (rows), group 256, static shared 32 bytes.
/// </summary>
/// <remarks>
/// The ladder: <see cref="Naive"/>, one thread a row, the definition; <see cref="Normalize"/> and <see cref="Row"/>, one group a row, a fixed tree of sums;
/// <see cref="AddNormedThenNorm"/>, the two norms between sub-layers and the addition in one pass over memory. The last three share their sums, so that
/// the fused form gives the bits of the plain forms: thread i sums columns i, i + 256, …, then a warp's tree, then the warps in order.
/// Every row is read from memory once; the second read is of lines that the first put into the L1 cache.
/// </remarks>
public static class RmsNorm
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    private const int Warps = GroupSize / KernelMath.WarpSize;

    /// <summary>The definition: one thread does a row. Grid (rows), group 1. The oracle of the others; not shipped.</summary>
    public static void Naive(ArrayView<float> x, ArrayView<float> gain, ArrayView<float> destination, float epsilon, int columns)
    {
        long row = (long)Grid.IdxX * columns;
        float sum = 0f;
        for (int j = 0; j < columns; j++)
            sum += x[row + j] * x[row + j];
        float factor = 1f / MathF.Sqrt((sum / columns) + epsilon);
        for (int j = 0; j < columns; j++)
            destination[row + j] = x[row + j] * factor * (1f + gain[j]);
    }

    /// <summary>u alone. Reads and writes 4·columns bytes a row; 3·columns flops. May be in place.</summary>
    public static void Normalize(ArrayView<float> x, ArrayView<float> destination, float epsilon, int columns, int xStride, int stride)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps);
        long source = Ptx.Once((long)Grid.IdxX * xStride);
        long target = Ptx.Once((long)Grid.IdxX * stride);
        float factor = Factor(x, source, columns, epsilon, shared);
        for (int j = Group.IdxX; j < columns; j += GroupSize)
            destination[target + j] = x[source + j] * factor;
    }

    /// <summary>u and the gain. Reads 8·columns bytes (the gain comes from the L2 cache) and writes 4·columns a row; 5·columns flops. May be in place.</summary>
    public static void Row(ArrayView<float> x, ArrayView<float> gain, ArrayView<float> destination, float epsilon, int columns,
        int xStride, int stride)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps);
        long source = Ptx.Once((long)Grid.IdxX * xStride);
        long target = Ptx.Once((long)Grid.IdxX * stride);
        float factor = Factor(x, source, columns, epsilon, shared);
        for (int j = Group.IdxX; j < columns; j += GroupSize)
            destination[target + j] = x[source + j] * factor * (1f + gain[j]);
    }

    /// <summary>
    /// resid ← resid + RmsNorm(branch, postGain); normed ← RmsNorm(resid, nextGain). The branch is left as it was.
    /// Reads 8·columns and writes 8·columns bytes a row besides the gains; 11·columns flops.
    /// </summary>
    public static void AddNormedThenNorm(
        ArrayView<float> branch,
        ArrayView<float> postGain,
        ArrayView<float> nextGain,
        ArrayView<float> resid,
        ArrayView<float> normed,
        float epsilon,
        int columns,
        int branchStride,
        int residStride,
        int normedStride)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps);
        long source = Ptx.Once((long)Grid.IdxX * branchStride);
        long stream = Ptx.Once((long)Grid.IdxX * residStride);
        long target = Ptx.Once((long)Grid.IdxX * normedStride);
        float factor = Factor(branch, source, columns, epsilon, shared);
        for (int j = Group.IdxX; j < columns; j += GroupSize)
            resid[stream + j] += branch[source + j] * factor * (1f + postGain[j]);
        // Each thread reads back only what it wrote itself.
        float next = Factor(resid, stream, columns, epsilon, shared);
        for (int j = Group.IdxX; j < columns; j += GroupSize)
            normed[target + j] = resid[stream + j] * next * (1f + nextGain[j]);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Factor(ArrayView<float> x, long start, int columns, float epsilon, ArrayView<float> shared)
    {
        float sum = 0f;
        for (int j = Group.IdxX; j < columns; j += GroupSize)
        {
            float v = x[start + j];
            sum = Ptx.MultiplyAdd(v, v, sum);
        }

        float mean = KernelMath.GroupSum(sum, shared, Warps) / columns;
        return Ptx.Once(1f / MathF.Sqrt(mean + epsilon));
    }
}
