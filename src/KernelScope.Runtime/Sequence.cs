using System.Diagnostics;
using KernelScope.Model;

namespace KernelScope.Runtime;

/// <summary>
/// A request's tokens on their way through the model. Its session belongs to the engine's thread; what its reader touches is safe for
/// both.
/// </summary>
/// <param name="kind">What it is called in metrics.</param>
/// <param name="prompt">Ids that are fed piece by piece.</param>
/// <param name="contextLength">Most tokens of its session.</param>
internal abstract class Sequence(string kind, int[] prompt, int contextLength) : IDisposable
{
    private int _fed;
    private bool _isCopied;
    private volatile bool _left;

    public string Kind { get; } = kind;

    public int[] Prompt { get; } = prompt;

    public int ContextLength { get; } = contextLength;

    /// <summary>When it came, as <see cref="Stopwatch.GetTimestamp"/> counts.</summary>
    public long Submitted { get; } = Stopwatch.GetTimestamp();

    /// <summary>Bytes of its session.</summary>
    public long Bytes { get; set; }

    /// <summary>Whether nobody waits for what it would give.</summary>
    public bool IsLeft => _left;

    /// <summary>
    /// Whether its session's keys and values are the model's own, and nobody asks for what a token of the prompt gives: then the session may
    /// begin with what another one has, and may be kept for others.
    /// </summary>
    public virtual bool SharesPrefixes => false;

    /// <summary>Tokens of the prompt that its session had when it began.</summary>
    public int Reused { get; private set; }

    /// <summary>Tokens of the prompt that have been fed, or were there.</summary>
    public int Fed => _fed;

    /// <summary>Whether the whole prompt has been fed.</summary>
    public bool IsPrefilled => _fed == Prompt.Length;

    /// <summary>Whether there is nothing more to do.</summary>
    public bool IsFinished { get; protected set; }

    /// <summary>Whether its reader has to catch up before it goes on.</summary>
    public virtual bool IsPaused => false;

    /// <summary>How long it has been paused, as of the last look at <see cref="IsPaused"/>; null: it is not.</summary>
    public virtual TimeSpan? PausedFor => null;

    protected Session Session { get; private set; } = null!;

    /// <summary>Says that nobody waits for it any more; the engine's thread then ends it.</summary>
    public void Leave() => _left = true;

    /// <summary>Gets its session, which may have the beginning of the prompt, and arms hooks on it. The sequence disposes the session.</summary>
    public virtual void Begin(Session session)
    {
        Session = session;
        _fed = Reused = session.Position;
    }

    /// <summary>A copy of its session as it is, for <see cref="KeptSessions"/>; the session itself is then not handed over.</summary>
    public Session? Copy()
    {
        _isCopied = true;
        return Session.CopyOf(Session.Position, Session.Position, Math.Min(Session.ChunkLength, Session.Position));
    }

    /// <summary>Hands its session over, without anything of its own on it; null if it has none that others could use.</summary>
    public Session? Release()
    {
        if (!SharesPrefixes || _isCopied || Session is null)
            return null;
        Session session = Session;
        Disarm();
        Session = null!;
        return session;
    }

    /// <summary>Feeds the next piece of the prompt.</summary>
    /// <returns>Number of tokens fed.</returns>
    public int FeedPiece(int rows, CancellationToken cancellationToken)
    {
        int count = Math.Min(rows, Prompt.Length - _fed);
        Feed(Prompt.AsSpan(_fed, count), isLast: _fed + count == Prompt.Length, cancellationToken);
        _fed += count;
        if (IsPrefilled)
            AfterPrompt();
        return count;
    }

    /// <summary>What it feeds in the next decode step.</summary>
    public abstract SessionTokens NextStep();

    /// <summary>Takes what a decode step gave.</summary>
    public abstract void AfterStep();

    /// <summary>Tells the reader that no more will come.</summary>
    /// <param name="error">Why; null: it is finished.</param>
    public abstract void Complete(Exception? error);

    /// <summary>Gives the session's memory back.</summary>
    public void Dispose()
    {
        Disarm();
        Session?.Dispose();
    }

    /// <summary>Takes from the session what it put there. More than once is harmless.</summary>
    protected abstract void Disarm();

    protected abstract void Feed(ReadOnlySpan<int> tokens, bool isLast, CancellationToken cancellationToken);

    protected abstract void AfterPrompt();
}
