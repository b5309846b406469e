namespace KernelScope.Cpu;

/// <summary>max and Σ exp(l − max) of a part of the vocabulary, for one row.</summary>
internal struct SoftmaxPart
{
    public float Max;
    public double Sum;
}

/// <summary>Arguments of <see cref="CrossEntropyOp{S, V}"/>.</summary>
internal unsafe struct CrossEntropyJob
{
    public Product Product;

    /// <summary>Soft-cap of the logits; 0: none.</summary>
    public float Cap;

    /// <summary>Outputs whose logits are in memory at one time.</summary>
    public int BlockOutputs;

    public int* Targets;

    /// <summary>[units, rows].</summary>
    public SoftmaxPart* Parts;

    /// <summary>The targets' logits, [rows].</summary>
    public float* TargetLogits;
}

/// <summary>Cross-entropy over the vocabulary without all logits.</summary>
/// <remarks>
/// Equation: loss[t] = log Σ_v exp(l_tv) − l_{t,target}. Partition: a unit is a slice of the vocabulary, passed in blocks whose logits stay in a cache;
/// it keeps the running maximum and sum of every row, and <see cref="Merge"/> joins the slices in order. Sums of exp: float32 inside a block, double across.
/// </remarks>
internal static unsafe class CrossEntropyOp<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    public static void Unit(void* argument, int unit, int worker)
    {
        var job = (CrossEntropyJob*)argument;
        int rows = job->Product.Rows;
        int first = unit * job->Product.UnitOutputs;
        int end = Math.Min(first + job->Product.UnitOutputs, job->Product.Outputs);
        int stride = job->BlockOutputs;
        float* logits = job->Product.OwnScratch(worker);
        SoftmaxPart* parts = job->Parts + ((long)unit * rows);
        for (int t = 0; t < rows; t++)
            parts[t] = new SoftmaxPart { Max = float.NegativeInfinity };
        for (int block = first; block < end; block += stride)
        {
            int count = Math.Min(stride, end - block);
            ProductKernels<S, V>.Range(&job->Product, worker, block, count, logits, stride);
            for (int t = 0; t < rows; t++)
            {
                float* row = logits + ((long)t * stride);
                Cap(row, count, job->Cap);
                int target = job->Targets[t] - block;
                if (target >= 0 && target < count)
                    job->TargetLogits[t] = row[target];
                Add(row, count, ref parts[t]);
            }
        }
    }

    private static void Cap(float* row, int count, float cap)
    {
        for (int j = 0; cap > 0 && j < count; j += S.Lanes)
            S.Store(VectorMath<S, V>.Softcap(S.Load(row + j), S.All(cap)), row + j);
        for (int j = count; j % S.Lanes != 0; j++)
            row[j] = float.NegativeInfinity;
    }

    private static void Add(float* row, int count, ref SoftmaxPart part)
    {
        V max = S.Load(row);
        for (int j = S.Lanes; j < count; j += S.Lanes)
            max = S.Max(max, S.Load(row + j));
        float all = MathF.Max(part.Max, S.MaxLane(max));
        if (!float.IsFinite(all))
        {
            // ±∞ and NaN need no sum: they are the result.
            part.Max = all;
            return;
        }

        V sum = S.All(0);
        for (int j = 0; j < count; j += S.Lanes)
            sum = S.Add(sum, VectorMath<S, V>.Exp(S.Subtract(S.Load(row + j), S.All(all))));
        part.Sum = (part.Sum * Math.Exp((double)part.Max - all)) + S.Sum(sum);
        part.Max = all;
    }

    /// <summary>The loss of row <paramref name="t"/>.</summary>
    public static float Merge(CrossEntropyJob* job, int units, int t)
    {
        float max = float.NegativeInfinity;
        for (int unit = 0; unit < units; unit++)
            max = MathF.Max(max, job->Parts[((long)unit * job->Product.Rows) + t].Max);
        double logSum = max;
        if (float.IsFinite(max))
        {
            double sum = 0;
            for (int unit = 0; unit < units; unit++)
            {
                SoftmaxPart part = job->Parts[((long)unit * job->Product.Rows) + t];
                sum += part.Sum * Math.Exp((double)part.Max - max);
            }

            logSum += Math.Log(sum);
        }

        return (float)(logSum - job->TargetLogits[t]);
    }
}
