using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using KernelScope.Devices;

namespace KernelScope.Cpu;

/// <summary>Arguments of <see cref="AdamOp{S, V}"/>.</summary>
internal unsafe struct AdamJob
{
    public float* G;
    public long GStride;
    public float* Moment;
    public long MomentStride;
    public float* P;
    public long PStride;
    public float* Norms;
    public long NormsStride;
    public int Rows;
    public int Columns;

    /// <summary>Rows of one unit.</summary>
    public int UnitRows;

    public AdamStep Step;
}

/// <summary>A step of Adam, row by row.</summary>
/// <remarks>
/// Equation: that of <see cref="Device.AdamRows"/>. The norms are sums in double, so that a unit row is one to float32; the rest is
/// float32. Partition: a unit is a few rows, which stay in the first caches for the passes.
/// Bytes: gradient, moment and parameters read once, the last two written once.
/// </remarks>
internal static unsafe class AdamOp<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    public static void Unit(void* argument, int unit, int worker)
    {
        var job = (AdamJob*)argument;
        int end = Math.Min((unit + 1) * job->UnitRows, job->Rows);
        for (int r = unit * job->UnitRows; r < end; r++)
            Row(job, job->G + (r * job->GStride), job->Moment + (r * job->MomentStride), job->P + (r * job->PStride),
                job->Norms + (r * job->NormsStride));
    }

    private static void Row(AdamJob* job, float* g, float* v, float* p, float* norm)
    {
        int count = job->Columns;
        double squares = Norm.SumOfSquares(g, count) * job->Step.Scale * job->Step.Scale;
        *norm = (float)squares;
        if (squares == 0)
        {
            Decay(v, count, job->Step.Decay);
            return;
        }

        float along = job->Step.UnitRows ? (float)(Norm.Dot(g, p, count) * job->Step.Scale) : 0;
        Step(job, g, along, v, p, count);
        if (job->Step.UnitRows)
            Multiply(p, count, 1 / Math.Sqrt(Norm.SumOfSquares(p, count)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Step(AdamJob* job, float* g, float along, float* v, float* p, int count)
    {
        AdamStep step = job->Step;
        V scale = S.All(step.Scale), taken = S.All(-along), decay = S.All(step.Decay), rest = S.All(step.Rest),
            correction = S.All(step.Correction), epsilon = S.All(step.Epsilon), rate = S.All(-step.LearningRate);
        int j = 0;
        for (; j + S.Lanes <= count; j += S.Lanes)
        {
            V parameter = S.Load(p + j);
            V gradient = S.MultiplyAdd(taken, parameter, S.Multiply(scale, S.Load(g + j)));
            V moment = S.MultiplyAdd(rest, S.Multiply(gradient, gradient), S.Multiply(decay, S.Load(v + j)));
            S.Store(moment, v + j);
            V size = S.Add(S.Sqrt(S.Multiply(moment, correction)), epsilon);
            S.Store(S.MultiplyAdd(rate, S.Divide(gradient, size), parameter), p + j);
        }

        for (; j < count; j++)
        {
            float gradient = (step.Scale * g[j]) - (along * p[j]);
            v[j] = (step.Decay * v[j]) + (step.Rest * gradient * gradient);
            p[j] -= step.LearningRate * (gradient / (MathF.Sqrt(v[j] * step.Correction) + step.Epsilon));
        }
    }

    private static void Decay(float* v, int count, float decay)
    {
        int j = 0;
        for (V all = S.All(decay); j + S.Lanes <= count; j += S.Lanes)
            S.Store(S.Multiply(all, S.Load(v + j)), v + j);
        for (; j < count; j++)
            v[j] *= decay;
    }

    private static void Multiply(float* p, int count, double factor)
    {
        int j = 0;
        for (Vector256<double> all = Vector256.Create(factor); j + 8 <= count; j += 8)
        {
            Vector256<float> values = Vector256.Load(p + j);
            Vector256.Narrow(Vector256.WidenLower(values) * all, Vector256.WidenUpper(values) * all).Store(p + j);
        }

        for (; j < count; j++)
            p[j] = (float)(p[j] * factor);
    }
}
