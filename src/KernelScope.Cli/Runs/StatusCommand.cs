using System.CommandLine;
using KernelScope.Distributed;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary><c>status</c>: how far a run is.</summary>
internal sealed class StatusCommand : Verb
{
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(2);
    private readonly Argument<string> _run = new("RUN") { Description = "The run's folder." };
    private readonly QueueOptions _queue;
    private readonly Option<string> _what = EvaluationRuns.What("Which shards: those of the run, or of the evaluation over it that 'work " +
        "--what eval' makes. Default: rows.");
    private readonly Option<bool> _watch = new("--watch") { Description = "Show it again every two seconds until nothing is missing." };

    public StatusCommand(CommonOptions common, VerbEnvironment environment) : base(
        "status",
        "Says how far a run is, from its manifests, which are the truth: shards done, missing and failed, rows a second, and who works.\n" +
        "Exit code 1 where a shard failed for good.",
        "  kernelscope harvest --out acts --text-file demo --sites resid_post.3 --context 64\n" +
        "  kernelscope status acts",
        common,
        environment)
    {
        Arguments.Add(_run);
        Options.Add(_what);
        _queue = new QueueOptions(this);
        Options.Add(_watch);
    }

    public override CommonUse Uses => CommonUse.Json;

    protected override void CheckOptions(ParseResult parsed) => Belongs(parsed, _queue.IsGiven(parsed), "--queue", _queue.AckWait);

    protected override int Run(ParseResult parsed)
    {
        (RunFolder folder, RunPlan plan) = RunSteps.Open(parsed.GetRequiredValue(_run));
        if (parsed.GetValue(_what) == EvaluationRuns.Eval)
            (folder, plan) = EvaluationRuns.Find(folder, plan);
        using NatsRunQueue? queue = _queue.IsGiven(parsed) ? _queue.Open(parsed, plan) : null;
        while (true)
        {
            // The queue first: what is done meanwhile is then done, and not in neither.
            QueueState? queued = queue?.State();
            StatusResult result = ToResult(plan, RunStatus.Read(folder, plan), queued);
            bool ended = !parsed.GetValue(_watch) || result.Missing + result.Queued + result.Leased + result.Stuck == 0;
            if (Common.JsonOf(parsed) && ended)
                JsonOutput.Write(Streams, result);
            else if (!Common.JsonOf(parsed))
                Print(parsed, result);
            if (ended)
                return result.Failed > 0 ? ExitCode.Failed : ExitCode.Done;
            if (Cancellation.WaitHandle.WaitOne(Period))
                Cancellation.ThrowIfCancellationRequested();
        }
    }

    private static StatusResult ToResult(RunPlan plan, RunStatus status, QueueState? queue)
    {
        long left = status.Missing.Sum(n => plan.Shards[n].Rows);
        int there = queue is null ? 0 : status.Missing.Count(queue.Shards.Contains);
        int stuck = queue is { IsIdle: true } ? there : 0, leased = queue is null ? 0 : (int)Math.Min(there - stuck, queue.AckPending);
        int waiting = there - stuck - leased;
        return new StatusResult(
            plan.Id, status.Shards, status.Done.Count, leased, waiting, stuck, status.Missing.Count - there, status.Failed.Count,
                status.Rows, status.RowsPerSecond, left == 0 ? 0 : status.RowsPerSecond > 0 ? left / status.RowsPerSecond : null,
            [.. status.Hosts.Select(h => new StatusHost(h.Host, h.Device, h.Shards, h.RowsPerSecond, h.LastSeen))], status.Conflicts,
                [.. status.Failed.Select(f => new WorkFailure(f.Shard, f.Error))]);
    }

    private void Print(ParseResult parsed, StatusResult r)
    {
        string queue = _queue.IsGiven(parsed) ? $"{r.Leased} at workers, {r.Queued} queued, {r.Stuck} stuck, " : "";
        string left = r.EtaSeconds is double s and > 0 ? $", {ByteText.Of(TimeSpan.FromSeconds(s))} left" : "";
        Streams.Output.WriteLine($"run {r.Run[..12]}: {r.Done} of {r.Shards} shards done, {queue}{r.Missing} missing, {r.Failed} failed; " +
            $"{r.Rows} rows, {r.RowsPerSecond:0} a second{left}");
        foreach (StatusHost host in r.Hosts)
        {
            Streams.Output.WriteLine($"  {Printable.OneLine(host.Host)} {Printable.OneLine(host.Device)}: {host.Shards} " +
                $"shards, {host.RowsPerSecond:0} rows a second, " +
                $"last {host.LastSeen:yyyy-MM-dd HH:mm:ss}Z");
        }

        foreach (WorkFailure failure in r.Failures)
            Streams.Output.WriteLine($"  shard {failure.Shard} failed: {Printable.OneLine(failure.Error)}");
        if (r.Conflicts > 0)
            Streams.Output.WriteLine($"  {r.Conflicts} conflict{(r.Conflicts == 1 ? "" : "s")}: two workers made different bytes of one " +
                $"shard; see the folder conflicts.");
        Streams.Output.Flush();
    }
}
