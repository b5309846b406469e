using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using KernelScope.Distributed;
using KernelScope.Training.Runs;

namespace KernelScope.Bench;

/// <summary>
/// What a queue of shards costs: the time that a worker spends between its shards, and the time from a worker's silence to the moment at
/// which another has its shard. Workers are threads with connections of their own; a shard is a pause.
/// </summary>
internal static class QueueCost
{
    private const int Workers = 3;
    private static readonly TimeSpan AckWait = TimeSpan.FromSeconds(2), Idle = TimeSpan.FromSeconds(10);

    public static int Measure(string url)
    {
        bool once = Pass(url, shards: 1000, TimeSpan.FromMilliseconds(10)) & Pass(url, shards: 30, TimeSpan.FromSeconds(1));
        double redelivery = Redelivery(url, shards: 10);
        Console.WriteLine(FormattableString.Invariant(
            $"a worker falls silent: another has its shard {redelivery:0.00} s later (largest of 10; AckWait {AckWait.TotalSeconds} s)"));
        return once && redelivery <= AckWait.TotalSeconds + 5 ? 0 : 1;
    }

    /// <summary>Works a queue off and prints what it cost.</summary>
    /// <returns>Whether each shard was handed out once.</returns>
    private static bool Pass(string url, int shards, TimeSpan work)
    {
        string id = NewId();
        using (NatsRunQueue queue = NatsRunQueue.Open(url, id, AckWait))
            queue.Enqueue(Enumerable.Range(0, shards));
        var handed = new ConcurrentBag<int>();
        var costs = new ConcurrentBag<double>();
        var watch = Stopwatch.StartNew();
        Parallel.ForEach(Enumerable.Range(0, Workers), new ParallelOptions { MaxDegreeOfParallelism = Workers }, _ =>
        {
            using NatsShardQueue queue = new(NatsRunQueue.OpenLater(url, id, AckWait), shards);
            var leases = new LeaseWatch(queue);
            while (handed.Count < shards)
            {
                long asked = Stopwatch.GetTimestamp();
                if (queue.Lease(TimeSpan.FromSeconds(1), CancellationToken.None) is not ShardLease lease)
                    break;
                TimeSpan leased = Stopwatch.GetElapsedTime(asked);
                using (leases.Keep(lease))
                    Thread.Sleep(work);
                long done = Stopwatch.GetTimestamp();
                queue.Complete(lease);
                costs.Add((leased + Stopwatch.GetElapsedTime(done)).TotalMilliseconds);
                handed.Add(lease.Shard);
            }
        });
        double seconds = watch.Elapsed.TotalSeconds;
        bool once = handed.Count == shards && handed.Distinct().Count() == shards;
        double[] sorted = [.. costs.Order()];
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{shards} shards of {work.TotalMilliseconds} ms, {Workers} workers: {seconds:0.0} s; ms between two shards of a worker: " +
                $"median {sorted[sorted.Length / 2]:0.0}, mean {costs.Average():0.0}, 99 % {sorted[(int)(0.99 * sorted.Length)]:0.0}, " +
                $"largest {sorted[^1]:0.0}; {100 * costs.Average() / work.TotalMilliseconds:0.00} % of a shard; " +
                $"{(once ? "each handed out once" : "NOT each handed out once")}"));
        return once;
    }

    /// <summary>Seconds from a worker's last word to the moment at which another has its shard; the largest of several.</summary>
    private static double Redelivery(string url, int shards)
    {
        string id = NewId();
        using NatsRunQueue made = NatsRunQueue.Open(url, id, AckWait);
        made.Enqueue(Enumerable.Range(0, shards));
        var silent = new Dictionary<int, long>();
        using (NatsShardQueue first = new(NatsRunQueue.OpenLater(url, id, AckWait), shards))
        {
            for (int n = 0; n < shards; n++)
                silent[first.Lease(Idle, CancellationToken.None)!.Shard] = Stopwatch.GetTimestamp();
        }

        double largest = 0;
        using NatsShardQueue second = new(NatsRunQueue.OpenLater(url, id, AckWait), shards);
        for (int n = 0; n < shards; n++)
        {
            ShardLease lease = second.Lease(Idle, CancellationToken.None) ?? throw new IOException("a shard was not handed out again.");
            largest = Math.Max(largest, Stopwatch.GetElapsedTime(silent[lease.Shard]).TotalSeconds);
            second.Complete(lease);
        }

        return largest;
    }

    private static string NewId() => $"{Guid.NewGuid():N}{Guid.NewGuid():N}";
}
