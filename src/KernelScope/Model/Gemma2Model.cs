using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;

namespace KernelScope.Model;

/// <summary>For which rows of a call the logits are computed; 256,000 of them a row are worth a choice.</summary>
public enum LogitRows
{
    /// <summary>None: only the cache and the hooks matter.</summary>
    None,

    /// <summary>The last row, which is all that generation needs.</summary>
    Last,

    /// <summary>Every row.</summary>
    All,
}

/// <summary>Gemma 2: the forward pass. Written once, for every device.</summary>
/// <remarks>
/// What makes Gemma 2 different from Llama 2:
/// <list type="bullet">
/// <item>The embeddings are scaled by √d_model, and the same matrix, unscaled, is the unembedding (unless the files hold an output head of its own).</item>
/// <item>Four RMS norms a layer, two of them <i>after</i> the sub-layers, with gain 1 + g (ε inside the root).</item>
/// <item>Every other layer (0, 2, …) sees only a sliding window of keys.</item>
/// <item>Attention scores and logits are soft-capped: cap·tanh(x/cap).</item>
/// <item>Queries are scaled by query_pre_attn_scalar^(−1/2), not by d_head^(−1/2).</item>
/// <item>The MLP is gelu_tanh(gate)·up.</item>
/// </list>
/// Any number of threads may use a model, each with sessions of its own. <see cref="Dispose"/> returns at once: a call that runs ends with <see cref="ObjectDisposedException"/>.
/// Source: huggingface/transformers modeling_gemma2.py (eager attention) and google/gemma_pytorch, as compiled in the tests' references.
/// </remarks>
/// <example>
/// <code>
/// using var model = Gemma2Model.Open(device, "google/gemma-2-2b");
/// using Session session = model.NewSession();
/// Mat logits = session.Prefill(tokens);                    // of the last token, [1, vocabulary], on the device
/// float[] values = new float[logits.Columns];
/// device.Read(logits, values);
/// </code>
/// </example>
public sealed partial class Gemma2Model : IDisposable
{
    private readonly Gemma2Weights _weights;
    private readonly float _attentionScale;
    private string? _identity;
    private DType _cacheType;
    private readonly CallPool _calls;
    private readonly RopeTable _rope;

    private Gemma2Model(Device device, Gemma2Config config, Gemma2Weights weights, EmbeddingScale embeddingScale)
    {
        Device = device;
        Config = config;
        _weights = weights;
        _attentionScale = (float)Math.Pow(config.QueryPreAttnScalar, -0.5);
        EmbeddingScale = embeddingScale.Of(config, weights.EmbeddingType);
        _calls = new CallPool(device, config);
        _rope = new RopeTable(device, config.ContextLength, config.HeadDim, config.RopeTheta);
    }

    /// <summary>The device that the weights are on; it outlives the model.</summary>
    public Device Device { get; }

    /// <summary>The model's sizes and constants.</summary>
    public Gemma2Config Config { get; }

    /// <summary>Factor of the embeddings, √d_model in float32 unless asked otherwise.</summary>
    public float EmbeddingScale { get; }

    /// <summary>
    /// How sessions that begin from now on keep keys and values: F32, or BF16, which takes half the memory, and of which decoding reads half, and changes
    /// results. It is for whoever makes the sessions to set, before there are any.
    /// </summary>
    /// <exception cref="ArgumentException">It is another type.</exception>
    public DType CacheType
    {
        get => _cacheType;
        set
        {
            KvLayer.ThrowIfNoType(value);
            _cacheType = value;
        }
    }

    internal Gemma2Weights Weights => _weights;

    /// <summary>What tells this model from another; computed when it is first asked for.</summary>
    internal string Identity => _identity ??= ModelIdentity.Of(_weights.Checkpoint, EmbeddingScale);

    /// <summary>The unembedding [vocabulary, d_model]: the checkpoint's output head, which is the embedding unless the files hold another.</summary>
    public Weight Unembedding => _weights.Head;

    /// <summary>
    /// Brings a checkpoint's weights to a device. The model owns the checkpoint from here on, with other models that were loaded from it: the last that is disposed disposes it, and it need not be disposed otherwise.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed, or every model that was loaded from it.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing stays behind.</exception>
    public static Gemma2Model Load(
        Device device,
        Gemma2Checkpoint checkpoint,
        EmbeddingScale embeddingScale = default,
        IProgress<double>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        return new(device, checkpoint.Config, Gemma2Weights.Load(device, checkpoint, progress, cancellationToken), embeddingScale);
    }

    /// <summary>Opens a model: a folder with config.json and safetensors, a hub-cache entry, or a hub name that is in the cache.</summary>
    public static Gemma2Model Open(Device device, string nameOrPath) => Load(device, Gemma2Checkpoint.Open(nameOrPath));

    /// <summary>As <see cref="Open"/>, on a worker thread.</summary>
    /// <param name="device">Where; it outlives the model.</param>
    /// <param name="nameOrPath">A folder with config.json and safetensors, a hub-cache entry, or a hub name that is in the cache.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two layers; nothing stays behind.</param>
    /// <exception cref="InvalidDataException">A file is missing or malformed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static Task<Gemma2Model> OpenAsync(
        Device device, string nameOrPath, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        return Task.Run(() => Load(device, Gemma2Checkpoint.Open(nameOrPath), default, progress, cancellationToken), cancellationToken);
    }

    /// <summary>Starts a sequence: position, cache and hooks.</summary>
    /// <param name="contextLength">Most tokens of the sequence; 0: what the config allows.</param>
    /// <param name="chunkLength">Most tokens of one call to <see cref="Forward(ReadOnlySpan{int}, Session, LogitRows, CancellationToken)"/>; 0: a good choice.</param>
    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    public Session NewSession(int contextLength = 0, int chunkLength = 0)
    {
        _weights.ThrowIfDisposed();
        return Session.Create(this, contextLength, chunkLength);
    }

    /// <summary>
    /// Feeds tokens at the session's position; gives the logits of the rows asked for (<see cref="Session.Logits"/>), on the device, valid until the session's next call.
    /// </summary>
    /// <param name="tokens">Ids; at least one, at most <see cref="Session.ChunkLength"/>.</param>
    /// <param name="session">The sequence, which goes on by these tokens. A call that fails leaves it where it was.</param>
    /// <param name="rows">Rows whose logits are computed.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <exception cref="ArgumentException">More tokens than the session's chunk or context holds, an id outside the vocabulary, or a session of another model.</exception>
    /// <exception cref="InvalidOperationException">The session is in use by another call, or only a part of the layers ran on some of its tokens
    /// (<see cref="ForwardTo"/>, <see cref="ForwardFrom"/>): <see cref="Session.Reset"/> it, or <see cref="Session.Rewind"/> it to before them.</exception>
    /// <exception cref="ObjectDisposedException">The session or the model was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Mat Forward(
        ReadOnlySpan<int> tokens, Session session, LogitRows rows = LogitRows.Last, CancellationToken cancellationToken = default)
    {
        return Forward(tokens, session, rows, held: false, cancellationToken);
    }

    /// <summary>As the public one; <paramref name="held"/>: the caller holds the session.</summary>
    internal Mat Forward(ReadOnlySpan<int> tokens, Session session, LogitRows rows, bool held, CancellationToken cancellationToken)
    {
        using ForwardCall call = Begin(tokens, session, rows, whole: true, held);
        Run(call, cancellationToken);
        return session.Logits;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _calls.Dispose();
        _rope.Dispose();
        _weights.Dispose();
    }

    internal AttentionShape ShapeOf(int layer) =>
        new(Config.HeadCount, _attentionScale, Config.AttentionSoftcap, Config.IsSliding(layer) ? Config.SlidingWindow : 0);

    private void Run(ForwardCall call, CancellationToken cancellationToken)
    {
        Embed(call);
        Layers(0, Config.LayerCount, call, cancellationToken);
        Finish(call);
    }

    private void Embed(ForwardCall call)
    {
        Device.Embed(call.Tokens, _weights.Embedding, EmbeddingScale, call.Activations.Resid);   // resid: [n, d_model]
        call.Fire(Site.Embed, 0, call.Activations.Resid);
    }

    private void Layers(int first, int end, ForwardCall call, CancellationToken cancellationToken)
    {
        Activations a = call.Activations;
        LayerWeights[] layers = _weights.Layers;
        call.Fire(Site.ResidPre, first, a.Resid);
        NormForAttention(a, layers[first].PreAttn, first, call);

        for (int l = first; l < end; l++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            LayerWeights w = layers[l];

            // Attention reads the stream, moves information between the positions of a sequence, and writes to the stream.
            call.Fire(Site.AttnIn, l, a.Normed);
            Device.Linear(a.Normed, w.Qkv, a.Qkv);                                          // qkv: [n, (heads + 2·kv heads)·d_head]
            RotateAndStore(a, l, call);
            Device.Attend(a.Q, call.Sequences(l), ShapeOf(l), a.Z);                         // z: [n, heads·d_head]
            FireAttention(a, l, call);
            call.Fire(Site.Z, l, a.Z);
            Device.Linear(a.Z, w.O, a.Branch);
            call.Fire(Site.AttnOut, l, a.Branch);
            AddAttention(a, w, l, call);                                                    // resid += norm(branch); normed = norm(resid)
            call.Fire(Site.MlpIn, l, a.Normed);

            // The MLP works on each position alone.
            Device.GatedGelu(a.Normed, w.GateUp, a.MlpAct);                                 // gelu(gate)·up: [n, d_mlp]
            call.Fire(Site.MlpAct, l, a.MlpAct);
            Device.Linear(a.MlpAct, w.Down, a.Branch);
            call.Fire(Site.MlpOut, l, a.Branch);
            Mat nextGain = l + 1 < layers.Length ? layers[l + 1].PreAttn : _weights.FinalNorm;
            AddMlp(a, w, nextGain, l, call);                                                // the same, for the next layer's norm
        }
    }

    private void RotateAndStore(Activations a, int layer, ForwardCall call)
    {
        ReadOnlySpan<SequenceRows> sequences = call.Sequences(layer);
        Mat cosSin = _rope.For(call.EndPosition);
        bool isHeard = call.Listens(Site.Q, layer) || call.Listens(Site.K, layer) || call.Listens(Site.V, layer)
            || call.Listens(Site.QPreRope, layer) || call.Listens(Site.KPreRope, layer);
        if (!isHeard)
        {
            Device.RopeThenStore(a.Qkv, sequences, cosSin);
            return;
        }

        call.Fire(Site.QPreRope, layer, a.Q);
        call.Fire(Site.KPreRope, layer, a.K);
        foreach (SequenceRows s in sequences)
            Device.Rope(a.QAndK.RowRange(s.FirstRow, s.RowCount), s.Position, cosSin);
        call.Fire(Site.Q, layer, a.Q);
        call.Fire(Site.K, layer, a.K);
        call.Fire(Site.V, layer, a.V);
        foreach (SequenceRows s in sequences)
            Device.Store(a.K.RowRange(s.FirstRow, s.RowCount), a.V.RowRange(s.FirstRow, s.RowCount), s.Position, s.Cache);
    }

    /// <summary>Scores and weights, which no device stores, for those who listen.</summary>
    private void FireAttention(Activations a, int layer, ForwardCall call)
    {
        foreach (ForwardCall.Part part in call.Parts)
        {
            Session session = part.Session;
            if (session.Hooks.Listens(Site.AttnScores, layer) || session.Hooks.Listens(Site.AttnPattern, layer))
            {
                HostAttention.Fire(
                    Device, session.Hooks, layer, part.Of(a.Q), session.Cache[layer], session.Position, ShapeOf(layer), part.Of(a.Z));
            }
        }
    }

    private void AddAttention(Activations a, LayerWeights w, int layer, ForwardCall call)
    {
        if (!call.Listens(Site.AttnOutPost, layer) && !call.Listens(Site.ResidMid, layer) && !call.Listens(Site.MlpInUnit, layer))
        {
            Device.AddNormedThenNorm(a.Branch, w.PostAttn, w.PreMlp, Config.NormEpsilon, a.Resid, a.Normed);
            return;
        }

        AddPlain(a, w.PostAttn, Site.AttnOutPost, Site.ResidMid, layer, call);
        Device.Normalize(a.Resid, Config.NormEpsilon, a.Normed);
        call.Fire(Site.MlpInUnit, layer, a.Normed);
        Device.ApplyGain(a.Normed, w.PreMlp, a.Normed);
    }

    private void AddMlp(Activations a, LayerWeights w, Mat nextGain, int layer, ForwardCall call)
    {
        bool last = layer + 1 == Config.LayerCount;
        bool isHeard = call.Listens(Site.MlpOutPost, layer) || call.Listens(Site.ResidPost, layer)
            || (!last && (call.Listens(Site.ResidPre, layer + 1) || call.Listens(Site.AttnInUnit, layer + 1)));
        if (!isHeard)
        {
            Device.AddNormedThenNorm(a.Branch, w.PostMlp, nextGain, Config.NormEpsilon, a.Resid, a.Normed);
            return;
        }

        AddPlain(a, w.PostMlp, Site.MlpOutPost, Site.ResidPost, layer, call);
        if (last)
        {
            Device.RmsNorm(a.Resid, nextGain, Config.NormEpsilon, a.Normed);
            return;
        }

        call.Fire(Site.ResidPre, layer + 1, a.Resid);
        NormForAttention(a, nextGain, layer + 1, call);
    }

    /// <summary>normed = norm(resid), with a hook before the gain.</summary>
    private void NormForAttention(Activations a, Mat gain, int layer, ForwardCall call)
    {
        if (!call.Listens(Site.AttnInUnit, layer))
        {
            Device.RmsNorm(a.Resid, gain, Config.NormEpsilon, a.Normed);
            return;
        }

        Device.Normalize(a.Resid, Config.NormEpsilon, a.Normed);
        call.Fire(Site.AttnInUnit, layer, a.Normed);
        Device.ApplyGain(a.Normed, gain, a.Normed);
    }

    /// <summary>resid += norm(branch), in the plain form that lets hooks see and edit what the fused op keeps to itself.</summary>
    private void AddPlain(Activations a, Mat postGain, Site branchSite, Site streamSite, int layer, ForwardCall call)
    {
        Device.RmsNorm(a.Branch, postGain, Config.NormEpsilon, a.Branch);
        call.Fire(branchSite, layer, a.Branch);
        Device.AddScaled(a.Branch, 1f, a.Resid);
        call.Fire(streamSite, layer, a.Resid);
    }

    /// <summary>Gives every session what it keeps of the call, then lets the sequences go on.</summary>
    private void Finish(ForwardCall call)
    {
        Activations a = call.Activations;
        call.Fire(Site.FinalNorm, 0, a.Normed);
        SharedLogits(a, call);
        foreach (ForwardCall.Part part in call.Parts)
        {
            if (part.LogitCount > 0 && !call.SharesLogits(part))
                LogitsOf(part.LogitRowsOf(a.Normed), part.Session.LogitRoom(part.LogitCount));
            if (part.LogitCount > 0)
                part.Session.Hooks.Fire(Site.Logits, 0, part.Session.LogitRoom(part.LogitCount));
            Device.Copy(part.Of(a.Normed), part.Session.FinalNormRoom(part.RowCount));
        }

        foreach (ForwardCall.Part part in call.Parts)
            part.Session.Advance(part.Of(call.Tokens), part.Session.FinalNormRoom(part.RowCount), part.Session.LogitRoom(part.LogitCount));
        call.IsDone = true;
    }

    /// <summary>Sessions that want one row of logits each get them from one product, which reads the unembedding once.</summary>
    private void SharedLogits(Activations a, ForwardCall call)
    {
        int count = 0;
        foreach (ForwardCall.Part part in call.Parts)
        {
            // The branch has done its work: it takes the rows side by side.
            if (call.SharesLogits(part))
                Device.Copy(part.LogitRowsOf(a.Normed), a.Branch.RowRange(count++, 1));
        }

        if (count == 0)
            return;
        Mat logits = call.Buffers.Logits(count);
        LogitsOf(a.Branch.RowRange(0, count), logits);
        count = 0;
        foreach (ForwardCall.Part part in call.Parts)
        {
            if (call.SharesLogits(part))
                Device.Copy(logits.RowRange(count++, 1), part.Session.LogitRoom(1));
        }
    }

    private void LogitsOf(Mat normed, Mat logits)
    {
        Device.Linear(normed, _weights.Head, logits);
        if (Config.FinalSoftcap > 0)
            Device.Softcap(logits, Config.FinalSoftcap);
    }
}
