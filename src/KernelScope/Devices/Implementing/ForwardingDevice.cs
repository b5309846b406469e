namespace KernelScope.Devices;

/// <summary>A device that passes every call on to another: the base of those that watch one. It does not own the other.</summary>
/// <remarks>Any number of threads may call it, as any <see cref="Device"/>: the two share one gate, so that nothing comes between an op and what it asks of the other device.</remarks>
public abstract class ForwardingDevice(Device inner) : Device(inner)
{
    /// <summary>The device that works.</summary>
    protected Device Inner { get; } = inner;

    /// <summary>The device that works, for projects that look for one of their own kind.</summary>
    internal Device Target => Inner;

    /// <inheritdoc/>
    public override string Name => Inner.Name;

    /// <inheritdoc/>
    public override Precision Precision => Inner.Precision;

    /// <inheritdoc/>
    public override bool RoundsAttention => Inner.RoundsAttention;

    /// <inheritdoc/>
    public override int PreferredChunk => Inner.PreferredChunk;

    /// <inheritdoc/>
    public override string Arithmetic => Inner.Arithmetic;

    /// <inheritdoc/>
    public override DeviceBuffer Allocate(long length, string name) => Inner.Allocate(length, name);

    /// <inheritdoc/>
    public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts) => Inner.CreateWeight(name, parts);

    /// <inheritdoc/>
    public override Weight CreateWeight(string name, Mat values, bool transposed = false) => Inner.CreateWeight(name, values, transposed);

    /// <inheritdoc/>
    public override SparseCodes CreateCodes(int featureCount, string name) => Inner.CreateCodes(featureCount, name);

    /// <inheritdoc/>
    public override void ForEach(int units, Action<int> work) => Inner.ForEach(units, work);

#pragma warning disable CS1591 // Each passes its arguments on.
    protected override void ReadCore(Mat x, Span<float> destination) => Inner.Read(x, destination);

    protected override void WriteCore(ReadOnlySpan<float> values, Mat destination) => Inner.Write(values, destination);

    protected override void ReadCore(SparseCodes codes, CodeList destination) => Inner.Read(codes, destination);

    protected override void WriteCore(CodeList codes, SparseCodes destination) => Inner.Write(codes, destination);

    protected override void SynchronizeCore() => Inner.Synchronize();

    protected override void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination) =>
        Inner.Embed(tokens, table, scale, destination);

    protected override void NormalizeCore(Mat x, float epsilon, Mat destination) => Inner.Normalize(x, epsilon, destination);

    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination) => Inner.ApplyGain(unit, gain, destination);

    protected override void RmsNormCore(Mat x, Mat gain, float epsilon, Mat destination) => Inner.RmsNorm(x, gain, epsilon, destination);

    protected override void AddNormedThenNormCore(Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed) =>
        Inner.AddNormedThenNorm(branch, postGain, nextGain, epsilon, resid, normed);

    protected override void LinearCore(Mat x, Weight weight, Mat destination) => Inner.Linear(x, weight, destination);

    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination) => Inner.LinearTransposed(x, weight, destination);

    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination) => Inner.GatedGelu(x, gateUp, destination);

    protected override void RopeCore(Mat x, int position, Mat cosSin) => Inner.Rope(x, position, cosSin);

    protected override void StoreCore(Mat k, Mat v, int position, KvLayer cache) => Inner.Store(k, v, position, cache);

    protected override void RopeThenStoreCore(Mat qkv, int position, Mat cosSin, KvLayer cache) =>
        Inner.RopeThenStore(qkv, position, cosSin, cache);

    protected override void RopeThenStoreCore(Mat qkv, ReadOnlySpan<SequenceRows> sequences, Mat cosSin) =>
        Inner.RopeThenStore(qkv, sequences, cosSin);

    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination) =>
        Inner.Attend(q, cache, position, shape, destination);

    protected override void AttendCore(Mat q, ReadOnlySpan<SequenceRows> sequences, AttentionShape shape, Mat destination) =>
        Inner.Attend(q, sequences, shape, destination);

    protected override void SoftcapCore(Mat x, float cap) => Inner.Softcap(x, cap);

    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination) =>
        Inner.CrossEntropy(x, unembedding, cap, targets, destination);

    protected override void TopKCore(Mat x, int k, SparseCodes destination) => Inner.TopK(x, k, destination);

    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination) => Inner.SaeEncode(x, sae, destination);

    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination) =>
        Inner.SaeDecode(codes, sae, destination);

    protected override void SaeDecodePlusErrorCore(SparseCodes codes, SaeParameters sae, Mat reconstruction, Mat destination) =>
        Inner.SaeDecodePlusError(codes, sae, reconstruction, destination);

    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination) =>
        Inner.SaeEdit(read, sae, edits, destination);

    protected override void AddScaledCore(Mat x, float alpha, Mat destination) => Inner.AddScaled(x, alpha, destination);

    protected override void CopyCore(Mat x, Mat destination) => Inner.Copy(x, destination);

    protected override void SaeEncodeNearCore(Mat x, SaeParameters sae, SparseCodes destination, float distance, SparseCodes near) =>
        Inner.SaeEncodeNear(x, sae, destination, distance, near);

    protected override void TransposeCore(SparseCodes codes, SparseCodes destination) => Inner.Transpose(codes, destination);

    protected override void ReadLengthsCore(SparseCodes codes, Span<int> destination) => Inner.ReadLengths(codes, destination);

    protected override void SparseProductCore(SparseCodes codes, int firstRow, Mat x, Mat destination) =>
        Inner.SparseProduct(codes, firstRow, x, destination);

    protected override void SparseDotCore(SparseCodes codes, Mat w, Mat x, float scale, float offset, SparseCodes destination) =>
        Inner.SparseDot(codes, w, x, scale, offset, destination);

    protected override void AdamRowsCore(Mat gradient, AdamStep step, Mat secondMoment, Mat parameters, Mat squaredNorms) =>
        Inner.AdamRows(gradient, step, secondMoment, parameters, squaredNorms);

    protected override void SquaredNormsCore(Mat x, Mat destination) => Inner.SquaredNorms(x, destination);
#pragma warning restore CS1591
}
