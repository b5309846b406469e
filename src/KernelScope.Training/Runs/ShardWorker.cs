using System.Text.Json.Nodes;
using KernelScope.Hooks;

namespace KernelScope.Training.Runs;

/// <summary>A shard that a worker did.</summary>
internal sealed record DoneShard(int Shard, double Seconds, long Rows, bool Reused);

/// <summary>A shard at which a worker failed.</summary>
/// <param name="Shard">Which.</param>
/// <param name="Error">One sentence.</param>
/// <param name="RetryHelps">Whether the same command may succeed later.</param>
internal sealed record FailedShard(int Shard, string Error, bool RetryHelps);

/// <summary>
/// Does what a queue hands out: lease, is the manifest there?, compute, manifest, complete. What goes wrong is written down, and the
/// next shard's turn comes.
/// </summary>
internal sealed class ShardWorker
{
    private readonly RunFolder _folder;
    private readonly RunPlan _plan;
    private readonly IShardMaker _maker;
    private readonly IShardQueue _queue;
    private readonly LeaseWatch _watch;
    private bool _cannotWrite;

    public ShardWorker(RunFolder folder, RunPlan plan, IShardMaker maker, IShardQueue queue)
    {
        (_folder, _plan, _maker, _queue) = (folder, plan, maker, queue);
        _watch = new LeaseWatch(queue);
    }

    /// <summary>What was done.</summary>
    public List<DoneShard> Done { get; } = [];

    /// <summary>What was not.</summary>
    public List<FailedShard> Failed { get; } = [];

    /// <summary>Works until the queue has nothing for as long as <paramref name="idle"/>, or nothing can be written: the other shards would
    /// be computed for nothing, and count as failed.</summary>
    /// <param name="idle">How long to wait for a shard; <see cref="Timeout.InfiniteTimeSpan"/>: for ever.</param>
    /// <param name="mostShards">Shards after which it ends.</param>
    /// <param name="progress">Told the positions that were computed, from time to time.</param>
    /// <param name="cancellationToken">Ends it; the shard under way goes back to the queue.</param>
    public void Run(TimeSpan idle, int mostShards, IProgress<int>? progress, CancellationToken cancellationToken)
    {
        var watched = new Watched(this, progress);
        while (Done.Count + Failed.Count < mostShards && !_cannotWrite)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (_queue.Lease(idle, cancellationToken) is not ShardLease lease)
                return;
            using (_watch.Keep(lease))
                Do(lease, watched, cancellationToken);
        }
    }

    private void Do(ShardLease lease, IProgress<int> progress, CancellationToken cancellationToken)
    {
        int attempt = 1;
        try
        {
            attempt += _folder.FailedAttempts().GetValueOrDefault(lease.Shard);
            ShardOutcome outcome = _maker.Make(lease.Shard, attempt, progress, cancellationToken);
            Done.Add(new DoneShard(lease.Shard, outcome.Manifest.Seconds, outcome.Manifest.Rows, outcome.Reused));
            _queue.Complete(lease);
        }
        catch (OperationCanceledException)
        {
            _queue.Retry(lease, TimeSpan.Zero);
            throw;
        }
        catch (ShardConflictException e)
        {
            Record(() => WriteConflict(lease.Shard, e));
            Fail(lease, e, isFinal: true, attempt, retryHelps: true);
        }
        catch (Exception e) when (e is InvalidDataException or NotFiniteException or ArgumentException)
        {
            Fail(lease, e, isFinal: true, attempt);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or OutOfMemoryException)
        {
            _cannotWrite = OutputPlace.ConcernsAllFiles(e);
            Fail(lease, e, isFinal: false, attempt);
        }
        catch
        {
            // A lost device, say: whoever comes next may have better luck, and this process ends.
            _queue.Retry(lease, RetryDelay(attempt));
            throw;
        }
    }

    private void Fail(ShardLease lease, Exception e, bool isFinal, int attempt, bool? retryHelps = null)
    {
        Failed.Add(new FailedShard(lease.Shard, e.Message, retryHelps ?? !isFinal));
        Record(() => FailedAttempt.Record(_folder, _plan, lease.Shard, e.Message, isFinal));
        if (isFinal)
            _queue.Reject(lease);
        else
            _queue.Retry(lease, RetryDelay(attempt));
    }

    private static TimeSpan RetryDelay(int attempt) => TimeSpan.FromSeconds(30 * Math.Pow(2, Math.Min(attempt, 5) - 1));

    private void WriteConflict(int shard, ShardConflictException e) =>
        PlacedFile.Write(_folder.At(RunFolder.Conflict(shard)), CanonicalJson.Write(new JsonObject
        {
            ["run"] = _plan.Id,
            ["shard"] = shard,
            ["file"] = Path.GetRelativePath(_folder.Path, e.Path).Replace('\\', '/'),
            ["found"] = new JsonObject { ["bytes"] = e.Found.Bytes, ["sha256"] = e.Found.Sha256 },
            ["made"] = new JsonObject { ["bytes"] = e.Made.Bytes, ["sha256"] = e.Made.Sha256 },
            ["worker"] = WorkerName.Own,
            ["host"] = WorkerName.Host,
        }));

    /// <summary>Where the disk is full, the record of it does not fit either; what happened is printed in any case.</summary>
    private static void Record(Action write)
    {
        try
        {
            write();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
        }
    }

    private sealed class Watched(ShardWorker worker, IProgress<int>? progress) : IProgress<int>
    {
        public void Report(int value)
        {
            worker._watch.Advance();
            progress?.Report(value);
        }
    }
}
