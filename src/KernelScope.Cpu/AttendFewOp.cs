using KernelScope.Cpu.Panels;
using KernelScope.Files;

namespace KernelScope.Cpu;

/// <summary>Attention of few queries (a decode step): bound by reading the keys and values.</summary>
/// <remarks>
/// Equation: z = Σ_j p_j·v_j, p = softmax_j(cap(scale·q·k_j)). Partition: a unit is one query position, one key/value head and one block of keys, for all query heads that
/// share it, so keys and values are read once from memory; it leaves its maximum, sum and unscaled z, and <see cref="Merge(void*, int, int)"/> joins the blocks in order.
/// Bytes: 8·keys·d_head for each key/value head, 4 of a bfloat16 cache; flops: 4·keys·d_head for each query head.
/// </remarks>
internal static unsafe class AttendFewOp<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>Memory that a worker needs.</summary>
    public static long ScratchLength(AttendJob* job) =>
        (AttendJob.BlockKeys * ((long)job->Group + job->Cache.HeadDim)) + TransposePanel.Length;

    public static void Unit(void* argument, int unit, int worker)
    {
        var all = (AttendFewJob*)argument;
        AttendJob* job = all->Jobs + all->Count - 1;
        while (unit < job->FirstUnit)
            job--;
        Unit(job, unit - job->FirstUnit, worker);
    }

    private static void Unit(AttendJob* job, int unit, int worker)
    {
        int block = unit % job->Blocks;
        int kvHead = unit / job->Blocks % job->Cache.Heads;
        int t = unit / job->Blocks / job->Cache.Heads;
        int last = job->Position + t;
        int blockStart = (job->FirstBlock + block) * AttendJob.BlockKeys;
        int from = Math.Max(job->FirstKey(last), blockStart);
        int count = Math.Min(last - blockStart + 1, AttendJob.BlockKeys) - (from - blockStart);
        int headDim = job->Cache.HeadDim;
        float* scores = job->Scratch + (worker * job->ScratchStride);
        float* panel = scores + (AttendJob.BlockKeys * job->Group), copy = panel + TransposePanel.Length;
        float* z = Partial(job, t, kvHead * job->Group, block);
        long zStride = (long)job->Blocks * job->PartialLength;
        if (count <= 0)
        {
            for (int g = 0; g < job->Group; g++)
                z[(g * zStride) + headDim] = float.NegativeInfinity;
            return;
        }

        bool isNarrow = job->Cache.Type == DType.BF16;
        var keys = new StoredMatrix
        {
            Pointer = job->Cache.Block(job->Cache.Keys, kvHead, from, count, copy),
            DType = job->Cache.Type,
            Outputs = count
        };
        var product = new Product
        {
            X = job->Q + (t * job->QStride) + ((long)kvHead * job->Group * headDim),
            XStride = headDim,
            Rows = job->Group,
            Inputs = headDim,
        };
        // A key's score has its place in the block; vectors begin at multiples of their width in it, whatever the first visible key.
        int first = from - blockStart, start = first / S.Lanes * S.Lanes;
        if (isNarrow)
            TransposeKernel<S, V>.Range<ElementBf16>(&product, &keys, panel, 0, count, scores + first, AttendJob.BlockKeys);
        else
            TransposeKernel<S, V>.Range<ElementF32>(&product, &keys, panel, 0, count, scores + first, AttendJob.BlockKeys);
        for (int g = 0; g < job->Group; g++)
        {
            float* row = scores + (g * AttendJob.BlockKeys) + start;
            float max = Scores<S, V>.Finish(row, first - start, first - start + count, job->Scale, job->Cap);
            z[(g * zStride) + headDim] = max;
            z[(g * zStride) + headDim + 1] = Scores<S, V>.Exponentials(row, first - start + count, max);
        }

        var values = new StoredMatrix
        {
            Pointer = job->Cache.Block(job->Cache.Values, kvHead, from, count, copy),
            DType = job->Cache.Type,
            Outputs = headDim,
            Transposed = true
        };
        product = new Product { X = scores + first, XStride = AttendJob.BlockKeys, Rows = job->Group, Inputs = count };
        if (isNarrow)
            AxpyKernel<S, V>.Range<ElementBf16>(&product, &values, 0, headDim, z, zStride);
        else
            AxpyKernel<S, V>.Range<ElementF32>(&product, &values, 0, headDim, z, zStride);
    }

    /// <summary>Joins the blocks of one row and head.</summary>
    public static void Merge(void* argument, int unit, int worker)
    {
        var all = (AttendFewJob*)argument;
        AttendJob* job = all->Jobs + all->Count - 1;
        while (unit < job->FirstMerge)
            job--;
        Merge(job, unit - job->FirstMerge);
    }

    private static void Merge(AttendJob* job, int unit)
    {
        int t = unit / job->Heads;
        int h = unit % job->Heads;
        int headDim = job->Cache.HeadDim;
        float* y = job->Y + (t * job->Stride) + ((long)h * headDim);
        new Span<float>(y, headDim).Clear();
        var softmax = RunningSoftmax.None;
        for (int block = 0; block < job->Blocks; block++)
        {
            float* z = Partial(job, t, h, block);
            // No key, or none with a weight: its exponentials would be ∞ − ∞.
            if (float.IsNegativeInfinity(z[headDim]))
                continue;
            (float old, float factor) = softmax.Add(z[headDim], z[headDim + 1]);
            if (factor != 0)
                Scores<S, V>.Join(y, old, z, factor, headDim);
        }

        Scores<S, V>.Scale(y, headDim, (float)(1 / softmax.Sum));
    }

    private static float* Partial(AttendJob* job, int t, int h, int block) =>
        job->Partials + (((((long)t * job->Heads) + h) * job->Blocks) + block) * job->PartialLength;
}
