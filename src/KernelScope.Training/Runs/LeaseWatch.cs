using System.Diagnostics;

namespace KernelScope.Training.Runs;

/// <summary>Extends a worker's lease from a thread of its own, as long as the work advances.</summary>
/// <param name="queue">Whose leases.</param>
internal sealed class LeaseWatch(IShardQueue queue)
{
    private static readonly TimeSpan Stalled = TimeSpan.FromMinutes(10);
    private long _advanced;

    /// <summary>The work advanced just now.</summary>
    public void Advance() => Volatile.Write(ref _advanced, Stopwatch.GetTimestamp());

    /// <summary>Keeps a lease until the result is disposed; null where leases do not run out.</summary>
    public Timer? Keep(ShardLease lease)
    {
        Advance();
        if (queue.LeaseTime is not TimeSpan time)
            return null;
        TimeSpan period = TimeSpan.FromMilliseconds(Math.Max(100, time.TotalMilliseconds / 3));
        return new Timer(_ =>
        {
            if (Stopwatch.GetElapsedTime(Volatile.Read(ref _advanced)) < Stalled)
                queue.Extend(lease);
        }, null, period, period);
    }
}
