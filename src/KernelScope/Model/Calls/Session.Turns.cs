namespace KernelScope.Model;

/// <content>Whose turn it is, and what a call may ask of the session.</content>
public sealed partial class Session
{
    // Who has the session: nobody; a call; a holder (a generation) between its calls; a call of the holder; a reader between the holder's calls.
    private const int Free = 0, InCall = 1, Held = 2, InCallOfHolder = 3, ReadWhileHeld = 4;

    private int _use;

    /// <summary>Takes the session for several calls; calls that do not come through the hold are refused until it is disposed.</summary>
    /// <exception cref="InvalidOperationException">The session is in use.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    internal SessionHold Hold()
    {
        Take(Held);
        return new SessionHold(this);
    }

    /// <summary>Ends a <see cref="Hold"/>.</summary>
    internal void Release()
    {
        int seen;
        do
        {
            seen = Volatile.Read(ref _use);
            if (seen is Free or InCall)
                return;
        }
        // Whoever is still in it is then on its own, and frees the session when it leaves.
        while (Interlocked.CompareExchange(ref _use, seen == Held ? Free : InCall, seen) != seen);
    }

    /// <summary>Takes the session for one call, until <see cref="Leave"/>.</summary>
    /// <param name="held">Whether the call is the holder's.</param>
    /// <exception cref="InvalidOperationException">The session is in use.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed.</exception>
    internal void Enter(bool held)
    {
        if (!held)
        {
            Take(InCall);
            return;
        }

        // A read is short, and the holder must not fail because of it.
        var wait = new SpinWait();
        while (Volatile.Read(ref _use) is ReadWhileHeld || !TryTake(Held, InCallOfHolder))
        {
            if (Volatile.Read(ref _use) is not (Held or ReadWhileHeld))
                throw InUse();
            wait.SpinOnce();
        }
    }

    /// <summary>As <see cref="Enter"/> for a call that only reads what the last one left: also somebody who did not take the session may make it between the holder's calls.</summary>
    /// <remarks>The holder's next call waits for it.</remarks>
    internal void EnterToRead()
    {
        if (!TryTake(Held, ReadWhileHeld))
            Take(InCall);
    }

    internal void Leave()
    {
        int seen;
        do
        {
            seen = Volatile.Read(ref _use);
        }
        while (Interlocked.CompareExchange(ref _use, seen is InCallOfHolder or ReadWhileHeld ? Held : Free, seen) != seen);
    }

    /// <summary>Checks a whole prompt before any of it is computed.</summary>
    /// <param name="tokens">Ids.</param>
    /// <param name="position">The position of the first.</param>
    /// <exception cref="ArgumentException">They do not fit into the context, or an id is outside the vocabulary.</exception>
    internal void CheckTokens(ReadOnlySpan<int> tokens, int position)
    {
        if (tokens.Length > ContextLength - position)
            throw new ArgumentException(TooLong(position, tokens.Length));
        int bad = tokens.IndexOfAnyExceptInRange(0, Model.Config.VocabSize - 1);
        if (bad >= 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(tokens), $"Token {bad} is id {tokens[bad]}; the vocabulary has ids 0 to {Model.Config.VocabSize - 1}.");
        }
    }

    /// <summary>Refuses to go on with a sequence of which some layers hold no keys and values.</summary>
    /// <exception cref="InvalidOperationException">From some position on, only a part of the layers ran.</exception>
    internal void RequireWhole()
    {
        if (_partialFrom != Nowhere)
        {
            throw new InvalidOperationException(
                $"From position {_partialFrom} on, only a part of the layers ran (ForwardTo or ForwardFrom), so the sequence " +
                    "cannot go on " +
                "as a whole one; reset the session, or rewind it to that position.");
        }
    }

    /// <summary>Says that a part of the layers ran from a position on.</summary>
    internal void MarkPartial(int position) => _partialFrom = Math.Min(_partialFrom, position);

    /// <summary>Why the session cannot take so many tokens in one call; null if it can.</summary>
    internal string? Complaint(Gemma2Model model, int count)
    {
        if (!ReferenceEquals(model, Model))
            return "The session belongs to another model.";
        if (count == 0)
            return "A forward pass needs at least one token.";
        if (count > ContextLength - Position)
            return TooLong(Position, count);
        return count > ChunkLength ? $"{count} tokens were fed in one call; the session takes {ChunkLength} (use Prefill)." : null;
    }

    private void Take(int use)
    {
        if (!TryTake(Free, use))
            throw InUse();
    }

    private bool TryTake(int from, int to)
    {
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        return Interlocked.CompareExchange(ref _use, to, from) == from;
    }

    private static InvalidOperationException InUse() =>
        new("The session is in use by another call or generation; a session is for one caller at a time.");
}
