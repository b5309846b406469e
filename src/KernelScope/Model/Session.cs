using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;

namespace KernelScope.Model;

/// <summary>One sequence in progress: position, cache, hooks, and what the last call left.</summary>
/// <remarks>
/// For one caller at a time: whoever comes while a call or a generation is under way, also from inside a hook of the session, gets an <see cref="InvalidOperationException"/>. Sessions of one model may be used by as many threads as there are sessions.
/// Between calls a session holds its cache and the rows of <see cref="Logits"/> and <see cref="FinalNorm"/>; what else a call needs is the model's.
/// </remarks>
/// <example>
/// <code>
/// using Session session = model.NewSession();
/// session.Prefill(tokens);
/// using Session fork = session.Fork();                     // the same sequence, which may go on in another way
/// fork.Rewind(tokens.Length - 1);
/// model.Forward([tokens[^1]], fork);
/// </code>
/// </example>
public sealed partial class Session : IDisposable
{
    // Of no position, unless a call ran only a part of the layers: the others hold no keys and values from there on.
    private const int Nowhere = int.MaxValue;

    private int _partialFrom = Nowhere;
    private int[] _tokens = [];
    private GrowingMat _logitRows;
    private GrowingMat _finalNormRows;
    private Mat _logits;
    private Mat _finalNorm;

    private Session(Gemma2Model model, KvCache cache, int contextLength, int chunkLength)
    {
        Model = model;
        Cache = cache;
        ContextLength = contextLength;
        ChunkLength = chunkLength;
        Hooks = new HookSet(model.Config.LayerCount);
        _logitRows = new GrowingMat(model.Device, model.Config.VocabSize, "logits");
        _finalNormRows = new GrowingMat(model.Device, model.Config.ModelDim, "final norm");
    }

    /// <summary>The model that the sequence runs through.</summary>
    public Gemma2Model Model { get; }

    /// <summary>Most tokens of the sequence.</summary>
    public int ContextLength { get; }

    /// <summary>Most tokens of one call.</summary>
    public int ChunkLength { get; }

    /// <summary>Number of tokens fed so far, which is the position of the next.</summary>
    public int Position { get; private set; }

    /// <summary>All tokens fed so far; valid until the next call.</summary>
    public ReadOnlySpan<int> Tokens => _tokens.AsSpan(0, Position);

    /// <summary>The hooks of this session.</summary>
    public HookSet Hooks { get; }

    /// <summary>The logits that the last call was asked for, a row for each position, on the device; without rows where it was asked for none. Valid until the next call of this session, whatever others do.</summary>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    public Mat Logits => OfLastCall(_logits);

    /// <summary>The stream after the final norm, one row for each token of the last call. Valid until the next call of this session, whatever others do.</summary>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    public Mat FinalNorm => OfLastCall(_finalNorm);

    internal bool IsDisposed { get; private set; }

    internal KvCache Cache { get; }

    /// <summary>The lowest position but 0 to which the session can go back.</summary>
    internal int LowestPosition => Cache.LowestPosition;

    /// <summary>A sequence of no tokens yet; 0 for a length: what the model allows, and a good choice.</summary>
    internal static Session Create(Gemma2Model model, int contextLength, int chunkLength)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(contextLength);
        ArgumentOutOfRangeException.ThrowIfNegative(chunkLength);
        Gemma2Config config = model.Config;
        if (contextLength > config.ContextLength)
        {
            throw new ArgumentOutOfRangeException(
                nameof(contextLength),
                $"A context of {contextLength} tokens was asked for; the model was made for {config.ContextLength} " +
                "(max_position_embeddings).");
        }

        int context = contextLength == 0 ? config.ContextLength : contextLength;
        int chunk = Math.Min(chunkLength == 0 ? model.Device.PreferredChunk : chunkLength, context);
        return new Session(model, new KvCache(model.Device, config, context, chunk, model.CacheType), context, chunk);
    }

    /// <summary>Bytes of a session's cache and rows and of the model's buffers for one call of it, before there is one.</summary>
    public static long BytesFor(Gemma2Config config, int contextLength, int chunkLength = 0, DType cacheType = DType.F32)
    {
        ArgumentNullException.ThrowIfNull(config);
        int chunk = Math.Min(chunkLength == 0 ? Device.DefaultChunk : chunkLength, contextLength);
        long rows = 4L * (((long)chunk * config.ModelDim) + config.VocabSize);
        long call = ActivationBuffers.BytesFor(config, CallPool.SizeFor(chunk));
        return KvCache.BytesFor(config, contextLength, chunk, cacheType) + rows + call + (4L * config.ContextLength * config.HeadDim);
    }

    /// <summary>Feeds any number of tokens, chunk by chunk; returns the logits of the last row, or nothing where there were no tokens.</summary>
    /// <param name="tokens">Ids.</param>
    /// <param name="afterChunk">Called after each chunk with the number of tokens fed so far; it may read what the chunk left, and may not call <see cref="Gemma2Model.Forward(ReadOnlySpan{int}, Session, LogitRows, CancellationToken)"/>.</param>
    /// <param name="cancellationToken">Stops between two layers; the session then holds the chunks before.</param>
    /// <exception cref="ArgumentException">The tokens do not fit into the context, or an id is outside the vocabulary.</exception>
    /// <exception cref="InvalidOperationException">The session is in use by another call, or only a part of the layers ran on some of its tokens
    /// (<see cref="Gemma2Model.ForwardTo"/>, <see cref="Gemma2Model.ForwardFrom"/>): <see cref="Reset"/> it, or <see cref="Rewind"/> it to before them.</exception>
    /// <exception cref="ObjectDisposedException">The session or the model was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Mat Prefill(ReadOnlySpan<int> tokens, Action<int>? afterChunk = null, CancellationToken cancellationToken = default)
    {
        using SessionHold hold = Hold();
        CheckTokens(tokens, Position);
        return hold.Prefill(tokens, afterChunk, cancellationToken);
    }

    /// <summary>Begins a new sequence in the same memory; hooks stay.</summary>
    /// <exception cref="InvalidOperationException">The session is in use by a call or a generation.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    public void Reset()
    {
        using SessionHold hold = Hold();
        GoBack(0);
    }

    /// <summary>Goes back to a position: the tokens from there on no longer belong to the sequence, and captures drop their rows. Hooks stay.</summary>
    /// <param name="position">The position of the next token, 0 to <see cref="Position"/>.</param>
    /// <remarks>
    /// Sliding layers keep their window and one chunk. Once a sequence is longer than that, they have lost what an early position would see: then it
    /// goes back to 0, or to at most <see cref="ChunkLength"/> tokens before the furthest position that was fed since the sequence began (a call that
    /// failed counts). Several rewinds add up: together they reach back by one chunk from there, not each by one.
    /// </remarks>
    /// <exception cref="ArgumentOutOfRangeException">There is no such position in the sequence.</exception>
    /// <exception cref="InvalidOperationException">Sliding layers no longer hold what is needed there, or the session is in use.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    public void Rewind(int position)
    {
        using SessionHold hold = Hold();
        if (position < 0 || position > Position)
        {
            throw new ArgumentOutOfRangeException(
                nameof(position),
                $"The sequence has {Position} tokens, so it goes back to a position from 0 to {Position}, not to {position}.");
        }

        if (position > 0 && position < Cache.LowestPosition)
        {
            throw new InvalidOperationException(
                $"The session cannot go back to position {position}: its sliding layers keep their window and one chunk " +
                $"of the {Cache.Written} positions that were fed, so it goes back to position {Cache.LowestPosition} at most, or to 0. " +
                "Reset it and feed the tokens again, or give it longer chunks.");
        }

        GoBack(position);
    }

    /// <summary>
    /// Makes the sequence exactly these tokens: what the session holds of their beginning stays, the rest is fed. A chat whose text grows, or prompts with one beginning, are computed once.
    /// </summary>
    /// <param name="tokens">The whole sequence; its last token is always fed, for its logits.</param>
    /// <param name="afterChunk">Called after each chunk with the number of tokens of the sequence that the session holds.</param>
    /// <param name="cancellationToken">Stops between two layers; the session then holds the chunks before.</param>
    /// <returns>The logits of the last row, or nothing where there were no tokens.</returns>
    /// <remarks>What hooks did to the tokens that stay is part of their keys and values: after changing hooks, <see cref="Reset"/> first.</remarks>
    /// <exception cref="ArgumentException">The tokens do not fit into the context, or an id is outside the vocabulary.</exception>
    /// <exception cref="InvalidOperationException">The session is in use by another call.</exception>
    /// <exception cref="ObjectDisposedException">The session or the model was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Mat PrefillSequence(ReadOnlySpan<int> tokens, Action<int>? afterChunk = null, CancellationToken cancellationToken = default)
    {
        using SessionHold hold = Hold();
        CheckTokens(tokens, 0);
        int kept = Math.Min(Tokens.CommonPrefixLength(tokens), Math.Max(0, tokens.Length - 1));
        kept = Math.Min(kept, _partialFrom);
        if (kept < Cache.LowestPosition)
            kept = 0;
        GoBack(kept);
        return hold.Prefill(tokens[kept..], afterChunk is null ? null : fed => afterChunk(kept + fed), cancellationToken);
    }

    /// <summary>Gives the memory back. A call that is under way ends with an <see cref="ObjectDisposedException"/>.</summary>
    public void Dispose()
    {
        IsDisposed = true;
        Cache.Dispose();
        _logitRows.Dispose();
        _finalNormRows.Dispose();
    }

    /// <summary>Room for the logits of <paramref name="count"/> rows; it grows to what was asked for at most, since [chunk, 256,000] is a large buffer that few runs want.</summary>
    internal Mat LogitRoom(int count) => count == 0 ? default : _logitRows.WithRows(count);

    /// <summary>Room for <paramref name="count"/> rows of the stream after the final norm.</summary>
    internal Mat FinalNormRoom(int count) => _finalNormRows.WithRows(count);

    /// <summary>What a call left: the sequence goes on by its tokens.</summary>
    internal void Advance(ReadOnlySpan<int> tokens, Mat finalNorm, Mat logits)
    {
        int end = Position + tokens.Length;
        if (end > _tokens.Length)
            Array.Resize(ref _tokens, Math.Min(ContextLength, Math.Max(end, Math.Max(64, 2 * _tokens.Length))));
        tokens.CopyTo(_tokens.AsSpan(Position));
        Position = end;
        _finalNorm = finalNorm;
        _logits = logits;
    }

    /// <summary>Makes a new session hold a sequence whose keys and values are filled in next.</summary>
    /// <param name="tokens">The sequence.</param>
    /// <param name="written">See <see cref="KvCache.Written"/>.</param>
    /// <returns>Whether the rings then hold all that the next token's windows see.</returns>
    internal bool Restore(int[] tokens, int written)
    {
        _tokens = tokens;
        Position = tokens.Length;
        Cache.Written = written;
        return Cache.LowestPosition <= Position;
    }

    private void GoBack(int position)
    {
        Position = position;
        if (position <= _partialFrom)
            _partialFrom = Nowhere;
        if (position == 0)
            Cache.Written = 0;
        Hooks.Rewind(position);
    }

    private Mat OfLastCall(Mat rows)
    {
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        return rows;
    }

    private string TooLong(int position, int count) =>
        $"The sequence would have {(long)position + count} tokens; the context holds {ContextLength}.";
}
