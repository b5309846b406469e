using System.CommandLine;
using KernelScope.Distributed;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary><c>plan</c>: writes run.json and the tokens, and says what is missing.</summary>
internal sealed class PlanCommand : Verb
{
    private readonly Argument<string?> _run = new("RUN")
    {
        Description = "A run that is planned already (its folder or run.json).",
        Arity = ArgumentArity.ZeroOrOne
    };
    private readonly Option<string?> _out = new("--out") { Description = "Folder of a new run.", HelpName = "RUN" };
    private readonly Option<bool> _verify = new("--verify")
    {
        Description = "Read every byte of every shard that is done; a damaged one is taken back, so that it is missing again.",
    };
    private readonly Option<bool> _requeue = new("--requeue")
    {
        Description = "With --queue, once it is idle: also shards that were handed out too often and are stuck in it.",
    };
    private readonly QueueOptions _queue;
    private readonly PlanOptions _plan;

    public PlanCommand(CommonOptions common, VerbEnvironment environment) : base(
        "plan",
        "Writes the plan of a run, run.json, and its tokens, for any number of 'work' on any number of machines that share the folder; " +
            "or says what is missing of a run.\n" +
        "It may be killed and run again at any time. Unfinished files of dead workers are removed.",
        "  kernelscope plan --out run --text-file demo --sites resid_post.3 --context 64 --shard-sequences 4\n" +
        "  kernelscope plan run",
        common,
        environment)
    {
        Arguments.Add(_run);
        Options.Add(_out);
        _plan = new PlanOptions(this);
        Options.Add(_verify);
        _queue = new QueueOptions(this);
        Options.Add(_requeue);
    }

    protected override void CheckOptions(ParseResult parsed)
    {
        bool isNew = parsed.GetValue(_out) is not null;
        Belongs(parsed, _queue.IsGiven(parsed), "--queue", _requeue, _queue.AckWait);
        Belongs(parsed, isNew, "--out: the plan is made already", _plan.All);
    }

    protected override int Run(ParseResult parsed)
    {
        bool isNew = parsed.GetValue(_out) is not null;
        if (isNew == parsed.GetValue(_run) is not null)
            throw new UsageException(isNew ? "RUN and --out were both given: a run that is there, or a new one?"
                : "the run is missing: RUN, or --out RUN with the options of harvest for a new one.");
        double? secondsPerToken = null;
        RunFolder folder;
        RunPlan plan;
        if (parsed.GetValue(_out) is string path)
            (folder, plan, secondsPerToken) = Make(parsed, path);
        else
            (folder, plan) = RunSteps.Open(parsed.GetValue(_run)!);
        int removed = WorkerName.Sweep(folder.Path);
        foreach (int shard in parsed.GetValue(_verify) ? folder.ShardsWithManifest().Where(n => n < plan.Shards.Count).ToArray() : [])
        {
            IReadOnlyList<string> damaged = RunRepair.Discard(folder, plan, shard, verify: true, Cancellation);
            if (damaged.Count > 0)
                Failure.WriteLine(Streams.Error, $"shard {shard} is damaged and missing again: {string.Join(", ", damaged)}.");
        }

        var status = RunStatus.Read(folder, plan);
        int[] missing = [.. status.Missing, .. status.Failed.Select(f => f.Shard)];
        long tokens = RunSteps.TokensOf(plan, missing);
        double? estimate = missing.Length == 0 ? 0 : secondsPerToken * tokens
            ?? (status.RowsPerSecond > 0 ? missing.Sum(n => plan.Shards[n].Rows) / status.RowsPerSecond : null);
        int queued = _queue.IsGiven(parsed) ? Enqueue(parsed, plan, missing) : 0;
        var result = new PlanResult(plan.Id, plan.Shards.Count, status.Done.Count, status.Missing.Count, queued, status.Failed.Count,
            RunSteps.MissingBytes(plan, missing), estimate, removed);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            Streams.Output.WriteLine($"{Printable.Escape(folder.Path)}: run {plan.Id[..12]}, {result.Shards} shards, {result.Done} " +
                $"done, {result.Missing} missing, {result.Failed} " +
                $"failed{(_queue.IsGiven(parsed) ? $", {queued} put into the queue" : "")}; {ByteText.Of(result.Bytes)} to " +
                $"write{(estimate is double s and > 0 ? $", about {ByteText.Of(TimeSpan.FromSeconds(s))} on one worker" : "")}.");
        return ExitCode.Done;
    }

    private int Enqueue(ParseResult parsed, RunPlan plan, int[] missing)
    {
        using NatsRunQueue queue = _queue.Open(parsed, plan);
        return parsed.GetValue(_requeue) ? queue.Requeue(missing) : queue.Enqueue(missing);
    }

    private (RunFolder Folder, RunPlan Plan, double? SecondsPerToken) Make(ParseResult parsed, string path)
    {
        if (path.Length == 0)
            throw new UsageException("--out is empty; it needs a folder.");
        var folder = new RunFolder(path);
        using Workbench parts = RunParts.Open(parsed, this, _plan, 0);
        _plan.Points(parsed, parts.Files);
        parts.LoadWeights();
        string precision = Common.PrecisionOf(parsed) == Devices.Precision.Fast ? "fast" : "exact";
        PlanRequest request = _plan.Request(parsed, parts.Files, parts.SaeRecords(), parts.ModelRecord(), precision,
            parts.DeviceClass());
        RunPlan plan = RunPlanner.Plan(request, Cancellation);
        RunPlanner.RequireOwn(folder, plan);
        using ShardHarvest harvest = parts.Harvest(folder, plan);
        double seconds = RunParts.SecondsPerToken(harvest, RunSteps.FirstSequence(request), Cancellation);
        RunSteps.Say(Streams, plan, plan.Shards.Count, RunPlanner.BytesOf(plan), seconds * plan.TokenCount);
        RunPlanner.Write(folder, request, plan, Cancellation);
        return (folder, plan, seconds);
    }
}
