namespace KernelScope.Cuda.Launching;

/// <summary>
/// The last launches that the driver took since the stream was waited for. One of them is to blame where a later call reports an error.
/// </summary>
/// <remarks>For one op at a time, as its context. Nothing is allocated.</remarks>
internal sealed class LaunchLog
{
    private const int Kept = 16;

    private readonly Launch[] _last = new Launch[Kept];
    private long _count;

    /// <summary>Notes a launch.</summary>
    public void Add(in Launch launch) => _last[_count++ % Kept] = launch;

    /// <summary>Forgets all: they are done.</summary>
    public void Clear() => _count = 0;

    /// <summary>A sentence that follows another; empty if nothing was launched.</summary>
    public string Describe()
    {
        if (_count == 0)
            return "";
        long first = Math.Max(0, _count - Kept);
        IEnumerable<string> launches = Enumerable.Range(0, (int)(_count - first)).Select(n => _last[(first + n) % Kept].Describe());
        return " Queued since the last " +
            $"wait: {(first > 0 ? FormattableString.Invariant($"{first} launches, then ") : "")}{string.Join("; ", launches)}.";
    }
}
