using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// loss[t] = log Σ_v e^(l_tv) − l_{t,target t}, l = cap(logits), from logits that exist only for some columns at a time: the host makes the products of a run of
/// the vocabulary into a buffer that it uses again, and <see cref="Part"/> turns each 1,024 of them into a largest and a sum.
/// </summary>
/// <remarks>
/// Writing and reading a run costs 8 bytes a logit beside the 2·d flops that made it. <see cref="Merge"/> sums the parts in order; log Σ and the target's distance from
/// the largest are added last, so that small losses do not cancel.
/// </remarks>
public static class CrossEntropy
{
    /// <summary>Threads of a group of <see cref="Part"/>.</summary>
    public const int GroupSize = 256;

    /// <summary>Columns of a part.</summary>
    public const int PartColumns = 1024;

    private const int Warps = GroupSize / KernelMath.WarpSize;

    /// <summary>
    /// parts[t, firstPart + n] = (max, Σ e^(l − max)) over columns n·1024 … of the run, which starts at column firstPart·1024 of the vocabulary and has
    /// <paramref name="columns"/> columns; the target's logit if it is among them. Grid (⌈columns/1024⌉, rows), group 256. Reads 4 bytes a logit, about 50 flops.
    /// </summary>
    public static void Part(
        ArrayView<float> logits,
        ArrayView<int> targets,
        ArrayView<Float2> parts,
        ArrayView<float> targetLogits,
        float cap,
        int columns,
        int stride,
        int firstPart,
        int partCount)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps);
        int t = Grid.IdxY;
        long row = Ptx.Once((long)t * stride);
        int from = Ptx.Once((Grid.IdxX * PartColumns) + Group.IdxX);
        int target = Ptx.Once(targets[t] - (firstPart * PartColumns));
        float l0 = float.NegativeInfinity, l1 = l0, l2 = l0, l3 = l0;
        if (from < columns)
            l0 = Ptx.Once(Capped(logits[row + from], cap));
        if (from + GroupSize < columns)
            l1 = Ptx.Once(Capped(logits[row + from + GroupSize], cap));
        if (from + (2 * GroupSize) < columns)
            l2 = Ptx.Once(Capped(logits[row + from + (2 * GroupSize)], cap));
        if (from + (3 * GroupSize) < columns)
            l3 = Ptx.Once(Capped(logits[row + from + (3 * GroupSize)], cap));
        if (target == from)
            targetLogits[t] = l0;
        if (target == from + GroupSize)
            targetLogits[t] = l1;
        if (target == from + (2 * GroupSize))
            targetLogits[t] = l2;
        if (target == from + (3 * GroupSize))
            targetLogits[t] = l3;
        float max = KernelMath.WarpMax(MathF.Max(MathF.Max(l0, l1), MathF.Max(l2, l3)));
        if ((Group.IdxX & (KernelMath.WarpSize - 1)) == 0)
            shared[Group.IdxX / KernelMath.WarpSize] = max;
        Group.Barrier();
        max = shared[0];
        for (int w = 1; w < Warps; w++)
            max = MathF.Max(max, shared[w]);
        max = Ptx.Once(max);
        Group.Barrier();
        float sum = Term(l0, max) + Term(l1, max) + Term(l2, max) + Term(l3, max);
        sum = KernelMath.GroupSum(sum, shared, Warps);
        if (Group.IdxX == 0)
            parts[((long)t * partCount) + firstPart + Grid.IdxX] = new Float2 { X = max, Y = sum };
    }

    /// <summary>The losses, one a row of the destination. Grid (rows), group 32. Reads 8 bytes a part.</summary>
    public static void Merge(ArrayView<Float2> parts, ArrayView<float> targetLogits, ArrayView<float> destination, int partCount,
        int stride)
    {
        long row = Ptx.Once((long)Grid.IdxX * partCount);
        float max = float.NegativeInfinity;
        for (int n = Group.IdxX; n < partCount; n += KernelMath.WarpSize)
            max = MathF.Max(max, parts[row + n].X);
        max = Ptx.Once(KernelMath.WarpMax(max));
        float sum = 0f;
        for (int n = Group.IdxX; n < partCount; n += KernelMath.WarpSize)
        {
            Float2 part = parts[row + n];
            sum = Ptx.MultiplyAdd(Term(part.X, max), part.Y, sum);
        }

        sum = KernelMath.WarpSum(sum);
        if (Group.IdxX == 0)
            destination[(long)Grid.IdxX * stride] = max - targetLogits[Grid.IdxX] + KernelMath.Log(sum);
    }

    private static float Capped(float logit, float cap) => cap > 0f ? KernelMath.Softcap(logit, cap) : logit;

    private static float Term(float logit, float max) => logit == float.NegativeInfinity ? 0f : KernelMath.Exp(logit - max);
}
