namespace KernelScope.Runtime;

/// <summary>
/// A request was refused because the engine has as many as its limits allow. The same request may succeed a little later.
/// </summary>
public sealed class EngineBusyException : InvalidOperationException
{
    internal EngineBusyException(int running, int waiting, int limit)
        : base($"The engine is busy: {running} requests run and {waiting} wait; it takes {limit} in all (MaxRunning + MaxWaiting).")
    {
        Running = running;
        Waiting = waiting;
        Limit = limit;
    }

    /// <summary>Requests that ran when this one was refused.</summary>
    public int Running { get; }

    /// <summary>Number of requests that were waiting.</summary>
    public int Waiting { get; }

    /// <summary>Most requests that may wait and run together.</summary>
    public int Limit { get; }
}
