using System.CommandLine;
using System.Diagnostics;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary>Model, SAEs and device of a run, opened to plan it or to work on it.</summary>
internal sealed class RunParts : IDisposable
{
    // What a plan is made with, before its corpus says how long its sequences are.
    private const int PlanContext = 1024;

    private readonly List<SaeFiles> _saes;
    private readonly List<JumpReluSae> _loaded = [];
    private Gemma2Model? _model;

    private RunParts(ModelFiles files, List<SaeFiles> saes, Device device)
    {
        (Files, _saes, Device) = (files, saes, device);
    }

    public ModelFiles Files { get; }

    public Device Device { get; }

    public Gemma2Model Model => _model ?? throw new InvalidOperationException("the model is not on the device.");

    /// <summary>The SAEs, in the order of the plan.</summary>
    public IReadOnlyList<JumpReluSae> Saes => _loaded;

    /// <summary>The device's class with the weights as they were loaded.</summary>
    public string DeviceClass => RunIdentity.DeviceClass(Device, Model.Weights.Head.IsPacked);

    /// <summary>Opens what a new run is planned with.</summary>
    public static RunParts Open(ParseResult parsed, CommonOptions common, PlanOptions options, Streams streams, int threads)
    {
        ModelFiles files = ModelFiles.Open(common.ModelOf(parsed), common.NoMapOf(parsed));
        var saes = new List<SaeFiles>();
        try
        {
            foreach (string name in options.SaesOf(parsed))
                saes.Add(SaeOptions.Open(name, options.SiteOf(parsed), null, files));
            return Open(files, saes, parsed, common, streams, common.DeviceOf(parsed), common.PrecisionOf(parsed),
                Math.Min(PlanContext, files.Config.ContextLength), threads);
        }
        catch
        {
            saes.ForEach(s => s.Dispose());
            files.Dispose();
            throw;
        }
    }

    /// <summary>Opens what a planned run needs, and holds it to the plan.</summary>
    /// <param name="saePaths">Where SAEs are that are not found by their names.</param>
    /// <exception cref="UsageException">It is another model, SAE, precision or class of device than the plan's: retrying cannot
    /// help.</exception>
    public static RunParts Open(ParseResult parsed, CommonOptions common, RunPlan plan, IReadOnlyList<string> saePaths, Streams streams,
        int threads, CancellationToken cancellation)
    {
        if (common.HasPrecision(parsed) && common.PrecisionOf(parsed) != PrecisionOf(plan))
            throw new UsageException($"--precision contradicts the plan, which is {plan.Precision}.");
        ModelFiles files = OpenModel(parsed, common, plan);
        var saes = new List<SaeFiles>();
        RunParts? parts = null;
        try
        {
            RequireModel(files, plan, cancellation);
            saes.AddRange(FindSaes(files, plan.Evaluation is { } evaluation ? [.. evaluation.Saes.Select(s => (s.Sae, s.SiteOut))]
                : [.. plan.Saes.Select(s => (s, (HookPoint?)null))], saePaths));
            string device = common.HasDevice(parsed) ? common.DeviceOf(parsed) : RunIdentity.DeviceOf(plan.DeviceClass);
            parts = Open(files, saes, parsed, common, streams, device, PrecisionOf(plan), plan.Context, threads);
            parts.Load(streams, cancellation, RunIdentity.IsPacked(plan.DeviceClass));
            if (parts.DeviceClass != plan.DeviceClass)
                throw new UsageException($"this device is of the class '{parts.DeviceClass}', and the run was planned for " +
                    $"'{plan.DeviceClass}': its sums would have other last bits.");
            return parts;
        }
        catch
        {
            parts?.Dispose();
            saes.ForEach(s => s.Dispose());
            files.Dispose();
            throw;
        }
    }

    /// <summary>Brings model and SAEs to the device.</summary>
    public void Load(Streams streams, CancellationToken cancellation, bool usePacked = true)
    {
        _model = Files.Load(Device, streams, cancellation, usePacked ? PanelUse.Exact : PanelUse.None);
        foreach (SaeFiles sae in _saes)
            _loaded.Add(sae.Load(Device));
    }

    /// <summary>What a plan remembers of the SAEs.</summary>
    public SaeRecord[] SaeRecords()
    {
        var records = new List<SaeRecord>();
        foreach (SaeFiles sae in _saes)
        {
            string id = RunIdentity.IdOf(sae.Name, [.. records.Select(r => r.Id)]);
            bool isPath = File.Exists(sae.Name) || Directory.Exists(sae.Name);
            records.Add(new SaeRecord(id, isPath ? id : sae.Name, RunIdentity.Of(sae.Checkpoint), sae.Site, sae.Config.FeatureCount));
        }

        return [.. records];
    }

    /// <summary>What a plan remembers of the model.</summary>
    public ModelRecord ModelRecord(Streams streams, CancellationToken cancellation)
    {
        if (Files.WeightBytes > 1L << 30)
            streams.Error.WriteLine($"Hashing {ByteText.Of(Files.WeightBytes)} of weights.");
        string name = Files.IsDemo || !Directory.Exists(Files.Name) ? Files.Name
            : Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(Files.Name)));
        return RunIdentity.Of(name, Files.Checkpoint, cancellation);
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

    public void Dispose()
    {
        _loaded.ForEach(s => s.Dispose());
        _saes.ForEach(s => s.Dispose());
        _model?.Dispose();
        Files.Dispose();
        Device.Dispose();
    }

    /// <summary>What makes the shards of a planned run.</summary>
    public IShardMaker Maker(RunFolder folder, RunPlan plan) => plan.Evaluation is null ? new ShardHarvest(folder, plan, Model, Saes)
        : new ShardEvaluation(folder, plan, Model, Saes);

    private static RunParts Open(ModelFiles files, List<SaeFiles> saes, ParseResult parsed, CommonOptions common, Streams streams,
        string device, Precision precision, int context, int threads)
    {
        (string, long)[] needs = [("weights", files.WeightBytes), ("SAEs", saes.Sum(s => s.Bytes)),
            ("context", Session.BytesFor(files.Config, context))];
        Device opened = threads > 0 && device is ("cpu" or "auto")
            ? new Cpu.CpuDevice(threads, precision) : common.OpenDevice(parsed, streams, device, precision, Precision.Exact, needs);
        return new RunParts(files, saes, opened);
    }

    /// <summary>The model of a run, where --model or the run's own name leads.</summary>
    /// <exception cref="UsageException">It is not found.</exception>
    public static ModelFiles OpenModel(ParseResult parsed, CommonOptions common, RunPlan plan)
    {
        if (common.HasModel(parsed))
            return ModelFiles.Open(common.ModelOf(parsed), common.NoMapOf(parsed));
        try
        {
            return ModelFiles.Open(plan.Model.Name, common.NoMapOf(parsed));
        }
        catch (InvalidDataException e)
        {
            throw new UsageException($"the run's model '{plan.Model.Name}' is not found here; --model DIR says where it is " +
                $"({e.Message.TrimEnd('.')}).");
        }
    }

    private static void RequireModel(ModelFiles files, RunPlan plan, CancellationToken cancellation)
    {
        ModelRecord found = RunIdentity.Of(plan.Model.Name, files.Checkpoint, cancellation);
        // By content: what a file is called does not change what it computes.
        if (found.ConfigSha256 != plan.Model.ConfigSha256 || !found.Files.Select(f =>
            f.Sha256).SequenceEqual(plan.Model.Files.Select(f => f.Sha256)))
            throw new UsageException($"{files.Name} is another model than the run's '{plan.Model.Name}': " +
                $"{(found.ConfigSha256 != plan.Model.ConfigSha256 ? "its settings differ" : "its weights differ")}.");
    }

    private static List<SaeFiles> FindSaes(ModelFiles model, (SaeRecord Sae, HookPoint? SiteOut)[] records, IReadOnlyList<string> paths)
    {
        var given = new List<SaeFiles>();
        var found = new List<SaeFiles>();
        try
        {
            given.AddRange(paths.Select(p => SaeFiles.Open(p, model.IntoMemory)));
            Dictionary<string, SaeFiles> byHash = [];
            foreach (SaeFiles sae in given)
                byHash.TryAdd(RunIdentity.Of(sae.Checkpoint), sae);
            foreach ((SaeRecord record, HookPoint? siteOut) in records)
            {
                SaeFiles sae = byHash.TryGetValue(record.Sha256, out SaeFiles? known) && !found.Contains(known) ? known
                    : OpenByName(record, model);
                found.Add(sae);
                if (RunIdentity.Of(sae.Checkpoint) != record.Sha256)
                    throw new UsageException($"{sae.Name} is another SAE than the run's '{record.Id}'; --sae PATH says where that is.");
                sae.Place(model, record.Site, siteOut);
            }

            return found;
        }
        catch
        {
            foreach (SaeFiles sae in given.Concat(found).Distinct())
                sae.Dispose();
            throw;
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
