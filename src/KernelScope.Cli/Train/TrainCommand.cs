using System.CommandLine;
using System.Globalization;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Training;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary><c>train</c>: an SAE or transcoder from stored activations.</summary>
internal sealed class TrainCommand : Verb
{
    private readonly Option<string> _from = new("--from")
    {
        Description = "What it learns from: the folder of a run that harvest " +
        "wrote, or an npz, npy or safetensors file with rows of activations, as run --capture writes them.",
        HelpName = "RUN|ACTS",
        Required = true
    };
    private readonly Option<string?> _key = new("--key")
    {
        Description = "Which array of a file; not needed where there is one.",
        HelpName = "NAME"
    };
    private readonly Option<string?> _keyOut = new("--key-out")
    {
        Description = "Which array of a file holds the targets: then a " +
        "transcoder is trained.",
        HelpName = "NAME"
    };
    private readonly Option<string?> _site = new("--site")
    {
        Description = "Which rows of a run: resid_post.3. For a file it says " +
        "where they come from, if the array's name does not.",
        HelpName = "POINT"
    };
    private readonly Option<string?> _siteOut = new("--site-out")
    {
        Description = "The same for targets: then a transcoder is trained.",
        HelpName = "POINT"
    };
    private readonly Option<string> _out = new("--out")
    {
        Description = "The folder for exports, log and checkpoints.",
        HelpName = "DIR",
        Required = true
    };
    private readonly Option<bool> _resume = new("--resume")
    {
        Description = "Go on from the newest whole checkpoint in --out, as if it had " +
        "never stopped; without one it begins. A damaged one is named, and put aside."
    };
    private readonly Option<long> _checkpointEvery = Number("--checkpoint-every", 10_000,
        "Steps between two checkpoints; 0: only one when it is interrupted.");
    private readonly Option<long> _keepEvery = Number("--keep-every", 0,
        "Checkpoints at multiples of it stay; of the others the last two do.");
    private readonly Option<string?> _log = new("--log")
    {
        Description = "Where the log goes, a JSON object a line. Default: log.jsonl " +
        "in --out.",
        HelpName = "F.jsonl"
    };
    private readonly Option<long> _logEvery = Number("--log-every", 100, "Steps between two lines of the log.");
    private readonly Option<long> _validateEvery = Number("--validate-every", 1000,
        "Steps between two measurements on rows that were kept back; 0: only at the end.");
    private readonly Option<int> _lossSequences = new("--loss-sequences")
    {
        Description = "Sequences that were kept back on which each measurement runs the run's model with the SAE in it, for delta loss, " +
            "if that model is found here; 0: none. Default: 16.",
        HelpName = "N",
        DefaultValueFactory = _ => 16,
    };
    private readonly Option<double> _validation = Real("--validation", 0.01, "The share of the rows that is kept back.");
    private readonly Option<long> _bucket = Number("--bucket", 1_000_000, "Rows of a run that are mixed at once, in memory.");
    private readonly Option<bool> _live = new("--live")
    {
        Description = "The run need only be planned: its model makes the rows as they are wanted, the ones that a harvest would store, " +
            "and no activations go to disk. Going on from a checkpoint makes the bucket's rows again.",
    };
    private readonly Option<bool> _trust = new("--trust") { Description = "Do not compare the shards of a run with their hashes." };
    private readonly TrainOptions _recipe;

    public TrainCommand(CommonOptions common, VerbEnvironment environment) : base(
        "train",
        "Trains an SAE or transcoder on stored activations, by the recipe of the Gemma Scope paper: JumpReLU with straight-through " +
        "gradients, or TopK, BatchTopK and ReLU as baselines. Needs no model; where the rows come from a run whose model is found, the " +
        "loss with the SAE in it is measured, too.\n" +
        "Loss = mean of |x' - x|^2 + sparsity * L0, with x divided by one number so that |x|^2 is 1 on average; that and the bias " +
        "before the encoder are folded into what is written: a Gemma Scope params.npz, and a folder for SAELens.\n" +
        "Rows of BOS, EOS and padding are left out where the file holds the tokens. The defaults are the paper's, for runs of 100,000 " +
        "steps and more; short ones want a higher --lr and --bandwidth.",
        "  kernelscope harvest --out acts --text-file demo --sites resid_post.3 --context 64 --sequences 60\n" +
        "  kernelscope train --from acts --site resid_post.3 --width 512 --sparsity 0.002 --steps 100 --batch 256 --lr 0.002 " +
        "--lr-warm-up 20 --sparsity-warm-up 50 --bandwidth 0.05 --theta 0.05 --out sae.512\n" +
        "  kernelscope plan --out planned --text-file demo --sites resid_post.3 --context 64 --shard-sequences 2\n" +
        "  kernelscope train --from planned --live --site resid_post.3 --width 64 --sparsity 0.002 --steps 20 --batch 64 --lr 0.002 " +
        "--bandwidth 0.05 --theta 0.05 --out sae.live\n" +
        "  kernelscope run \"And the king said unto the people of the city that they should go\" --capture resid_post.3 --out acts.npz\n" +
        "  kernelscope train --from acts.npz --key resid_post.3 --width 256 --sparsity 0.01 --steps 100 --batch 16 --lr 0.002 " +
        "--lr-warm-up 20 --sparsity-warm-up 50 --bandwidth 0.1 --theta 0.1 --out sae\n" +
        "  kernelscope encode acts.npz --key resid_post.3 --sae sae/saelens",
        common,
        environment)
    {
        foreach (Option option in (ReadOnlySpan<Option>)[_from, _key, _keyOut, _site, _siteOut, _out])
            Options.Add(option);
        _recipe = new TrainOptions(this);
        foreach (Option option in (ReadOnlySpan<Option>)[_resume, _checkpointEvery, _keepEvery, _log, _logEvery, _validateEvery,
            _lossSequences, _validation, _bucket, _live, _trust])
            Options.Add(option);
        _logEvery.Validators.Add(r => Parsing.Require(r, _logEvery, v => v > 0, "--log-every is {0}; it must be 1 or more."));
        _checkpointEvery.Validators.Add(r => Parsing.Require(r, _checkpointEvery, v => v >= 0,
            "--checkpoint-every is {0}; it must be 0 or more."));
        _keepEvery.Validators.Add(r => Parsing.Require(r, _keepEvery, v => v >= 0, "--keep-every is {0}; it must be 0 or more."));
        _validateEvery.Validators.Add(r => Parsing.Require(r, _validateEvery, v => v >= 0,
            "--validate-every is {0}; it must be 0 or more."));
        _lossSequences.Validators.Add(r => Parsing.Require(r, _lossSequences, v => v >= 0,
            "--loss-sequences is {0}; it must be 0 or more."));
        _bucket.Validators.Add(r => Parsing.Require(r, _bucket, v => v is > 0 and <= int.MaxValue / 2,
            "--bucket is {0}; it must be 1 or more, and fit into memory."));
        _validation.Validators.Add(r => Parsing.Require(r, _validation, v => v is >= 0 and < 1,
            "--validation is {0}; it must be from 0 to less than 1."));
    }

    /// <summary>Training is exact.</summary>
    public override CommonUse Uses => CommonUse.Json | CommonUse.Model | CommonUse.Device | CommonUse.Threads;

    /// <summary>An option with a whole number.</summary>
    public static Option<long> Number(string name, long value, string description) =>
        new(name)
        {
            Description = $"{description} Default: {value.ToString("N0", CultureInfo.InvariantCulture)}.",
            HelpName = "N",
            DefaultValueFactory = _ => value
        };

    /// <summary>An option with a number.</summary>
    public static Option<double> Real(string name, double value, string description) =>
        new(name)
        {
            Description = $"{description} Default: {value.ToString(CultureInfo.InvariantCulture)}.",
            HelpName = "X",
            DefaultValueFactory = _ => value
        };

    protected override void CheckOptions(ParseResult parsed)
    {
        bool isRun = IsRun(parsed);
        Belongs(parsed, isRun, "the folder of a run in --from", _lossSequences, _bucket, _live, _trust);
        Belongs(parsed, !parsed.GetValue(_live), "rows on disk, and --live has none", _trust);
        if (!isRun && Common.HasModel(parsed))
            throw new UsageException("--model does nothing without the folder of a run in --from.");
        Belongs(parsed, !isRun, "a file in --from", _key, _keyOut);
        Belongs(parsed, isRun || parsed.GetValue(_keyOut) is not null, "--key-out", _siteOut);
        _recipe.Check(parsed, (isRun ? parsed.GetValue(_siteOut) : parsed.GetValue(_keyOut)) is not null);
    }

    // Not the value: it is asked for before what is missing is complained of.
    private bool IsRun(ParseResult parsed) => parsed.GetResult(_from)?.Tokens is [var from, ..] && Directory.Exists(from.Value);

    protected override int Run(ParseResult parsed)
    {
        string from = ArrayInput.Require(parsed.GetRequiredValue(_from)), folder = parsed.GetRequiredValue(_out);
        OutputPlaces.Require([("--out", Path.Combine(folder, TrainingRun.SummaryName)), ("--log", parsed.GetValue(_log))], from);
        TrainingOptions options = _recipe.Read(parsed);
        options.Require();
        (RunFolder Folder, RunPlan Plan)? source = IsRun(parsed) ? RunSteps.Open(from) : null;
        if (source is not null)
            RunSteps.RequireApart(source.Value.Folder, ("--out", folder), ("--log", parsed.GetValue(_log)));
        Gemma2Model? model = null;
        using ITrainingRows rows = source is { } found ? OpenRun(parsed, found.Folder, found.Plan, options, () => model!)
            : OpenFile(parsed, from, options);
        if (rows is RunRows { BucketRows: var bucket } && options.Batch > bucket)
            throw new WorkException($"--batch is {options.Batch}, and only {bucket} rows are mixed at once: what --bucket says, and no " +
                $"more than the {rows.EpochRows} rows to train on.");
        TrainedPlace place = PlaceOf(parsed, source?.Plan.Model.Name, (rows as StoredRows)?.Input.Name);
        if (place.Site?.Site == Site.Z && rows is StoredRows { Input: { Shape.Length: > 2 } array })
            Streams.Warn($"{array} is read as rows of {array.Shape[^1]} numbers; if those are one head's, all heads of a position should " +
                "be one row.");
        string name = Common.DeviceOf(parsed);
        using var bench = Workbench.WithoutModel(parsed, this);
        ModelFiles? modelFiles = OpenModel(parsed, source, place, rows.ValidationRows, out TokenSet? lossTokens);
        if (modelFiles is not null)
            bench.Add(modelFiles);
        (bench.DeviceName, bench.Precision) = (name == "auto" ? "cpu" : name, Precision.Exact);
        bench.Panels = parsed.GetValue(_live) && RunIdentity.IsPacked(source!.Value.Plan.DeviceClass) ? PanelUse.Exact : PanelUse.None;
        (string, long)[] needs = [("parameters and their second moments", SaeTrainer.ParameterBytes(options, rows.Width, rows.TargetWidth)),
            ("a batch", SaeTrainer.BatchBytes(options, rows.Width, rows.TargetWidth)), ("the bucket", rows is RunRows run ? run.BucketBytes
            : 0), ("open shards", parsed.GetValue(_live) ? RunRows.LiveBytes(source!.Value.Plan, new RunRowsOptions(), rows.Width,
            rows.TargetWidth) : 0), ("the model", modelFiles?.WeightBytesOn(name, bench.Panels) ?? 0)];
        bench.Load(needs);
        Gemma2Model? loaded = modelFiles is null ? null : bench.Model;
        model = loaded;
        if (parsed.GetValue(_live))
            RequireClass(bench.Device, loaded!, source!.Value.Plan);
        long disk = DiskBytes(parsed, options, rows);
        // Most of what a training that goes on has written stays, and of checkpoints the oldest goes when the next one is there.
        RunSteps.RequireRoom(folder, parsed.GetValue(_resume) ? disk - RunSteps.BytesOf(folder) : disk);
        OutputPlace.CreateFolder(folder);
        // Whether the log can be written is known now, not when rows were made.
        AtomicFile.Create(parsed.GetValue(_log) ?? Path.Combine(folder, TrainingRun.LogName)).Dispose();
        using var trainer = new SaeTrainer(bench.Device, rows, options);
        var files = new TrainingFiles
        {
            Folder = folder,
            Log = parsed.GetValue(_log),
            LogEvery = parsed.GetValue(_logEvery),
            ValidateEvery = parsed.GetValue(_validateEvery),
            CheckpointEvery = parsed.GetValue(_checkpointEvery),
            KeepEvery = parsed.GetValue(_keepEvery),
            Resume = parsed.GetValue(_resume),
            Warn = Streams.Warn,
            Place = place,
        };
        using var training = new TrainingRun(trainer, files)
        {
            Loss = lossTokens is null ? null : new ValidationLoss(loaded!, lossTokens, place),
        };
        Streams.Error.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{rows.EpochRows:N0} rows to train on and {rows.ValidationRows:N0} to measure " +
            $"on; {MemoryCheck.InMiB(needs.Sum(n => n.Item2))} MiB, and {ByteText.Of(disk)} on disk."));
        TrainingOutcome outcome;
        using (var progress = new TrainProgress(Streams))
            outcome = Execute(training, progress);
        Say(parsed, options, place, outcome);
        return ExitCode.Done;
    }

    /// <summary>Two exports, and the most checkpoints at once: the last two, the one that is being written, and those that are kept.</summary>
    private long DiskBytes(ParseResult parsed, TrainingOptions options, ITrainingRows rows)
    {
        long every = parsed.GetValue(_checkpointEvery), keep = parsed.GetValue(_keepEvery);
        double count = every == 0 ? 1 : Math.Min(3, options.Steps / every) + (keep == 0 ? 0 : options.Steps / Math.Max(every, keep));
        return (long)Math.Min(long.MaxValue, (1 + count) * SaeTrainer.ParameterBytes(options, rows.Width, rows.TargetWidth));
    }

    private TrainingOutcome Execute(TrainingRun run, TrainProgress progress)
    {
        try
        {
            return run.Execute(progress, Cancellation);
        }
        catch (TrainingException e)
        {
            throw new WorkException(e.Message);
        }
    }

    private StoredRows OpenFile(ParseResult parsed, string from, TrainingOptions options) => StoredRows.Open(
        from, parsed.GetValue(_key), parsed.GetValue(_keyOut), (file, x) => CountedRows.Of(file, x, x.ElementCount / x.Shape[^1], null,
            Streams), parsed.GetValue(_validation), options.Seed);

    private RunRows OpenRun(ParseResult parsed, RunFolder folder, RunPlan plan, TrainingOptions options, Func<Gemma2Model> model)
    {
        if (PointOf(parsed, _site, null) is not { } site)
            throw new UsageException($"--site is missing: the run has rows of {string.Join(", ", plan.Sites.Select(s => s.Name))}.");
        if (plan.RowType != DType.F32)
            WarnOfRounding(folder, plan, site);
        var order = new RunRowsOptions
        {
            Seed = options.Seed,
            BucketRows = (int)parsed.GetValue(_bucket),
            Validation = parsed.GetValue(_validation),
            Trust = parsed.GetValue(_trust)
        };
        HookPoint? siteOut = PointOf(parsed, _siteOut, null);
        return parsed.GetValue(_live) ? RunRows.OpenLive(folder, plan, site, siteOut, order, model, Cancellation)
            : RunRows.Open(folder, plan, site, siteOut, order);
    }

    private static void RequireClass(Device device, Gemma2Model model, RunPlan plan)
    {
        string found = RunIdentity.DeviceClass(device, model.Weights.Head.IsPacked);
        if (found != plan.DeviceClass)
            throw new UsageException($"this device is of the class '{found}', and the run was planned for '{plan.DeviceClass}': its rows " +
                "would have other last bits.");
    }

    private void WarnOfRounding(RunFolder folder, RunPlan plan, HookPoint site)
    {
        SiteRecord? record = plan.Sites.FirstOrDefault(s => s.Point == site);
        double? fvu = record is null ? null : ShardManifest.Read(folder, plan, 0)?.Sites[record.Name].RoundingFvu;
        string measured = fvu is not double share ? ""
            : FormattableString.Invariant($" (FVU of the stored rows to the exact ones in the first shard: {share:0.0e+0})");
        Streams.Warn($"the run holds rows in {RunPlan.NameOf(plan.RowType)}; what is trained and measured " +
            "is " +
            $"what was rounded{measured}.");
    }

    /// <summary>The run's model, and the sequences that are kept back on which delta loss is measured. Both are null where it is not, which
    /// is said unless nobody asked for it; with --live the model is there in any case.</summary>
    private ModelFiles? OpenModel(ParseResult parsed, (RunFolder Folder, RunPlan Plan)? source, TrainedPlace place, long validationRows,
        out TokenSet? tokens)
    {
        tokens = null;
        int most = parsed.GetValue(_lossSequences);
        bool live = parsed.GetValue(_live), measures = most > 0 && validationRows > 0;
        if (source is not ({ } folder, { } plan) || !(live || measures))
            return null;
        string? given = Common.HasModel(parsed) ? Common.ModelOf(parsed) : null;
        ModelFiles? files = live ? RunParts.OpenFiles(given, plan, Common.NoMapOf(parsed), Cancellation) : null;
        if (!measures)
            return files;
        HookPoint site = place.Site!.Value, siteOut = place.SiteOut ?? site;
        try
        {
            if (!ValidationLoss.IsPossible(site, siteOut))
                throw new UsageException($"what is read at {site} cannot be put in the place of {siteOut}.");
            files ??= RunParts.OpenFiles(given, plan, Common.NoMapOf(parsed), Cancellation);
            tokens = RunEvaluation.ValidationTokens(folder, plan, parsed.GetValue(_validation), most, files.Config);
        }
        catch (Exception e) when (e is UsageException or InvalidDataException or ArgumentException)
        {
            Streams.Error.WriteLine($"Delta loss is not measured: {Printable.Escape(e.Message)}");
            if (!live)
                files?.Dispose();
        }

        return live || tokens is not null ? files : null;
    }

    private TrainedPlace PlaceOf(ParseResult parsed, string? model, string? array) => new()
    {
        Site = PointOf(parsed, _site, array),
        SiteOut = PointOf(parsed, _siteOut, parsed.GetValue(_keyOut)),
        ModelName = model,
    };

    /// <summary>What the option says, or else the array's name.</summary>
    private static HookPoint? PointOf(ParseResult parsed, Option<string?> site, string? array)
    {
        if (parsed.GetValue(site) is string text)
            return Parsing.Point(text, site.Name);
        return array is not null && HookPoint.TryParse(array, out HookPoint point) ? point : null;
    }

    private void Say(ParseResult parsed, TrainingOptions options, TrainedPlace place, TrainingOutcome outcome)
    {
        foreach (string path in outcome.Export)
            Streams.Error.WriteLine($"Wrote {Printable.Escape(path)}.");
        var result = new TrainResult(
            outcome.Export[0], place.Site?.ToString(), place.SiteOut?.ToString(), options.Width, outcome.Lambda,
            options.TargetL0 > 0 ? options.TargetL0 : null, outcome.Steps, outcome.Rows, outcome.Validation?.L0,
            outcome.Validation?.Fvu, outcome.Validation?.DeltaLoss,
            outcome.Dead, outcome.Seconds, outcome.RowsPerSecond, outcome.Export, outcome.Log);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            Streams.Output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{result.Steps:N0} steps of {options.Batch:N0} rows" +
                $"{(result.L0 is { } l0 ? $" · L0 {l0:0.0} · FVU {result.Fvu:0.0000}" : "")}" +
                $"{(result.TargetL0 is { } target ? $" (target {target}, sparsity {result.Sparsity:0.###e+0})" : "")}" +
                $"{(result.DeltaLoss is { } delta ? $" · delta loss {delta:0.0000}" : "")}" +
                $" · {result.Dead:N0} dead · {result.RowsPerSecond:N0} rows/s"));
    }
}

/// <summary>Result of <c>train</c>.</summary>
internal sealed record TrainResult(
    string Sae, string? Site, string? SiteOut, int Width, double Sparsity, double? TargetL0, long Steps, long Rows, double? L0, double? Fvu,
    double? DeltaLoss, int Dead,
        double Seconds, double RowsPerSecond, IReadOnlyList<string> Export, string Log);
