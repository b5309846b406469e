using KernelScope.Devices;
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
/// <item>The embeddings are scaled by √d_model, and the same matrix, unscaled, is the unembedding.</item>
/// <item>Four RMS norms a layer, two of them <i>after</i> the sub-layers, with gain 1 + g (ε inside the root).</item>
/// <item>Every other layer (0, 2, …) sees only a sliding window of keys.</item>
/// <item>Attention scores and logits are soft-capped: cap·tanh(x/cap).</item>
/// <item>Queries are scaled by query_pre_attn_scalar^(−1/2), not by d_head^(−1/2).</item>
/// <item>The MLP is gelu_tanh(gate)·up.</item>
/// </list>
/// Any number of threads may use a model, each with sessions of its own. <see cref="Dispose"/> returns at once: a call that runs ends with <see cref="ObjectDisposedException"/>.
/// Source: huggingface/transformers modeling_gemma2.py (eager attention) and google/gemma_pytorch, as compiled in the tests' references.
/// </remarks>
public sealed class Gemma2Model : IDisposable
{
    private readonly Gemma2Weights _weights;
    private readonly float _attentionScale;

    private Gemma2Model(Device device, Gemma2Config config, Gemma2Weights weights, EmbeddingScale embeddingScale)
    {
        Device = device;
        Config = config;
        _weights = weights;
        _attentionScale = (float)Math.Pow(config.QueryPreAttnScalar, -0.5);
        EmbeddingScale = embeddingScale.Of(config, weights.EmbeddingType);
    }

    /// <summary>The device that the weights are on; it outlives the model.</summary>
    public Device Device { get; }

    /// <summary>The model's sizes and constants.</summary>
    public Gemma2Config Config { get; }

    /// <summary>Factor of the embeddings, √d_model in float32 unless asked otherwise.</summary>
    public float EmbeddingScale { get; }

    internal Gemma2Weights Weights => _weights;

    /// <summary>The unembedding, which is the embedding: [vocabulary, d_model].</summary>
    public Weight Unembedding => _weights.Embedding;

    /// <summary>
    /// Brings a checkpoint's weights to a device. The model owns the checkpoint from here on, with other models that were loaded from it: the last that is disposed disposes it, and it need not be disposed otherwise.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed, or every model that was loaded from it.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing stays behind.</exception>
    public static Gemma2Model Load(Device device, Gemma2Checkpoint checkpoint, EmbeddingScale embeddingScale = default, IProgress<double>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        return new(device, checkpoint.Config, Gemma2Weights.Load(device, checkpoint, progress, cancellation), embeddingScale);
    }

    /// <summary>Opens a model: a folder with config.json and safetensors, a hub-cache entry, or a hub name that is in the cache.</summary>
    public static Gemma2Model Open(Device device, string nameOrPath) => Load(device, Gemma2Checkpoint.Open(nameOrPath));

    /// <summary>Starts a sequence: position, cache, activations and hooks.</summary>
    /// <param name="contextLength">Most tokens of the sequence; 0: what the config allows.</param>
    /// <param name="chunkLength">Most tokens of one call to <see cref="Forward"/>; 0: a good choice.</param>
    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    public Session NewSession(int contextLength = 0, int chunkLength = 0)
    {
        _weights.ThrowIfDisposed();
        return new Session(this, contextLength, chunkLength);
    }

    /// <summary>Feeds tokens at the session's position; returns the logits of the rows asked for, on the device, valid until the next call.</summary>
    /// <exception cref="ArgumentException">More tokens than the session's chunk or context holds, or an id outside the vocabulary.</exception>
    public Mat Forward(ReadOnlySpan<int> tokens, Session session, LogitRows rows = LogitRows.Last, CancellationToken cancellation = default)
    {
        Activations a = Begin(tokens, session);
        Device.Embed(tokens, _weights.Embedding, EmbeddingScale, a.Resid);                  // resid: [n, d_model]
        session.Hooks.Fire(Site.Embed, 0, a.Resid);
        Layers(0, Config.LayerCount, a, session, cancellation);
        return Finish(a, rows, session);
    }

    /// <summary>As <see cref="Forward"/>, through the first <paramref name="layerCount"/> layers only, for those who listen there: without the final norm, unless all layers run, and without logits.</summary>
    /// <param name="layerCount">Number of layers that run; with 0 only the hooks at <c>embed</c> and <c>resid_pre.0</c> fire.</param>
    /// <param name="tokens">Ids.</param>
    /// <param name="session">The caches of the layers above are neither read nor written.</param>
    /// <param name="cancellation">Stops between two layers.</param>
    public void ForwardTo(int layerCount, ReadOnlySpan<int> tokens, Session session, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layerCount);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(layerCount, Config.LayerCount);
        if (layerCount == Config.LayerCount)
        {
            Forward(tokens, session, LogitRows.None, cancellation);
            return;
        }

        Activations a = Begin(tokens, session);
        Device.Embed(tokens, _weights.Embedding, EmbeddingScale, a.Resid);
        session.Hooks.Fire(Site.Embed, 0, a.Resid);
        Layers(0, layerCount, a, session, cancellation);
        session.Advance(tokens.Length);
        session.Remember(default, default);
    }

    /// <summary>
    /// As <see cref="Forward"/>, from the residual stream before a layer on: what differs from a run only above that layer need not repeat what lies below.
    /// </summary>
    /// <param name="layer">The first layer that runs; with the number of layers none does, and <c>resid_post</c> of the last fires.</param>
    /// <param name="resid">The stream before it (<c>resid_pre</c>), or after the last layer, [n, d_model].</param>
    /// <param name="tokens">The tokens of the rows, for hooks that choose rows by token.</param>
    /// <param name="session">The caches of the layers below are neither read nor written.</param>
    /// <param name="rows">Rows whose logits are computed.</param>
    /// <param name="cancellation">Stops between two layers.</param>
    public Mat ForwardFrom(int layer, Mat resid, ReadOnlySpan<int> tokens, Session session, LogitRows rows = LogitRows.Last, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layer);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(layer, Config.LayerCount);
        Activations a = Begin(tokens, session);
        Device.Copy(resid, a.Resid);
        if (layer < Config.LayerCount)
        {
            Layers(layer, Config.LayerCount, a, session, cancellation);
        }
        else
        {
            session.Hooks.Fire(Site.ResidPost, layer - 1, a.Resid);
            Device.RmsNorm(a.Resid, _weights.FinalNorm, Config.NormEpsilon, a.Normed);
        }

        return Finish(a, rows, session);
    }

    /// <summary>Runs one layer on the stream before it; what is of interest is what its hooks see.</summary>
    internal void RunLayer(int layer, Mat resid, ReadOnlySpan<int> tokens, Session session)
    {
        Activations a = Begin(tokens, session);
        Device.Copy(resid, a.Resid);
        Layers(layer, layer + 1, a, session, default);
    }

    /// <summary>
    /// Next-token losses of the rows of the last call, in nats: loss[t] = −log p(targets[t]), without storing logits unless a hook made them.
    /// </summary>
    /// <param name="targets">The tokens that follow the first rows of the last call; one fewer than its rows where the next token is not known.</param>
    /// <param name="session">The session that made the call.</param>
    /// <param name="losses">One loss a target.</param>
    public void NextTokenLoss(ReadOnlySpan<int> targets, Session session, Span<double> losses)
    {
        ArgumentNullException.ThrowIfNull(session);
        if (session.Hooks.Listens(Site.Logits))
        {
            session.LossOfLogits(targets, losses);
            return;
        }

        Mat loss = session.Activations.Losses(targets.Length);
        Device.CrossEntropy(session.FinalNorm.RowRange(0, targets.Length), _weights.Embedding, Config.FinalSoftcap, targets, loss);
        session.ReadLosses(loss, losses);
    }

    /// <summary>Gives weights and mappings back once no op runs. Calls that run end with <see cref="ObjectDisposedException"/>.</summary>
    public void Dispose() => _weights.Dispose();

    internal AttentionShape ShapeOf(int layer) =>
        new(Config.HeadCount, _attentionScale, Config.AttentionSoftcap, Config.IsSliding(layer) ? Config.SlidingWindow : 0);

    private Activations Begin(ReadOnlySpan<int> tokens, Session session)
    {
        ArgumentNullException.ThrowIfNull(session);
        _weights.ThrowIfDisposed();
        session.Claim(this, tokens.Length);
        session.Hooks.Begin(Device, tokens, session.Position);
        return session.Activations.Rows(tokens.Length);
    }

    private void Layers(int first, int end, Activations a, Session session, CancellationToken cancellation)
    {
        int position = session.Position;
        HookSet hooks = session.Hooks;
        LayerWeights[] layers = _weights.Layers;
        hooks.Fire(Site.ResidPre, first, a.Resid);
        Device.RmsNorm(a.Resid, layers[first].PreAttn, Config.NormEpsilon, a.Normed);

        for (int l = first; l < end; l++)
        {
            cancellation.ThrowIfCancellationRequested();
            LayerWeights w = layers[l];

            // Attention reads the stream, moves information between positions, and writes to the stream.
            hooks.Fire(Site.AttnIn, l, a.Normed);
            Device.Linear(a.Normed, w.Qkv, a.Qkv);                                          // qkv: [n, (heads + 2·kv heads)·d_head]
            RotateAndStore(a, position, l, session);
            Device.Attend(a.Q, session.Cache[l], position, ShapeOf(l), a.Z);                // z: [n, heads·d_head]
            hooks.Fire(Site.Z, l, a.Z);
            Device.Linear(a.Z, w.O, a.Branch);
            hooks.Fire(Site.AttnOut, l, a.Branch);
            AddAttention(a, w, l, hooks);                                                   // resid += norm(branch); normed = norm(resid)
            hooks.Fire(Site.MlpIn, l, a.Normed);

            // The MLP works on each position alone.
            Device.GatedGelu(a.Normed, w.GateUp, a.Hidden);                                 // hidden: [n, d_mlp]
            hooks.Fire(Site.MlpAct, l, a.Hidden);
            Device.Linear(a.Hidden, w.Down, a.Branch);
            hooks.Fire(Site.MlpOut, l, a.Branch);
            Mat nextGain = l + 1 < layers.Length ? layers[l + 1].PreAttn : _weights.FinalNorm;
            AddMlp(a, w, nextGain, l, hooks);                                               // the same, for the next layer's norm
        }
    }

    private Mat Finish(Activations a, LogitRows rows, Session session)
    {
        session.Hooks.Fire(Site.FinalNorm, 0, a.Normed);
        session.Advance(a.Resid.Rows);
        return Logits(a, rows, session);
    }

    private void RotateAndStore(Activations a, int position, int layer, Session session)
    {
        HookSet hooks = session.Hooks;
        if (!hooks.Listens(Site.Q, layer) && !hooks.Listens(Site.K, layer) && !hooks.Listens(Site.V, layer))
        {
            Device.RopeThenStore(a.Qkv, position, session.CosSin, session.Cache[layer]);
            return;
        }

        Device.Rope(a.QAndK, position, session.CosSin);
        hooks.Fire(Site.Q, layer, a.Q);
        hooks.Fire(Site.K, layer, a.K);
        hooks.Fire(Site.V, layer, a.V);
        Device.Store(a.K, a.V, position, session.Cache[layer]);
    }

    private void AddAttention(Activations a, LayerWeights w, int layer, HookSet hooks)
    {
        if (!hooks.Listens(Site.AttnOutPost, layer) && !hooks.Listens(Site.ResidMid, layer) && !hooks.Listens(Site.MlpInUnit, layer))
        {
            Device.AddNormedThenNorm(a.Branch, w.PostAttn, w.PreMlp, Config.NormEpsilon, a.Resid, a.Normed);
            return;
        }

        AddPlain(a, w.PostAttn, Site.AttnOutPost, Site.ResidMid, layer, hooks);
        Device.Normalize(a.Resid, Config.NormEpsilon, a.Normed);
        hooks.Fire(Site.MlpInUnit, layer, a.Normed);
        Device.ApplyGain(a.Normed, w.PreMlp, a.Normed);
    }

    private void AddMlp(Activations a, LayerWeights w, Mat nextGain, int layer, HookSet hooks)
    {
        bool last = layer + 1 == Config.LayerCount;
        if (!hooks.Listens(Site.MlpOutPost, layer) && !hooks.Listens(Site.ResidPost, layer) && (last || !hooks.Listens(Site.ResidPre, layer + 1)))
        {
            Device.AddNormedThenNorm(a.Branch, w.PostMlp, nextGain, Config.NormEpsilon, a.Resid, a.Normed);
            return;
        }

        AddPlain(a, w.PostMlp, Site.MlpOutPost, Site.ResidPost, layer, hooks);
        if (!last)
            hooks.Fire(Site.ResidPre, layer + 1, a.Resid);
        Device.RmsNorm(a.Resid, nextGain, Config.NormEpsilon, a.Normed);
    }

    /// <summary>resid += norm(branch), in the plain form that lets hooks see and edit what the fused op keeps to itself.</summary>
    private void AddPlain(Activations a, Mat postGain, Site branchSite, Site streamSite, int layer, HookSet hooks)
    {
        Device.RmsNorm(a.Branch, postGain, Config.NormEpsilon, a.Branch);
        hooks.Fire(branchSite, layer, a.Branch);
        Device.AddScaled(a.Branch, 1f, a.Resid);
        hooks.Fire(streamSite, layer, a.Resid);
    }

    private Mat Logits(Activations a, LogitRows rows, Session session)
    {
        if (session.Hooks.Listens(Site.Logits))
            rows = LogitRows.All;
        int count = rows switch { LogitRows.None => 0, LogitRows.Last => 1, _ => a.Normed.Rows };
        Mat logits = session.Activations.Logits(count);
        if (count > 0)
        {
            Device.Linear(a.Normed.RowRange(a.Normed.Rows - count, count), _weights.Embedding, logits);
            if (Config.FinalSoftcap > 0)
                Device.Softcap(logits, Config.FinalSoftcap);
            session.Hooks.Fire(Site.Logits, 0, logits);
        }

        session.Remember(a.Normed, logits);
        return logits;
    }
}
