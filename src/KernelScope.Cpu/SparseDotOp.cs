using System.Runtime.CompilerServices;

namespace KernelScope.Cpu;

/// <summary>Arguments of <see cref="SparseDotOp{S, V}"/>.</summary>
internal unsafe struct SparseDotJob
{
    /// <summary>Where each list begins.</summary>
    public long* RowStart;

    public int* Index;

    /// <summary>Receives a value for each entry.</summary>
    public float* Value;

    /// <summary>A row for each list.</summary>
    public float* W;

    public long WStride;

    /// <summary>A row for each index.</summary>
    public float* X;

    public long XStride;

    public int Columns;

    public float Scale;

    public float Offset;

    public int Rows;

    /// <summary>Lists of one unit.</summary>
    public int UnitRows;
}

/// <summary>Products of pairs of rows, for the pairs that lists name.</summary>
/// <remarks>
/// Equation: value = scale·⟨W[r], X[index]⟩ + offset. Partition: a unit is a few lists; the row of W stays in the first-level cache while
/// the rows of X pass. Two vector sums a product, four products side by side;
/// a product's sum is the same alone and beside others. Bytes: a row of X for each entry, from the last cache at best; flops:
/// 2·entries·columns.
/// </remarks>
internal static unsafe class SparseDotOp<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    public static void Unit(void* argument, int unit, int worker)
    {
        var job = (SparseDotJob*)argument;
        int end = Math.Min((unit + 1) * job->UnitRows, job->Rows);
        for (int r = unit * job->UnitRows; r < end; r++)
        {
            float* w = job->W + (r * job->WStride);
            long n = job->RowStart[r], stop = job->RowStart[r + 1];
            for (; n + 4 <= stop; n += 4)
                Four(job, w, n);
            for (; n < stop; n++)
                One(job, w, n);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Four(SparseDotJob* job, float* w, long n)
    {
        float* x0 = Row(job, n), x1 = Row(job, n + 1), x2 = Row(job, n + 2), x3 = Row(job, n + 3);
        V a0 = default, a1 = default, a2 = default, a3 = default, b0 = default, b1 = default, b2 = default, b3 = default;
        int j = 0, count = job->Columns;
        for (; j + (2 * S.Lanes) <= count; j += 2 * S.Lanes)
        {
            V low = S.Load(w + j), high = S.Load(w + j + S.Lanes);
            a0 = S.MultiplyAdd(low, S.Load(x0 + j), a0);
            a1 = S.MultiplyAdd(low, S.Load(x1 + j), a1);
            a2 = S.MultiplyAdd(low, S.Load(x2 + j), a2);
            a3 = S.MultiplyAdd(low, S.Load(x3 + j), a3);
            b0 = S.MultiplyAdd(high, S.Load(x0 + j + S.Lanes), b0);
            b1 = S.MultiplyAdd(high, S.Load(x1 + j + S.Lanes), b1);
            b2 = S.MultiplyAdd(high, S.Load(x2 + j + S.Lanes), b2);
            b3 = S.MultiplyAdd(high, S.Load(x3 + j + S.Lanes), b3);
        }

        Finish(job, n, a0, b0, w, x0, j);
        Finish(job, n + 1, a1, b1, w, x1, j);
        Finish(job, n + 2, a2, b2, w, x2, j);
        Finish(job, n + 3, a3, b3, w, x3, j);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void One(SparseDotJob* job, float* w, long n)
    {
        float* x = Row(job, n);
        V a = default, b = default;
        int j = 0;
        for (; j + (2 * S.Lanes) <= job->Columns; j += 2 * S.Lanes)
        {
            a = S.MultiplyAdd(S.Load(w + j), S.Load(x + j), a);
            b = S.MultiplyAdd(S.Load(w + j + S.Lanes), S.Load(x + j + S.Lanes), b);
        }

        Finish(job, n, a, b, w, x, j);
    }

    private static float* Row(SparseDotJob* job, long n) => job->X + (job->Index[n] * job->XStride);

    private static void Finish(SparseDotJob* job, long n, V a, V b, float* w, float* x, int j)
    {
        float sum = S.Sum(S.Add(a, b));
        for (; j < job->Columns; j++)
            sum += w[j] * x[j];
        job->Value[n] = (sum * job->Scale) + job->Offset;
    }
}
