using System.CommandLine;
using System.Globalization;
using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary><c>eval</c>: how sparse, how exact and how harmless SAEs are, by the Gemma Scope paper's definitions.</summary>
internal sealed class EvalCommand : Verb
{
    private readonly Option<string[]> _saes = SaeOptions.Several();
    private readonly Option<string?> _site = new("--site")
    {
        Description = "Where the SAEs read, if their paths or cfg.json do not say " +
        "so: resid_post.3.",
        HelpName = "POINT"
    };
    private readonly Option<string?> _siteOut = new("--site-out")
    {
        Description = "Where a transcoder writes: mlp_out_post.3.",
        HelpName = "POINT"
    };
    private readonly Option<string?> _textFile = new("--text-file") { Description = "A UTF-8 text, cut into sequences.", HelpName = "F" };
    private readonly Option<string?> _tokensFile = new("--tokens-file")
    {
        Description = "Token ids: a JSON list of lists, or " +
        "{\"sequences\": [...]}. They are taken as they are; shorter ones are padded, and padding does not count.",
        HelpName = "F.json"
    };
    private readonly Option<int?> _length = new("--length")
    {
        Description = "Tokens of a sequence of --text-file, its BOS included. " +
        "Default: 128.",
        HelpName = "N"
    };
    private readonly Option<string?> _specialIds = new("--special-ids")
    {
        Description = "Ids that do not count. Default: padding, BOS " +
        "and EOS of config.json. Padding never counts.",
        HelpName = "IDS"
    };
    private readonly Option<string?> _out = new("--out")
    {
        Description = "Where arrays go: an npz with firing_frequency, " +
        "by_position_*, and by position losses, divergences, codes, errors, r_L0, activations, gradients.",
        HelpName = "F.npz"
    };
    private readonly Option<string> _arrays = new("--arrays")
    {
        Description = "Which: all; positions (without activations, gradients " +
        "and logits); summary (nothing by position).",
        HelpName = "all|positions|summary",
        DefaultValueFactory = _ => "all"
    };
    private readonly Option<string?> _report = new("--report", "--html")
    {
        Description = "Where a report with plots goes: one HTML " +
        "file that needs nothing else.",
        HelpName = "F.html"
    };
    private readonly Option<string?> _resume = new("--resume")
    {
        Description = "A file that keeps what was measured after every " +
        "sequence; the same command goes on from it after a kill, with the same result.",
        HelpName = "F"
    };
    private readonly Option<bool> _noGradients = new("--no-gradients")
    {
        Description = "Leaves r_L0 and grad_own out, which need two " +
        "backward passes and a layer's activations for a whole sequence in memory."
    };
    private readonly Option<int> _resamples = new("--resamples")
    {
        Description = "Bootstrap resamples for the confidence intervals. " +
        "Default: 1000.",
        HelpName = "N",
        DefaultValueFactory = _ => 1000
    };
    private readonly Option<string?> _run = new("--run")
    {
        Description = "A run on disk instead of a text: its tokens, and what it " +
        "leaves out does not count.",
        HelpName = "RUN"
    };
    private readonly Option<bool> _noModel = new("--no-model")
    {
        Description = "With --run: only what follows from its stored rows " +
        "(L0, FVU, cosine, firing frequency, by position); the model is not run."
    };
    private readonly Option<string> _panels = PackOption.Panels();
    private readonly ProfileOption _profile;
    private readonly Option<string?> _study = new("--precision-study")
    {
        Description = "Runs the evaluation twice, with exact and with fast products, and gives both with their differences and how far " +
            "the active sets agree: of model and SAE encoders (both, as the paper's study of float32 against bfloat16), or of the " +
            "model alone (what --precision fast computes).",
        HelpName = "both|model",
        Arity = ArgumentArity.ZeroOrOne,
    };
    private readonly Option<int> _seed = new("--seed") { Description = "Seed of the resamples. Default: 0.", HelpName = "N" };

    public EvalCommand(CommonOptions common, VerbEnvironment environment) : base(
        "eval",
        "Measures sparse autoencoders inside the model: L0, FVU, and what splicing their reconstruction in does to the loss. All SAEs " +
        "share one clean forward pass.\n" +
        "Every number's definition is in the JSON and in the report. With --run the tokens of a run on disk are evaluated, or with " +
        "--no-model its stored rows alone.",
        "  kernelscope eval --sae res.3.2k.l0_19 --sae res.3.2k.l0_57 --text-file demo --report report.html\n" +
        "  kernelscope eval --sae res.3.2k.l0_19 --text-file demo --precision-study\n" +
        "  kernelscope harvest --out acts --text-file demo --sites resid_post.3 --context 64\n" +
        "  kernelscope eval --run acts --no-model --sae res.3.2k.l0_19",
        common,
        environment)
    {
        foreach (Option option in (Option[])[_saes, _site, _siteOut, _textFile, _tokensFile, _run, _noModel, _length, _specialIds, _out,
            _arrays, _report, _resume, _noGradients, _resamples, _seed, _study, _panels])
            Options.Add(option);
        _profile = new ProfileOption(this);
        _length.Validators.Add(r => Parsing.Require(r, _length, v => v >= 2, "--length is {0}; a sequence has at least 2 tokens, BOS " +
            "and one more."));
        _arrays.Validators.Add(r => Parsing.Require(r, _arrays, v => v is "all" or "positions" or "summary", "'{0}' is not a choice of " +
            "arrays: there are all, positions and summary."));
        _study.Validators.Add(r => Parsing.Require(r, _study, v => v is "both" or "model", "'{0}' is not a choice of what is fast: " +
            "there are both and model."));
        _resamples.Validators.Add(r => Parsing.Require(r, _resamples, v => v is >= 1 and <= 1_000_000,
            "--resamples is {0}; it must be between 1 and 1000000."));
    }

    public override CommonUse Uses => CommonUse.All | CommonUse.Kv;

    protected override void CheckOptions(ParseResult parsed)
    {
        Belongs(parsed, parsed.GetValue(_run) is not null, "--run", _noModel);
        Belongs(parsed, parsed.GetValue(_run) is null, "a text: a run has its own sequences", _textFile, _tokensFile, _length, _specialIds);
        Belongs(parsed, !parsed.GetValue(_noModel), "the model, and --no-model leaves it out", _out, _arrays, _report, _resume,
            _noGradients, _study, _panels, _profile.Option);
        Belongs(parsed, parsed.GetValue(_run) is null || parsed.GetResult(_study) is not { Implicit: false },
            "a text: --run does not go with --precision-study", _study);
        Belongs(parsed, parsed.GetValue(_out) is not null || parsed.GetResult(_study) is { Implicit: false }, "--out", _arrays);
        if (parsed.GetResult(_study) is { Implicit: false })
            Belongs(parsed, false, "an evaluation in one precision: --precision-study leaves it out", _arrays, _noGradients,
                _profile.Option);
    }

    protected override int Run(ParseResult parsed)
    {
        if (parsed.GetResult(_study) is { Implicit: false })
            return Study(parsed);
        if (parsed.GetValue(_noModel))
            return OfStoredRows(parsed);
        (string, string?)[] outputs = [("--out", parsed.GetValue(_out)), ("--report", parsed.GetValue(_report)),
            ("--resume", parsed.GetValue(_resume))];
        OutputPlaces.Require(outputs, parsed.GetValue(_textFile), parsed.GetValue(_tokensFile));
        (RunFolder Folder, RunPlan Plan)? run = parsed.GetValue(_run) is string folder ? RunSteps.Open(folder) : null;
        if (run is not null)
            RunSteps.RequireApart(run.Value.Folder, outputs);
        // Whether the files can be written is known now, not after an hour.
        foreach (string path in new[] { parsed.GetValue(_out), parsed.GetValue(_report) }.OfType<string>())
            AtomicFile.Create(path).Dispose();
        using Workbench bench = run is null ? Workbench.Open(parsed, this) : RunParts.OpenModel(parsed, this, run.Value.Plan);
        ModelFiles files = bench.Files;
        OutputPlaces.Require(outputs, files.InputPaths);
        string? doubt = null;
        TokenSet tokens = run is null
            ? EvalTokens.Read(parsed.GetValue(_textFile), parsed.GetValue(_tokensFile), parsed.GetValue(_length),
            parsed.GetValue(_specialIds), files, out doubt)
            : RunEvaluation.TokensOf(run.Value.Folder, run.Value.Plan, files.Config);
        AddSaes(parsed, bench);
        OutputPlaces.Require(outputs, bench.InputPaths);
        (bench.Panels, bench.IsProfiled) = (PackOption.UseOf(parsed, _panels), _profile.IsGiven(parsed));
        bench.Load(bench.Weights, ("SAEs", bench.SaeBytes),
            ("evaluation", SaeEvaluation.BytesFor(files.Config, tokens.Length, bench.Edited.Count)),
            ("gradients, which --no-gradients leaves out,", parsed.GetValue(_noGradients) ? 0
            : StreamGradient.BytesFor(files.Config, tokens.Length, sums: 2)));
        SaeTarget[] targets = [.. bench.Edited.Select(e => e.Sae.Target)];
        var evaluation = new SaeEvaluation(bench.Model, targets, tokens, OptionsOf(parsed));
        ProfileOption.WarmUp(bench, tokens.Sequence(0).ToArray(), generates: false);
        string[] doubts = Doubts(bench.Model, targets, tokens, doubt);
        EvaluationResult result;
        using (var progress = new EvalProgress(Streams))
            result = evaluation.Run(progress, Cancellation);
        if (parsed.GetValue(_report) is string report)
            WriteReport(parsed, report, result, doubts, bench, run?.Plan);
        Written.Say(Streams, parsed.GetValue(_out), parsed.GetValue(_report), parsed.GetValue(_resume));
        if (Common.JsonOf(parsed))
            EvalView.WriteJson(Streams, result, files.Name, run is null ? null : [("run", run.Value.Plan.Id)]);
        else
            EvalView.Print(Streams, result);
        ProfileOption.Print(bench);
        return ExitCode.Done;
    }

    private void WriteReport(
        ParseResult parsed, string path, EvaluationResult result, string[] doubts, Workbench bench, RunPlan? run)
    {
        string model = bench.Files.Name;
        string corpus = run is not null ? $"run {run.Id}"
            : InputFile.NameOf(parsed.GetValue(_textFile) ?? parsed.GetValue(_tokensFile) ?? Demo.ModelName);
        HtmlReport.Write(
            path, result, model, doubts,
            [
                ("model", model), .. result.Saes.Select(s => ("SAE", $"{s.Name} at {s.Site}")), ("corpus", corpus),
                ("ids that do not count", string.Join(", ", result.Tokens.SpecialIds)),
                ("device", bench.Device.Name),
                ("seed of the resamples", string.Create(CultureInfo.InvariantCulture, $"{parsed.GetValue(_seed)}")),
                ("KernelScope", ProgramVersion.Text),
                ("date", DateTime.UtcNow.ToString("yyyy-MM-dd HH:mm 'UTC'", CultureInfo.InvariantCulture)),
            ],
            name => bench.Saes.FirstOrDefault(f => f.Name == name) is SaeFiles sae
            ? SourceName.PageOf(sae) : null);
    }

    /// <summary>What follows from the rows of a run alone; its model need not be there.</summary>
    private int OfStoredRows(ParseResult parsed)
    {
        (RunFolder folder, RunPlan plan) = RunSteps.Open(parsed.GetValue(_run)!);
        string[] names = parsed.GetValue(_saes) ?? [];
        if (names.Length == 0)
            throw new UsageException("an SAE is missing: --sae PATH.");
        using var bench = Workbench.WithoutModel(parsed, this);
        foreach (string name in names)
            bench.Add(SaeFiles.Open(name, Common.NoMapOf(parsed)));
        bench.OpenDevice(("SAEs", bench.SaeBytes));
        foreach (SaeFiles sae in bench.Saes)
            sae.PlaceIn(plan.Sites.Select(s => s.Point), Point(parsed, _site), Point(parsed, _siteOut));
        bench.LoadWeights();
        EvaluationResult result;
        using (var progress = new Progress(Streams, "Evaluating"))
            result = RunEvaluation.OfRows(folder, plan, [.. bench.Saes.Select(s => s.Target)],
                new(parsed.GetRequiredValue(_resamples), parsed.GetValue(_seed)), progress, Cancellation);
        if (Common.JsonOf(parsed))
            EvalView.WriteJson(Streams, result, plan.Model.Name,
                [("run", plan.Id), ("rows_dtype", RunPlan.NameOf(plan.RowType)), ("mean_source", "run")]);
        else
            EvalView.Print(Streams, result);
        return ExitCode.Done;
    }

    /// <summary>The evaluation in both precisions, one after the other, so that there is one model at a time.</summary>
    private int Study(ParseResult parsed)
    {
        string what = parsed.GetValue(_study) ?? "both";
        if (Common.HasPrecision(parsed) || new Option[] { _out, _report, _resume }.Any(o => parsed.GetResult(o) is { Implicit: false }))
            throw new UsageException("--precision-study runs in both precisions and prints what it finds: --precision, --out, --report " +
                "and --resume do not go with it.");
        Precision saePrecision = what == "both" ? Precision.Fast : Precision.Exact;
        TokenSet tokens;
        string? doubt;
        using (var bench = Workbench.Open(parsed, this))
            tokens = EvalTokens.Read(parsed.GetValue(_textFile), parsed.GetValue(_tokensFile), parsed.GetValue(_length),
                parsed.GetValue(_specialIds), bench.Files, out doubt);
        using var scratch = new ScratchFolder();
        string ofExact = scratch.At("exact.npz"), ofFast = scratch.At("fast.npz");
        // Fast first: a device that has one precision only says so at once.
        (EvaluationResult fast, string device) = Evaluate(parsed, tokens, Precision.Fast, saePrecision, ofFast);
        (EvaluationResult exact, _) = Evaluate(parsed, tokens, Precision.Exact, Precision.Exact, ofExact);
        if (doubt is not null)
            Streams.Warn(doubt);
        var study = PrecisionStudy.Compare(exact, ofExact, fast, ofFast);
        if (Common.JsonOf(parsed))
            PrecisionView.WriteJson(Streams, study, Common.ModelOf(parsed), what, device);
        else
            PrecisionView.Print(Streams, study, what, device);
        return ExitCode.Done;
    }

    private (EvaluationResult Result, string Device) Evaluate(ParseResult parsed, TokenSet tokens, Precision precision,
        Precision saePrecision, string arrays)
    {
        using var bench = Workbench.Open(parsed, this);
        AddSaes(parsed, bench);
        (bench.Precision, bench.SaePrecision, bench.Panels) = (precision, saePrecision, PackOption.UseOf(parsed, _panels));
        bench.Load(bench.Weights, ("SAEs", bench.SaeBytes),
            ("evaluation", SaeEvaluation.BytesFor(bench.Files.Config, tokens.Length, bench.Edited.Count)));
        EvaluationOptions options = OptionsOf(parsed) with
        {
            ArraysPath = arrays,
            Arrays = ArrayDetail.Positions,
            ResumePath = null,
            Gradients = false
        };
        using var progress = new EvalProgress(Streams);
        return (new SaeEvaluation(bench.Model, [.. bench.Edited.Select(e => e.Sae.Target)], tokens, options).Run(progress, Cancellation),
            bench.Device.Name);
    }

    private EvaluationOptions OptionsOf(ParseResult parsed) => new()
    {
        ArraysPath = parsed.GetValue(_out),
        Arrays = parsed.GetRequiredValue(_arrays) switch
        {
            "summary" => ArrayDetail.Summary,
            "positions" => ArrayDetail.Positions,
            _ => ArrayDetail.All
        },
        ResumePath = parsed.GetValue(_resume),
        Gradients = !parsed.GetValue(_noGradients),
        Bootstrap = new(parsed.GetRequiredValue(_resamples), parsed.GetValue(_seed)),
        KeepBytes = Math.Min(1L << 30, MemoryCheck.Available() / 8),
    };

    private void AddSaes(ParseResult parsed, Workbench bench)
    {
        string[] given = parsed.GetValue(_saes) ?? [];
        IEnumerable<string?> names = given.Length > 0 ? given : new string?[] { null };
        HookPoint? site = Point(parsed, _site), siteOut = Point(parsed, _siteOut);
        bench.AddSaes(names.Select(n => new SaeUse(n, site, siteOut, Edits.None)));
        // A transcoder whose output site nobody knows is refused here, before the model is loaded.
        foreach (SaeFiles sae in bench.Saes)
            _ = sae.SiteOut;
    }

    /// <summary>Warns, before the long run, of tokens that look wrong and of an SAE that seems to be in the wrong place.</summary>
    private string[] Doubts(Gemma2Model model, SaeTarget[] targets, TokenSet tokens, string? ofTokens)
    {
        List<string> doubts = [];
        if (ofTokens is not null)
        {
            Streams.Warn(ofTokens);
            doubts.Add(ofTokens);
        }

        foreach (SaeTarget target in targets)
        {
            if (SaePlacement.Find(model, target, tokens, Cancellation, SiteSearch.DefaultTokens) is not string sentence)
                continue;
            Streams.Warn(sentence);
            doubts.Add(sentence);
        }

        return [.. doubts];
    }

    private static HookPoint? Point(ParseResult parsed, Option<string?> option) => parsed.GetValue(option) is string text
        ? Parsing.Point(text, option.Name) : null;
}
