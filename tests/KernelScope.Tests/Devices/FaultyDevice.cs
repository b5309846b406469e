using KernelScope.Devices;
using KernelScope.Devices.Reference;

namespace KernelScope.Tests.Devices;

/// <summary>Ways in which a kernel is wrong that do not depend on what it computes.</summary>
public enum Fault
{
    /// <summary>The largest value of the result is too large by a thousandth.</summary>
    OneValueOff,

    /// <summary>The last column is not written.</summary>
    LastColumnMissing,

    /// <summary>The last row is not written.</summary>
    LastRowMissing,

    /// <summary>What a vector of eight leaves over is not written.</summary>
    TailMissing,

    /// <summary>The value after the end of the last row is written.</summary>
    WritesPastTheEnd,

    /// <summary>Every other call gives another last bit.</summary>
    NotRepeatable,

    /// <summary>The result is added to what the destination held.</summary>
    Accumulates,
}

/// <summary>The reference device with one op broken.</summary>
internal sealed class FaultyDevice(string op, Fault fault) : ForwardingDevice(new ReferenceDevice())
{
    private int _calls;

    public override string Name => $"{op} with {fault}";

    protected override void WriteCore(ReadOnlySpan<float> values, Mat destination)
    {
        float[] before = Before(destination);
        base.WriteCore(values, destination);
        // The suite writes its inputs in whole, dense matrices; only what a view holds is at stake.
        if (!destination.IsDense)
            After(nameof(Device.Write), destination, before);
    }

    protected override void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination)
    {
        float[] before = Before(destination);
        base.EmbedCore(tokens, table, scale, destination);
        After(nameof(Device.Embed), destination, before);
    }

    protected override void NormalizeCore(Mat x, float epsilon, Mat destination)
    {
        float[] before = Before(destination);
        base.NormalizeCore(x, epsilon, destination);
        After(nameof(Device.Normalize), destination, before);
    }

    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination)
    {
        float[] before = Before(destination);
        base.ApplyGainCore(unit, gain, destination);
        After(nameof(Device.ApplyGain), destination, before);
    }

    protected override void RmsNormCore(Mat x, Mat gain, float epsilon, Mat destination)
    {
        float[] before = Before(destination);
        base.RmsNormCore(x, gain, epsilon, destination);
        After(nameof(Device.RmsNorm), destination, before);
    }

    protected override void AddNormedThenNormCore(Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        float[] before = Before(normed);
        base.AddNormedThenNormCore(branch, postGain, nextGain, epsilon, resid, normed);
        After(nameof(Device.AddNormedThenNorm), normed, before);
    }

    protected override void LinearCore(Mat x, Weight weight, Mat destination)
    {
        float[] before = Before(destination);
        base.LinearCore(x, weight, destination);
        After(nameof(Device.Linear), destination, before);
    }

    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination)
    {
        float[] before = Before(destination);
        base.LinearTransposedCore(x, weight, destination);
        After(nameof(Device.LinearTransposed), destination, before);
    }

    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        float[] before = Before(destination);
        base.GatedGeluCore(x, gateUp, destination);
        After(nameof(Device.GatedGelu), destination, before);
    }

    protected override void RopeCore(Mat x, int position, Mat cosSin)
    {
        float[] before = Before(x);
        base.RopeCore(x, position, cosSin);
        After(nameof(Device.Rope), x, before);
    }

    protected override void StoreCore(Mat k, Mat v, int position, KvLayer cache)
    {
        float[] before = Before(cache.Values);
        base.StoreCore(k, v, position, cache);
        After(nameof(Device.Store), cache.Values, before);
    }

    protected override void RopeThenStoreCore(Mat qkv, int position, Mat cosSin, KvLayer cache)
    {
        float[] before = Before(cache.Keys);
        base.RopeThenStoreCore(qkv, position, cosSin, cache);
        After(nameof(Device.RopeThenStore), cache.Keys, before);
    }

    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        float[] before = Before(destination);
        base.AttendCore(q, cache, position, shape, destination);
        After(nameof(Device.Attend), destination, before);
    }

    protected override void SoftcapCore(Mat x, float cap)
    {
        float[] before = Before(x);
        base.SoftcapCore(x, cap);
        After(nameof(Device.Softcap), x, before);
    }

    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        float[] before = Before(destination);
        base.CrossEntropyCore(x, unembedding, cap, targets, destination);
        After(nameof(Device.CrossEntropy), destination, before);
    }

    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination)
    {
        float[] before = Before(destination);
        base.SaeDecodeCore(codes, sae, destination);
        After(nameof(Device.SaeDecode), destination, before);
    }

    protected override void SaeDecodePlusErrorCore(SparseCodes codes, SaeParameters sae, Mat reconstruction, Mat destination)
    {
        float[] before = Before(destination);
        base.SaeDecodePlusErrorCore(codes, sae, reconstruction, destination);
        After(nameof(Device.SaeDecodePlusError), destination, before);
    }

    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination)
    {
        float[] before = Before(destination);
        base.SaeEditCore(read, sae, edits, destination);
        After(nameof(Device.SaeEdit), destination, before);
    }

    protected override void AddScaledCore(Mat x, float alpha, Mat destination)
    {
        float[] before = Before(destination);
        base.AddScaledCore(x, alpha, destination);
        After(nameof(Device.AddScaled), destination, before);
    }

    protected override void CopyCore(Mat x, Mat destination)
    {
        float[] before = Before(destination);
        base.CopyCore(x, destination);
        After(nameof(Device.Copy), destination, before);
    }

    protected override void TopKCore(Mat x, int k, SparseCodes destination)
    {
        base.TopKCore(x, k, destination);
        After(nameof(Device.TopK), destination);
    }

    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination)
    {
        base.SaeEncodeCore(x, sae, destination);
        After(nameof(Device.SaeEncode), destination);
    }

    protected override void SaeEncodeNearCore(Mat x, SaeParameters sae, SparseCodes destination, float distance, SparseCodes near)
    {
        base.SaeEncodeNearCore(x, sae, destination, distance, near);
        After(nameof(Device.SaeEncodeNear), near);
    }

    protected override void TransposeCore(SparseCodes codes, SparseCodes destination)
    {
        base.TransposeCore(codes, destination);
        After(nameof(Device.Transpose), destination);
    }

    protected override void SparseProductCore(SparseCodes codes, int firstRow, Mat x, Mat destination)
    {
        float[] before = Before(destination);
        base.SparseProductCore(codes, firstRow, x, destination);
        After(nameof(Device.SparseProduct), destination, before);
    }

    protected override void SparseDotCore(SparseCodes codes, Mat w, Mat x, float scale, float offset, SparseCodes destination)
    {
        base.SparseDotCore(codes, w, x, scale, offset, destination);
        After(nameof(Device.SparseDot), destination);
    }

    protected override void AdamRowsCore(Mat gradient, AdamStep step, Mat secondMoment, Mat parameters, Mat squaredNorms)
    {
        float[] before = Before(parameters);
        base.AdamRowsCore(gradient, step, secondMoment, parameters, squaredNorms);
        After(nameof(Device.AdamRows), parameters, before);
    }

    protected override void SquaredNormsCore(Mat x, Mat destination)
    {
        float[] before = Before(destination);
        base.SquaredNormsCore(x, destination);
        After(nameof(Device.SquaredNorms), destination, before);
    }

    private float[] Before(Mat x)
    {
        float[] values = new float[x.Rows * x.Columns];
        Inner.Read(x, values);
        return values;
    }

    private unsafe void After(string done, Mat y, float[] before)
    {
        if (done != op || y.Rows == 0 || y.Columns == 0)
            return;
        _calls++;
        int tail = fault switch { Fault.LastColumnMissing => y.Columns - 1, Fault.TailMissing => y.Columns / 8 * 8, _ => y.Columns };
        for (int r = 0; r < y.Rows; r++)
        {
            Span<float> row = HostBuffer.Row(y, r);
            int from = fault == Fault.LastRowMissing && r == y.Rows - 1 ? 0 : tail;
            before.AsSpan(r * y.Columns, y.Columns)[from..].CopyTo(row[from..]);
            for (int j = 0; fault == Fault.Accumulates && j < y.Columns; j++)
                row[j] += before[(r * y.Columns) + j];
        }

        ref float largest = ref Largest(y);
        if (fault == Fault.OneValueOff)
            largest *= 1.001f;
        if (fault == Fault.NotRepeatable && _calls % 2 == 0)
            largest = MathF.BitIncrement(largest);
        long end = y.Offset + ((long)(y.Rows - 1) * y.Stride) + y.Columns;
        if (fault == Fault.WritesPastTheEnd && end < y.Buffer.Length)
            ((HostBuffer)y.Buffer).Start[end] = 1f;
    }

    private void After(string done, SparseCodes codes)
    {
        if (done != op)
            return;
        _calls++;
        CodeList list = new();
        Inner.Read(codes, list);
        int count = list.Count;
        if (count == 0)
            return;
        if (fault == Fault.OneValueOff)
            list.Value[count / 2] *= 1.001f;
        if (fault == Fault.NotRepeatable && _calls % 2 == 0)
            list.Value[0] = MathF.BitIncrement(list.Value[0]);
        if (fault is Fault.LastColumnMissing or Fault.TailMissing)
            list.RowStart[list.Rows]--;
        if (fault == Fault.LastRowMissing)
            list.RowStart[list.Rows] = list.RowStart[list.Rows - 1];
        Changed = (codes, list);
    }

    /// <summary>Lists that are in no order cannot be written back, so a read gives the spoiled ones.</summary>
    private (SparseCodes Codes, CodeList List)? Changed { get; set; }

    protected override void ReadCore(SparseCodes codes, CodeList destination)
    {
        base.ReadCore(codes, destination);
        if (Changed is not { } changed || changed.Codes != codes)
            return;
        destination.Resize(changed.List.Rows, changed.List.Count);
        changed.List.RowStart.AsSpan(0, changed.List.Rows + 1).CopyTo(destination.RowStart);
        changed.List.Feature.AsSpan(0, changed.List.Count).CopyTo(destination.Feature);
        changed.List.Value.AsSpan(0, changed.List.Count).CopyTo(destination.Value);
    }

    private static ref float Largest(Mat y)
    {
        (int Row, int Column) at = default;
        float largest = -1;
        for (int r = 0; r < y.Rows; r++)
        {
            Span<float> row = HostBuffer.Row(y, r);
            for (int j = 0; j < y.Columns; j++)
            {
                if (float.IsFinite(row[j]) && Math.Abs(row[j]) > largest)
                    (largest, at) = (Math.Abs(row[j]), (r, j));
            }
        }

        return ref HostBuffer.Row(y, at.Row)[at.Column];
    }
}
