using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Distributed;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Training;
using KernelScope.Training.Runs;
using KernelScope.Training.Suites;

namespace KernelScope.Cli;

/// <summary><c>suite</c>: every site × layer × width × sparsity × seed of a file, trained on one run and compared.</summary>
internal sealed class SuiteCommand : Verb
{
    private static readonly TimeSpan Idle = TimeSpan.FromSeconds(5);

    private readonly Argument<string> _suite = new("SUITE.json")
    {
        Description = "What is trained: sites, layers, widths, sparsities, " +
        "seeds, steps, options."
    };
    private readonly Option<string> _from = new("--from")
    {
        Description = "The folder of the run that all learn from.",
        HelpName = "RUN",
        Required = true
    };
    private readonly Option<string?> _out = new("--out")
    {
        Description = "The folder of the suite. Default: suites/ and the suite's " +
        "id, in the run.",
        HelpName = "DIR"
    };
    private readonly Option<string?> _report = new("--report")
    {
        Description = "Where the report goes: one HTML file that needs " +
        "nothing else; the same table as .json and .csv beside it.",
        HelpName = "F.html"
    };
    private readonly Option<bool> _reportOnly = new("--report-only")
    {
        Description = "Train nothing: say what is there, also while " +
        "others work at the suite."
    };
    private readonly Option<bool> _noModel = new("--no-model")
    {
        Description = "Leave out what needs the model: delta loss, by " +
        "position, firing, uniformity."
    };
    private readonly Option<string> _pilot = new("--pilot")
    {
        Description = "on: where the file names no sparsities, short trainings scale the default ones so that they bracket L0 20 to " +
            "300. Default: on.",
        HelpName = "on|off",
        DefaultValueFactory = _ => "on",
    };
    private readonly Option<int> _workers = new("--workers")
    {
        Description = "SAEs that are trained at once in this process, which share the threads: for the cpu.",
        HelpName = "N",
        DefaultValueFactory = _ => 1,
    };
    private readonly Option<int> _together = new("--together")
    {
        Description = "SAEs of one site, by sparsity, width or k, that learn from each batch one after the other: rows are read once for " +
            "all, and are in memory once. Each has the bytes that it has alone. Default: 1.",
        HelpName = "N",
        DefaultValueFactory = _ => 1,
    };
    private readonly Option<long> _checkpointEvery = TrainCommand.Number("--checkpoint-every", 1000, "Steps between two checkpoints.");
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "Say what it would take, and write nothing." };
    private readonly QueueOptions _queue;

    public SuiteCommand(CommonOptions common, VerbEnvironment environment) : base(
        "suite",
        "Trains SAEs and transcoders for every site, layer, width, sparsity and seed of a file on one run, measures each inside the " +
            "model on sequences that none was trained on, and compares them in one report.\n" +
        "The same command goes on with a suite that was interrupted at any moment. With --queue any number of machines that see the " +
            "run's folder share the work: each runs this command.\n" +
        "The file: {\"sites\": [\"resid_post\", {\"site\": \"mlp_in_unit\", \"site_out\": \"mlp_out_post\"}], \"layers\": \"all\", " +
            "\"widths\": [1024], \"sparsities\": [0.001], \"seeds\": [0], \"steps\": 5000, \"options\": {\"batch\": 2048, \"lr\": " +
            "0.001}}; " +
            "the options are those of 'train', with _ for -. \"target_l0s\": [20, 40] in place of sparsities steers each SAE to an L0; " +
            "without either a pilot finds sparsities.",
        "  kernelscope harvest --out acts --text-file demo --sites resid_post.3 --context 64\n" +
        "  echo '{\"sites\": [\"resid_post\"], \"layers\": [3], \"widths\": [256], \"sparsities\": [0.002, 0.008], \"steps\": 60, " +
            "\"options\": {\"batch\": 128, \"lr\": 0.002, \"lr_warm_up\": 10, \"sparsity_warm_up\": 20, \"bandwidth\": 0.05, " +
            "\"theta\": 0.05, " +
            "\"validation\": 0.3}}' > suite.json\n" +
        "  kernelscope suite suite.json --from acts --dry-run\n" +
        "  kernelscope suite suite.json --from acts --report report.html",
        common,
        environment)
    {
        Arguments.Add(_suite);
        foreach (Option option in (ReadOnlySpan<Option>)[_from, _out, _report, _reportOnly, _noModel, _pilot, _workers,
            _together, _checkpointEvery, _dryRun])
            Options.Add(option);
        _queue = new QueueOptions(this);
        _pilot.CompletionSources.Add("on", "off");
        _pilot.Validators.Add(r => Parsing.Require(r, _pilot, v => v is "on" or "off", "--pilot is '{0}'; it is on or off."));
        _workers.Validators.Add(r => Parsing.Require(r, _workers, v => v is >= 1 and <= 1024, "--workers is {0}; it must be 1 to 1024."));
        _together.Validators.Add(r => Parsing.Require(r, _together, v => v is >= 1 and <= 1024,
            "--together is {0}; it must be 1 to 1024."));
        _checkpointEvery.Validators.Add(r => Parsing.Require(r, _checkpointEvery, v => v > 0,
            "--checkpoint-every is {0}; it must be 1 or more."));
    }

    /// <summary>Training is exact.</summary>
    public override CommonUse Uses => CommonUse.Json | CommonUse.Model | CommonUse.Device | CommonUse.Threads;

    protected override void CheckOptions(ParseResult parsed)
    {
        Belongs(parsed, _queue.IsGiven(parsed), "--queue", _queue.AckWait);
        Belongs(parsed, !parsed.GetValue(_reportOnly), "work, and --report-only does none", _dryRun, _workers, _together, _checkpointEvery,
            _noModel);
        if (parsed.GetValue(_reportOnly) && _queue.IsGiven(parsed))
            throw new UsageException("--queue does nothing with --report-only: what is there is in the folder.");
        if (parsed.GetValue(_workers) > 1 && Common.DeviceOf(parsed) is not ("auto" or "cpu"))
            throw new UsageException("--workers is for the cpu; on other devices run a 'suite' with --queue for each.");
    }

    protected override int Run(ParseResult parsed)
    {
        string from = parsed.GetRequiredValue(_from), file = parsed.GetRequiredValue(_suite);
        (RunFolder run, RunPlan runPlan) = RunSteps.Open(from);
        CheckReport(parsed.GetValue(_report), file, run);
        RunSteps.RequireApart(run, ("--out", parsed.GetValue(_out)));
        var plan = SuitePlan.Read(file, runPlan, parsed.GetValue(_pilot) == "on");
        var folder = new SuiteFolder(parsed.GetValue(_out) ?? Path.Combine(run.Path, "suites", plan.Id[..12]));
        bool measures = !parsed.GetValue(_noModel);
        SuiteResult?[] results = Results(plan, folder);
        int[] missing = Missing(results, measures);
        double? seconds = null;
        IReadOnlyList<FailedItem> failed = [];
        if (!parsed.GetValue(_reportOnly) && missing.Length > 0)
        {
            using Workbench bench = Open(parsed);
            int workers = Math.Min(parsed.GetValue(_workers), missing.Length);
            // As they train: each on its part of the threads.
            using (CpuDevice? own = workers == 1 ? null : new CpuDevice(Math.Max(1, Common.ThreadCountOf(parsed) / workers),
                Precision.Exact))
                seconds = Estimate(plan, Missing(results, measures: false), run, own ?? bench.Device) / workers;
            long bytes = BytesOf(plan, missing, runPlan, parsed.GetValue(_workers));
            Streams.Error.WriteLine(FormattableString.Invariant(
                $"Suite {plan.Id[..12]}: {plan.Items.Count} SAEs, {missing.Length} of them missing."));
            string most = plan.Items.All(i => i.Options.TargetL0 > 0) ? "" : "at most ";
            string time = seconds is double s ? $"takes {most}about {ByteText.Of(TimeSpan.FromSeconds(s))} here"
                : "of the first of them fails at once, so nothing is known of its time here";
            Streams.Error.WriteLine($"Training {time}{(plan.Items.Any(i => i.NeedsPilot) ? ", pilots apart" : "")}, and " +
                $"{ByteText.Of(bytes)} on disk.");
            Streams.Error.WriteLine(Memory(plan, missing, runPlan, parsed.GetValue(_workers), parsed.GetValue(_together)));
            if (!parsed.GetValue(_dryRun))
            {
                RunSteps.RequireRoom(folder.Path, bytes);
                failed = Work(parsed, plan, folder, run, bench, missing);
                results = Results(plan, folder);
            }
        }

        string[] states = [.. plan.Items.Select((item, i) => results[i] is not null ? "done" : File.Exists(folder.Failure(item)) ? "failed"
            : "missing")];
        string[] written = parsed.GetValue(_report) is string report ? new SuiteReport(plan, results, states).Write(report) : [];
        Written.Say(Streams, written);
        Print(parsed, plan, folder, results, states, seconds);
        foreach (FailedItem item in failed)
            Failure.WriteLine(Streams.Error, $"{item.Item.Name}: {item.Error}");
        return parsed.GetValue(_dryRun) || parsed.GetValue(_reportOnly) || states.All(s => s == "done") ? ExitCode.Done : ExitCode.Failed;
    }

    /// <summary>Refuses a report that would destroy an input, or its own tables, or that cannot be written.</summary>
    private static void CheckReport(string? report, string suite, RunFolder run)
    {
        if (report is null)
            return;
        string[] all = SuiteReport.FilesOf(report);
        if (all.Distinct(StringComparer.OrdinalIgnoreCase).Count() < all.Length)
            throw new UsageException("--report is the HTML file; its tables go beside it as .json and .csv, so it must end otherwise.");
        (string, string?)[] outputs = [.. all.Select(path => ("--report", (string?)path))];
        OutputPlaces.Require(outputs, suite);
        RunSteps.RequireApart(run, outputs);
        // Whether the files can be written is known now, not after all is trained.
        foreach (string path in all)
            AtomicFile.Create(path).Dispose();
    }

    /// <summary>What is there of each item.</summary>
    private static SuiteResult?[] Results(SuitePlan plan, SuiteFolder folder) => [.. plan.Items.Select(i => SuiteResult.Find(folder, i))];

    /// <summary>Items that are not done.</summary>
    /// <param name="results">What is there of each.</param>
    /// <param name="measures">Whether an item is done only when the model has measured its loss.</param>
    private static int[] Missing(SuiteResult?[] results, bool measures) => [.. Enumerable.Range(0, results.Length)
        .Where(i => results[i] is not SuiteResult found || (measures && found.Fidelity is null))];

    private Workbench Open(ParseResult parsed)
    {
        var bench = Workbench.WithoutModel(parsed, this);
        (bench.DeviceName, bench.Precision) = (bench.DeviceName == "auto" ? "cpu" : bench.DeviceName, Precision.Exact);
        bench.OpenDevice();
        return bench;
    }

    private IReadOnlyList<FailedItem> Work(ParseResult parsed, SuitePlan plan, SuiteFolder folder, RunFolder run, Workbench bench,
        int[] missing)
    {
        Gemma2Model? model = null;
        if (!parsed.GetValue(_noModel))
        {
            bench.Add(OpenModel(parsed, plan.Run));
            bench.Panels = RunIdentity.IsPacked(plan.Run.DeviceClass) ? PanelUse.Exact : PanelUse.None;
            bench.LoadWeights();
            model = bench.Model;
        }

        var worker = new SuiteWorker(folder, plan, run, model, parsed.GetValue(_checkpointEvery), parsed.GetValue(_together));
        int count = parsed.GetValue(_workers), threads = Math.Max(1, Common.ThreadCountOf(parsed) / count);
        NatsRunQueue? server = _queue.IsGiven(parsed) ? _queue.Open(parsed, plan.Id) : null;
        server?.Enqueue(missing);
        using IShardQueue queue = server is null ? new ItemList(missing) : new NatsShardQueue(server, plan.Items.Count);
        using var progress = new SuiteView(Streams, missing.Length);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        // One that fails as a whole ends the others, too: its error is the one to see.
        Task[] tasks = [.. Enumerable.Range(0, count).Select(w => Task.Factory.StartNew(() =>
        {
            try
            {
                using CpuDevice? own = count == 1 ? null : new CpuDevice(threads, Precision.Exact);
                while (true)
                {
                    worker.Run(queue, own ?? bench.Device, server is null ? TimeSpan.Zero : Idle, progress, stop.Token);
                    int[] left = server is null ? [] : Left(plan, folder, worker, model is not null);
                    if (left.Length == 0)
                        return;
                    // What used up its deliveries is handed out again; what others work at is waited for.
                    if (server!.State().IsIdle)
                        server.Requeue(left);
                }
            }
            catch
            {
                stop.Cancel();
                throw;
            }
        }, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default))];
        WaitFor(tasks);
        Cancellation.ThrowIfCancellationRequested();
        return [.. worker.Failed];
    }

    /// <summary>What a queue still has to do: whatever failed is left out.</summary>
    private static int[] Left(SuitePlan plan, SuiteFolder folder, SuiteWorker worker, bool measures)
    {
        HashSet<SuiteItem> failed = [.. worker.Failed.Select(f => f.Item)];
        return [.. Missing(Results(plan, folder), measures)
            .Where(i => !failed.Contains(plan.Items[i]) && !File.Exists(folder.Failure(plan.Items[i])))];
    }

    private static void WaitFor(Task[] tasks)
    {
        try
        {
            Task.WaitAll(tasks);
        }
        catch (AggregateException e)
        {
            IReadOnlyCollection<Exception> all = e.Flatten().InnerExceptions;
            Exception first = all.FirstOrDefault(i => i is not OperationCanceledException) ?? all.First();
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(first);
        }
    }

    private ModelFiles OpenModel(ParseResult parsed, RunPlan run)
    {
        try
        {
            return RunParts.OpenFiles(Common.HasModel(parsed) ? Common.ModelOf(parsed) : null, run, Common.NoMapOf(parsed), Cancellation);
        }
        catch (UsageException e) when (!Common.HasModel(parsed))
        {
            throw new UsageException($"{e.Message.TrimEnd('.')}; --model DIR says where it is, and --no-model does without.");
        }
    }

    /// <summary>Seconds of training, from steps of the first missing item: at the beginning, when all fires, and with thresholds that
    /// nothing reaches. Between the two an item is where its target L0 is; without one it takes at most the first.</summary>
    /// <returns>Null if that item cannot be trained, which its turn will say.</returns>
    private double? Estimate(SuitePlan plan, int[] missing, RunFolder run, Device device)
    {
        if (missing.Length == 0)
            return 0;
        SuiteItem first = plan.Items[missing[0]];
        try
        {
            (double most, double l0) = Step(first, first.Options, run, device);
            double least = Math.Min(most, Step(first, first.Options with { Threshold = 1e6 }, run, device).Seconds);
            double unit = Products(first, plan.Run);
            return missing.Select(i => plan.Items[i]).Sum(item => item.Options.Steps * (Products(item, plan.Run) / unit) * (least
                + ((most - least) * (item.Options.TargetL0 > 0 ? Math.Min(1, item.Options.TargetL0 / l0) : 1))));
        }
        catch (TrainingException)
        {
            return null;
        }
    }

    /// <summary>Seconds of one of an item's first steps, and its L0.</summary>
    private (double Seconds, double L0) Step(SuiteItem item, TrainingOptions options, RunFolder run, Device device)
    {
        using var rows = RunRows.Open(run.Path, item.Site, item.SiteOut, new RunRowsOptions
        {
            Seed = 0,
            BucketRows = options.Batch,
            Validation = item.Rows.Validation,
            Trust = true
        });
        using var trainer = new SaeTrainer(device, rows, options);
        var seconds = new List<double>();
        // The first one is the compiler's too; short ones differ from each other.
        while (trainer.Step < options.Steps && (seconds.Count < 2 || (seconds.Count < 10 && seconds.Sum() < 1)))
        {
            long start = Stopwatch.GetTimestamp();
            trainer.Advance();
            seconds.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
            Cancellation.ThrowIfCancellationRequested();
        }

        double[] later = [.. seconds.Skip(seconds.Count > 1 ? 1 : 0).Order()];
        return (later[later.Length / 2], trainer.Interval.L0);
    }

    /// <summary>Multiplications of a step, up to a factor.</summary>
    private static double Products(SuiteItem item, RunPlan run) =>
        (double)item.Options.Batch * item.Options.Width * (WidthOf(run, item.Site) + WidthOf(run, item.SiteOut ?? item.Site));

    private static int WidthOf(RunPlan run, Hooks.HookPoint point) => run.Sites.First(s => s.Point == point).Width;

    /// <summary>Two exports of each, and three checkpoints of those that are trained at once.</summary>
    private static long BytesOf(SuitePlan plan, int[] missing, RunPlan run, int workers)
    {
        long[] each = [.. missing.Select(i => plan.Items[i]).Select(item => SaeTrainer.ParameterBytes(item.Options, WidthOf(run, item.Site),
            item.SiteOut is Hooks.HookPoint target ? WidthOf(run, target) : null))];
        return each.Sum() + (3 * workers * each.Max());
    }

    /// <summary>What the largest trainings that run at once take: parameters and a batch of each, and the rows that are mixed.</summary>
    private static string Memory(SuitePlan plan, int[] missing, RunPlan run, int workers, int together)
    {
        long Of(SuiteItem item)
        {
            int width = WidthOf(run, item.Site);
            int? target = item.SiteOut is Hooks.HookPoint siteOut ? WidthOf(run, siteOut) : null;
            return SaeTrainer.ParameterBytes(item.Options, width, target) + SaeTrainer.BatchBytes(item.Options, width, target);
        }

        long Rows(SuiteItem item) => Math.Min(item.Rows.BucketRows, run.Rows) * run.RowType.ByteSize()
            * (WidthOf(run, item.Site) + (item.SiteOut is Hooks.HookPoint siteOut ? WidthOf(run, siteOut) : 0L));

        SuiteItem[] items = [.. missing.Select(i => plan.Items[i])];
        long trained = items.Max(item => items.Where(item.SharesRows).Select(Of).OrderDescending().Take(together).Sum()),
            rows = items.Max(Rows);
        return $"Memory: {ByteText.Of(workers * trained)} for parameters, their second moments and batches, and " +
            $"{ByteText.Of(workers * rows)} for the rows that are mixed.";
    }

    private void Print(ParseResult parsed, SuitePlan plan, SuiteFolder folder, SuiteResult?[] results, string[] states, double? seconds)
    {
        if (Common.JsonOf(parsed))
        {
            JsonOutput.Write(Streams, new SuiteOutcome(plan.Id, plan.Run.Id, folder.Path,
                [.. plan.Items.Select((item, i) => new SuiteItemOutcome(item.Id, item.Name, states[i], results[i]?.Sparsity, results[i]?.L0,
                    results[i]?.Fvu, results[i]?.Fidelity?.DeltaLoss, results[i]?.Dead,
                    results[i] is SuiteResult done ? Path.Combine(folder.Path, done.Path) : null))],
                parsed.GetValue(_report), seconds));
            return;
        }

        for (int i = 0; i < plan.Items.Count; i++)
        {
            string text = results[i] is not SuiteResult done ? states[i] : string.Create(CultureInfo.InvariantCulture,
                $"L0 {done.L0 ?? double.NaN:0.0}  FVU {done.Fvu ?? double.NaN:0.0000}" +
                $"{(done.Fidelity?.DeltaLoss is double delta ? $"  delta loss {delta:0.0000}" : "")}  {done.Dead} dead");
            Streams.Output.WriteLine($"{plan.Items[i].Name}  {text}");
        }
    }
}

/// <summary>Result of <c>suite</c>.</summary>
internal sealed record SuiteOutcome(string Suite, string Run, string Folder, IReadOnlyList<SuiteItemOutcome> Items, string? Report,
    double? EstimateSeconds);

/// <summary>One SAE of it; what is not there yet is null.</summary>
internal sealed record SuiteItemOutcome(string Id, string Name, string State, double? Sparsity, double? L0, double? Fvu, double? DeltaLoss,
    int? Dead, string? Path);

/// <summary>Says on standard error how far a suite is: one line on a terminal, else a line every half minute.</summary>
internal sealed class SuiteView(Streams streams, int items) : IProgress<SuiteProgress>, IDisposable
{
    private readonly Lock _lock = new();
    private readonly ProgressLine _line = new(streams);

    public void Report(SuiteProgress value)
    {
        lock (_lock)
            _line.Report(() => FormattableString.Invariant($"{value.ItemsDone} of {items} done  {value.Text}"));
    }

    /// <summary>Wipes the line.</summary>
    public void Dispose() => _line.Dispose();
}
