using System.Diagnostics;
using KernelScope.Training.Runs;
using NATS.Client.Core;
using NATS.Client.JetStream;

namespace KernelScope.Distributed;

/// <summary>
/// Shards from a NATS server, for one worker. A server that goes away and comes back, with or without its disk, is waited for as long
/// as the worker waits for a shard. Messages that name none are taken out.
/// </summary>
/// <param name="queue">The server.</param>
/// <param name="shards">Number of shards of the run: each is below it.</param>
internal sealed class NatsShardQueue(NatsRunQueue queue, int shards) : IShardQueue
{
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(5), Pause = TimeSpan.FromMilliseconds(250),
        Patience = TimeSpan.FromSeconds(5);

    public TimeSpan? LeaseTime => queue.AckWait;

    /// <summary>The server.</summary>
    public string Url => queue.Url;

    /// <summary>Why the server did not answer when it was last asked for a shard; null: it did.</summary>
    public string? Silence { get; private set; }

    public ShardLease? Lease(TimeSpan wait, CancellationToken cancellationToken)
    {
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            TimeSpan left = wait == Timeout.InfiniteTimeSpan ? Longest : wait - Stopwatch.GetElapsedTime(start);
            if (left <= TimeSpan.Zero)
                return null;
            try
            {
                TimeSpan once = left < Longest ? TimeSpan.FromSeconds(Math.Max(1, Math.Ceiling(left.TotalSeconds))) : Longest;
                INatsJSMsg<string>? next = Task.Run(() => queue.NextAsync(once, cancellationToken), cancellationToken)
                    .GetAwaiter().GetResult();
                Silence = null;
                if (next is not INatsJSMsg<string> message)
                    continue;
                if (NatsRunQueue.ShardOf(message) is int shard && shard < shards)
                    return new NatsLease(shard, message);
                Say(token => message.AckTerminateAsync(cancellationToken: token));
                // The queue was not idle.
                start = Stopwatch.GetTimestamp();
            }
            catch (Exception e) when (IsAway(e) && !cancellationToken.IsCancellationRequested)
            {
                Silence = NatsRunQueue.ReasonOf(e);
                cancellationToken.WaitHandle.WaitOne(Pause);
            }
        }
    }

    public void Extend(ShardLease lease) => Say(token => ((NatsLease)lease).Message.AckProgressAsync(cancellationToken: token));

    public void Complete(ShardLease lease) => Say(token => ((NatsLease)lease).Message.AckAsync(new AckOpts { DoubleAck = true }, token));

    public void Retry(ShardLease lease, TimeSpan delay) => Say(token =>
        ((NatsLease)lease).Message.NakAsync(new AckOpts { NakDelay = delay }, token));

    public void Reject(ShardLease lease) => Say(token => ((NatsLease)lease).Message.AckTerminateAsync(cancellationToken: token));

    public void Dispose() => queue.Dispose();

    /// <summary>What is not heard does no harm: the message comes again, and the shard is found done.</summary>
    private static void Say(Func<CancellationToken, ValueTask> word)
    {
        try
        {
            using var patience = new CancellationTokenSource(Patience);
            Task.Run(() => word(patience.Token).AsTask()).GetAwaiter().GetResult();
        }
        catch (Exception e) when (IsAway(e))
        {
        }
    }

    private static bool IsAway(Exception e) =>
        e is NatsException or OperationCanceledException or TimeoutException or IOException or ObjectDisposedException;

    private sealed class NatsLease(int shard, INatsJSMsg<string> message) : ShardLease(shard)
    {
        public INatsJSMsg<string> Message => message;
    }
}
