namespace KernelScope.Model;

/// <content>Sequences that begin as another one does.</content>
public sealed partial class Session
{
    private Session(Session parent, KvCache cache, int position, int contextLength, int chunkLength)
        : this(parent.Model, cache, contextLength, chunkLength)
    {
        _tokens = parent.Tokens[..position].ToArray();
        Position = position;
    }

    /// <summary>
    /// Another session with the same sequence, which goes on by itself. Nothing is copied: keys and values are shared until one of the sessions writes, which then copies them once; the last one that has them writes in place.
    /// </summary>
    /// <returns>A session without hooks and without logits: take the parent's before, or feed the next token.</returns>
    /// <exception cref="InvalidOperationException">The session is in use by a call or a generation, or only a part of the layers ran on some of its
    /// tokens.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    public Session Fork()
    {
        using SessionHold hold = Hold();
        RequireWhole();
        return new Session(this, Cache.Fork(), Position, ContextLength, ChunkLength);
    }

    /// <summary>Another session, of another size, with the first tokens of this one: what they are is copied, so that it goes on by itself.</summary>
    /// <param name="position">How many tokens, up to <see cref="Position"/>.</param>
    /// <param name="contextLength">Most tokens of the other.</param>
    /// <param name="chunkLength">Most tokens of one call of the other, at most its context.</param>
    /// <returns>Null where sliding layers no longer hold what goes on from there.</returns>
    /// <exception cref="InvalidOperationException">The session is in use, or a part of its tokens ran through a part of the layers only.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    internal Session? CopyOf(int position, int contextLength, int chunkLength)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)position, (uint)Position, nameof(position));
        using SessionHold hold = Hold();
        RequireWhole();
        return Cache.CopyOf(position, contextLength, chunkLength) is KvCache cache
            ? new Session(this, cache, position, contextLength, chunkLength) : null;
    }
}
