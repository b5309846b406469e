namespace KernelScope.Cpu;

/// <summary>Arguments of <see cref="LinearOps{S, V}"/>: a product and where its results go.</summary>
internal unsafe struct LinearJob
{
    public Product Product;

    /// <summary>The destination, rows <see cref="Stride"/> apart.</summary>
    public float* Y;

    public long Stride;
}

/// <summary>Linear and GatedGelu.</summary>
/// <remarks>Partition: a unit is <see cref="Product.UnitOutputs"/> outputs of all rows. Bytes and flops: those of <see cref="ProductKernels{S, V}"/>.</remarks>
internal static unsafe class LinearOps<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>y = x·Wᵀ.</summary>
    public static void Linear(void* argument, int unit, int worker)
    {
        var job = (LinearJob*)argument;
        int first = unit * job->Product.UnitOutputs;
        int count = Math.Min(job->Product.UnitOutputs, job->Product.Outputs - first);
        ProductKernels<S, V>.Range(&job->Product, worker, first, count, job->Y + first, job->Stride);
    }

    /// <summary>h = gelu(x·Gᵀ) ⊙ (x·Uᵀ): the gate and up values of the same columns meet in the worker's memory.</summary>
    public static void GatedGelu(void* argument, int unit, int worker)
    {
        var job = (LinearJob*)argument;
        int half = job->Product.Outputs / 2;
        int width = job->Product.UnitOutputs;
        int first = unit * width;
        int count = Math.Min(width, half - first);
        float* gate = job->Product.OwnScratch(worker);
        float* up = gate + ((long)job->Product.Rows * width);
        ProductKernels<S, V>.Range(&job->Product, worker, first, count, gate, width);
        ProductKernels<S, V>.Range(&job->Product, worker, half + first, count, up, width);
        for (int t = 0; t < job->Product.Rows; t++)
            Gate(gate + ((long)t * width), up + ((long)t * width), job->Y + (t * job->Stride) + first, count);
    }

    // The rows of gate and up are whole vectors long: what lies past the last value is computed and not stored.
    private static void Gate(float* gate, float* up, float* y, int count)
    {
        for (int j = 0; j < count; j += S.Lanes)
        {
            V h = S.Multiply(VectorMath<S, V>.Gelu(S.Load(gate + j)), S.Load(up + j));
            if (count - j >= S.Lanes)
                S.Store(h, y + j);
            else
                Partial.Store<S, V>(h, y + j, count - j);
        }
    }
}
