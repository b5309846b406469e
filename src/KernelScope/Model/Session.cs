using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Model;

/// <summary>One sequence in progress: position, cache, hooks, and what the last call left.</summary>
/// <remarks>
/// For one caller at a time: whoever comes while a call or a generation is under way, also from inside a hook of the session, gets an <see cref="InvalidOperationException"/>. Sessions of one model may be used by as many threads as there are sessions.
/// Between calls a session holds its cache and the rows of <see cref="Logits"/> and <see cref="FinalNorm"/>; what else a call needs is the model's.
/// </remarks>
public sealed class Session : IDisposable
{
    private const int DefaultChunk = 256;

    // Who has the session: nobody; a call; a holder (a generation) between its calls; a call of the holder.
    private const int Free = 0, InCall = 1, Held = 2, InCallOfHolder = 3;

    private int _use;
    private int[] _tokens = [];
    private Mat _logitRows;
    private Mat _finalNormRows;
    private Mat _logits;
    private Mat _finalNorm;

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
        Cache = new KvCache(model.Device, config, ContextLength, ChunkLength);
    }

    /// <summary>The model.</summary>
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
    public Mat Logits
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsDisposed, this);
            return _logits;
        }
    }

    /// <summary>The stream after the final norm, one row for each token of the last call. Valid until the next call of this session, whatever others do.</summary>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    public Mat FinalNorm
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsDisposed, this);
            return _finalNorm;
        }
    }

    internal bool IsDisposed { get; private set; }

    internal KvCache Cache { get; }

    /// <summary>Bytes of a session's cache and rows and of the model's buffers for one call of it, before there is one.</summary>
    public static long BytesFor(Gemma2Config config, int contextLength, int chunkLength = 0)
    {
        ArgumentNullException.ThrowIfNull(config);
        int chunk = Math.Min(chunkLength == 0 ? DefaultChunk : chunkLength, contextLength);
        long rows = 4L * (((long)chunk * config.ModelDim) + config.VocabSize);
        return KvCache.BytesFor(config, contextLength, chunk) + rows + ActivationBuffers.BytesFor(config, CallPool.SizeFor(chunk)) + (4L * config.ContextLength * config.HeadDim);
    }

    /// <summary>Feeds any number of tokens, chunk by chunk; returns the logits of the last row, or nothing where there were no tokens.</summary>
    /// <param name="tokens">Ids.</param>
    /// <param name="afterChunk">Called after each chunk with the number of tokens fed so far; it may read what the chunk left, and may not call <see cref="Gemma2Model.Forward(ReadOnlySpan{int}, Session, LogitRows, CancellationToken)"/>.</param>
    /// <param name="cancellationToken">Stops between two layers; the session then holds the chunks before.</param>
    /// <exception cref="ArgumentException">The tokens do not fit into the context, or an id is outside the vocabulary.</exception>
    /// <exception cref="InvalidOperationException">The session is in use by another call.</exception>
    /// <exception cref="ObjectDisposedException">The session or the model was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Mat Prefill(ReadOnlySpan<int> tokens, Action<int>? afterChunk = null, CancellationToken cancellationToken = default)
    {
        using SessionHold hold = Hold();
        return hold.Prefill(tokens, afterChunk, cancellationToken);
    }

    /// <summary>Begins a new sequence in the same memory; hooks stay.</summary>
    /// <exception cref="InvalidOperationException">The session is in use by a call or a generation.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    public void Reset()
    {
        using SessionHold hold = Hold();
        Position = 0;
    }

    /// <summary>Gives the memory back. A call that is under way ends with an <see cref="ObjectDisposedException"/>.</summary>
    public void Dispose()
    {
        IsDisposed = true;
        Cache.Dispose();
        _logitRows.Buffer?.Dispose();
        _finalNormRows.Buffer?.Dispose();
    }

    /// <summary>Takes the session for several calls; calls that do not come through the hold are refused until it is disposed.</summary>
    /// <exception cref="InvalidOperationException">The session is in use.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    internal SessionHold Hold()
    {
        Take(Free, Held);
        return new SessionHold(this);
    }

    /// <summary>Ends a <see cref="Hold"/>.</summary>
    internal void Release() => Interlocked.CompareExchange(ref _use, Free, Held);

    /// <summary>Takes the session for one call, until <see cref="Leave"/>.</summary>
    /// <param name="held">Whether the call is the holder's.</param>
    /// <exception cref="InvalidOperationException">The session is in use.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    internal void Enter(bool held)
    {
        if (held)
            Take(Held, InCallOfHolder);
        else
            Take(Free, InCall);
    }

    /// <summary>As <see cref="Enter"/> for a call that only reads what the last one left: also somebody who did not take the session may make it between the holder's calls.</summary>
    internal void EnterToRead() => Enter(held: Volatile.Read(ref _use) == Held);

    internal void Leave() => Interlocked.Exchange(ref _use, Volatile.Read(ref _use) == InCallOfHolder ? Held : Free);

    /// <summary>Why the session cannot take so many tokens in one call; null if it can.</summary>
    internal string? Complaint(Gemma2Model model, int count)
    {
        if (!ReferenceEquals(model, Model))
            return "The session belongs to another model.";
        if (count == 0)
            return "A forward pass needs at least one token.";
        if (count > ContextLength - Position)
            return $"The sequence would have {(long)Position + count} tokens; the context holds {ContextLength}.";
        return count > ChunkLength ? $"{count} tokens were fed in one call; the session takes {ChunkLength} (use Prefill)." : null;
    }

    /// <summary>Room for the logits of <paramref name="count"/> rows; it grows to what was asked for at most, since [chunk, 256,000] is a large buffer that few runs want.</summary>
    internal Mat LogitRoom(int count) => Room(ref _logitRows, count, Model.Config.VocabSize, "logits");

    /// <summary>Room for <paramref name="count"/> rows of the stream after the final norm.</summary>
    internal Mat FinalNormRoom(int count) => Room(ref _finalNormRows, count, Model.Config.ModelDim, "final norm");

    /// <summary>What a call left: the sequence goes on by its tokens.</summary>
    internal void Advance(ReadOnlySpan<int> tokens, Mat finalNorm, Mat logits)
    {
        int end = Position + tokens.Length;
        if (end > _tokens.Length)
            Array.Resize(ref _tokens, Math.Min(ContextLength, Math.Max(end, Math.Max(256, 2 * _tokens.Length))));
        tokens.CopyTo(_tokens.AsSpan(Position));
        Position = end;
        _finalNorm = finalNorm;
        _logits = logits;
    }

    private Mat Room(ref Mat room, int count, int columns, string name)
    {
        if (count > room.Rows)
        {
            room.Buffer?.Dispose();
            room = Model.Device.CreateMat(count, columns, name);
        }

        return count == 0 ? default : room.RowRange(0, count);
    }

    private void Take(int from, int to)
    {
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        if (Interlocked.CompareExchange(ref _use, to, from) != from)
            throw new InvalidOperationException("The session is in use by another call or generation; a session is for one caller at a time.");
    }
}
