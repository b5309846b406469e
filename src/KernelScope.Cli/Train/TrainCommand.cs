using System.CommandLine;
using System.Globalization;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Training;

namespace KernelScope.Cli;

/// <summary><c>train</c>: an SAE or transcoder from stored activations.</summary>
internal sealed class TrainCommand : Verb
{
    private readonly Option<string> _from = new("--from") { Description = "What it learns from: an npz, npy or safetensors file with rows of activations, as run --capture writes them.", HelpName = "ACTS", Required = true };
    private readonly Option<string?> _key = new("--key") { Description = "Which array of it; not needed where there is one.", HelpName = "NAME" };
    private readonly Option<string?> _keyOut = new("--key-out") { Description = "Which array holds the targets: then a transcoder is trained.", HelpName = "NAME" };
    private readonly Option<string?> _site = new("--site") { Description = "Where the rows come from, for the exports: resid_post.3. Default: what the array's name says.", HelpName = "POINT" };
    private readonly Option<string?> _siteOut = new("--site-out") { Description = "Where the targets come from: mlp_out_post.3.", HelpName = "POINT" };
    private readonly Option<string> _out = new("--out") { Description = "The folder for exports, log and checkpoints.", HelpName = "DIR", Required = true };
    private readonly Option<bool> _resume = new("--resume") { Description = "Go on from the newest checkpoint in --out, as if it had never stopped; without one it begins." };
    private readonly Option<long> _checkpointEvery = Number("--checkpoint-every", 10_000, "Steps between two checkpoints; 0: only one when it is interrupted.");
    private readonly Option<long> _keepEvery = Number("--keep-every", 0, "Checkpoints at multiples of it stay; of the others the last two do.");
    private readonly Option<string?> _log = new("--log") { Description = "Where the log goes, a JSON object a line. Default: log.jsonl in --out.", HelpName = "F.jsonl" };
    private readonly Option<long> _logEvery = Number("--log-every", 100, "Steps between two lines of the log.");
    private readonly Option<long> _validateEvery = Number("--validate-every", 1000, "Steps between two measurements on rows that were kept back; 0: only at the end.");
    private readonly Option<double> _validation = Real("--validation", 0.01, "The share of the rows that is kept back.");
    private readonly TrainOptions _recipe;

    public TrainCommand(CommonOptions common, Surroundings surroundings) : base(
        "train",
        "Trains an SAE or transcoder on stored activations, by the recipe of the Gemma Scope paper: JumpReLU with straight-through gradients, or TopK, BatchTopK and ReLU as baselines. Needs no model.\n" +
        "Loss = mean of |x' - x|^2 + sparsity * L0, with x divided by one number so that |x|^2 is 1 on average; that and the bias before the encoder are folded into what is written: a Gemma Scope params.npz, and a folder for SAELens.\n" +
        "Rows of BOS, EOS and padding are left out where the file holds the tokens. The defaults are the paper's, for runs of 100,000 steps and more; short ones want a higher --lr and --bandwidth.",
        "  kernelscope run \"And the king said unto the people of the city that they should go\" --capture resid_post.3 --out acts.npz\n" +
        "  kernelscope train --from acts.npz --key resid_post.3 --width 256 --sparsity 0.01 --steps 100 --batch 16 --lr 0.002 --lr-warm-up 20 --sparsity-warm-up 50 --bandwidth 0.1 --theta 0.1 --out sae\n" +
        "  kernelscope encode acts.npz --key resid_post.3 --sae sae/saelens",
        common,
        surroundings)
    {
        foreach (Option option in (ReadOnlySpan<Option>)[_from, _key, _keyOut, _site, _siteOut, _out])
            Options.Add(option);
        _recipe = new TrainOptions(this);
        foreach (Option option in (ReadOnlySpan<Option>)[_resume, _checkpointEvery, _keepEvery, _log, _logEvery, _validateEvery, _validation])
            Options.Add(option);
        _logEvery.Validators.Add(r => Parsing.Require(r, _logEvery, v => v > 0, "--log-every is {0}; it must be 1 or more."));
        _checkpointEvery.Validators.Add(r => Parsing.Require(r, _checkpointEvery, v => v >= 0, "--checkpoint-every is {0}; it must be 0 or more."));
        _keepEvery.Validators.Add(r => Parsing.Require(r, _keepEvery, v => v >= 0, "--keep-every is {0}; it must be 0 or more."));
        _validateEvery.Validators.Add(r => Parsing.Require(r, _validateEvery, v => v >= 0, "--validate-every is {0}; it must be 0 or more."));
        _validation.Validators.Add(r => Parsing.Require(r, _validation, v => v is >= 0 and < 1, "--validation is {0}; it must be from 0 to less than 1."));
    }

    /// <summary>Training is exact, and needs no model.</summary>
    public override CommonUse Uses => CommonUse.Json | CommonUse.Device | CommonUse.Threads;

    /// <summary>An option with a whole number.</summary>
    public static Option<long> Number(string name, long value, string description) =>
        new(name) { Description = $"{description} Default: {value.ToString("N0", CultureInfo.InvariantCulture)}.", HelpName = "N", DefaultValueFactory = _ => value };

    /// <summary>An option with a number.</summary>
    public static Option<double> Real(string name, double value, string description) =>
        new(name) { Description = $"{description} Default: {value.ToString(CultureInfo.InvariantCulture)}.", HelpName = "X", DefaultValueFactory = _ => value };

    protected override void CheckOptions(ParseResult parsed)
    {
        Belongs(parsed, parsed.GetValue(_keyOut) is not null, "--key-out", _siteOut);
        _recipe.Check(parsed, parsed.GetValue(_keyOut) is not null);
    }

    protected override int Run(ParseResult parsed)
    {
        string from = ArrayInput.Require(parsed.GetRequiredValue(_from)), folder = parsed.GetRequiredValue(_out);
        OutputPlaces.Require([("--log", parsed.GetValue(_log))], from);
        TrainingOptions options = _recipe.Of(parsed);
        options.Require();
        using StoredRows rows = Open(parsed, from, options);
        string name = Common.DeviceOf(parsed);
        (string, long)[] needs = [("parameters and their second moments", SaeTrainer.ParameterBytes(options, rows.Width, rows.TargetWidth)), ("a batch", SaeTrainer.BatchBytes(options, rows.Width, rows.TargetWidth))];
        using Device device = Common.OpenDevice(parsed, Streams, name == "auto" ? "cpu" : name, Precision.Exact, Precision.Exact, needs);
        using var trainer = new SaeTrainer(device, rows, options);
        TrainedPlace place = PlaceOf(parsed);
        var files = new TrainingFiles
        {
            Folder = folder,
            Log = parsed.GetValue(_log),
            LogEvery = parsed.GetValue(_logEvery),
            ValidateEvery = parsed.GetValue(_validateEvery),
            CheckpointEvery = parsed.GetValue(_checkpointEvery),
            KeepEvery = parsed.GetValue(_keepEvery),
            Resume = parsed.GetValue(_resume),
            Place = place,
        };
        var run = new TrainingRun(trainer, files);
        Streams.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{rows.EpochRows:N0} rows to train on and {rows.ValidationRows:N0} to measure on; {MemoryCheck.InMiB(needs.Sum(n => n.Item2))} MiB."));
        TrainingOutcome outcome;
        using (var progress = new TrainProgress(Streams))
            outcome = Execute(run, progress);
        Say(parsed, options, place, outcome);
        return ExitCode.Done;
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

    private StoredRows Open(ParseResult parsed, string from, TrainingOptions options)
    {
        if (Directory.Exists(from))
            throw new WorkException($"{from}: this is a folder; --from needs a file of arrays.");
        return StoredRows.Open(
            from, parsed.GetValue(_key), parsed.GetValue(_keyOut), (file, x) => CountedRows.Of(file, x, x.ElementCount / x.Shape[^1], null, Streams), parsed.GetValue(_validation), options.Seed);
    }

    private TrainedPlace PlaceOf(ParseResult parsed) => new()
    {
        Site = PointOf(parsed, _site, _key),
        SiteOut = parsed.GetValue(_keyOut) is null ? null : PointOf(parsed, _siteOut, _keyOut),
    };

    private static HookPoint? PointOf(ParseResult parsed, Option<string?> site, Option<string?> key)
    {
        if (parsed.GetValue(site) is string text)
            return Parsing.Point(text, site.Name);
        return parsed.GetValue(key) is string name && HookPoint.TryParse(name, out HookPoint point) ? point : null;
    }

    private void Say(ParseResult parsed, TrainingOptions options, TrainedPlace place, TrainingOutcome outcome)
    {
        foreach (string path in outcome.Export)
            Streams.Error.WriteLine($"Wrote {Printable.Escape(path)}.");
        var result = new TrainResult(
            outcome.Export[0], place.Site?.ToString(), place.SiteOut?.ToString(), options.Width, options.Sparsity, outcome.Steps, outcome.Rows, outcome.Validation?.L0, outcome.Validation?.Fvu,
            outcome.Dead, outcome.Seconds, outcome.RowsPerSecond, outcome.Export, outcome.Log);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            Streams.Output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Steps:N0} steps of {options.Batch:N0} rows{(result.L0 is { } l0 ? $" · L0 {l0:0.0} · FVU {result.Fvu:0.0000}" : "")} · {result.Dead:N0} dead · {result.RowsPerSecond:N0} rows/s"));
    }
}

/// <summary>Result of <c>train</c>.</summary>
internal sealed record TrainResult(
    string Sae, string? Site, string? SiteOut, int Width, double Sparsity, long Steps, long Rows, double? L0, double? Fvu, int Dead, double Seconds, double RowsPerSecond, IReadOnlyList<string> Export, string Log);
