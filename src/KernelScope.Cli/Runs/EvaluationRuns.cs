using System.CommandLine;
using KernelScope.Hooks;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary>Evaluations over a run. Each is a run of its own, in the folder <c>evals</c> of the first, whose shards hold scores: what works
/// on runs works on them.</summary>
internal static class EvaluationRuns
{
    /// <summary>What --what may say of a run's shards.</summary>
    public const string Eval = "eval", Rows = "rows";

    /// <summary>The option that leads from a run to its evaluation.</summary>
    public static Option<string> What(string description)
    {
        var what = new Option<string>("--what") { Description = description, HelpName = "rows|eval", DefaultValueFactory = _ => Rows };
        what.CompletionSources.Add(Rows, Eval);
        what.Validators.Add(r => Parsing.Require(r, what, v => v is Rows or Eval,
            "'{0}' is not what shards hold: there are rows and eval."));
        return what;
    }

    /// <summary>The one evaluation over a run.</summary>
    /// <exception cref="InvalidDataException">There is none, or there are several.</exception>
    public static (RunFolder Folder, RunPlan Plan) Find(RunFolder folder, RunPlan plan)
    {
        if (plan.Evaluation is not null)
            return (folder, plan);
        RunFolder[] found = All(folder);
        return found switch
        {
            [] => throw new InvalidDataException($"{Printable.Escape(folder.Path)}: there is no evaluation over this run; 'work RUN " +
                "--what eval --sae PATH' makes one."),
            [RunFolder one] => (one, RunPlan.Read(one)),
            _ => throw new InvalidDataException($"{Printable.Escape(folder.Path)}: there are several evaluations over this run; name the " +
                $"folder of one instead: {string.Join(", ", found.Select(Describe))}."),
        };
    }

    /// <summary>Plans the evaluation of SAEs over a run, and writes its plan where it is missing. SAEs are known by what they hold: another
    /// path to them is not another evaluation.</summary>
    /// <exception cref="WorkException">An SAE is not found, or does not fit the model.</exception>
    /// <exception cref="InvalidDataException">The run leaves out what no evaluation can.</exception>
    public static (RunFolder Folder, RunPlan Plan) Plan(ParseResult parsed, Verb verb, RunFolder folder, RunPlan run,
        IReadOnlyList<string> names, HookPoint? site, HookPoint? siteOut, bool gradients)
    {
        if (run.Evaluation is not null)
            throw new UsageException("RUN is an evaluation already, and has its SAEs: --sae belongs to the run that it is over.");
        using Workbench bench = RunParts.OpenModel(parsed, verb, run);
        var saes = new List<EvaluationSae>();
        foreach (string name in names)
        {
            SaeFiles sae = bench.AddSae(name, site, siteOut);
            string id = RunIdentity.IdOf(name, [.. saes.Select(s => s.Sae.Id)]);
            bool isPath = File.Exists(name) || Directory.Exists(name);
            saes.Add(new EvaluationSae(new SaeRecord(id, isPath ? id : name, RunIdentity.Of(sae.Checkpoint), sae.Site,
                sae.Config.FeatureCount), sae.SiteOut, sae.Config.InputDim, sae.Config.OutputDim));
        }

        foreach (RunFolder there in All(folder))
        {
            RunPlan other = RunPlan.Read(there);
            if (other.Evaluation is { } its && (its.Run, its.Gradients) == (run.Id, gradients) && its.Saes.Select(What).SequenceEqual(
                saes.Select(What)))
                return (there, other);
        }

        RunPlan plan = run with
        {
            Sites = [],
            Saes = [],
            CodeVersion = PlanOptions.Version(),
            CodeCommit = PlanOptions.Commit(),
            Evaluation = new EvaluationRecord(run.Id, saes, gradients, bench.Files.Config.LayerCount),
        };
        RunFolder own = folder.Evaluation(plan.Id);
        RunPlanner.RequireOwn(own, plan);
        PlacedFile.Write(own.PlanPath, plan.ToBytes());
        return (own, plan);
    }

    private static RunFolder[] All(RunFolder run) =>
        [.. (Directory.Exists(run.EvaluationsFolder) ? Directory.GetDirectories(run.EvaluationsFolder) : []).Order(StringComparer.Ordinal)
            .Select(path => new RunFolder(path)).Where(f => File.Exists(f.PlanPath))];

    private static (string, HookPoint, HookPoint) What(EvaluationSae sae) => (sae.Sae.Sha256, sae.Sae.Site, sae.SiteOut);

    private static string Describe(RunFolder folder) =>
        $"{Printable.Escape(folder.Path)} ({string.Join(", ", RunPlan.Read(folder).Evaluation?.Saes.Select(s => s.Sae.Id) ?? [])})";
}
