using KernelScope.Devices;
using KernelScope.Devices.Reference;

namespace KernelScope.Tests.Model;

/// <summary>
/// The reference device's ops, each of which a test can replace by a wrong one. Fused ops run in their plain form, so that one replacement reaches every use.
/// With nothing replaced it must pass the goldens: that is the control of every mutation.
/// </summary>
internal sealed class MutatedDevice : Device
{
    private readonly ReferenceDevice _inner = new();

    /// <summary>hidden from gate and up.</summary>
    public Func<double, double, double>? Gelu { get; init; }

    /// <summary>The norm of a row without gain, in place.</summary>
    public Action<float[], float>? NormalizeRow { get; init; }

    /// <summary>The factor for a stored gain g, where Gemma has 1 + g.</summary>
    public Func<float, float>? Gain { get; init; }

    /// <summary>The rotation of a row of heads by a row of cosines and sines, in place.</summary>
    public Action<float[], float[]>? Rotate { get; init; }

    /// <summary>The position whose angles are used.</summary>
    public Func<int, int>? RopePosition { get; init; }

    /// <summary>The soft-cap of a logit.</summary>
    public Func<float, float, float>? Cap { get; init; }

    /// <summary>Attention in plain double, with what a test changes in it.</summary>
    public HostAttention? Attention { get; init; }

    /// <summary>What a matrix product reads instead of an activation.</summary>
    public Func<float, float>? Rounding { get; init; }

    /// <summary>What the cache keeps instead of a key's or value's entry.</summary>
    public Func<float, float>? Stored { get; init; }

    public override string Name => "mutated";

    public override DeviceBuffer Allocate(long length, string name) => _inner.Allocate(length, name);

    public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts) => _inner.CreateWeight(name, parts);

    public override SparseCodes CreateCodes(int featureCount, string name) => _inner.CreateCodes(featureCount, name);

    protected override void ReadCore(SparseCodes codes, CodeList destination) => _inner.Read(codes, destination);

    protected override void WriteCore(CodeList codes, SparseCodes destination) => _inner.Write(codes, destination);

    protected override void ReadCore(Mat x, Span<float> destination) => _inner.Read(x, destination);

    protected override void WriteCore(ReadOnlySpan<float> values, Mat destination) => _inner.Write(values, destination);

    protected override void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination) =>
        _inner.Embed(tokens, table, scale, destination);

    protected override void NormalizeCore(Mat x, float epsilon, Mat destination)
    {
        if (NormalizeRow is null)
            _inner.Normalize(x, epsilon, destination);
        else
            Edit(x, destination, row => NormalizeRow(row, epsilon));
    }

    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination)
    {
        if (Gain is null)
        {
            _inner.ApplyGain(unit, gain, destination);
            return;
        }

        float[] factors = Array.ConvertAll(Values(gain), g => Gain(g));
        Edit(unit, destination, row =>
        {
            for (int i = 0; i < row.Length; i++)
                row[i] *= factors[i];
        });
    }

    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination) => _inner.LinearTransposed(x, weight, destination);

    protected override void LinearCore(Mat x, Weight weight, Mat destination)
    {
        if (Rounding is null)
        {
            _inner.Linear(x, weight, destination);
            return;
        }

        Mat rounded = _inner.CreateMat(x.Rows, x.Columns, "rounded");
        Edit(x, rounded, row => Array.ConvertAll(row, v => Rounding(v)).CopyTo(row, 0));
        _inner.Linear(rounded, weight, destination);
        rounded.Buffer.Dispose();
    }

    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        if (Gelu is null)
        {
            _inner.GatedGelu(x, gateUp, destination);
            return;
        }

        int width = destination.Columns;
        Mat both = _inner.CreateMat(x.Rows, 2 * width, "gate and up");
        LinearCore(x, gateUp, both);
        float[] values = Values(both), hidden = new float[x.Rows * width];
        for (int r = 0; r < x.Rows; r++)
        {
            for (int j = 0; j < width; j++)
                hidden[(r * width) + j] = (float)Gelu(values[(r * 2 * width) + j], values[(r * 2 * width) + width + j]);
        }

        _inner.Write(hidden, destination);
        both.Buffer.Dispose();
    }

    protected override void RopeCore(Mat x, int position, Mat cosSin)
    {
        int at = RopePosition?.Invoke(position) ?? position;
        if (Rotate is null)
        {
            _inner.Rope(x, at, cosSin);
            return;
        }

        for (int r = 0; r < x.Rows; r++)
        {
            float[] table = Values(cosSin.RowRange(at + r, 1));
            Edit(x.RowRange(r, 1), x.RowRange(r, 1), row => Rotate(row, table));
        }
    }

    protected override void StoreCore(Mat k, Mat v, int position, KvLayer cache)
    {
        if (Stored is not null)
        {
            Edit(k, k, row => Array.ConvertAll(row, e => Stored(e)).CopyTo(row, 0));
            Edit(v, v, row => Array.ConvertAll(row, e => Stored(e)).CopyTo(row, 0));
        }

        _inner.Store(k, v, position, cache);
    }

    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        if (Attention is null)
            _inner.Attend(q, cache, position, shape, destination);
        else
            _inner.Write(Attention.Run(Values(q), Values(cache.Keys), Values(cache.Values), q.Rows, cache, position, shape), destination);
    }

    protected override void SoftcapCore(Mat x, float cap)
    {
        if (Cap is null)
            _inner.Softcap(x, cap);
        else
            Edit(x, x, row => Array.ConvertAll(row, v => Cap(v, cap)).CopyTo(row, 0));
    }

    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination) =>
        _inner.CrossEntropy(x, unembedding, cap, targets, destination);

    protected override void TopKCore(Mat x, int k, SparseCodes destination) => _inner.TopK(x, k, destination);

    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination) => _inner.SaeEncode(x, sae, destination);

    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination) =>
        _inner.SaeDecode(codes, sae, destination);

    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination) =>
        _inner.SaeEdit(read, sae, edits, destination);

    protected override void AddScaledCore(Mat x, float alpha, Mat destination) => _inner.AddScaled(x, alpha, destination);

    protected override void CopyCore(Mat x, Mat destination) => _inner.Copy(x, destination);

    private float[] Values(Mat x)
    {
        float[] values = new float[x.Rows * x.Columns];
        _inner.Read(x, values);
        return values;
    }

    private void Edit(Mat x, Mat destination, Action<float[]> change)
    {
        for (int r = 0; r < x.Rows; r++)
        {
            float[] row = Values(x.RowRange(r, 1));
            change(row);
            _inner.Write(row, destination.RowRange(r, 1));
        }
    }
}
