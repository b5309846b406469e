namespace KernelScope.Training.Runs;

/// <summary>A shard that a worker has for a while.</summary>
/// <param name="shard">Which.</param>
internal class ShardLease(int shard)
{
    /// <summary>The shard.</summary>
    public int Shard { get; } = shard;
}

/// <summary>What hands out shards. It holds no truth: a shard is done when its manifest is there, whatever a queue says.</summary>
/// <remarks>For one worker at a time.</remarks>
internal interface IShardQueue : IDisposable
{
    /// <summary>Whether leases run out, and need <see cref="Extend"/> in time.</summary>
    TimeSpan? LeaseTime { get; }

    /// <summary>The next shard; null if there is none.</summary>
    /// <param name="wait">How long to wait for one.</param>
    /// <param name="cancellationToken">Ends waiting.</param>
    ShardLease? Lease(TimeSpan wait, CancellationToken cancellationToken);

    /// <summary>The worker is still at it. Called from a thread of its own.</summary>
    void Extend(ShardLease lease);

    /// <summary>The shard is done.</summary>
    void Complete(ShardLease lease);

    /// <summary>It did not work this time; somebody may try again later.</summary>
    void Retry(ShardLease lease, TimeSpan delay);

    /// <summary>It cannot work.</summary>
    void Reject(ShardLease lease);
}

/// <summary>Shards in a fixed order, for one worker or for several of one process.</summary>
/// <param name="shards">In their order.</param>
internal sealed class ShardList(IEnumerable<int> shards) : IShardQueue
{
    private readonly System.Collections.Concurrent.ConcurrentQueue<int> _shards = new(shards);

    public TimeSpan? LeaseTime => null;

    public ShardLease? Lease(TimeSpan wait, CancellationToken cancellationToken) => _shards.TryDequeue(out int shard)
        ? new ShardLease(shard) : null;

    public void Extend(ShardLease lease)
    {
    }

    public void Complete(ShardLease lease)
    {
    }

    public void Retry(ShardLease lease, TimeSpan delay)
    {
    }

    public void Reject(ShardLease lease)
    {
    }

    public void Dispose()
    {
    }
}
