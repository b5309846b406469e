using System.Numerics;

namespace KernelScope.Cpu;

/// <summary>Where the pairs of a unit are: they follow each other, row by row, in the list of the worker that found them.</summary>
internal struct EncodedUnit
{
    public int Worker;
    public long Next;
}

/// <summary>Arguments of <see cref="SaeEncodeOp{S, V}"/>.</summary>
internal unsafe struct SaeEncodeJob
{
    public Product Product;

    /// <summary>b_enc.</summary>
    public float* Bias;

    /// <summary>θ.</summary>
    public float* Threshold;

    /// <summary>One for each worker.</summary>
    public EntryList* Lists;

    /// <summary>One for each unit.</summary>
    public EncodedUnit* Units;

    /// <summary>Number of active features, [rows, units].</summary>
    public int* Counts;

    public int UnitCount;

    /// <summary>What is nearer to its threshold than this is listed too; 0: nothing is.</summary>
    public float Distance;

    /// <summary>As <see cref="Lists"/>, of what is near.</summary>
    public EntryList* NearLists;

    /// <summary>As <see cref="Units"/>.</summary>
    public EncodedUnit* NearUnits;

    /// <summary>As <see cref="Counts"/>.</summary>
    public int* NearCounts;
}

/// <summary>SAE encoder: product, bias, threshold and compaction in one pass.</summary>
/// <remarks>
/// Equation: a = x·W_encᵀ + b_enc; active where a &gt; θ and a &gt; 0 (both strict). Partition: a unit is a slice of features for all rows; its pre-activations live in the
/// worker's memory only, [rows, slice]. Units are joined in order, so indices ascend. Bytes: each weight once; flops: 2·rows·d_in·d_sae.
/// </remarks>
internal static unsafe class SaeEncodeOp<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    public static void Unit(void* argument, int unit, int worker)
    {
        var job = (SaeEncodeJob*)argument;
        int width = job->Product.UnitOutputs;
        int first = unit * width;
        int count = Math.Min(width, job->Product.Outputs - first);
        float* a = job->Product.OwnScratch(worker);
        ProductKernels<S, V>.Range(&job->Product, worker, first, count, a, width);
        EntryList* list = job->Lists + worker;
        job->Units[unit] = new EncodedUnit { Worker = worker, Next = list->Count };
        for (int t = 0; t < job->Product.Rows; t++)
        {
            long before = list->Count;
            list->MakeRoom(count);
            Compact(a + ((long)t * width), job->Bias + first, job->Threshold + first, first, count, list);
            job->Counts[((long)t * job->UnitCount) + unit] = (int)(list->Count - before);
        }
    }

    /// <summary>The same with a second list. The bias is added first, in place, so that both read the same pre-activations.</summary>
    public static void UnitNear(void* argument, int unit, int worker)
    {
        var job = (SaeEncodeJob*)argument;
        int width = job->Product.UnitOutputs;
        int first = unit * width;
        int count = Math.Min(width, job->Product.Outputs - first);
        float* a = job->Product.OwnScratch(worker), bias = job->Bias + first, threshold = job->Threshold + first;
        ProductKernels<S, V>.Range(&job->Product, worker, first, count, a, width);
        EntryList* list = job->Lists + worker, near = job->NearLists + worker;
        job->Units[unit] = new EncodedUnit { Worker = worker, Next = list->Count };
        job->NearUnits[unit] = new EncodedUnit { Worker = worker, Next = near->Count };
        for (int t = 0; t < job->Product.Rows; t++, a += width)
        {
            long before = list->Count, beforeNear = near->Count;
            list->MakeRoom(count);
            near->MakeRoom(count);
            CompactNear(a, bias, threshold, job->Distance, first, count, list, near);
            job->Counts[((long)t * job->UnitCount) + unit] = (int)(list->Count - before);
            job->NearCounts[((long)t * job->UnitCount) + unit] = (int)(near->Count - beforeNear);
        }
    }

    private static void CompactNear(float* a, float* bias, float* threshold, float distance, int first, int count, EntryList* list,
        EntryList* near)
    {
        int j = 0;
        V limit = S.All(distance), zero = S.All(0);
        for (; j + S.Lanes <= count; j += S.Lanes)
        {
            V sum = S.Add(S.Load(a + j), S.Load(bias + j)), above = S.Load(threshold + j);
            uint active = S.GreaterMask(sum, above) & S.GreaterMask(sum, zero);
            uint close = S.GreaterMask(limit, S.Abs(S.Subtract(sum, above)));
            if ((active | close) == 0)
                continue;
            S.Store(sum, a + j);
            Add(list, active, first + j, a + j);
            Add(near, close, first + j, a + j);
        }

        for (; j < count; j++)
        {
            a[j] += bias[j];
            Add(list, a[j] > threshold[j] && a[j] > 0 ? 1u : 0, first + j, a + j);
            Add(near, MathF.Abs(a[j] - threshold[j]) < distance ? 1u : 0, first + j, a + j);
        }
    }

    private static void Add(EntryList* list, uint lanes, int first, float* a)
    {
        for (; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            list->Features[list->Count] = first + lane;
            list->Values[list->Count++] = a[lane];
        }
    }

    private static void Compact(float* a, float* bias, float* threshold, int first, int count, EntryList* list)
    {
        int* features = list->Features + list->Count;
        float* values = list->Values + list->Count;
        int found = 0;
        int j = 0;
        for (; j + S.Lanes <= count; j += S.Lanes)
        {
            V sum = S.Add(S.Load(a + j), S.Load(bias + j));
            uint active = S.GreaterMask(sum, S.Load(threshold + j)) & S.GreaterMask(sum, S.All(0));
            if (active == 0)
                continue;
            S.Store(sum, a + j);
            for (; active != 0; active &= active - 1)
            {
                int lane = BitOperations.TrailingZeroCount(active);
                features[found] = first + j + lane;
                values[found++] = a[j + lane];
            }
        }

        for (; j < count; j++)
        {
            float sum = a[j] + bias[j];
            if (sum > threshold[j] && sum > 0)
            {
                features[found] = first + j;
                values[found++] = sum;
            }
        }

        list->Count += found;
    }
}
