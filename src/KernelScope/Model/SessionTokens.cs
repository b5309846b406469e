namespace KernelScope.Model;

/// <summary>Tokens for one session, in a call with other sessions (<see cref="Gemma2Model.Forward(ReadOnlySpan{SessionTokens}, CancellationToken)"/>).</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly struct SessionTokens
{
    /// <summary>Describes what a session gets.</summary>
    /// <param name="session">The sequence.</param>
    /// <param name="tokens">Ids; at least one, at most the session's <see cref="Session.ChunkLength"/>.</param>
    /// <param name="logits">The rows whose logits are computed.</param>
    public SessionTokens(Session session, ReadOnlyMemory<int> tokens, LogitRows logits = LogitRows.Last)
    {
        ArgumentNullException.ThrowIfNull(session);
        Session = session;
        Tokens = tokens;
        Logits = logits;
    }

    /// <summary>The sequence that the tokens continue.</summary>
    public Session Session { get; }

    /// <summary>Ids that follow what the session has.</summary>
    public ReadOnlyMemory<int> Tokens { get; }

    /// <summary>The rows whose logits are computed.</summary>
    public LogitRows Logits { get; }
}
