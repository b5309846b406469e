using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using KernelScope.Files;

namespace KernelScope.Devices;

/// <summary>What one kind of op took, in all calls together.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record OpProfile
{
    internal OpProfile(string op, long calls, double seconds, OpCost cost)
    {
        Op = op;
        Calls = calls;
        Seconds = seconds;
        Cost = cost;
    }

    /// <summary>The op; a product with the name of its weight, without the layer: <c>Linear qkv</c>.</summary>
    public string Op { get; init; }

    /// <summary>Number of calls.</summary>
    public long Calls { get; init; }

    /// <summary>Wall time, the wait for the device included.</summary>
    public double Seconds { get; init; }

    /// <summary>The least that the calls must have moved and computed, from their shapes.</summary>
    public OpCost Cost { get; init; }

    /// <summary>The layer; null outside the layers, or where several are summed.</summary>
    public int? Layer { get; init; }
}

/// <summary>
/// Watches another device: how long each kind of op takes, and what it must move and compute. Ops are passed on as they come, fused ones as fused ones, so no result changes;
/// every op waits for the device, so that its time is its own.
/// </summary>
/// <remarks>
/// What has no weight of a layer (norms, attention, an SAE at a hook) belongs to the layer whose weight was used last: the model's ops come in that order. A call costs a few tenths of a microsecond
/// beside the wait, outside the time that is counted. Any number of threads may use it; where several do, an op outside the layers belongs to the layer that any of them used last.
/// </remarks>
/// <example>
/// <code>
/// using var cpu = new CpuDevice();
/// using var device = new ProfilingDevice(cpu);
/// using var model = Gemma2Model.Open(device, "google/gemma-2-2b");
/// using Session session = model.NewSession();
/// session.Prefill(tokens);
/// foreach (OpProfile op in device.Ops)
///     Console.WriteLine($"{op.Op}: {op.Calls} calls, {op.Seconds * 1000:F1} ms, {op.Cost.Bytes / op.Seconds / 1e9:F1} GB/s");
/// </code>
/// </example>
public sealed class ProfilingDevice(Device inner) : ForwardingDevice(inner)
{
    private readonly Dictionary<(string Op, string Part, int? Layer), Entry> _entries = [];
    private readonly ConditionalWeakTable<Weight, Stored> _stored = [];
    private readonly HashSet<int> _distinct = [];
    private readonly CodeList _codes = new();
    private int? _layer;

    /// <summary>The device that is watched.</summary>
    public Device Watched => Inner;

    /// <summary>What was measured so far, op by op and layer by layer.</summary>
    public IReadOnlyList<OpProfile> Entries
    {
        get
        {
            using RunningOp op = Enter();
            return [.. _entries.Select(e =>
                new OpProfile(e.Key.Part.Length == 0 ? e.Key.Op : $"{e.Key.Op} {e.Key.Part}", e.Value.Calls, e.Value.Seconds, e.Value.Cost)
                {
                    Layer = e.Key.Layer,
                })];
        }
    }

    /// <summary>The same summed over the layers, the longest first.</summary>
    public IReadOnlyList<OpProfile> Ops =>
        [.. Entries.GroupBy(e => e.Op).Select(Total).OrderByDescending(p => p.Seconds).ThenBy(p => p.Op, StringComparer.Ordinal)];

    private static OpProfile Total(IGrouping<string, OpProfile> calls) =>
        new(calls.Key, calls.Sum(e => e.Calls), calls.Sum(e => e.Seconds), calls.Aggregate(default(OpCost), (sum, e) => sum + e.Cost));

    /// <summary>The weights that were created through it and still exist.</summary>
    internal IReadOnlyList<Weight> Weights => [.. _stored.Select(s => s.Key)];

    /// <summary>Forgets what was measured.</summary>
    public void Reset()
    {
        using RunningOp op = Enter();
        _entries.Clear();
    }

    /// <inheritdoc/>
    public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts)
    {
        Weight weight = base.CreateWeight(name, parts);
        _stored.Add(weight, Describe(name, weight.ByteLength, weight.ProductBytes));
        return weight;
    }

#pragma warning disable CS1591 // Each measures the op of its name.
    protected override void ReadCore(SparseCodes codes, CodeList destination)
    {
        long start = Begin();
        base.ReadCore(codes, destination);
        End(start, nameof(Read), "", OpCost.Values(2.0 * destination.Count, 0));
    }

    protected override void WriteCore(CodeList codes, SparseCodes destination)
    {
        long start = Begin();
        base.WriteCore(codes, destination);
        End(start, nameof(Write), "", OpCost.Values(2.0 * codes.Count, 0));
    }

    protected override void ReadCore(Mat x, Span<float> destination)
    {
        long start = Begin();
        base.ReadCore(x, destination);
        End(start, nameof(Read), "", OpCost.Values(Size(x), 0));
    }

    protected override void WriteCore(ReadOnlySpan<float> values, Mat destination)
    {
        long start = Begin();
        base.WriteCore(values, destination);
        End(start, nameof(Write), "", OpCost.Values(Size(destination), 0));
    }

    protected override void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination)
    {
        long start = Begin();
        base.EmbedCore(tokens, table, scale, destination);
        double values = Size(destination);
        _layer = null;
        End(start, nameof(Embed), "", new OpCost((values * ElementBytes(table)) + (values * sizeof(float)), values));
    }

    protected override void NormalizeCore(Mat x, float epsilon, Mat destination)
    {
        long start = Begin();
        base.NormalizeCore(x, epsilon, destination);
        End(start, nameof(Normalize), "", OpCost.Values(2 * Size(x), 3 * Size(x)));
    }

    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination)
    {
        long start = Begin();
        base.ApplyGainCore(unit, gain, destination);
        End(start, nameof(ApplyGain), "", OpCost.Values((2 * Size(unit)) + Size(gain), Size(unit) + Size(gain)));
    }

    protected override void RmsNormCore(Mat x, Mat gain, float epsilon, Mat destination)
    {
        long start = Begin();
        base.RmsNormCore(x, gain, epsilon, destination);
        End(start, nameof(RmsNorm), "", OpCost.Values((2 * Size(x)) + Size(gain), (4 * Size(x)) + Size(gain)));
    }

    protected override void AddNormedThenNormCore(Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        long start = Begin();
        base.AddNormedThenNormCore(branch, postGain, nextGain, epsilon, resid, normed);
        // Branch and stream are read, stream and normed are written.
        End(start, nameof(AddNormedThenNorm), "",
            OpCost.Values((4 * Size(branch)) + (2 * Size(postGain)), (9 * Size(branch)) + (2 * Size(postGain))));
    }

    protected override void LinearCore(Mat x, Weight weight, Mat destination)
    {
        long start = Begin();
        base.LinearCore(x, weight, destination);
        End(start, nameof(Linear), Enter(weight), OpCost.Linear(x.Rows, weight.Columns, weight.Rows, StoredOf(weight).ProductBytes));
    }

    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination)
    {
        long start = Begin();
        base.LinearTransposedCore(x, weight, destination);
        End(start, nameof(LinearTransposed), Enter(weight), OpCost.Linear(x.Rows, weight.Rows, weight.Columns, StoredOf(weight).Bytes));
    }

    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        long start = Begin();
        base.GatedGeluCore(x, gateUp, destination);
        End(start, nameof(GatedGelu), Enter(gateUp), OpCost.GatedGelu(x.Rows, gateUp.Columns, gateUp.Rows, StoredOf(gateUp).ProductBytes));
    }

    protected override void RopeCore(Mat x, int position, Mat cosSin)
    {
        long start = Begin();
        base.RopeCore(x, position, cosSin);
        End(start, nameof(Rope), "", OpCost.Values((2 * Size(x)) + ((double)x.Rows * cosSin.Columns), 3 * Size(x)));
    }

    protected override void StoreCore(Mat k, Mat v, int position, KvLayer cache)
    {
        long start = Begin();
        base.StoreCore(k, v, position, cache);
        End(start, nameof(Store), "", OpCost.Values(4 * Size(k), 0));
    }

    protected override void RopeThenStoreCore(Mat qkv, int position, Mat cosSin, KvLayer cache)
    {
        long start = Begin();
        base.RopeThenStoreCore(qkv, position, cosSin, cache);
        End(start, nameof(RopeThenStore), "", RopeThenStoreCost(qkv.Rows, qkv.Columns, cosSin.Columns, cache));
    }

    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        long start = Begin();
        base.AttendCore(q, cache, position, shape, destination);
        End(start, nameof(Attend), PartOf(shape),
            OpCost.Attend(q.Rows, position, shape.HeadCount, cache.KvHeadCount, cache.HeadDim, shape.Window, cache.Type));
    }

    protected override void RopeThenStoreCore(Mat qkv, ReadOnlySpan<SequenceRows> sequences, Mat cosSin)
    {
        long start = Begin();
        base.RopeThenStoreCore(qkv, sequences, cosSin);
        var cost = default(OpCost);
        foreach (SequenceRows s in sequences)
            cost += RopeThenStoreCost(s.RowCount, qkv.Columns, cosSin.Columns, s.Cache);
        End(start, nameof(RopeThenStore), "", cost);
    }

    protected override void AttendCore(Mat q, ReadOnlySpan<SequenceRows> sequences, AttentionShape shape, Mat destination)
    {
        long start = Begin();
        base.AttendCore(q, sequences, shape, destination);
        var cost = default(OpCost);
        foreach (SequenceRows s in sequences)
            cost += OpCost.Attend(
                s.RowCount, s.Position, shape.HeadCount, s.Cache.KvHeadCount, s.Cache.HeadDim, shape.Window, s.Cache.Type);
        End(start, nameof(Attend), PartOf(shape), cost);
    }

    protected override void SoftcapCore(Mat x, float cap)
    {
        long start = Begin();
        base.SoftcapCore(x, cap);
        End(start, nameof(Softcap), "", OpCost.Values(2 * Size(x), 2 * Size(x)));
    }

    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        long start = Begin();
        base.CrossEntropyCore(x, unembedding, cap, targets, destination);
        Enter(unembedding);
        // The logits are not stored.
        OpCost product = OpCost.Linear(x.Rows, unembedding.Columns, unembedding.Rows, StoredOf(unembedding).ProductBytes);
        End(start, nameof(CrossEntropy), "",
            product with { Bytes = StoredOf(unembedding).ProductBytes + (sizeof(float) * (Size(x) + x.Rows)) });
    }

    protected override void TopKCore(Mat x, int k, SparseCodes destination)
    {
        long start = Begin();
        base.TopKCore(x, k, destination);
        End(start, nameof(TopK), "", OpCost.Values(Size(x) + (2.0 * k * x.Rows), 0));
    }

    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination)
    {
        long start = Begin();
        base.SaeEncodeCore(x, sae, destination);
        long end = Wait();
        Inner.Read(destination, _codes);
        Add(start, end, nameof(SaeEncode), "", OpCost.SaeEncode(x.Rows, sae.InputDim, sae.FeatureCount, StoredOf(sae.Encoder).ProductBytes,
            _codes.Count));
    }

    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination)
    {
        OpCost cost = DecodeCost(codes, sae);
        long start = Begin();
        base.SaeDecodeCore(codes, sae, destination);
        End(start, nameof(SaeDecode), "", cost);
    }

    protected override void SaeDecodePlusErrorCore(SparseCodes codes, SaeParameters sae, Mat reconstruction, Mat destination)
    {
        // Beside the decode, the destination is read, and two sums are made of each value.
        OpCost cost = DecodeCost(codes, sae) + OpCost.Values(Size(destination), 2 * Size(destination));
        long start = Begin();
        base.SaeDecodePlusErrorCore(codes, sae, reconstruction, destination);
        End(start, nameof(SaeDecodePlusError), "", cost);
    }

    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination)
    {
        long start = Begin();
        base.SaeEditCore(read, sae, edits, destination);
        double clamps = 0;
        foreach (FeatureEdit edit in edits)
            clamps += edit.Kind == FeatureEditKind.Clamp ? 1 : 0;
        // A steer reads no activation and no encoder.
        double bytes = (clamps * sae.InputDim * ElementBytes(sae.Encoder))
            + ((double)edits.Length * sae.OutputDim * ElementBytes(sae.Decoder))
            + (sizeof(float) * ((clamps > 0 ? Size(read) : 0) + (2 * Size(destination))));
        End(start, nameof(SaeEdit), "", new OpCost(bytes, (2 * clamps * Size(read)) + (2 * edits.Length * Size(destination))));
    }

    protected override void AddScaledCore(Mat x, float alpha, Mat destination)
    {
        long start = Begin();
        base.AddScaledCore(x, alpha, destination);
        End(start, nameof(AddScaled), "", OpCost.Values(Size(x) + (2 * Size(destination)), 2 * Size(destination)));
    }

    protected override void CopyCore(Mat x, Mat destination)
    {
        long start = Begin();
        base.CopyCore(x, destination);
        End(start, nameof(Copy), "", OpCost.Values(2 * Size(x), 0));
    }
#pragma warning restore CS1591

    private static string PartOf(AttentionShape shape) => shape.Window > 0 ? "sliding" : "global";

    /// <summary>Queries and keys are rotated in place; values are read; keys and values are written to the cache.</summary>
    private static OpCost RopeThenStoreCost(double rows, int columns, int headDim, KvLayer cache)
    {
        double kv = rows * cache.KvHeadCount * cache.HeadDim, rotated = (rows * columns) - kv;
        return OpCost.Values((2 * rotated) + (3 * kv) + (rows * headDim), 3 * rotated);
    }

    private static double Size(Mat x) => (double)x.Rows * x.Columns;

    private OpCost DecodeCost(SparseCodes codes, SaeParameters sae)
    {
        Inner.Read(codes, _codes);
        _distinct.Clear();
        foreach (int feature in _codes.Feature.AsSpan(0, _codes.Count))
            _distinct.Add(feature);
        return OpCost.SaeDecode(codes.Rows, sae.OutputDim, ElementBytes(sae.Decoder), _codes.Count, _distinct.Count);
    }

    /// <summary>The layer and the rest of a weight's name: <c>layers.3.qkv</c> is <c>qkv</c> of layer 3.</summary>
    private static Stored Describe(string name, double bytes, double productBytes)
    {
        string[] words = name.Split('.');
        return words is ["layers", var number, ..] && int.TryParse(number, CultureInfo.InvariantCulture, out int layer)
            ? new(words[^1], layer, bytes, productBytes) : new(name, null, bytes, productBytes);
    }

    /// <summary>Goes to the layer of a weight; gives the rest of its name.</summary>
    private string Enter(Weight weight)
    {
        Stored stored = StoredOf(weight);
        _layer = stored.Layer;
        return stored.Part;
    }

    private double ElementBytes(Weight weight) => StoredOf(weight).Bytes / ((double)weight.Rows * weight.Columns);

    /// <summary>Of a weight that was made before the profile began nothing is known but its shape: it is taken for bfloat16, as the hub has them.</summary>
    private Stored StoredOf(Weight weight)
    {
        double guess = (double)weight.Rows * weight.Columns * DType.BF16.ByteSize();
        return _stored.TryGetValue(weight, out Stored? stored) ? stored : Describe(weight.Name, guess, guess);
    }

    private long Begin() => Wait();

    private void End(long start, string op, string part, OpCost cost) => Add(start, Wait(), op, part, cost);

    private long Wait()
    {
        Inner.Synchronize();
        return Stopwatch.GetTimestamp();
    }

    private void Add(long start, long end, string op, string part, OpCost cost)
    {
        if (!_entries.TryGetValue((op, part, _layer), out Entry? entry))
            _entries.Add((op, part, _layer), entry = new Entry());
        entry.Calls++;
        entry.Seconds += Stopwatch.GetElapsedTime(start, end).TotalSeconds;
        entry.Cost += cost;
    }

    /// <summary>Of a weight: its name, and its bytes as stored and as products read them, which may be panels.</summary>
    private sealed record Stored(string Part, int? Layer, double Bytes, double ProductBytes);

    private sealed class Entry
    {
        public long Calls { get; set; }

        public double Seconds { get; set; }

        public OpCost Cost { get; set; }
    }
}
