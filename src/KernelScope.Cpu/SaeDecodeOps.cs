using KernelScope.Cpu.Panels;
using KernelScope.Files;

namespace KernelScope.Cpu;

/// <summary>Arguments of <see cref="SaeDecodeOps{S, V}"/>.</summary>
internal unsafe struct SaeDecodeJob
{
    /// <summary>W_dec's stored matrices.</summary>
    public StoredMatrix* Parts;

    public int PartCount;

    /// <summary>Number of features.</summary>
    public int Features;

    /// <summary>Number of outputs.</summary>
    public int Outputs;

    /// <summary>b_dec.</summary>
    public float* Bias;

    /// <summary>Where each row's pairs begin.</summary>
    public long* RowStart;

    public int* Feature;

    public float* Value;

    public float* Y;

    public long Stride;

    public int Rows;

    /// <summary>The first row of unit 0.</summary>
    public int FirstRow;

    /// <summary>The end of the rows that are summed.</summary>
    public int EndRow;

    /// <summary>Where each row's sum goes on; null: rows are summed at once.</summary>
    public long* Next;

    /// <summary>With <see cref="Next"/>: a row's sum stops before the first feature from here on.</summary>
    public int EndFeature;

    /// <summary>Rows of one unit.</summary>
    public int UnitRows;

    /// <summary>Outputs of one unit.</summary>
    public int UnitOutputs;
}

/// <summary>Sparse SAE decoder: only the rows of active features are read.</summary>
/// <remarks>
/// Equation: y[t] = b_dec + Σ_f value_f·W_dec[f], in list order for every output. Partition: a unit is a few rows and a slice of outputs, which changes no sum; a unit's
/// rows follow each other, so that the next row's weights are on their way while one is summed. Where rows share many features, all of them go on by a range of features at a time (<see cref="SaeDecodeJob.Next"/>):
/// its weights come from memory once and stay in the last cache. Bytes: active features · d_out · element size; flops: twice the number of values read.
/// </remarks>
internal static unsafe class SaeDecodeOps<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    public static void Unit(void* argument, int unit, int worker)
    {
        var job = (SaeDecodeJob*)argument;
        int slices = (job->Outputs + job->UnitOutputs - 1) / job->UnitOutputs;
        int first = unit % slices * job->UnitOutputs;
        int end = Math.Min(first + job->UnitOutputs, job->Outputs);
        int firstRow = job->FirstRow + (unit / slices * job->UnitRows);
        for (int t = firstRow; t < Math.Min(firstRow + job->UnitRows, job->EndRow); t++)
            Row(job, t, first, end);
    }

    private static void Row(SaeDecodeJob* job, int t, int first, int end)
    {
        float* y = job->Y + (t * job->Stride);
        long start = Start(job, t), stop = Stop(job, t, start);
        if (start == job->RowStart[t])
            new ReadOnlySpan<float>(job->Bias + first, end - first).CopyTo(new Span<float>(y + first, end - first));
        if (job->Next != null)
            job->Next[t] = stop;
        if (start == stop)
            return;
        // Another worker may be at the next row already: then what was prefetched is of no use.
        long next = t + 1 < job->Rows ? Start(job, t + 1) : 0;
        int nextCount = t + 1 < job->Rows ? (int)(job->RowStart[t + 2] - next) : 0;
        for (int p = 0; p < job->PartCount; p++)
        {
            StoredMatrix* part = job->Parts + p;
            int from = Math.Max(first, part->FirstOutput);
            int to = Math.Min(end, part->FirstOutput + part->Outputs);
            if (from < to)
                AddFeatures(part, job->Features, job->Feature + start, job->Value + start, (int)(stop - start), job->Feature + next,
                    nextCount, from - part->FirstOutput, to - from, y + from);
        }
    }

    private static long Start(SaeDecodeJob* job, int t) => job->Next == null ? job->RowStart[t] : job->Next[t];

    private static long Stop(SaeDecodeJob* job, int t, long start)
    {
        long stop = job->RowStart[t + 1];
        if (job->Next == null)
            return stop;
        long n = start;
        while (n < stop && job->Feature[n] < job->EndFeature)
            n++;
        return n;
    }

    /// <summary>y[j] += Σ_n value_n·W[feature_n, first + j] for <paramref name="count"/> features; <paramref name="next"/> are what the next row adds.</summary>
    public static void AddFeatures(StoredMatrix* part, int features, int* feature, float* value, int count, int* next, int nextCount,
        int first, int outputs, float* y)
    {
        if (!part->Transposed)
        {
            AddStrided(part, features, feature, value, count, first, outputs, y);
            return;
        }

        switch (part->DType)
        {
            case DType.F32:
                AddRows<ElementF32>(part, feature, value, count, next, nextCount, first, outputs, y);
                break;
            case DType.BF16:
                AddRows<ElementBf16>(part, feature, value, count, next, nextCount, first, outputs, y);
                break;
            case DType.F16:
                AddRows<ElementF16>(part, feature, value, count, next, nextCount, first, outputs, y);
                break;
            default:
                AddRows<ElementF64>(part, feature, value, count, next, nextCount, first, outputs, y);
                break;
        }
    }

    private static void AddRows<E>(StoredMatrix* part, int* feature, float* value, int count, int* next, int nextCount, int first,
        int outputs, float* y)
        where E : struct, IElement
    {
        byte* w = part->Pointer + ((long)first * E.Size);
        long rowBytes = (long)part->Outputs * E.Size;
        int done = typeof(E) == typeof(ElementF32)
            ? FeatureColumns<S, V>.Add(w, rowBytes, feature, value, count, next, nextCount, y, outputs) : 0;
        if (done < outputs)
            FeatureSum<S, V>.Add<E>(w + ((long)done * E.Size), rowBytes, feature, value, count, next, nextCount, y + done, outputs - done);
    }

    /// <summary>Stored [out, in]: a feature is a column. No published SAE is stored so; it is correct, not fast.</summary>
    private static void AddStrided(StoredMatrix* part, int features, int* feature, float* value, int count, int first,
        int outputs, float* y)
    {
        for (int j = 0; j < outputs; j++)
        {
            for (int n = 0; n < count; n++)
                y[j] += value[n] * (float)part->At(first + j, feature[n]);
        }
    }
}
