using KernelScope.Cpu.Panels;
using KernelScope.Devices;

namespace KernelScope.Cpu;

/// <summary>Arguments of <see cref="SaeEditOp{S, V}"/>.</summary>
internal unsafe struct SaeEditJob
{
    public float* X;
    public long XStride;

    /// <summary>d_in.</summary>
    public int Inputs;

    /// <summary>d_sae.</summary>
    public int Features;

    /// <summary>W_enc's stored matrices, then W_dec's.</summary>
    public StoredMatrix* Encoder;
    public StoredMatrix* Decoder;
    public int DecoderParts;
    public float* Bias;
    public float* Threshold;
    public FeatureEdit* Edits;
    public int EditCount;

    /// <summary>Strengths, [rows, edits].</summary>
    public float* Strengths;
    public float* Y;
    public long Stride;
}

/// <summary>Steering and clamping.</summary>
/// <remarks>
/// Equation: y[t] += c_e·W_dec[f_e], e in order, c_e = value (steer) or value − f(x[t]) (clamp), f(x) from a sum in double.
/// Partition: a unit is a row. Bytes: a column of W_enc for each clamp, a row of W_dec for each edit.
/// </remarks>
internal static unsafe class SaeEditOp<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    public static void Unit(void* argument, int t, int worker)
    {
        var job = (SaeEditJob*)argument;
        float* x = job->X + (t * job->XStride);
        float* strengths = job->Strengths + ((long)t * job->EditCount);
        // All of x is read before y is written: they may be the same row.
        for (int e = 0; e < job->EditCount; e++)
        {
            FeatureEdit edit = job->Edits[e];
            strengths[e] = edit.Kind == FeatureEditKind.Add ? edit.Value : (float)((double)edit.Value - Activation(job, x, edit.Feature));
        }

        float* y = job->Y + (t * job->Stride);
        for (int e = 0; e < job->EditCount; e++)
        {
            if (strengths[e] != 0)
                AddRow(job, job->Edits[e].Feature, strengths[e], y);
        }
    }

    private static void AddRow(SaeEditJob* job, int feature, float strength, float* y)
    {
        for (int p = 0; p < job->DecoderParts; p++)
        {
            StoredMatrix* part = job->Decoder + p;
            SaeDecodeOps<S, V>.AddFeatures(part, job->Features, &feature, &strength, 1, null, 0, 0, part->Outputs, y + part->FirstOutput);
        }
    }

    private static float Activation(SaeEditJob* job, float* x, int feature)
    {
        StoredMatrix* part = job->Encoder;
        while (feature >= part->FirstOutput + part->Outputs)
            part++;
        double sum = 0;
        for (int i = 0; i < job->Inputs; i++)
            sum += x[i] * part->At(feature - part->FirstOutput, i);
        float a = (float)(sum + job->Bias[feature]);
        return a > job->Threshold[feature] && a > 0 ? a : 0;
    }
}
