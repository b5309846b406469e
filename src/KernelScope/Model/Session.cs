using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Model;

/// <summary>One sequence in progress: position, cache, activations and hooks. Not for several threads at once.</summary>
public sealed class Session : IDisposable
{
    private const int DefaultChunk = 256;
    private readonly DeviceBuffer _cosSin;
    private float[] _host = [];
    private Mat _logits;

    internal Session(Gemma2Model model, int contextLength, int chunkLength)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(contextLength);
        ArgumentOutOfRangeException.ThrowIfNegative(chunkLength);
        Gemma2Config config = model.Config;
        if (contextLength > config.ContextLength)
            throw new ArgumentOutOfRangeException(nameof(contextLength), $"A context of {contextLength} tokens was asked for; the model was made for {config.ContextLength} (max_position_embeddings).");
        Model = model;
        ContextLength = contextLength == 0 ? config.ContextLength : contextLength;
        ChunkLength = Math.Min(chunkLength == 0 ? DefaultChunk : chunkLength, ContextLength);
        Hooks = new HookSet(config.LayerCount);
        Activations = new ActivationBuffers(model.Device, config, ChunkLength);
        Cache = new KvCache(model.Device, config, ContextLength, ChunkLength);
        CosSin = model.Device.CreateMat(ContextLength, config.HeadDim, "rope");
        _cosSin = CosSin.Buffer;
        model.Device.Write(RopeTable.Create(ContextLength, config.HeadDim, config.RopeTheta), CosSin);
    }

    /// <summary>The model.</summary>
    public Gemma2Model Model { get; }

    /// <summary>Most tokens of the sequence.</summary>
    public int ContextLength { get; }

    /// <summary>Most tokens of one call.</summary>
    public int ChunkLength { get; }

    /// <summary>Number of tokens fed so far, which is the position of the next.</summary>
    public int Position { get; private set; }

    /// <summary>The hooks of this session.</summary>
    public HookSet Hooks { get; }

    /// <summary>The stream after the final norm, one row for each token of the last call.</summary>
    public Mat FinalNorm { get; private set; }

    internal ActivationBuffers Activations { get; }

    internal KvCache Cache { get; }

    internal Mat CosSin { get; }

    /// <summary>Bytes of cache and activations of a session, before there is one.</summary>
    public static long BytesFor(Gemma2Config config, int contextLength, int chunkLength = 0)
    {
        ArgumentNullException.ThrowIfNull(config);
        int chunk = Math.Min(chunkLength == 0 ? DefaultChunk : chunkLength, contextLength);
        return KvCache.BytesFor(config, contextLength, chunk) + ActivationBuffers.BytesFor(config, chunk) + (4L * contextLength * config.HeadDim);
    }

    /// <summary>Feeds any number of tokens, chunk by chunk; returns the logits of the last row, or nothing where there were no tokens.</summary>
    /// <param name="tokens">Ids.</param>
    /// <param name="afterChunk">Called after each chunk with the number of tokens fed so far.</param>
    /// <param name="cancellation">Stops between two layers; the session must then be reset.</param>
    public Mat Prefill(ReadOnlySpan<int> tokens, Action<int>? afterChunk = null, CancellationToken cancellation = default)
    {
        Mat logits = default;
        for (int start = 0; start < tokens.Length; start += ChunkLength)
        {
            int count = Math.Min(ChunkLength, tokens.Length - start);
            bool last = start + count == tokens.Length;
            logits = Model.Forward(tokens.Slice(start, count), this, last ? LogitRows.Last : LogitRows.None, cancellation);
            afterChunk?.Invoke(start + count);
        }

        return logits.Rows > 1 ? logits.RowRange(logits.Rows - 1, 1) : logits;
    }

    /// <summary>Begins a new sequence in the same memory; hooks stay.</summary>
    public void Reset() => Position = 0;

    /// <inheritdoc/>
    public void Dispose()
    {
        Activations.Dispose();
        Cache.Dispose();
        _cosSin.Dispose();
    }

    internal void Claim(Gemma2Model model, int count)
    {
        if (!ReferenceEquals(model, Model))
            throw new ArgumentException("The session belongs to another model.");
        if (count == 0)
            throw new ArgumentException("A forward pass needs at least one token.");
        if (count > ContextLength - Position)
            throw new ArgumentException($"The sequence would have {(long)Position + count} tokens; the context holds {ContextLength}.");
        if (count > ChunkLength)
            throw new ArgumentException($"{count} tokens were fed in one call; the session takes {ChunkLength} (use Prefill).");
    }

    internal void Advance(int count) => Position += count;

    internal void Remember(Mat finalNorm, Mat logits)
    {
        FinalNorm = finalNorm;
        _logits = logits;
    }

    internal void ReadLosses(Mat loss, Span<double> losses)
    {
        Span<float> host = Host(loss.Rows);
        Model.Device.Read(loss, host);
        for (int t = 0; t < host.Length; t++)
            losses[t] = host[t];
    }

    /// <summary>The same losses from logits that a hook has seen and may have edited.</summary>
    internal void LossOfLogits(ReadOnlySpan<int> targets, Span<double> losses)
    {
        Span<float> row = Host(_logits.Columns);
        for (int t = 0; t < targets.Length; t++)
        {
            Model.Device.Read(_logits.RowRange(t, 1), row);
            double max = double.NegativeInfinity, sum = 0;
            foreach (float logit in row)
                max = Math.Max(max, logit);
            foreach (float logit in row)
                sum += Math.Exp(logit - max);
            losses[t] = max + Math.Log(sum) - row[targets[t]];
        }
    }

    private Span<float> Host(int length)
    {
        if (_host.Length < length)
            _host = new float[length];
        return _host.AsSpan(0, length);
    }
}
