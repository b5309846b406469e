using System.CommandLine;
using KernelScope.Evaluation;
using KernelScope.Training;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary><c>merge</c>: folds what the shards of a run hold.</summary>
internal sealed class MergeCommand : Verb
{
    private readonly Argument<string> _run = new("RUN") { Description = "The run's folder." };
    private readonly Option<string> _what = new("--what")
    {
        Description = "statistics: rows, means and norms of each site (JSON). Of an SAE's codes: density: how often and how strongly " +
            "each feature fires; examples: where, the strongest and random ones; transpose: the codes by feature (a folder). Of 'work " +
            "--what eval': eval, the JSON of 'eval --run'.",
        HelpName = "statistics|density|examples|transpose|eval",
        Required = true,
    };

    private readonly Option<string?> _sae = new("--sae")
    {
        Description = "Which SAE of the run, by its id, if it has several.",
        HelpName = "ID",
    };
    private readonly Option<string?> _out = new("--out") { Description = "Where. Default: in the run's folder 'merged'.", HelpName = "F" };
    private readonly Option<bool> _partial = new("--partial")
    {
        Description = "Merge the shards that are there, although some are missing.",
    };
    private readonly Option<int> _top = new("--top")
    {
        Description = "Strongest examples of each feature.",
        HelpName = "N",
        DefaultValueFactory = _ => 20,
    };
    private readonly Option<int> _random = new("--random")
    {
        Description = "Random examples of each feature.",
        HelpName = "N",
        DefaultValueFactory = _ => 20,
    };
    private readonly Option<int> _window = new("--window")
    {
        Description = "Tokens on each side of an example: examples whose windows hold the same tokens are shown once.",
        HelpName = "N",
        DefaultValueFactory = _ => 16,
    };

    public MergeCommand(CommonOptions common, VerbEnvironment environment) : base(
        "merge",
        "Folds the results of a run's shards, in the order of the shards: the same bytes whoever computed them, one worker or many.",
        "  kernelscope harvest --out run --text-file demo --sites resid_post.3 --sae res.3.2k.l0_19 --context 64 --shard-sequences 2\n" +
        "  kernelscope merge run --what statistics\n" +
        "  kernelscope merge run --what examples --top 5 --out examples.safetensors\n" +
        "  kernelscope work run --what eval --sae res.3.2k.l0_19\n" +
        "  kernelscope merge run --what eval",
        common,
        environment)
    {
        Arguments.Add(_run);
        _what.CompletionSources.Add("statistics", "density", "examples", "transpose", EvaluationRuns.Eval);
        _what.Validators.Add(r => Parsing.Require(r, _what,
            v => v is "statistics" or "density" or "examples" or "transpose" or EvaluationRuns.Eval,
            "'{0}' cannot be merged: there are statistics, density, examples, transpose and eval."));
        foreach (Option<int> option in (Option<int>[])[_top, _random, _window])
            option.Validators.Add(r => Parsing.Require(r, option, v => v is >= 0 and <= 4096,
                $"{option.Name} is {{0}}; it must be 0 to 4096."));
        foreach (Option option in (Option[])[_what, _sae, _out, _partial, _top, _random, _window])
            Options.Add(option);
    }

    public override CommonUse Uses => CommonUse.Json;

    protected override void CheckOptions(ParseResult parsed)
    {
        string? what = parsed.GetValue(_what);
        Belongs(parsed, what is not ("statistics" or EvaluationRuns.Eval), "--what density, examples or transpose", _sae);
        if (what == EvaluationRuns.Eval && parsed.GetValue(_partial))
            throw new UsageException("--partial does not go with --what eval: an evaluation is merged whole.");
        Belongs(parsed, what == "examples", "--what examples", _top, _random, _window);
    }

    protected override int Run(ParseResult parsed)
    {
        (RunFolder folder, RunPlan plan) = RunSteps.Open(parsed.GetRequiredValue(_run));
        string what = parsed.GetRequiredValue(_what);
        if (what == EvaluationRuns.Eval)
            return Evaluation(parsed, folder, plan);
        if (plan.Evaluation is not null)
            throw new WorkException($"{Printable.Escape(folder.Path)} is an evaluation: it has no {what}, and is merged by --what eval.");
        SaeRecord? sae = what == "statistics" ? null : Sae(parsed, plan);
        string path = Place(parsed, folder, sae is null ? "statistics.json"
            : $"{what}.{sae.Id}{(what == "transpose" ? "" : ".safetensors")}");
        MergedFile merged;
        using (var progress = new Progress(Streams, $"Merging {what}"))
        {
            RunMerge merge = RunMerge.Open(folder, plan, parsed.GetValue(_partial));
            merged = what switch
            {
                "statistics" => merge.Statistics(path),
                "density" => merge.Density(sae!, path, progress, Cancellation),
                "examples" => merge.Examples(sae!, parsed.GetValue(_top), parsed.GetValue(_random), parsed.GetValue(_window), path,
                    progress, Cancellation),
                _ => Transpose(merge, sae!, path, progress),
            };
        }

        return Print(parsed, plan, what, merged);
    }

    /// <summary>All files of the folder, or none: of an earlier one no file stays.</summary>
    private MergedFile Transpose(RunMerge merge, SaeRecord sae, string path, IProgress<double> progress)
    {
        if (Path.GetDirectoryName(Path.GetFullPath(path)) is string above && !File.Exists(path))
            OutputPlace.CreateFolder(above);
        using FolderInProgress folder = FolderInProgress.Create(path, CodeTranspose.IsFolder);
        MergedFile merged = merge.Transpose(sae, folder.Path, progress, Cancellation);
        folder.Commit();
        return merged with { File = path };
    }

    /// <summary>Where the result goes: to --out, else under its name to the run's own folder, which is made.</summary>
    private string Place(ParseResult parsed, RunFolder folder, string name)
    {
        if (parsed.GetValue(_out) is string path)
        {
            if (path.Length == 0)
                throw new UsageException("--out is empty; it needs a file.");
            RunSteps.RequireApart(folder, ("--out", path));
            return path;
        }

        OutputPlace.CreateFolder(folder.MergedFolder);
        return Path.Combine(folder.MergedFolder, name);
    }

    private int Print(ParseResult parsed, RunPlan plan, string what, MergedFile merged)
    {
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, new MergeResult(plan.Id, what, merged.Shards, merged.Rows, merged.File, merged.Sha256));
        else
            Streams.Output.WriteLine($"{Printable.Escape(merged.File)}: {what} of {merged.Shards} of {plan.Shards.Count} shards, " +
                $"{merged.Rows} rows; SHA-256 {merged.Sha256}");
        return ExitCode.Done;
    }

    /// <summary>The document that 'eval --run --json' prints, from the scores of an evaluation's shards.</summary>
    private int Evaluation(ParseResult parsed, RunFolder run, RunPlan runPlan)
    {
        (RunFolder folder, RunPlan plan) = EvaluationRuns.Find(run, runPlan);
        string path = Place(parsed, folder, "eval.json");
        RunMerge merge;
        EvaluationResult result;
        using (var progress = new Progress(Streams, "Merging eval"))
        {
            merge = RunMerge.Open(folder, plan, partial: false);
            result = merge.Evaluation(new Bootstrap(), progress, Cancellation);
        }

        using var bytes = new MemoryStream();
        EvalView.WriteJson(bytes, result, plan.Model.Name, [("run", plan.Evaluation!.Run)]);
        return Print(parsed, plan, EvaluationRuns.Eval, merge.Write(path, bytes.ToArray()));
    }

    private SaeRecord Sae(ParseResult parsed, RunPlan plan)
    {
        string there = plan.Saes.Count == 0 ? "the run holds no codes"
            : $"the run holds codes of {string.Join(", ", plan.Saes.Select(s => s.Id))}";
        if (parsed.GetValue(_sae) is string id)
            return plan.Saes.FirstOrDefault(s => s.Id == id)
                ?? throw new WorkException($"there is no SAE '{Printable.Escape(id)}': {there}.");
        return plan.Saes.Count == 1 ? plan.Saes[0] : throw new WorkException(plan.Saes.Count == 0
            ? $"{there}: 'harvest --sae PATH' writes them." : $"{there}; --sae ID says which.");
    }
}
