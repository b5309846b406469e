using System.CommandLine;
using System.Globalization;
using KernelScope.Distributed;
using KernelScope.Hooks;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary><c>work</c>: does shards of a planned run.</summary>
internal sealed class WorkCommand : Verb
{
    private readonly Argument<string> _run = new("RUN") { Description = "The run's folder." };
    private readonly Option<int?> _shard = new("--shard") { Description = "The number of the one shard to do.", HelpName = "N" };
    private readonly Option<string?> _indexEnv = new("--index-env")
    {
        Description = "The environment variable that holds that number: SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX.",
        HelpName = "NAME",
    };
    private readonly Option<string[]> _saes = new("--sae")
    {
        Description = "Where an SAE of the run is, if it is not found by its name here; with --what eval, an SAE that is evaluated. " +
            "Repeatable.",
        HelpName = "PATH",
    };
    private readonly Option<string> _what = EvaluationRuns.What("What shards hold: the rows and codes of the plan; or eval: what each " +
        "--sae does inside the model on the shard's sequences. All of 'eval' is then 'merge --what eval'. Default: rows.");
    private readonly Option<string?> _site = new("--site")
    {
        Description = "With --what eval: where an SAE reads, if its path or cfg.json does not say so: resid_post.3.",
        HelpName = "POINT",
    };
    private readonly Option<string?> _siteOut = new("--site-out")
    {
        Description = "With --what eval: where a transcoder writes: mlp_out_post.3.",
        HelpName = "POINT",
    };
    private readonly Option<bool> _noGradients = new("--no-gradients")
    {
        Description = "With --what eval: leaves r_L0 out, which needs two backward passes.",
    };
    private readonly Option<int> _idle = new("--idle")
    {
        Description = "With --queue: seconds without a shard after which it ends; 0: never.",
        HelpName = "S",
        DefaultValueFactory = _ => 60,
    };
    private readonly QueueOptions _queue;
    private readonly Option<int> _mostShards = new("--max-shards")
    {
        Description = "Shards after which it ends.",
        HelpName = "N",
        DefaultValueFactory = _ => int.MaxValue,
    };

    public WorkCommand(CommonOptions common, VerbEnvironment environment) : base(
        "work",
        "Does shards of a run: one by its number, those that a queue hands out, or all that are missing, in order. A shard that is " +
            "there is not done again, and two workers at one shard are harmless.\n" +
        "Model, SAEs, device and precision are the plan's; --model says where the model is if it is not found by its name.\n" +
        "--what eval evaluates SAEs shard by shard; such an evaluation is a run of its own in RUN/evals, for 'status', 'plan' and 'work' " +
            "too. With --queue its missing shards are put into the queue first.\n" +
        "Exit codes: 0 done or already done, 1 a shard failed and trying again may help, 2 trying again cannot help (usage; another " +
            "model, tokens or class of device than the plan's).",
        "  kernelscope plan --out run --text-file demo --sites resid_post.3 --context 64 --shard-sequences 4\n" +
        "  kernelscope work run --shard 1\n" +
        "  seq 0 1 | xargs -P 2 -I{} kernelscope work run --shard {} --threads 1\n" +
        "  kernelscope work run\n" +
        "  kernelscope work run --what eval --sae res.3.2k.l0_19\n" +
        "  kernelscope merge run --what eval --out eval.json",
        common,
        environment)
    {
        Arguments.Add(_run);
        _shard.Validators.Add(r => Parsing.Require(r, _shard, v => v >= 0, "--shard is {0}; shards are counted from 0."));
        _mostShards.Validators.Add(r => Parsing.Require(r, _mostShards, v => v >= 1, "--max-shards is {0}; it must be 1 or more."));
        _idle.Validators.Add(r => Parsing.Require(r, _idle, v => v >= 0, "--idle is {0}; it must be 0 or more."));
        _queue = new QueueOptions(this);
        foreach (Option option in (Option[])[_idle, _shard, _indexEnv, _what, _saes, _site, _siteOut, _noGradients, _mostShards])
            Options.Add(option);
    }

    protected override void CheckOptions(ParseResult parsed)
    {
        if (parsed.GetValue(_shard) is not null && parsed.GetValue(_indexEnv) is not null)
            throw new UsageException("--shard and --index-env both name the shard; one of them does.");
        bool plansEvaluation = IsEvaluation(parsed) && parsed.GetValue(_saes) is { Length: > 0 };
        Belongs(parsed, plansEvaluation, "--what eval and --sae", _site, _siteOut, _noGradients);
        Belongs(parsed, _queue.IsGiven(parsed), "--queue", _idle, _queue.AckWait);
        Belongs(parsed, !_queue.IsGiven(parsed), "a list of shards: the queue hands them out", _shard, _indexEnv);
    }

    protected override int Run(ParseResult parsed)
    {
        (RunFolder folder, RunPlan plan) = Open(parsed);
        int? one = parsed.GetValue(_shard) ?? Index(parsed.GetValue(_indexEnv));
        if (one >= plan.Shards.Count)
            throw new UsageException($"there is no shard {one}: the run has shards 0 to {plan.Shards.Count - 1}.");
        int[] shards = one is int number ? [number] : RunSteps.Missing(folder, plan);
        // What is done needs no model. Where all seems to be, each manifest is read: it may be another run's.
        if (!_queue.IsGiven(parsed) && (one is not null || shards.Length == 0))
        {
            int[] undone = [.. (one is null ? Enumerable.Range(0, plan.Shards.Count) : shards).Where(n => !IsDone(folder, plan, n))];
            if (undone.Length == 0)
                return Print(parsed, plan, [.. shards.Select(n => new DoneShard(n, 0, plan.Shards[n].Rows, true))], [], 0);
            shards = undone;
        }

        using Workbench parts = RunParts.Open(parsed, this, plan, parsed.GetValue(_saes) ?? [], 0, Cancellation);
        using IShardMaker maker = parts.Maker(folder, plan);
        if (_queue.IsGiven(parsed) && IsEvaluation(parsed))
            Enqueue(parsed, folder, plan);
        using IShardQueue queue = _queue.IsGiven(parsed) ? _queue.OpenForWorker(parsed, plan) : new ShardList(shards);
        TimeSpan idle = !_queue.IsGiven(parsed) ? TimeSpan.Zero : parsed.GetValue(_idle) is > 0 and int seconds
            ? TimeSpan.FromSeconds(seconds) : Timeout.InfiniteTimeSpan;
        var worker = new ShardWorker(folder, plan, maker, queue);
        using (var progress = new RunProgress(Streams, RunSteps.TokensOf(plan, shards)))
            worker.Run(idle, parsed.GetValue(_mostShards), progress, Cancellation);
        int left = _queue.IsGiven(parsed) ? RunSteps.Missing(folder, plan).Length : 0;
        int code = Print(parsed, plan, worker.Done, worker.Failed, left);
        if (left == 0 || queue is not NatsShardQueue { Silence: string reason } server)
            return code;
        Failure.WriteLine(Streams.Error, $"{server.Url}: the queue does not answer ({Printable.Escape(reason)}); {left} of " +
            $"{plan.Shards.Count} shards are missing.");
        return code == ExitCode.Done ? ExitCode.Failed : code;
    }

    /// <summary>Whether a shard is there, with files of the lengths that its manifest names.</summary>
    /// <exception cref="UsageException">The manifest is malformed or belongs to another run: trying again cannot help.</exception>
    private static bool IsDone(RunFolder folder, RunPlan plan, int shard)
    {
        try
        {
            return ShardManifest.Find(folder, plan, shard) is not null;
        }
        catch (InvalidDataException e)
        {
            throw new UsageException(e.Message);
        }
    }

    /// <summary>A run that cannot be read cannot be worked on, however often it is tried.</summary>
    private (RunFolder Folder, RunPlan Plan) Open(ParseResult parsed)
    {
        try
        {
            (RunFolder folder, RunPlan plan) = RunSteps.Open(parsed.GetRequiredValue(_run));
            if (!IsEvaluation(parsed))
                return (folder, plan);
            return parsed.GetValue(_saes) is { Length: > 0 } saes ? EvaluationRuns.Plan(parsed, this, folder, plan, saes,
                Point(parsed, _site), Point(parsed, _siteOut), !parsed.GetValue(_noGradients)) : EvaluationRuns.Find(folder, plan);
        }
        catch (InvalidDataException e)
        {
            throw new UsageException(e.Message);
        }
    }

    private bool IsEvaluation(ParseResult parsed) => parsed.GetValue(_what) == EvaluationRuns.Eval;

    private static HookPoint? Point(ParseResult parsed, Option<string?> option) => parsed.GetValue(option) is string text
        ? Parsing.Point(text, option.Name) : null;

    /// <summary>What is queued already stays as it is.</summary>
    private void Enqueue(ParseResult parsed, RunFolder folder, RunPlan plan)
    {
        using NatsRunQueue server = _queue.Open(parsed, plan);
        server.Enqueue(RunSteps.Missing(folder, plan));
    }

    private static int? Index(string? variable)
    {
        if (variable is null)
            return null;
        string? text = Environment.GetEnvironmentVariable(variable);
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int index) ? index
            : throw new UsageException($"--index-env: the variable {Printable.Escape(variable)} " +
                $"{(text is null ? "is not set" : $"is '{Printable.Escape(text)}'")}; the number of a shard was expected.");
    }

    private int Print(ParseResult parsed, RunPlan plan, List<DoneShard> done, List<FailedShard> failed, int left)
    {
        int code = RunSteps.Report(Streams, failed);
        if (Common.JsonOf(parsed))
        {
            JsonOutput.Write(Streams, new WorkResult(plan.Id, WorkerName.Own,
                [.. done.Select(d => new WorkDone(d.Shard, d.Seconds, d.Rows, d.Reused))],
                [.. failed.Select(f => new WorkFailure(f.Shard, f.Error))]));
            return code;
        }

        foreach (DoneShard shard in done)
        {
            string how = shard.Reused ? ", there already" : $" in {shard.Seconds:0.0} s";
            Streams.Output.WriteLine($"shard {shard.Shard}: {shard.Rows} rows{how}");
        }

        if (done.Count == 0 && failed.Count == 0)
            Streams.Output.WriteLine(left == 0 ? "Nothing is missing." : $"The queue handed out nothing, and {left} of " +
                $"{plan.Shards.Count} shards are missing: 'status' says where they are.");
        return code;
    }
}
