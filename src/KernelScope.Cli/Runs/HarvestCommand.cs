using System.CommandLine;
using System.Diagnostics;
using KernelScope.Distributed;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary><c>harvest</c>: activations and codes of a corpus, on disk: a plan, and workers in this process.</summary>
internal sealed class HarvestCommand : Verb
{
    private readonly Option<string> _out = new("--out")
    {
        Description = "Folder of the run. The same command goes on with a run that was interrupted.",
        HelpName = "RUN",
        Required = true,
    };
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "Say what it would take, and write nothing." };
    private readonly Option<int> _workers = new("--workers")
    {
        Description = "Workers in this process, which share the threads: for the cpu.",
        HelpName = "N",
        DefaultValueFactory = _ => 1,
    };
    private readonly PlanOptions _plan;
    private readonly QueueOptions _queue;

    public HarvestCommand(CommonOptions common, VerbEnvironment environment) : base(
        "harvest",
        "Writes activations at any sites, and codes of SAEs, for a corpus: one forward pass over each sequence, as safetensors shards " +
            "with sequence, position and token beside each row.\n" +
        "Bytes and time are said before anything is written. A run that is interrupted goes on where it was; rows are those of 'run " +
            "--capture', bit for bit.",
        "  kernelscope harvest --out acts --text-file demo --sites resid_post.3,mlp_out_post.* --context 64\n" +
        "  kernelscope harvest --out codes --jsonl demo --codes-only --sae res.3.2k.l0_19 --documents separate",
        common,
        environment)
    {
        Options.Add(_out);
        _plan = new PlanOptions(this);
        _workers.Validators.Add(r => Parsing.Require(r, _workers, v => v is >= 1 and <= 1024, "--workers is {0}; it must be 1 to 1024."));
        Options.Add(_workers);
        Options.Add(_dryRun);
        _queue = new QueueOptions(this);
    }

    protected override void CheckOptions(ParseResult parsed) => Belongs(parsed, _queue.IsGiven(parsed), "--queue", _queue.AckWait);

    protected override int Run(ParseResult parsed)
    {
        var folder = new RunFolder(parsed.GetRequiredValue(_out));
        if (folder.Path.Length == 0)
            throw new UsageException("--out is empty; it needs a folder.");
        int workers = parsed.GetValue(_workers);
        if (workers > 1 && Common.DeviceOf(parsed) is not ("auto" or "cpu"))
            throw new UsageException("--workers is for the cpu; on other devices run a 'work' for each.");
        long start = Stopwatch.GetTimestamp();
        int threads = Common.ThreadCountOf(parsed);
        int each = workers == 1 ? Common.ThreadsOf(parsed) : Math.Max(1, threads / workers);
        using Workbench parts = RunParts.Open(parsed, this, _plan, workers == 1 ? 0 : each);
        // What is named and cannot be is said before the model is loaded.
        _plan.Points(parsed, parts.Files);
        parts.LoadWeights();
        PlanRequest request = _plan.Request(parsed, parts.Files, parts.SaeRecords(), parts.ModelRecord(),
            NameOf(parsed), parts.DeviceClass());
        RunPlan plan;
        using (var counting = new Progress(Streams, "Counting the corpus"))
            plan = RunPlanner.Plan(request, Cancellation);
        RunPlanner.RequireOwn(folder, plan);
        int[] missing = RunSteps.Missing(folder, plan);
        long bytes = RunSteps.MissingBytes(plan, missing), tokens = RunSteps.TokensOf(plan, missing);
        using ShardHarvest harvest = parts.Harvest(folder, plan);
        double seconds = RunParts.SecondsPerToken(harvest, RunSteps.FirstSequence(request), Cancellation) * tokens;
        RunSteps.Say(Streams, plan, missing.Length, bytes, seconds);
        if (parsed.GetValue(_dryRun))
            return Print(parsed, new HarvestResult(plan.Id, folder.Path, plan.Shards.Count, plan.Shards.Count - missing.Length, plan.Rows,
                RunPlanner.BytesOf(plan), 0, 0, [.. plan.Sites.Select(s => new HarvestedSite(s.Name, plan.Rows, null))],
                [])
            { EstimateSeconds = seconds }, ExitCode.Done);
        RunSteps.RequireRoom(folder.Path, bytes);
        RunPlanner.Write(folder, request, plan, Cancellation);
        WorkerName.Sweep(folder.Path);
        (List<DoneShard> done, List<FailedShard> failed) = Work(parsed, folder, plan, harvest, tokens, workers, each);
        int code = RunSteps.Report(Streams, failed);
        double elapsed = Stopwatch.GetElapsedTime(start).TotalSeconds;
        long rows = done.Where(d => !d.Reused).Sum(d => d.Rows);
        int finished = plan.Shards.Count - RunSteps.Missing(folder, plan).Length;
        var result = new HarvestResult(
            plan.Id, folder.Path, plan.Shards.Count, finished, plan.Rows, RunSteps.BytesOf(folder.Path), elapsed,
                rows / Math.Max(1e-3, done.Sum(d => d.Reused ? 0 : d.Seconds)), RunSteps.SitesOf(folder, plan),
            [.. failed.Select(f => new WorkFailure(f.Shard, f.Error))])
        { EstimateSeconds = seconds };
        return Print(parsed, result, code == ExitCode.Done ? code : ExitCode.Failed);
    }

    private (List<DoneShard> Done, List<FailedShard> Failed) Work(ParseResult parsed, RunFolder folder, RunPlan plan, ShardHarvest own,
        long tokens, int workers, int threads)
    {
        if (_queue.IsGiven(parsed))
        {
            using NatsRunQueue server = _queue.Open(parsed, plan);
            server.Enqueue(RunSteps.Missing(folder, plan));
        }

        workers = Math.Min(workers, plan.Shards.Count);
        using var list = new ShardList(Enumerable.Range(0, plan.Shards.Count));
        TimeSpan idle = _queue.IsGiven(parsed) ? TimeSpan.FromSeconds(2) : TimeSpan.Zero;
        using var progress = new RunProgress(Streams, tokens);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        var results = new (List<DoneShard> Done, List<FailedShard> Failed)[workers];
        // One that fails as a whole ends the others, too: its error is the one to see.
        var tasks = Enumerable.Range(0, workers).Select(w => Task.Factory.StartNew(() =>
        {
            try
            {
                using Workbench? parts = w == 0 ? null : RunParts.Open(parsed, this, plan, _plan.SaesOf(parsed), threads, stop.Token);
                using ShardHarvest? harvest = parts?.Harvest(folder, plan);
                using IShardQueue queue = _queue.IsGiven(parsed) ? _queue.OpenForWorker(parsed, plan) : list;
                var worker = new ShardWorker(folder, plan, harvest ?? own, queue);
                worker.Run(idle, int.MaxValue, progress, stop.Token);
                results[w] = (worker.Done, worker.Failed);
            }
            catch
            {
                stop.Cancel();
                throw;
            }
        }, stop.Token, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();
        try
        {
            Task.WaitAll(tasks, CancellationToken.None);
        }
        catch (AggregateException e)
        {
            Cancellation.ThrowIfCancellationRequested();
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(e.Flatten().InnerExceptions.FirstOrDefault(x =>
                x is not OperationCanceledException) ?? e.InnerExceptions[0]);
        }

        return ([.. results.SelectMany(r => r.Done)], [.. results.SelectMany(r => r.Failed)]);
    }

    private string NameOf(ParseResult parsed) => Common.PrecisionOf(parsed) == Devices.Precision.Fast ? "fast" : "exact";

    private int Print(ParseResult parsed, HarvestResult result, int code)
    {
        if (Common.JsonOf(parsed))
        {
            JsonOutput.Write(Streams, result);
            return code;
        }

        Streams.Output.WriteLine($"{Printable.Escape(result.Folder)}: {result.Done} of {result.Shards} shards, {result.Rows} rows, " +
            $"{ByteText.Of(result.Bytes)}{(result.Seconds > 0 ? $", {ByteText.Of(TimeSpan.FromSeconds(result.Seconds))}" : "")}");
        foreach (HarvestedSite site in result.Sites)
        {
            string norm = site.MeanSquaredNorm is double mean ? $", mean of ||x||² {mean:G6}" : "";
            Streams.Output.WriteLine($"  {site.Site,-20} {site.Rows} rows{norm}");
        }

        return code;
    }
}
