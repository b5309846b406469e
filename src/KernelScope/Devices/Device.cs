namespace KernelScope.Devices;

/// <summary>Whether products keep the accuracy of float32.</summary>
public enum Precision
{
    /// <summary>Products of float32 activations with the file's weights keep float32 accuracy (the default).</summary>
    Exact,

    /// <summary>Activations are rounded to bfloat16 before they meet a weight matrix; everything else stays float32.</summary>
    Fast,
}

/// <summary>Memory, and the ops of which a transformer and its SAEs are made. The model is written once, against this class.</summary>
/// <remarks>
/// <list type="number">
/// <item>Arguments: inputs, parameters, scalars, destination last. A destination may alias an input only where the op says so.</item>
/// <item>No op allocates in a steady state, returns memory or waits: <see cref="Read(Mat, Span{float})"/>, <see
/// cref="Write(ReadOnlySpan{float}, Mat)"/> and <see cref="Synchronize"/> are where the host waits.</item>
/// <item>Shapes are checked here, once, in Release too; a device implements the <c>…Core</c> methods and may rely on them. A call with no
/// rows does nothing.</item>
/// <item>Sums run in a fixed order: the same input gives the same bits, at any number of threads.</item>
/// <item>Each op states its equation; <c>ReferenceDevice</c> computes that in double and rounds once, where the op says "rounded" or at the
/// destination.</item>
/// <item>Any number of threads may call a device: ops run one after the other, and each is whole. What is disposed while an op reads it is
/// freed when that op ends; see <see cref="DeviceResource"/>.</item>
/// <item>Fused ops have a plain form here; a device overrides it for speed and must give the same bits as its own plain ops.</item>
/// </list>
/// </remarks>
/// <example>
/// <code>
/// Mat x = device.CreateMat(1, 3, "x"), y = device.CreateMat(1, 3, "y");
/// device.Write([1f, -2f, 3f], x);
/// device.AddScaled(x, 2f, y);                              // y ← y + 2x
/// float[] sums = new float[3];
/// device.Read(y, sums);                                    // waits for what was asked for: 2, -4, 6
/// </code>
/// </example>
public abstract partial class Device : IDisposable
{
    private const long MostPairsOnHost = 1 << 22;
    private readonly OpGate _gate;

    /// <summary>A device that computes.</summary>
    protected Device() => _gate = new OpGate(this);

    /// <summary>A device that passes ops on.</summary>
    private protected Device(Device inner) => _gate = inner._gate;

    /// <summary>Name as on the command line: <c>cpu</c>, <c>reference</c>, <c>cuda:0</c>, <c>emulated</c>.</summary>
    public abstract string Name { get; }

    internal OpGate Gate => _gate;

    /// <summary>Accuracy of matrix products.</summary>
    public virtual Precision Precision => Precision.Exact;

    /// <summary>Whether <see cref="Attend(Mat, KvLayer, int, AttentionShape, Mat)"/> may round queries, keys, weights and values to bfloat16.</summary>
    public virtual bool RoundsAttention => false;

    /// <summary><see cref="PreferredChunk"/> where a device has no number of its own.</summary>
    internal const int DefaultChunk = 256;

    /// <summary>Tokens of one call that a session takes here unless it is told otherwise: as many as keep the device busy. A constant of the kind of device, because the remainder of a text goes by itself.</summary>
    public virtual int PreferredChunk => DefaultChunk;

    /// <summary>
    /// What decides the last bits of results beside the name and the precision: instruction set, kernels, the generation of a GPU. Work
    /// that was begun with one text is not continued with another.
    /// </summary>
    public virtual string Arithmetic => "";

    /// <summary>Asks for memory; its content is zero.</summary>
    public abstract DeviceBuffer Allocate(long length, string name);

    /// <summary>Asks for a dense matrix in a buffer of its own (<see cref="Mat.Buffer"/> is the caller's to dispose).</summary>
    public Mat CreateMat(int rows, int columns, string name) => new(Allocate((long)rows * columns, name), rows, columns);

    /// <summary>Brings a parameter matrix to the device; see <see cref="Weight"/>. The tensors' file must outlive it.</summary>
    public abstract Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts);

    /// <summary>Makes room for the codes of an SAE with <paramref name="featureCount"/> features, or for top-k lists.</summary>
    public abstract SparseCodes CreateCodes(int featureCount, string name);

    /// <summary>Waits for <paramref name="x"/> and copies it to the host, row by row without gaps.</summary>
    public void Read(Mat x, Span<float> destination)
    {
        using RunningOp op = Enter();
        Check.Length(destination.Length, x);
        ReadCore(x, destination);
    }

    /// <summary>Copies host values to <paramref name="destination"/>.</summary>
    public void Write(ReadOnlySpan<float> values, Mat destination)
    {
        using RunningOp op = Enter();
        Check.Length(values.Length, destination);
        WriteCore(values, destination);
    }

    /// <summary>Waits for codes and copies them to the host.</summary>
    public void Read(SparseCodes codes, CodeList destination)
    {
        using RunningOp op = Enter();
        ArgumentNullException.ThrowIfNull(codes);
        ArgumentNullException.ThrowIfNull(destination);
        ReadCore(codes, destination);
    }

    /// <summary>Copies codes (ascending indices in each row) to the device.</summary>
    public void Write(CodeList codes, SparseCodes destination)
    {
        using RunningOp op = Enter();
        ArgumentNullException.ThrowIfNull(codes);
        ArgumentNullException.ThrowIfNull(destination);
        WriteCore(codes, destination);
    }

    /// <summary>Waits until everything asked for is done.</summary>
    public void Synchronize()
    {
        using RunningOp op = Enter();
        SynchronizeCore();
    }

    /// <summary>
    /// Work of the host's own, unit by unit, on the threads that the device has for it. Who runs which unit is left to chance: a unit must
    /// not depend on it.
    /// </summary>
    /// <exception cref="InvalidOperationException">The work called an op of a device whose threads are doing it.</exception>
    public virtual void ForEach(int units, Action<int> work) => Parallel.For(0, units, work);

    /// <summary>y[t] = scale · E[token t]. table [vocabulary, d] → destination [n, d]. The product is rounded to float32.</summary>
    public void Embed(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination)
    {
        using RunningOp op = Enter();
        Check.Shape(destination, tokens.Length, table.Columns);
        foreach (int token in tokens)
        {
            if ((uint)token >= (uint)table.Rows)
                throw new ArgumentOutOfRangeException(nameof(tokens), $"Token id {token} is outside the vocabulary of {table.Rows} " +
                    "entries.");
        }

        if (!tokens.IsEmpty)
            EmbedCore(tokens, table, scale, destination);
        GC.KeepAlive(table);
    }

    /// <summary>u = x · (mean(x²) + ε)^(−1/2), row by row, rounded to float32. May be in place. [n, d] → [n, d].</summary>
    public void Normalize(Mat x, float epsilon, Mat destination)
    {
        using RunningOp op = Enter();
        Check.SameShape(x, destination);
        if (x.Rows > 0)
            NormalizeCore(x, epsilon, destination);
    }

    /// <summary>
    /// y = u · (1 + g): Gemma's gain; 1 + g is rounded to float32, then the product. May be in place. u [n, d], gain [1, d] → [n, d].
    /// </summary>
    public void ApplyGain(Mat unit, Mat gain, Mat destination)
    {
        using RunningOp op = Enter();
        Check.SameShape(unit, destination);
        Check.Shape(gain, 1, unit.Columns);
        if (unit.Rows > 0)
            ApplyGainCore(unit, gain, destination);
    }

    /// <summary>
    /// Gemma's RMS norm: <see cref="Normalize"/>, then <see cref="ApplyGain"/>, with the rounding between them. May be in place.
    /// </summary>
    public void RmsNorm(Mat x, Mat gain, float epsilon, Mat destination)
    {
        using RunningOp op = Enter();
        Check.SameShape(x, destination);
        Check.Shape(gain, 1, x.Columns);
        if (x.Rows > 0)
            RmsNormCore(x, gain, epsilon, destination);
    }

    /// <summary>
    /// What lies between two sub-layers: branch ← RmsNorm(branch, postGain); resid ← resid + branch; normed ← RmsNorm(resid, nextGain);
    /// each rounded to float32.
    /// All [n, d]; <paramref name="branch"/> may be left as it was.
    /// </summary>
    public void AddNormedThenNorm(Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        using RunningOp op = Enter();
        Check.SameShape(branch, resid);
        Check.SameShape(branch, normed);
        Check.Shape(postGain, 1, branch.Columns);
        Check.Shape(nextGain, 1, branch.Columns);
        if (branch.Rows > 0)
            AddNormedThenNormCore(branch, postGain, nextGain, epsilon, resid, normed);
    }

    /// <summary>y = x·Wᵀ. x [n, in], weight [out, in] → [n, out].</summary>
    public void Linear(Mat x, Weight weight, Mat destination)
    {
        using RunningOp op = Enter();
        Check.Shape(x, x.Rows, weight.Columns);
        Check.Shape(destination, x.Rows, weight.Rows);
        if (x.Rows > 0)
            LinearCore(x, weight, destination);
        GC.KeepAlive(weight);
    }

    /// <summary>
    /// y = x·W: the product transposed, which brings a gradient back through <see cref="Linear"/>. x [n, out], weight [out, in] → [n,
    /// in].
    /// </summary>
    public void LinearTransposed(Mat x, Weight weight, Mat destination)
    {
        using RunningOp op = Enter();
        Check.Shape(x, x.Rows, weight.Rows);
        Check.Shape(destination, x.Rows, weight.Columns);
        if (x.Rows > 0)
            LinearTransposedCore(x, weight, destination);
        GC.KeepAlive(weight);
    }

    /// <summary>
    /// h = gelu(x·Gᵀ) ⊙ (x·Uᵀ), gelu(z) = ½z(1 + tanh(√(2/π)(z + 0.044715z³))) (gelu_pytorch_tanh). The weight holds G above U: [2·d_mlp,
    /// in]. x [n, in] → [n, d_mlp].
    /// </summary>
    public void GatedGelu(Mat x, Weight gateUp, Mat destination)
    {
        using RunningOp op = Enter();
        if (gateUp.Rows % 2 != 0)
            throw new ArgumentException($"{gateUp} is not a gate above an up of the same size.", nameof(gateUp));
        Check.Shape(x, x.Rows, gateUp.Columns);
        Check.Shape(destination, x.Rows, gateUp.Rows / 2);
        if (x.Rows > 0)
            GatedGeluCore(x, gateUp, destination);
        GC.KeepAlive(gateUp);
    }

    /// <summary>
    /// Rotates, in place, each head of row t by the angles of position <paramref name="position"/> + t: with i &lt; d_head/2,
    /// (x_i, x_{i+d/2}) ← (x_i·cos − x_{i+d/2}·sin, x_{i+d/2}·cos + x_i·sin). x [n, heads·d_head].
    /// Row p of <paramref name="cosSin"/> [positions, d_head] holds d_head/2 cosines, then d_head/2 sines of position p.
    /// </summary>
    public void Rope(Mat x, int position, Mat cosSin)
    {
        using RunningOp op = Enter();
        Check.Positions(position, x.Rows, cosSin.Rows);
        if (cosSin.Columns % 2 != 0 || x.Columns % cosSin.Columns != 0)
            throw new ArgumentException($"{x} is not a whole number of heads of {cosSin.Columns} values.", nameof(x));
        if (x.Rows > 0)
            RopeCore(x, position, cosSin);
    }

    /// <summary>
    /// Puts keys and values of positions <paramref name="position"/> … into a layer's cache. k, v [n, kv heads·d_head]; n may not exceed
    /// the cache's capacity.
    /// </summary>
    public void Store(Mat k, Mat v, int position, KvLayer cache)
    {
        using RunningOp op = Enter();
        Check.Shape(k, k.Rows, cache.KvHeadCount * cache.HeadDim);
        Check.Shape(v, k.Rows, k.Columns);
        Check.Positions(position, k.Rows, int.MaxValue);
        if (k.Rows > cache.Capacity)
            throw new ArgumentException($"{k.Rows} rows do not fit into a cache of {cache.Capacity} positions.", nameof(k));
        if (k.Rows > 0)
            StoreCore(k, v, position, cache);
    }

    /// <summary>
    /// <see cref="Rope"/> of q and k in place, then <see cref="Store"/>. qkv [n, (heads + 2·kv heads)·d_head]: the query heads, then the
    /// key heads, then the value heads.
    /// </summary>
    public void RopeThenStore(Mat qkv, int position, Mat cosSin, KvLayer cache)
    {
        using RunningOp op = Enter();
        CheckRopeThenStore(qkv, qkv.Rows, position, cosSin, cache);
        if (qkv.Rows > 0)
            RopeThenStoreCore(qkv, position, cosSin, cache);
    }

    /// <summary>
    /// z = softmax(cap(scale·q·k))·v over the keys j ≤ p (and j &gt; p − window) of query position p = position + t, already stored; cap(s)
    /// = c·tanh(s/c).
    /// q [n, heads·d_head] → z [n, heads·d_head].
    /// </summary>
    public void Attend(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        using RunningOp op = Enter();
        Check.SameShape(q, destination);
        CheckAttend(q, q.Rows, cache, position, shape);
        if (q.Rows > 0)
            AttendCore(q, cache, position, shape, destination);
    }

    /// <summary>
    /// <see cref="RopeThenStore(Mat, int, Mat, KvLayer)"/> for the rows of several sequences, each at its own position and with its own
    /// cache. qkv as there; rows that belong to no sequence stay as they are.
    /// </summary>
    /// <param name="qkv">Queries, keys and values of all sequences.</param>
    /// <param name="sequences">The runs of rows, from the first row on, without overlap; a cache may occur once. The caches are of one
    /// shape but for their capacity.</param>
    /// <param name="cosSin">The angles of every position.</param>
    /// <remarks>
    /// The definition is a call of the one-sequence op for each run, and one run is that op; a device may do several at once.
    /// </remarks>
    public void RopeThenStore(Mat qkv, ReadOnlySpan<SequenceRows> sequences, Mat cosSin)
    {
        using RunningOp op = Enter();
        Check.Sequences(sequences, qkv);
        foreach (SequenceRows s in sequences)
            CheckRopeThenStore(qkv, s.RowCount, s.Position, cosSin, s.Cache);
        if (sequences is [SequenceRows only])
            RopeThenStoreCore(qkv.RowRange(only.FirstRow, only.RowCount), only.Position, cosSin, only.Cache);
        else if (!sequences.IsEmpty)
            RopeThenStoreCore(qkv, sequences, cosSin);
    }

    /// <summary>
    /// <see cref="Attend(Mat, KvLayer, int, AttentionShape, Mat)"/> for the rows of several sequences: each row sees the keys of its own
    /// sequence only. Rows that belong to no sequence are not written.
    /// </summary>
    /// <param name="q">Queries of all sequences.</param>
    /// <param name="sequences">The runs of rows, as in <see cref="RopeThenStore(Mat, ReadOnlySpan{SequenceRows}, Mat)"/>.</param>
    /// <param name="shape">What is the same for all.</param>
    /// <param name="destination">z of all sequences.</param>
    /// <remarks>
    /// The definition is a call of the one-sequence op for each run, and one run is that op; a device may do several at once.
    /// </remarks>
    public void Attend(Mat q, ReadOnlySpan<SequenceRows> sequences, AttentionShape shape, Mat destination)
    {
        using RunningOp op = Enter();
        Check.SameShape(q, destination);
        Check.Sequences(sequences, q);
        foreach (SequenceRows s in sequences)
            CheckAttend(q, s.RowCount, s.Cache, s.Position, shape);
        if (sequences is [SequenceRows only])
            AttendCore(q.RowRange(only.FirstRow, only.RowCount), only.Cache, only.Position, shape,
                destination.RowRange(only.FirstRow, only.RowCount));
        else if (!sequences.IsEmpty)
            AttendCore(q, sequences, shape, destination);
    }

    /// <summary>x ← cap·tanh(x/cap), in place; cap &gt; 0.</summary>
    public void Softcap(Mat x, float cap)
    {
        using RunningOp op = Enter();
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(cap);
        if (x.Rows > 0)
            SoftcapCore(x, cap);
    }

    /// <summary>
    /// loss[t] = log Σ_v exp(l_tv) − l_{t,target t} in nats, with l = cap(x·Wᵀ) (cap 0: none): cross-entropy without storing all logits. x
    /// [n, d], weight [vocabulary, d] → [n, 1].
    /// </summary>
    public void CrossEntropy(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        using RunningOp op = Enter();
        Check.Shape(x, targets.Length, unembedding.Columns);
        Check.Shape(destination, targets.Length, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(cap);
        foreach (int target in targets)
        {
            if ((uint)target >= (uint)unembedding.Rows)
                throw new ArgumentOutOfRangeException(nameof(targets), $"Token id {target} is outside the vocabulary of " +
                    $"{unembedding.Rows} entries.");
        }

        if (!targets.IsEmpty)
            CrossEntropyCore(x, unembedding, cap, targets, destination);
        GC.KeepAlive(unembedding);
    }

    /// <summary>
    /// The k largest entries of each row, largest first, the lower index first among equals; NaN counts as the largest. x [n, m] → n lists
    /// of min(k, m).
    /// </summary>
    public void TopK(Mat x, int k, SparseCodes destination)
    {
        using RunningOp op = Enter();
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(k);
        if (destination.FeatureCount != x.Columns)
            throw new ArgumentException($"'{destination.Name}' is for rows of {destination.FeatureCount}, not for {x}.",
                nameof(destination));
        TopKCore(x, Math.Min(k, x.Columns), destination);
    }

    /// <summary>
    /// a = x·W_encᵀ + b_enc, rounded; the active features of each row are those with a &gt; θ and a &gt; 0 (strict), their values a:
    /// (index, value) lists, ascending. x [n, d_in].
    /// </summary>
    /// <remarks>
    /// relu(a)·[a &gt; θ], as SAELens computes it; with θ ≥ 0 that is the paper's JumpReLU (Lieberum et al. 2024, eq. 2). With <see
    /// cref="SaeParameters.TopK"/> only the k largest of these are listed:
    /// relu(a) of the k largest a (Gao et al. 2024), of which zeros are not codes.
    /// </remarks>
    public void SaeEncode(Mat x, SaeParameters sae, SparseCodes destination)
    {
        using RunningOp op = Enter();
        Check.Shape(x, x.Rows, sae.InputDim);
        Check.Shape(sae.EncoderBias, 1, sae.FeatureCount);
        Check.Shape(sae.Threshold, 1, sae.FeatureCount);
        Check.Features(destination, sae);
        ArgumentOutOfRangeException.ThrowIfNegative(sae.TopK);
        SaeEncodeCore(x, sae, destination);
        GC.KeepAlive(sae);
    }

    /// <summary>y = b_dec + Σ_f value_f · W_dec[f] over the active features, in list order. codes [n] → [n, d_out].</summary>
    public void SaeDecode(SparseCodes codes, SaeParameters sae, Mat destination)
    {
        using RunningOp op = Enter();
        Check.Features(codes, sae);
        Check.Shape(destination, codes.Rows, sae.OutputDim);
        Check.Shape(sae.DecoderBias, 1, sae.OutputDim);
        if (codes.Rows > 0)
            SaeDecodeCore(codes, sae, destination);
        GC.KeepAlive(sae);
    }

    /// <summary>
    /// y ← (y − x̂) + x̂ with x̂ as <see cref="SaeDecode"/> gives it, the difference rounded, then the sum: what stays of an activation
    /// that goes through the SAE while the
    /// SAE's error is kept. codes [n], y [n, d_out].
    /// </summary>
    /// <param name="codes">The codes.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="reconstruction">Room for x̂ [n, d_out]; may be left as it was.</param>
    /// <param name="destination">y.</param>
    public void SaeDecodePlusError(SparseCodes codes, SaeParameters sae, Mat reconstruction, Mat destination)
    {
        using RunningOp op = Enter();
        Check.Features(codes, sae);
        Check.Shape(destination, codes.Rows, sae.OutputDim);
        Check.SameShape(reconstruction, destination);
        Check.Shape(sae.DecoderBias, 1, sae.OutputDim);
        if (codes.Rows > 0)
            SaeDecodePlusErrorCore(codes, sae, reconstruction, destination);
        GC.KeepAlive(sae);
    }

    /// <summary>
    /// Applies edits to every row of <paramref name="destination"/> [n, d_out]: y += c_e·W_dec[f_e], e in order, with c_e the strength of a
    /// steer or (target − f(x)) of a clamp, rounded.
    /// </summary>
    /// <remarks>
    /// f(x) is the activation as <see cref="SaeEncode"/> defines it, 0 where the feature is not active; it is computed from <paramref
    /// name="read"/> [n, d_in] before anything is written, so the two may be the same matrix. c_e = 0 changes no bit.
    /// </remarks>
    /// <exception cref="NotSupportedException">A clamp of a TopK SAE, where f(x) hangs on all features: <c>JumpReluSae.Edit</c> takes it
    /// from the codes.</exception>
    public void SaeEdit(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination)
    {
        using RunningOp op = Enter();
        Check.Shape(read, destination.Rows, sae.InputDim);
        Check.Shape(destination, destination.Rows, sae.OutputDim);
        foreach (FeatureEdit edit in edits)
        {
            if ((uint)edit.Feature >= (uint)sae.FeatureCount)
                throw new ArgumentOutOfRangeException(nameof(edits), $"Feature {edit.Feature} is outside the SAE's width of " +
                    $"{sae.FeatureCount}.");
            if (sae.TopK > 0 && edit.Kind == FeatureEditKind.Clamp)
                throw new NotSupportedException("Whether a feature of a TopK SAE is active hangs on all others; a clamp needs the codes.");
        }

        if (read.Rows > 0 && !edits.IsEmpty)
            SaeEditCore(read, sae, edits, destination);
        GC.KeepAlive(sae);
    }

    /// <summary>
    /// y ← y + α·x, the product rounded, then the sum. x [n, d] or one row for all, [1, d]. x and y may be the same matrix.
    /// </summary>
    public void AddScaled(Mat x, float alpha, Mat destination)
    {
        using RunningOp op = Enter();
        if (x.Rows != 1)
            Check.SameShape(x, destination);
        Check.Shape(x, x.Rows, destination.Columns);
        if (destination.Rows > 0)
            AddScaledCore(x, alpha, destination);
    }

    /// <summary>y ← x. The two must not overlap unless they are the same.</summary>
    public void Copy(Mat x, Mat destination)
    {
        using RunningOp op = Enter();
        Check.SameShape(x, destination);
        if (x.Rows > 0)
            CopyCore(x, destination);
    }

    /// <summary>
    /// <see cref="SaeEncode"/> of a TopK SAE by way of the host, for devices without an op of their own: what is above its threshold is
    /// listed, some rows at a time so that the lists stay short, and the k largest of it are kept.
    /// </summary>
    protected void SaeEncodeByHost(Mat x, SaeParameters sae, SparseCodes destination)
    {
        ArgumentNullException.ThrowIfNull(sae);
        SaeParameters all = sae with { TopK = 0 };
        int most = (int)Math.Clamp(MostPairsOnHost / sae.FeatureCount, 1, int.MaxValue);
        using SparseCodes some = CreateCodes(sae.FeatureCount, "codes before the k largest are kept");
        var list = new CodeList();
        var kept = new HostCodes("the k largest", sae.FeatureCount);
        kept.Begin(x.Rows);
        for (int first = 0; first < x.Rows; first += most)
        {
            SaeEncodeCore(x.RowRange(first, Math.Min(most, x.Rows - first)), all, some);
            ReadCore(some, list);
            for (int r = 0; r < list.Rows; r++)
            {
                kept.Add(list.FeaturesOf(r), list.ValuesOf(r));
                kept.EndRow(sae.TopK);
            }
        }

        WriteCore(kept.List, destination);
    }

#pragma warning disable CS1591 // The public method of the same name says what each does.
    protected abstract void ReadCore(Mat x, Span<float> destination);

    protected abstract void ReadCore(SparseCodes codes, CodeList destination);

    protected abstract void WriteCore(ReadOnlySpan<float> values, Mat destination);

    protected abstract void WriteCore(CodeList codes, SparseCodes destination);

    protected virtual void SynchronizeCore()
    {
    }

    protected abstract void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination);

    protected abstract void NormalizeCore(Mat x, float epsilon, Mat destination);

    protected abstract void ApplyGainCore(Mat unit, Mat gain, Mat destination);

    protected virtual void RmsNormCore(Mat x, Mat gain, float epsilon, Mat destination)
    {
        NormalizeCore(x, epsilon, destination);
        ApplyGainCore(destination, gain, destination);
    }

    protected virtual void AddNormedThenNormCore(Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        RmsNormCore(branch, postGain, epsilon, branch);
        AddScaledCore(branch, 1f, resid);
        RmsNormCore(resid, nextGain, epsilon, normed);
    }

    protected abstract void LinearCore(Mat x, Weight weight, Mat destination);

    protected abstract void LinearTransposedCore(Mat x, Weight weight, Mat destination);

    protected abstract void GatedGeluCore(Mat x, Weight gateUp, Mat destination);

    protected abstract void RopeCore(Mat x, int position, Mat cosSin);

    protected abstract void StoreCore(Mat k, Mat v, int position, KvLayer cache);

    protected virtual void RopeThenStoreCore(Mat qkv, int position, Mat cosSin, KvLayer cache)
    {
        int kv = cache.KvHeadCount * cache.HeadDim;
        int q = qkv.Columns - (2 * kv);
        RopeCore(qkv.ColumnRange(0, q + kv), position, cosSin);
        StoreCore(qkv.ColumnRange(q, kv), qkv.ColumnRange(q + kv, kv), position, cache);
    }

    protected virtual void RopeThenStoreCore(Mat qkv, ReadOnlySpan<SequenceRows> sequences, Mat cosSin)
    {
        foreach (SequenceRows s in sequences)
            RopeThenStoreCore(qkv.RowRange(s.FirstRow, s.RowCount), s.Position, cosSin, s.Cache);
    }

    protected abstract void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination);

    protected virtual void AttendCore(Mat q, ReadOnlySpan<SequenceRows> sequences, AttentionShape shape, Mat destination)
    {
        foreach (SequenceRows s in sequences)
            AttendCore(q.RowRange(s.FirstRow, s.RowCount), s.Cache, s.Position, shape, destination.RowRange(s.FirstRow, s.RowCount));
    }

    protected abstract void SoftcapCore(Mat x, float cap);

    protected abstract void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination);

    protected abstract void TopKCore(Mat x, int k, SparseCodes destination);

    protected abstract void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination);

    protected abstract void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination);

    protected virtual void SaeDecodePlusErrorCore(SparseCodes codes, SaeParameters sae, Mat reconstruction, Mat destination)
    {
        SaeDecodeCore(codes, sae, reconstruction);
        AddScaledCore(reconstruction, -1f, destination);
        AddScaledCore(reconstruction, 1f, destination);
    }

    protected abstract void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination);

    protected abstract void AddScaledCore(Mat x, float alpha, Mat destination);

    protected abstract void CopyCore(Mat x, Mat destination);
#pragma warning restore CS1591

    private static void CheckRopeThenStore(Mat qkv, int rows, int position, Mat cosSin, KvLayer cache)
    {
        int kv = cache.KvHeadCount * cache.HeadDim;
        if (cosSin.Columns != cache.HeadDim || qkv.Columns <= 2 * kv || (qkv.Columns - (2 * kv)) % cache.HeadDim != 0)
            throw new ArgumentException($"{qkv} does not hold query, key and value heads for {cache.KvHeadCount} key/value heads of " +
                $"{cache.HeadDim}.", nameof(qkv));
        Check.Positions(position, rows, cosSin.Rows);
        if (rows > cache.Capacity)
            throw new ArgumentException($"{rows} rows do not fit into a cache of {cache.Capacity} positions.", nameof(qkv));
    }

    private static void CheckAttend(Mat q, int rows, KvLayer cache, int position, AttentionShape shape)
    {
        Check.Shape(q, q.Rows, shape.HeadCount * cache.HeadDim);
        Check.Positions(position, rows, int.MaxValue);
        if (shape.HeadCount <= 0 || shape.HeadCount % cache.KvHeadCount != 0)
            throw new ArgumentException($"{shape.HeadCount} query heads are not a multiple of {cache.KvHeadCount} key/value heads.",
                nameof(shape));
        long needed = shape.Window > 0 ? Math.Min((long)position + rows, (long)shape.Window + rows - 1) : (long)position + rows;
        if (needed > cache.Capacity)
            throw new ArgumentException($"{rows} queries at position {position} need {needed} keys; the cache keeps {cache.Capacity}.",
                nameof(cache));
    }
}
