using System.CommandLine;
using KernelScope.Distributed;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary>A queue that hands out shards.</summary>
internal sealed class QueueOptions
{
    private readonly Option<string?> _queue = new("--queue")
    {
        Description = "A NATS server with JetStream that hands out shards: nats://HOST:4222. The truth stays in the folder.",
        HelpName = "URL",
    };
    private readonly Option<double> _ackWait = new("--ack-wait")
    {
        Description = "Seconds after which the shard of a worker that says nothing is handed to another.",
        HelpName = "S",
        DefaultValueFactory = _ => 60,
    };

    public QueueOptions(Command verb)
    {
        _ackWait.Validators.Add(r => Parsing.Require(r, _ackWait, v => v is >= 1 and <= 86400,
            "--ack-wait is {0}; it must be 1 to 86400 seconds."));
        verb.Options.Add(_queue);
        verb.Options.Add(_ackWait);
    }

    /// <summary>What belongs to a queue.</summary>
    public Option AckWait => _ackWait;

    /// <summary>Whether there is one.</summary>
    public bool IsGiven(ParseResult parsed) => parsed.GetValue(_queue) is not null;

    /// <summary>Opens it, where it must be there.</summary>
    /// <exception cref="QueueException">It is not.</exception>
    public NatsRunQueue Open(ParseResult parsed, RunPlan plan) => Open(parsed, plan.Id);

    /// <summary>The same for a run or a suite by its id.</summary>
    /// <exception cref="QueueException">It is not there.</exception>
    public NatsRunQueue Open(ParseResult parsed, string id) =>
        NatsRunQueue.Open(Url(parsed), id, TimeSpan.FromSeconds(parsed.GetValue(_ackWait)));

    /// <summary>Opens it for a worker, who waits for it.</summary>
    public NatsShardQueue OpenForWorker(ParseResult parsed, RunPlan plan) =>
        new(NatsRunQueue.OpenLater(Url(parsed), plan.Id, TimeSpan.FromSeconds(parsed.GetValue(_ackWait))), plan.Shards.Count);

    private string Url(ParseResult parsed)
    {
        string url = parsed.GetValue(_queue)!;
        if (!url.Contains("://", StringComparison.Ordinal))
            url = $"nats://{url}";
        return Uri.TryCreate(url, UriKind.Absolute, out Uri? uri) && uri.Scheme is "nats" or "tls" or "ws" or "wss" && uri.Host.Length > 0
            ? url : throw new UsageException($"--queue needs the address of a NATS server such as nats://localhost:4222; this is " +
                $"'{Printable.Escape(NatsRunQueue.WithoutSecrets(url))}'.");
    }
}
