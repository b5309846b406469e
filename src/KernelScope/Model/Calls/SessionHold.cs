using KernelScope.Devices;

namespace KernelScope.Model;

/// <summary>
/// A session that is taken for several calls, as a generation needs it: until it is disposed, calls that do not come through it are refused. The calls may come from one thread after the other.
/// </summary>
internal readonly struct SessionHold(Session session) : IDisposable
{
    public Session Session { get; } = session;

    /// <inheritdoc cref="Gemma2Model.Forward(ReadOnlySpan{int}, Session, LogitRows, CancellationToken)"/>
    public Mat Forward(ReadOnlySpan<int> tokens, LogitRows rows = LogitRows.Last, CancellationToken cancellationToken = default) =>
        Session.Model.Forward(tokens, Session, rows, held: true, cancellationToken);

    /// <inheritdoc cref="Session.Prefill"/>
    public Mat Prefill(ReadOnlySpan<int> tokens, Action<int>? afterChunk = null, CancellationToken cancellationToken = default)
    {
        Mat logits = default;
        for (int start = 0; start < tokens.Length; start += Session.ChunkLength)
        {
            int count = Math.Min(Session.ChunkLength, tokens.Length - start);
            bool last = start + count == tokens.Length;
            logits = Forward(tokens.Slice(start, count), last ? LogitRows.Last : LogitRows.None, cancellationToken);
            afterChunk?.Invoke(start + count);
        }

        return logits.Rows > 1 ? logits.RowRange(logits.Rows - 1, 1) : logits;
    }

    /// <summary>Gives the session back.</summary>
    public void Dispose() => Session.Release();
}
