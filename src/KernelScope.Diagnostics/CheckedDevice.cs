namespace KernelScope.Devices;

/// <summary>
/// Watches another device: refuses overlapping arguments that an op does not allow, and reads every result back to find the first NaN or infinity
/// where it arises. For tests and for the search after a wrong number; every op waits for the device.
/// </summary>
/// <remarks>Any number of threads may call it, as any <see cref="Device"/>.</remarks>
/// <example>
/// <code>
/// using var cpu = new CpuDevice();
/// using var device = new CheckedDevice(cpu);               // names the first op that gives a NaN
/// using var model = Gemma2Model.Open(device, "google/gemma-2-2b");
/// </code>
/// </example>
public sealed class CheckedDevice(Device inner) : ForwardingDevice(inner)
{
    private readonly CodeList _codes = new();
    private float[] _values = [];

    /// <inheritdoc/>
    protected override void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination)
    {
        base.EmbedCore(tokens, table, scale, destination);
        Finite(nameof(Embed), destination);
    }

    /// <inheritdoc/>
    protected override void NormalizeCore(Mat x, float epsilon, Mat destination)
    {
        SameOrApart(nameof(Normalize), x, destination);
        base.NormalizeCore(x, epsilon, destination);
        Finite(nameof(Normalize), destination);
    }

    /// <inheritdoc/>
    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination)
    {
        SameOrApart(nameof(ApplyGain), unit, destination);
        Apart(nameof(ApplyGain), destination, gain);
        base.ApplyGainCore(unit, gain, destination);
        Finite(nameof(ApplyGain), destination);
    }

    /// <inheritdoc/>
    protected override void RmsNormCore(Mat x, Mat gain, float epsilon, Mat destination)
    {
        SameOrApart(nameof(RmsNorm), x, destination);
        Apart(nameof(RmsNorm), destination, gain);
        base.RmsNormCore(x, gain, epsilon, destination);
        Finite(nameof(RmsNorm), destination);
    }

    /// <inheritdoc/>
    protected override void AddNormedThenNormCore(Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        Apart(nameof(AddNormedThenNorm), branch, postGain, nextGain, resid);
        Apart(nameof(AddNormedThenNorm), resid, postGain, nextGain, normed);
        Apart(nameof(AddNormedThenNorm), normed, postGain, nextGain, branch);
        base.AddNormedThenNormCore(branch, postGain, nextGain, epsilon, resid, normed);
        Finite(nameof(AddNormedThenNorm), resid);
        Finite(nameof(AddNormedThenNorm), normed);
    }

    /// <inheritdoc/>
    protected override void LinearCore(Mat x, Weight weight, Mat destination)
    {
        Apart(nameof(Linear), destination, x);
        base.LinearCore(x, weight, destination);
        Finite(nameof(Linear), destination);
    }

    /// <inheritdoc/>
    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination)
    {
        Apart(nameof(LinearTransposed), destination, x);
        base.LinearTransposedCore(x, weight, destination);
        Finite(nameof(LinearTransposed), destination);
    }

    /// <inheritdoc/>
    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        Apart(nameof(GatedGelu), destination, x);
        base.GatedGeluCore(x, gateUp, destination);
        Finite(nameof(GatedGelu), destination);
    }

    /// <inheritdoc/>
    protected override void RopeCore(Mat x, int position, Mat cosSin)
    {
        Apart(nameof(Rope), x, cosSin);
        base.RopeCore(x, position, cosSin);
        Finite(nameof(Rope), x);
    }

    /// <inheritdoc/>
    protected override void StoreCore(Mat k, Mat v, int position, KvLayer cache)
    {
        Apart(nameof(Store), cache.Keys, k, v, cache.Values);
        Apart(nameof(Store), cache.Values, k, v);
        base.StoreCore(k, v, position, cache);
        // What was stored, not the cache: that holds whatever was there before, too.
        Finite(nameof(Store), k);
        Finite(nameof(Store), v);
    }

    /// <inheritdoc/>
    protected override void RopeThenStoreCore(Mat qkv, int position, Mat cosSin, KvLayer cache)
    {
        Apart(nameof(RopeThenStore), qkv, cosSin, cache.Keys, cache.Values);
        base.RopeThenStoreCore(qkv, position, cosSin, cache);
        Finite(nameof(RopeThenStore), qkv);
    }

    /// <inheritdoc/>
    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        Apart(nameof(Attend), destination, q, cache.Keys, cache.Values);
        base.AttendCore(q, cache, position, shape, destination);
        Finite(nameof(Attend), destination);
    }

    /// <inheritdoc/>
    protected override void RopeThenStoreCore(Mat qkv, ReadOnlySpan<SequenceRows> sequences, Mat cosSin)
    {
        SeparateCaches(sequences);
        foreach (SequenceRows s in sequences)
            Apart(nameof(RopeThenStore), qkv, cosSin, s.Cache.Keys, s.Cache.Values);
        base.RopeThenStoreCore(qkv, sequences, cosSin);
        foreach (SequenceRows s in sequences)
            Finite(nameof(RopeThenStore), qkv.RowRange(s.FirstRow, s.RowCount));
    }

    /// <inheritdoc/>
    protected override void AttendCore(Mat q, ReadOnlySpan<SequenceRows> sequences, AttentionShape shape, Mat destination)
    {
        foreach (SequenceRows s in sequences)
            Apart(nameof(Attend), destination, q, s.Cache.Keys, s.Cache.Values);
        base.AttendCore(q, sequences, shape, destination);
        foreach (SequenceRows s in sequences)
            Finite(nameof(Attend), destination.RowRange(s.FirstRow, s.RowCount));
    }

    /// <inheritdoc/>
    protected override void SoftcapCore(Mat x, float cap)
    {
        base.SoftcapCore(x, cap);
        Finite(nameof(Softcap), x);
    }

    /// <inheritdoc/>
    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        Apart(nameof(CrossEntropy), destination, x);
        base.CrossEntropyCore(x, unembedding, cap, targets, destination);
        Finite(nameof(CrossEntropy), destination);
    }

    /// <inheritdoc/>
    protected override void TopKCore(Mat x, int k, SparseCodes destination)
    {
        base.TopKCore(x, k, destination);
        Finite(nameof(TopK), destination);
    }

    /// <inheritdoc/>
    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination)
    {
        base.SaeEncodeCore(x, sae, destination);
        Finite(nameof(SaeEncode), destination);
    }

    /// <inheritdoc/>
    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination)
    {
        Apart(nameof(SaeDecode), destination, sae.DecoderBias);
        base.SaeDecodeCore(codes, sae, destination);
        Finite(nameof(SaeDecode), destination);
    }

    /// <inheritdoc/>
    protected override void SaeDecodePlusErrorCore(SparseCodes codes, SaeParameters sae, Mat reconstruction, Mat destination)
    {
        Apart(nameof(SaeDecodePlusError), destination, sae.DecoderBias, reconstruction);
        Apart(nameof(SaeDecodePlusError), reconstruction, sae.DecoderBias);
        base.SaeDecodePlusErrorCore(codes, sae, reconstruction, destination);
        Finite(nameof(SaeDecodePlusError), destination);
    }

    /// <inheritdoc/>
    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination)
    {
        SameOrApart(nameof(SaeEdit), read, destination);
        Apart(nameof(SaeEdit), destination, sae.EncoderBias, sae.Threshold);
        base.SaeEditCore(read, sae, edits, destination);
        Finite(nameof(SaeEdit), destination);
    }

    /// <inheritdoc/>
    protected override void AddScaledCore(Mat x, float alpha, Mat destination)
    {
        SameOrApart(nameof(AddScaled), x, destination);
        base.AddScaledCore(x, alpha, destination);
        Finite(nameof(AddScaled), destination);
    }

    /// <inheritdoc/>
    protected override void CopyCore(Mat x, Mat destination)
    {
        SameOrApart(nameof(Copy), x, destination);
        base.CopyCore(x, destination);
        Finite(nameof(Copy), destination);
    }

    private static void SeparateCaches(ReadOnlySpan<SequenceRows> sequences)
    {
        for (int n = 1; n < sequences.Length; n++)
        {
            for (int m = 0; m < n; m++)
            {
                if (Overlap(sequences[n].Cache.Keys, sequences[m].Cache.Keys)
                    || Overlap(sequences[n].Cache.Values, sequences[m].Cache.Values))
                    throw new ArgumentException($"{nameof(RopeThenStore)}: sequences {m} and {n} have one cache, which the op does " +
                        "not allow.", nameof(sequences));
            }
        }
    }

    private static void SameOrApart(string op, Mat x, Mat destination)
    {
        if (x != destination)
            Apart(op, destination, x);
    }

    private static void Apart(string op, Mat destination, params ReadOnlySpan<Mat> others)
    {
        foreach (Mat other in others)
        {
            if (Overlap(destination, other))
                throw new ArgumentException($"{op}: {destination} overlaps {other}, which the op does not allow.", nameof(destination));
        }
    }

    private static bool Overlap(Mat x, Mat y)
    {
        if (!ReferenceEquals(x.Buffer, y.Buffer) || x.Columns == 0 || y.Columns == 0 || x.Offset >= End(y) || y.Offset >= End(x))
            return false;
        // Column ranges of one matrix lie between each other without touching.
        int stride = x.Stride;
        if (stride != y.Stride)
            return true;
        long left = x.Offset % stride;
        long right = y.Offset % stride;
        bool wraps = left + x.Columns > stride || right + y.Columns > stride;
        return wraps || (left < right + y.Columns && right < left + x.Columns);
    }

    private static long End(Mat x) => x.Rows == 0 ? x.Offset : x.Offset + ((long)(x.Rows - 1) * x.Stride) + x.Columns;

    private void Finite(string op, Mat x)
    {
        int count = checked(x.Rows * x.Columns);
        if (_values.Length < count)
            _values = new float[count];
        Span<float> values = _values.AsSpan(0, count);
        Inner.Read(x, values);
        for (int n = 0; n < count; n++)
        {
            if (!float.IsFinite(values[n]))
                throw new NotFiniteNumberException(
                    FormattableString.Invariant($"{op}: {x} has {values[n]} in row {n / x.Columns}, column {n % x.Columns}."), values[n]);
        }
    }

    private void Finite(string op, SparseCodes codes)
    {
        Inner.Read(codes, _codes);
        for (int r = 0; r < _codes.Rows; r++)
        {
            foreach (float value in _codes.ValuesOf(r))
            {
                if (!float.IsFinite(value))
                    throw new NotFiniteNumberException(FormattableString.Invariant($"{op}: '{codes.Name}' has {value} in row {r}."), value);
            }
        }
    }
}
