using System.Globalization;
using KernelScope.Training.Runs;
using NATS.Client.Core;
using NATS.Client.JetStream;
using NATS.Client.JetStream.Models;

namespace KernelScope.Distributed;

/// <summary>The queue cannot be used; the message is one sentence.</summary>
internal sealed class QueueException(string message, Exception? inner = null) : IOException(message, inner);

/// <summary>What is in the queue of a run.</summary>
/// <param name="Shards">Shards with a message: waiting, at a worker, or stuck.</param>
/// <param name="Pending">Messages that wait to be handed out.</param>
/// <param name="AckPending">Messages at workers, or waiting to be tried again.</param>
internal sealed record QueueState(IReadOnlySet<int> Shards, long Pending, long AckPending)
{
    /// <summary>Whether nothing is handed out any more: what is still there used up its deliveries.</summary>
    public bool IsIdle => Pending == 0 && AckPending == 0;
}

/// <summary>
/// The stream of a run, <c>KS_&lt;run12&gt;</c>, on a NATS server with JetStream: one message a shard, on a subject of its own, of
/// which a second is refused. It hands shards out and holds no truth:
/// a queue that is lost costs one <c>plan</c>.
/// </summary>
/// <remarks>
/// No message ids: a server refuses those that it saw a short while ago, which would block the repair that <c>plan</c> is for. No
/// purges by subject: they move the consumer past other messages; what is deleted is deleted by its sequence number.
/// Any number of threads may use it.
/// </remarks>
internal sealed class NatsRunQueue : IDisposable
{
    /// <summary>Deliveries after which a shard is no longer handed out.</summary>
    public const int MaxDeliver = 4;

    /// <summary>The name of the consumer that all workers share.</summary>
    public const string Consumer = "workers";

    /// <summary>What a server says of a second message on a subject.</summary>
    private const int SubjectIsTaken = 10077;

    private const int MaxAckPending = 4096;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15), Pause = TimeSpan.FromMilliseconds(250);

    private readonly NatsConnection _connection;
    private readonly NatsJSContext _context;
    private readonly string _subjects;

    private NatsRunQueue(string url, string id, TimeSpan ackWait)
    {
        Url = WithoutSecrets(url);
        AckWait = ackWait;
        Stream = $"KS_{id[..12]}";
        _subjects = $"ks.{id[..12]}.shard.";
        _connection = new NatsConnection(NatsOpts.Default with
        {
            Url = url,
            Name = WorkerName.Own,
            ConnectTimeout = TimeSpan.FromSeconds(5),
            RequestTimeout = TimeSpan.FromSeconds(5)
        });
        _context = new NatsJSContext(_connection, new NatsJSOpts(_connection.Opts, requestTimeout: TimeSpan.FromSeconds(5)));
    }

    /// <summary>The server, as messages name it.</summary>
    public string Url { get; }

    /// <summary>How long a worker that says nothing keeps a shard: after <see cref="NextAsync"/> what the server says, which whoever made
    /// the consumer decided.</summary>
    public TimeSpan AckWait { get; private set; }

    /// <summary>The name of the stream.</summary>
    public string Stream { get; }

    /// <summary>An address without its user and password, or its token.</summary>
    public static string WithoutSecrets(string url)
    {
        int scheme = url.IndexOf("://", StringComparison.Ordinal), start = scheme < 0 ? 0 : scheme + 3, at = url.LastIndexOf('@');
        return at > start ? $"{url[..start]}***{url[at..]}" : url;
    }

    /// <summary>In a few words why a server did not answer.</summary>
    public static string ReasonOf(Exception e) => e is OperationCanceledException or TimeoutException ? "no answer"
        : e.GetBaseException().Message.TrimEnd('.');

    /// <summary>Connects; the stream and the consumer are made where they are missing.</summary>
    /// <exception cref="QueueException">There is no such server, or it has no JetStream.</exception>
    public static NatsRunQueue Open(string url, RunPlan plan, TimeSpan ackWait) => Open(url, plan.Id, ackWait);

    /// <summary>The same by the id of what is worked on: a run's, or a suite's, whose items are numbered as shards are.</summary>
    /// <exception cref="QueueException">There is no such server, or it has no JetStream.</exception>
    public static NatsRunQueue Open(string url, string id, TimeSpan ackWait)
    {
        var queue = new NatsRunQueue(url, id, ackWait);
        try
        {
            queue.Do(queue.Create, "cannot be used");
            return queue;
        }
        catch
        {
            queue.Dispose();
            throw;
        }
    }

    /// <summary>The same for a worker, which may be there before the server is.</summary>
    public static NatsRunQueue OpenLater(string url, string id, TimeSpan ackWait) => new(url, id, ackWait);

    /// <summary>Puts shards into the queue; those that are in it already stay as they are. Gives the number that is new.</summary>
    /// <exception cref="QueueException">The server does not answer.</exception>
    public int Enqueue(IEnumerable<int> shards)
    {
        int added = 0;
        foreach (int shard in shards)
            added += Do(token => PublishAsync(shard, token), "does not take shards") ? 1 : 0;
        return added;
    }

    /// <summary>Takes out what used up its deliveries, and puts shards in anew.</summary>
    /// <exception cref="QueueException">The queue is still at work, or the server does not answer.</exception>
    public int Requeue(IReadOnlyCollection<int> shards)
    {
        QueueState state = State();
        if (!state.IsIdle)
            throw new QueueException($"{Url}: the queue is still at work ({state.Pending} shards wait, {state.AckPending} are at " +
                $"workers); --requeue is for what is left when it is idle.");
        foreach (int shard in state.Shards)
            Do(token => DeleteAsync(shard, token), "does not delete");
        return Enqueue(shards);
    }

    /// <summary>What is in it.</summary>
    /// <exception cref="QueueException">The server does not answer.</exception>
    public QueueState State() => Do(StateAsync, "does not say what it holds");

    /// <summary>Makes stream and consumer where they are missing.</summary>
    public async Task<bool> Create(CancellationToken token)
    {
        await _context.CreateOrUpdateStreamAsync(new StreamConfig(Stream, [_subjects + "*"])
        {
            Retention = StreamConfigRetention.Workqueue,
            Storage = StreamConfigStorage.File,
            MaxMsgsPerSubject = 1,
            Discard = StreamConfigDiscard.New,
            DiscardNewPerSubject = true,
        }, token).ConfigureAwait(false);
        await _context.CreateOrUpdateConsumerAsync(Stream, new ConsumerConfig(Consumer)
        {
            AckPolicy = ConsumerConfigAckPolicy.Explicit,
            AckWait = AckWait,
            MaxDeliver = MaxDeliver,
            MaxAckPending = MaxAckPending,
        }, token).ConfigureAwait(false);
        return true;
    }

    /// <summary>The next message; null if none came in time, or the server is away.</summary>
    public async Task<INatsJSMsg<string>?> NextAsync(TimeSpan wait, CancellationToken token)
    {
        INatsJSConsumer consumer = await _context.GetConsumerAsync(Stream, Consumer, token).ConfigureAwait(false);
        AckWait = consumer.Info.Config.AckWait;
        return await consumer.NextAsync<string>(opts: new NatsJSNextOpts { Expires = wait },
            cancellationToken: token).ConfigureAwait(false);
    }

    /// <summary>The shard of a message; null if it is not one of a run.</summary>
    public static int? ShardOf(INatsJSMsg<string> message) =>
        int.TryParse(message.Data, NumberStyles.None, CultureInfo.InvariantCulture, out int shard)
            && message.Subject.EndsWith($".{RunFolder.Number(shard)}", StringComparison.Ordinal) ? shard : null;

    public void Dispose() => _connection.DisposeAsync().AsTask().GetAwaiter().GetResult();

    private async Task<bool> PublishAsync(int shard, CancellationToken token)
    {
        PubAckResponse answer = await _context.PublishAsync(_subjects + RunFolder.Number(shard),
            shard.ToString(CultureInfo.InvariantCulture), cancellationToken: token).ConfigureAwait(false);
        if (answer.Error is null)
            return true;
        return answer.Error.ErrCode == SubjectIsTaken ? false
            : throw new QueueException($"{Url}: shard {shard} is not taken: {answer.Error.Description}.");
    }

    private async Task<bool> DeleteAsync(int shard, CancellationToken token)
    {
        StreamMsgGetResponse last = await _context.JSRequestResponseAsync<StreamMsgGetRequest, StreamMsgGetResponse>(
            $"{_context.Opts.Prefix}.STREAM.MSG.GET.{Stream}", new StreamMsgGetRequest { LastBySubj = _subjects + RunFolder.Number(shard) },
                token).ConfigureAwait(false);
        await _context.DeleteMessageAsync(Stream, new StreamMsgDeleteRequest { Seq = last.Message.Seq }, token).ConfigureAwait(false);
        return true;
    }

    private async Task<QueueState> StateAsync(CancellationToken token)
    {
        var shards = new HashSet<int>();
        // A server lists a limited number of subjects at once.
        for (int offset = 0; ;)
        {
            INatsJSStream stream = await _context.GetStreamAsync(Stream,
                new StreamInfoRequest { SubjectsFilter = _subjects + "*", Offset = offset }, token).ConfigureAwait(false);
            IDictionary<string, long>? subjects = stream.Info.State.Subjects;
            if (subjects is null || subjects.Count == 0)
                break;
            foreach (string subject in subjects.Keys)
            {
                if (int.TryParse(subject.AsSpan(subject.LastIndexOf('.') + 1), NumberStyles.None, CultureInfo.InvariantCulture,
                    out int shard) && subject == _subjects + RunFolder.Number(shard))
                    shards.Add(shard);
            }

            offset += subjects.Count;
            if (shards.Count >= (long)stream.Info.State.Messages)
                break;
        }

        ConsumerInfo info = (await _context.GetConsumerAsync(Stream, Consumer, token).ConfigureAwait(false)).Info;
        return new QueueState(shards, (long)info.NumPending, info.NumAckPending);
    }

    /// <summary>Waits for the server, and says in one sentence what went wrong with it.</summary>
    private T Do<T>(Func<CancellationToken, Task<T>> work, string complaint)
    {
        using var patience = new CancellationTokenSource(Patience);
        while (true)
        {
            try
            {
                return Task.Run(() => work(patience.Token)).GetAwaiter().GetResult();
            }
            catch (Exception e) when (e is NatsException or OperationCanceledException or TimeoutException)
            {
                // It may be starting just now.
                if (!patience.Token.WaitHandle.WaitOne(Pause))
                    continue;
                throw new QueueException($"{Url}: the queue {complaint} ({ReasonOf(e)}).", e);
            }
        }
    }
}
