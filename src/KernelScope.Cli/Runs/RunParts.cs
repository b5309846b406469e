using System.CommandLine;
using System.Diagnostics;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Sae;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary>Opens the workbench of a run, to plan it or to work on it, and says what a plan remembers of it.</summary>
internal static class RunParts
{
    // What a plan is made with, before its corpus says how long its sequences are.
    private const int PlanContext = 1024;

    /// <summary>Opens what a new run is planned with.</summary>
    /// <param name="threads">Threads of the cpu, one of several workers in this process; 0: there is one worker.</param>
    public static Workbench Open(ParseResult parsed, Verb verb, PlanOptions options, int threads)
    {
        var bench = Workbench.Open(parsed, verb);
        try
        {
            foreach (string name in options.SaesOf(parsed))
                bench.AddSae(name, options.SiteOf(parsed));
            OpenDevice(bench, Math.Min(PlanContext, bench.Files.Config.ContextLength), threads);
            return bench;
        }
        catch
        {
            bench.Dispose();
            throw;
        }
    }

    /// <summary>Opens what a planned run needs, and holds it to the plan.</summary>
    /// <param name="saePaths">Where SAEs are that are not found by their names.</param>
    /// <param name="threads">Threads of the cpu, one of several workers in this process; 0: there is one worker.</param>
    /// <param name="cancellation">Ends the reading.</param>
    /// <exception cref="UsageException">It is another model, SAE, precision or class of device than the plan's: retrying cannot
    /// help.</exception>
    public static Workbench Open(ParseResult parsed, Verb verb, RunPlan plan, IReadOnlyList<string> saePaths, int threads,
        CancellationToken cancellation)
    {
        CommonOptions common = verb.Common;
        if (common.HasPrecision(parsed) && common.PrecisionOf(parsed) != PrecisionOf(plan))
            throw new UsageException($"--precision contradicts the plan, which is {plan.Precision}.");
        Workbench bench = OpenModel(parsed, verb, plan);
        try
        {
            RequireModel(bench.Files, plan, cancellation);
            FindSaes(bench, plan.Evaluation is { } evaluation ? [.. evaluation.Saes.Select(s => (s.Sae, s.SiteOut))]
                : [.. plan.Saes.Select(s => (s, (HookPoint?)null))], saePaths);
            if (!common.HasDevice(parsed))
                bench.DeviceName = RunIdentity.DeviceOf(plan.DeviceClass);
            (bench.Precision, bench.Cancellation) = (PrecisionOf(plan), cancellation);
            bench.Panels = RunIdentity.IsPacked(plan.DeviceClass) ? PanelUse.Exact : PanelUse.None;
            OpenDevice(bench, plan.Context, threads);
            bench.LoadWeights();
            if (bench.DeviceClass() != plan.DeviceClass)
                throw new UsageException($"this device is of the class '{bench.DeviceClass()}', and the run was planned for " +
                    $"'{plan.DeviceClass}': its sums would have other last bits.");
            return bench;
        }
        catch
        {
            bench.Dispose();
            throw;
        }
    }

    /// <summary>The device's class with the weights as they were loaded.</summary>
    public static string DeviceClass(this Workbench bench) => RunIdentity.DeviceClass(bench.Device, bench.Model.Weights.Head.IsPacked);

    /// <summary>What a plan remembers of the SAEs.</summary>
    public static SaeRecord[] SaeRecords(this Workbench bench)
    {
        var records = new List<SaeRecord>();
        foreach (SaeFiles sae in bench.Saes)
        {
            string id = RunIdentity.IdOf(sae.Name, [.. records.Select(r => r.Id)]);
            bool isPath = File.Exists(sae.Name) || Directory.Exists(sae.Name);
            records.Add(new SaeRecord(id, isPath ? id : sae.Name, RunIdentity.Of(sae.Checkpoint), sae.Site, sae.Config.FeatureCount));
        }

        return [.. records];
    }

    /// <summary>What a plan remembers of the model.</summary>
    public static ModelRecord ModelRecord(this Workbench bench)
    {
        ModelFiles files = bench.Files;
        if (files.WeightBytes > 1L << 30)
            bench.Verb.Streams.Error.WriteLine($"Hashing {ByteText.Of(files.WeightBytes)} of weights.");
        string name = files.IsDemo || !Directory.Exists(files.Name) ? files.Name
            : Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(files.Name)));
        return RunIdentity.Of(name, files.Checkpoint, bench.Cancellation);
    }

    /// <summary>Seconds that a token takes, measured with a part of a run's first sequence.</summary>
    public static double SecondsPerToken(ShardHarvest harvest, ReadOnlySpan<int> ids, CancellationToken cancellation)
    {
        const int Sample = 256;
        ids = ids[..Math.Min(ids.Length, Sample)];
        harvest.RunOnly(ids, cancellation);
        long start = Stopwatch.GetTimestamp();
        harvest.RunOnly(ids, cancellation);
        return Stopwatch.GetElapsedTime(start).TotalSeconds / ids.Length;
    }

    /// <summary>What writes the rows and codes of a planned run.</summary>
    public static ShardHarvest Harvest(this Workbench bench, RunFolder folder, RunPlan plan) =>
        new(folder, plan, bench.Model, SaesOf(bench));

    /// <summary>What makes the shards of a planned run.</summary>
    public static IShardMaker Maker(this Workbench bench, RunFolder folder, RunPlan plan) => plan.Evaluation is null
        ? bench.Harvest(folder, plan) : new ShardEvaluation(folder, plan, bench.Model, SaesOf(bench));

    private static JumpReluSae[] SaesOf(Workbench bench) => [.. bench.Saes.Select(s => s.Sae)];

    private static void OpenDevice(Workbench bench, int context, int threads)
    {
        bench.Threads = threads > 0 ? threads : bench.Threads;
        // Of several workers the first has asked whether there is memory.
        bench.OpenDevice(threads > 0 ? [] : [("weights", bench.Files.WeightBytes), ("SAEs", bench.SaeBytes),
            ("context", bench.ContextBytes(context))]);
    }

    /// <summary>The model of a run, where --model or the run's own name leads.</summary>
    /// <exception cref="UsageException">It is not found.</exception>
    public static Workbench OpenModel(ParseResult parsed, Verb verb, RunPlan plan)
    {
        if (verb.Common.HasModel(parsed))
            return Workbench.Open(parsed, verb);
        try
        {
            return Workbench.Open(parsed, verb, plan.Model.Name);
        }
        catch (Exception e) when (e is InvalidDataException or WorkException)
        {
            throw new UsageException($"the run's model '{plan.Model.Name}' is not found here; --model DIR says where it is " +
                $"({e.Message.TrimEnd('.')}).");
        }
    }

    /// <summary>The files of the model that a run was made with, where nothing but the model is needed.</summary>
    /// <param name="given">Where it is; null: where the run's own name leads.</param>
    /// <param name="plan">The run's plan.</param>
    /// <param name="intoMemory">Whether weights are read into memory, not mapped.</param>
    /// <param name="cancellation">Ends the reading.</param>
    /// <exception cref="UsageException">The run's model is not found here, or what is found is another.</exception>
    /// <exception cref="InvalidDataException">What was given is not a model.</exception>
    public static ModelFiles OpenFiles(string? given, RunPlan plan, bool intoMemory, CancellationToken cancellation)
    {
        ModelFiles files;
        try
        {
            files = ModelFiles.Open(given ?? plan.Model.Name, intoMemory);
        }
        catch (Exception e) when (given is null && e is InvalidDataException or WorkException)
        {
            throw new UsageException($"the run's model '{plan.Model.Name}' is not found here ({e.Message.TrimEnd('.')})");
        }

        if (Difference(files, plan, cancellation) is null)
            return files;
        string name = files.Name;
        files.Dispose();
        throw new UsageException($"{name} is another model than the run's '{plan.Model.Name}'.");
    }

    /// <summary>Holds a model to a run's, by the content of all its files.</summary>
    /// <exception cref="UsageException">It is another one.</exception>
    public static void RequireModel(ModelFiles files, RunPlan plan, CancellationToken cancellation)
    {
        if (Difference(files, plan, cancellation) is string difference)
            throw new UsageException($"{files.Name} is another model than the run's '{plan.Model.Name}': {difference}.");
    }

    /// <summary>In what a model differs from a run's; null: in nothing. By content: what a file is called does not change what it computes.</summary>
    private static string? Difference(ModelFiles files, RunPlan plan, CancellationToken cancellation)
    {
        ModelRecord found = RunIdentity.Of(plan.Model.Name, files.Checkpoint, cancellation);
        return found.ConfigSha256 != plan.Model.ConfigSha256 ? "its settings differ"
            : found.Files.Select(f => f.Sha256).SequenceEqual(plan.Model.Files.Select(f => f.Sha256)) ? null : "its weights differ";
    }

    private static void FindSaes(Workbench bench, (SaeRecord Sae, HookPoint? SiteOut)[] records, IReadOnlyList<string> paths)
    {
        Dictionary<string, SaeFiles> byHash = [];
        foreach (SaeFiles sae in paths.Select(p => bench.Own(SaeFiles.Open(p, bench.Files.IntoMemory))))
            byHash.TryAdd(RunIdentity.Of(sae.Checkpoint), sae);
        foreach ((SaeRecord record, HookPoint? siteOut) in records)
        {
            SaeFiles sae = bench.Add(byHash.TryGetValue(record.Sha256, out SaeFiles? known) && !bench.Saes.Contains(known) ? known
                : OpenByName(record, bench.Files));
            if (RunIdentity.Of(sae.Checkpoint) != record.Sha256)
                throw new UsageException($"{sae.Name} is another SAE than the run's '{record.Id}'; --sae PATH says where that is.");
            sae.Place(bench.Files, record.Site, siteOut);
        }
    }

    private static SaeFiles OpenByName(SaeRecord record, ModelFiles model)
    {
        try
        {
            return SaeFiles.Open(record.Name, model.IntoMemory);
        }
        catch (Exception e) when (e is InvalidDataException or WorkException)
        {
            throw new UsageException($"the run's SAE '{record.Id}' is not found here; --sae PATH says where it is " +
                $"({e.Message.TrimEnd('.')}).");
        }
    }

    private static Precision PrecisionOf(RunPlan plan) => plan.Precision == "fast" ? Precision.Fast : Precision.Exact;
}
