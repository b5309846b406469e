namespace KernelScope.Devices.Cpu;

/// <summary>Arguments of <see cref="AttendOp{S, V}"/>.</summary>
internal unsafe struct AttendJob
{
    public float* Q;
    public long QStride;
    public KvSlots Cache;
    public int Heads;

    /// <summary>Position of the first query.</summary>
    public int Position;
    public float Scale;

    /// <summary>0: none.</summary>
    public float Cap;

    /// <summary>0: all keys.</summary>
    public int Window;
    public float* Y;
    public long Stride;

    /// <summary>Scores of one query head, for each worker.</summary>
    public float* Scratch;
    public long ScratchStride;
}

/// <summary>Attention of one query head at a time over its keys.</summary>
/// <remarks>
/// Equation: z = Σ_j p_j·v_j, p = softmax_j(cap(scale·q·k_j)) over first ≤ j ≤ last. Partition: a unit is one row and one head.
/// Two passes: scores, their maximum, then exp, sum (double across vectors of 4096) and mix.
/// </remarks>
internal static unsafe class AttendOp<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    public static void Unit(void* argument, int unit, int worker)
    {
        var job = (AttendJob*)argument;
        int t = unit / job->Heads;
        int h = unit % job->Heads;
        int kvHead = h / (job->Heads / job->Cache.Heads);
        int last = job->Position + t;
        int first = job->Window > 0 ? Math.Max(0, last - job->Window + 1) : 0;
        int headDim = job->Cache.HeadDim;
        float* scores = job->Scratch + (worker * job->ScratchStride);
        float* q = job->Q + (t * job->QStride) + ((long)h * headDim);
        for (int j = first; j <= last; j++)
            scores[j - first] = job->Scale * Dot(q, job->Cache.Keys + job->Cache.At(kvHead, j), headDim);
        float sum = Softmax(scores, last - first + 1, job->Cap);
        Mix(job, scores, kvHead, first, last, 1f / sum, job->Y + (t * job->Stride) + ((long)h * headDim));
    }

    private static float Dot(float* a, float* b, int count)
    {
        V even = S.All(0), odd = S.All(0);
        int i = 0;
        for (; i + (2 * S.Lanes) <= count; i += 2 * S.Lanes)
        {
            even = S.MultiplyAdd(S.Load(a + i), S.Load(b + i), even);
            odd = S.MultiplyAdd(S.Load(a + i + S.Lanes), S.Load(b + i + S.Lanes), odd);
        }

        float sum = S.Sum(S.Add(even, odd));
        for (; i < count; i++)
            sum += a[i] * b[i];
        return sum;
    }

    /// <summary>Scores become exp(score − max); gives their sum.</summary>
    private static float Softmax(float* scores, int count, float cap)
    {
        if (cap > 0)
            RowOps<S, V>.Softcap(scores, count, cap);
        float max = float.NegativeInfinity;
        for (int j = 0; j < count; j++)
            max = MathF.Max(max, scores[j]);
        double sum = 0;
        V shift = S.All(max);
        int i = 0;
        for (; i + S.Lanes <= count; i += S.Lanes)
        {
            V p = VectorMath<S, V>.Exp(S.Subtract(S.Load(scores + i), shift));
            S.Store(p, scores + i);
            sum += S.Sum(p);
        }

        if (i < count)
        {
            V p = VectorMath<S, V>.Exp(S.Subtract(Partial.Load<S, V, ElementF32>((byte*)(scores + i), count - i), shift));
            Partial.Store<S, V>(p, scores + i, count - i);
            for (; i < count; i++)
                sum += scores[i];
        }

        return (float)sum;
    }

    private static void Mix(AttendJob* job, float* p, int kvHead, int first, int last, float factor, float* z)
    {
        int headDim = job->Cache.HeadDim;
        new Span<float>(z, headDim).Clear();
        int j = first;
        for (; j + 4 <= last + 1; j += 4)
            RowSum<S, V>.AddFour<ElementF32>(Value(job, kvHead, j), Value(job, kvHead, j + 1), Value(job, kvHead, j + 2), Value(job, kvHead, j + 3), p + (j - first), z, headDim);
        for (; j <= last; j++)
            RowSum<S, V>.AddOne<ElementF32>(Value(job, kvHead, j), p[j - first], z, headDim);
        for (int i = 0; i < headDim; i++)
            z[i] *= factor;
    }

    private static byte* Value(AttendJob* job, int kvHead, int position) => (byte*)(job->Cache.Values + job->Cache.At(kvHead, position));
}
