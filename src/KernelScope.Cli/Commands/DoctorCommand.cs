using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;
using KernelScope.Cuda;
using KernelScope.Emulated;
using KernelScope.Files;
using KernelScope.Hub.Catalog;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary><c>doctor</c>: what this machine offers, what a model and an SAE need, and why something would not run.</summary>
internal sealed class DoctorCommand : Verb
{
    private readonly SaeOptions _sae;
    private readonly Option<int?> _context = new("--context")
    {
        Description = "How many tokens the context is to hold. Default: all that the model was made for.",
        HelpName = "N",
    };

    private readonly Option<bool> _beforeDownload = new("--before-download")
    {
        Description = "Answer for a published model or SAE that is not here as if it were: exit code 0 if it will fit.",
    };

    public DoctorCommand(CommonOptions common, VerbEnvironment environment) : base(
        "doctor",
        "Says what this machine offers (devices, instruction sets, memory), what the model and an SAE need with a full context on " +
        "each device, and why something would not run. Exit code 1 if they would not run on the device of --device.\n" +
        "Of a published Gemma 2 that is not downloaded yet it says whether it will fit, in float32 and in bfloat16. The exit code is " +
        "1, since it is not here; with --before-download it is 0 if it will fit in the type in which it is published.\n" +
        "With --sae it also runs a sample text: whether the SAE is as sparse as its path says and reconstructs, and if not, which " +
        "site nearby fits better.",
        "  kernelscope doctor --sae res.3.2k.l0_19\n" +
        "  kernelscope doctor --kv bf16",
        common,
        environment)
    {
        _context.Validators.Add(r => Parsing.Require(r, _context, v => v >= 1, "--context is {0}; it must be 1 or more."));
        Options.Add(_context);
        Options.Add(_beforeDownload);
        _sae = new SaeOptions(this);
    }

    public override CommonUse Uses => CommonUse.All | CommonUse.Kv;

    protected override void CheckOptions(ParseResult parsed)
    {
        Option[] computing = [.. Common.Each.Where(o => o.Use is CommonUse.Precision or CommonUse.Threads).Select(o => o.Option)];
        Belongs(parsed, _sae.IsGiven(parsed), "--sae", [.. _sae.Places, .. computing]);
    }

    protected override int Run(ParseResult parsed)
    {
        string asked = Common.DeviceOf(parsed);
        NeedRow model = Model(Common.ModelOf(parsed), parsed.GetValue(_context), Common.KvOf(parsed));
        NeedRow? sae = _sae.IsGiven(parsed) ? Sae(_sae.NameOf(parsed)!) : null;
        IReadOnlyList<DeviceProbe> devices = DeviceProbe.All(asked);
        FitBeforeRow[] before = model.Ok ? [] : Before(parsed, sae, devices);
        DeviceFitRow[] needs = model.Ok ? [.. devices.Select(d => d.Hold(Needs(model, sae, d)))] : [];
        bool fits = devices.Zip(needs).Any(d => d.First.Answers(asked) && d.Second.Ok);
        // What a download brings is the type in which the model is published; the other is told for who converts it.
        if (before.Length > 0)
            fits = devices.Any(d => d.Answers(asked) && before.Single(b => b.IsPublished).Needs.Any(n => n.Device == d.Name && n.Ok));
        FitResult? fit = null;
        if (model.Ok && fits && sae is { Ok: true })
            (sae, fit) = Examine(parsed, sae);
        bool saeIsFine = sae is not { Ok: false } || (before.Length > 0 && ReleaseCatalog.TryParse(sae.Name, out _));
        bool wouldRun = (model.Ok || before.Length > 0) && fits && saeIsFine;
        var result = new DoctorResult(
            ProgramVersion.Text,
            RuntimeInformation.FrameworkDescription,
            RuntimeInformation.OSDescription,
            RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant(),
            Environment.ProcessorCount,
            Simd(),
            new MemoryRow(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes, MemoryCheck.Available()),
            Devices(devices),
            model,
            sae)
        {
            Fit = fit,
            Kernels = DeviceProbe.Kernels(),
            Needs = needs,
            BeforeDownload = before.Length > 0 ? before : null,
            WouldRun = wouldRun
        };
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            Print(result);
        bool isHere = (model.Ok && sae is not { Ok: false }) || parsed.GetValue(_beforeDownload);
        return wouldRun && isHere ? ExitCode.Done : ExitCode.Failed;
    }

    // The cpu reads packed weights where there are some; other devices hold what the files have.
    private static (string What, long Bytes)[] Needs(NeedRow model, NeedRow? sae, DeviceProbe device)
    {
        bool isPacked = device.Name == "cpu" && model.PackedWeightBytes is not null;
        return
        [
            ("weights", isPacked ? model.PackedWeightBytes!.Value : model.WeightBytes),
            ("context", device.IsCuda ? model.CudaContextBytes : model.ContextBytes),
            ("SAE", sae?.WeightBytes ?? 0),
        ];
    }

    /// <summary>What a published model that is not here would need on each device, in the type in which it is published and in the other.</summary>
    private FitBeforeRow[] Before(ParseResult parsed, NeedRow? sae, IReadOnlyList<DeviceProbe> devices)
    {
        if (ReleasedModel.Find(Common.ModelOf(parsed)) is not ReleasedModel released || released.IsCached)
            return [];
        int tokens = Context(parsed.GetValue(_context), released.Config, released.Name);
        long ContextOn(DeviceProbe device) =>
            Session.BytesFor(released.Config, tokens, device.IsCuda ? CudaDevice.PreferredChunkLength : 0, Common.KvOf(parsed));
        bool isPublished = sae is { Ok: false } && ReleaseCatalog.TryParse(sae.Name, out _);
        long saeBytes = isPublished ? ReleaseCatalog.Parse(sae!.Name).ParameterBytes : sae?.WeightBytes ?? 0;
        DeviceProbe[] there = [.. devices.Where(d => d.Problem is null)];
        return
        [
            .. from type in new[] { DType.F32, DType.BF16 }
               select new FitBeforeRow(
                   ReleasedModel.NameOf(type),
                   type == released.Stored,
                   released.BytesIn(type),
                   [.. there.Select(d => d.Hold([("weights", released.BytesIn(type)), ("context", ContextOn(d)), ("SAE", saeBytes)]))]),
        ];
    }

    private static int Context(int? asked, Gemma2Config config, string name) => asked is not int tokens ? config.ContextLength
        : tokens <= config.ContextLength ? tokens
        : throw new UsageException($"--context is {tokens}; the context of {name} holds {config.ContextLength}.");

    private static NeedRow Model(string name, int? asked, DType kv)
    {
        try
        {
            using ModelFiles files = ModelFiles.Open(name);
            // A chat template that cannot be used is told here, not at the first --chat.
            _ = files.Tokenizer is null ? null : files.Chat;
            int context = Context(asked, files.Config, name);
            (string Path, string? Problem)? packed = files.Packed();
            return new NeedRow(name, true, null, files.WeightBytes, context, Session.BytesFor(files.Config, context, 0, kv))
            {
                CudaContextBytes = Session.BytesFor(files.Config, context, CudaDevice.PreferredChunkLength, kv),
                Packed = packed?.Path,
                PackedProblem = packed?.Problem,
                PackedWeightBytes = packed is { Problem: null } ? files.WeightBytesOn("cpu") : null,
                Remarks = files.Remarks.Count > 0 ? [.. files.Remarks] : null,
            };
        }
        catch (WorkException e) when (ReleasedModel.Find(name) is ReleasedModel released)
        {
            int context = Context(asked, released.Config, name);
            long bytes = Session.BytesFor(released.Config, context, 0, kv);
            return new NeedRow(name, false, e.Message, released.BytesIn(released.Stored), context, bytes);
        }
        catch (Exception e) when (e is InvalidDataException or IOException or ArgumentException or WorkException)
        {
            return new NeedRow(name, false, e.Message, 0, 0, 0);
        }
    }

    private static NeedRow Sae(string name)
    {
        try
        {
            using SaeFiles files = SaeFiles.Open(name);
            return new NeedRow(name, true, null, files.Bytes, 0, 0);
        }
        catch (Exception e) when (e is InvalidDataException or IOException or WorkException)
        {
            return new NeedRow(name, false, e.Message, 0, 0, 0);
        }
    }

    /// <summary>Tries the SAE in the model; one that has no place there is not fit to run.</summary>
    private (NeedRow Sae, FitResult? Fit) Examine(ParseResult parsed, NeedRow sae)
    {
        try
        {
            using var bench = Workbench.Open(parsed, this);
            SaeFiles saeFiles = _sae.Open(parsed, bench);
            // Without a tokenizer there is no text to try it on; nothing is wrong with the SAE.
            if (bench.Files.Tokenizer is null)
                return (sae, null);
            bench.Load(bench.Weights, ("SAE", saeFiles.Bytes), ("context", SaeExamination.ContextBytes(bench)));
            return (sae, SaeExamination.Run(bench, saeFiles));
        }
        catch (Exception e) when (e is InvalidDataException or WorkException or NotSupportedException)
        {
            return (sae with { Ok = false, Error = e.Message }, null);
        }
    }

    private static DeviceRow[] Devices(IReadOnlyList<DeviceProbe> probes) =>
    [
        .. probes.Where(p => p.Name != EmulatedDevices.Name).Select(p => new DeviceRow(p.Name, p.Problem is null, p.Problem ?? p.Detail)),
        new("reference", true, "scalar, sums in double: slow, the definition of every operation"),
        new(EmulatedDevices.Name, true, "the CUDA device on an emulated GPU: checks every access, and is slow"),
    ];

    private static string[] Simd()
    {
        (string Name, bool Supported)[] sets =
        [
            ("sse4.2", Sse42.IsSupported), ("avx", Avx.IsSupported), ("avx2", Avx2.IsSupported), ("fma", Fma.IsSupported),
            ("avx512f", Avx512F.IsSupported), ("avx512bw", Avx512BW.IsSupported), ("avx512dq", Avx512DQ.IsSupported),
            ("avx512vbmi", Avx512Vbmi.IsSupported), ("avx10.1", Avx10v1.IsSupported), ("neon", AdvSimd.IsSupported),
        ];
        return [.. sets.Where(s => s.Supported).Select(s => s.Name)];
    }

    private void Print(DoctorResult result)
    {
        Line($"kernelscope {result.Version}, {result.Runtime}, {result.Os}, {result.Architecture}");
        Line($"cores   {result.Cores}; {string.Join(' ', result.Simd)}");
        Line($"memory  {MemoryCheck.InMiB(result.Memory.AvailableBytes)} MiB available of {MemoryCheck.InMiB(result.Memory.TotalBytes)}");
        foreach (DeviceRow device in result.Devices)
            Line($"device  {Mark(device.Ok)} {device.Name}: {device.Detail}");
        foreach (ProductKernelRow kernel in result.Kernels)
            Line($"kernels cpu, matrices {kernel.Stored}: exact {kernel.Exact}; " +
                $"fast {(kernel.Fast == kernel.Exact ? "the same" : kernel.Fast)}");
        Line($"model   {Mark(result.Model.Ok)} {Describe(result.Model)}");
        foreach (string remark in result.Model.Remarks ?? [])
            Line($"        {Printable.OneLine(remark)}");
        if (result.Model.Packed is string packed)
        {
            string state = result.Model.PackedProblem is string problem ? Printable.OneLine(problem)
                : $"the cpu reads {Printable.Escape(packed)}";
            Line($"packed  {Mark(result.Model.PackedProblem is null)} {state}");
        }

        if (result.Sae is not null)
            Line($"sae     {Mark(result.Sae.Ok)} {Describe(result.Sae)}");
        // Why there is no such device is said above.
        foreach (DeviceFitRow row in result.Needs.Where(n => n.TotalBytes > 0))
            Line($"needs   {Mark(row.Ok)} {Describe(row)}");
        foreach (FitBeforeRow before in result.BeforeDownload ?? [])
        {
            foreach (DeviceFitRow row in before.Needs)
                Line($"fits?   {Mark(row.Ok)} in {before.Dtype}{(before.IsPublished ? ", as it is published" : "")}, {Describe(row)}");
        }

        if (result.Fit is FitResult fit)
            Line($"fit     {Mark(fit.Doubt is null)} {(fit.Doubt is null ? Describe(fit) : Printable.OneLine(fit.Doubt))}");

        void Line(string text) => WordWrap.Print(Streams, text, indent: 10);
    }

    private static string Describe(FitResult fit)
    {
        CultureInfo culture = CultureInfo.InvariantCulture;
        string wanted = fit.ReleasedL0 is double released ? string.Create(culture, $" where its path says {released:0}") : "";
        string found = string.Create(culture, $"L0 {fit.Used.L0:0.#}{wanted}, median error ratio {fit.Used.ErrorRatio:0.###}");
        return $"at {fit.Used.Site}, on a sample text: {found}";
    }

    private static string Describe(DeviceFitRow row)
    {
        string items = string.Join(", ", row.Items.Select(i => $"{i.What} {MemoryCheck.InMiB(i.Bytes)}"));
        string free = $"{MemoryCheck.InMiB(row.FreeBytes)} MiB that are free{(row.Ok ? "" : ": too little memory")}";
        return $"{row.Device}: {MemoryCheck.InMiB(row.NeededBytes)} MiB ({items}) of {free}";
    }

    private static string Mark(bool ok) => ok ? "+" : "-";

    private static string Describe(NeedRow need)
    {
        string name = Printable.Escape(need.Name);
        string needs = need.WeightBytes == 0 ? "" : $"weights {MemoryCheck.InMiB(need.WeightBytes)} MiB";
        if (need.ContextTokens > 0)
        {
            string tokens = need.ContextTokens.ToString("N0", CultureInfo.InvariantCulture);
            needs += $", a context of {tokens} tokens {MemoryCheck.InMiB(need.ContextBytes)} MiB";
        }

        if (need.Error is null)
            return $"{name}: {needs}";
        // Sentences about a file begin with its name.
        string error = Printable.OneLine(need.Error);
        return (error.StartsWith(name, StringComparison.Ordinal) ? error : $"{name}: {error}") + (needs.Length > 0 ? $" ({needs})" : "");
    }
}
