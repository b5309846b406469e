namespace KernelScope.Runtime;

/// <summary>How much an engine takes on, as its options said when it opened.</summary>
/// <param name="MaxRunning">Most requests that run at once.</param>
/// <param name="MaxWaiting">Most that wait.</param>
/// <param name="MaxSessionBytes">Most bytes of the running requests' sessions.</param>
/// <param name="KeptSessions">Most sessions of ended requests that are kept.</param>
/// <param name="Reuse">How much of them is taken over.</param>
/// <param name="PrefillRows">Tokens of a piece of a prompt.</param>
/// <param name="BufferedTokens">Tokens that are kept for a slow reader.</param>
/// <param name="ReaderTimeout">How long a reader may read nothing while its tokens are full; infinite: for ever.</param>
internal sealed record EngineLimits(
    int MaxRunning,
    int MaxWaiting,
    long MaxSessionBytes,
    int KeptSessions,
    PrefixReuse Reuse,
    int PrefillRows,
    int BufferedTokens,
    TimeSpan ReaderTimeout)
{
    /// <summary>Most bytes of the sessions that are kept.</summary>
    public long MaxKeptBytes => MaxSessionBytes / 4;

    /// <summary>A beginning that is taken over has a multiple of so many tokens.</summary>
    public int ReuseStep => Reuse == PrefixReuse.WholePieces ? PrefillRows : 1;

    /// <summary>The limits of options, for weights of a size.</summary>
    public static EngineLimits From(EngineOptions options, long weightBytes) => new(
        options.MaxRunning,
        options.MaxWaiting,
        options.MaxSessionBytes > 0 ? options.MaxSessionBytes : DefaultSessionBytes(weightBytes),
        options.KeptSessions,
        options.PrefixReuse,
        options.PrefillRows,
        options.BufferedTokens,
        options.ReaderTimeout);

    /// <summary>
    /// Half of what the weights leave of the memory; where they leave next to nothing (they are mapped), an eighth of it.
    /// </summary>
    private static long DefaultSessionBytes(long weightBytes)
    {
        long memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        return Math.Max(memory - weightBytes, memory / 4) / 2;
    }
}
