using System.CommandLine;
using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary><c>doctor</c>: what this machine offers, what a model and an SAE need, and why something would not run.</summary>
internal sealed class DoctorCommand : Verb
{
    private readonly SaeOptions _sae;

    public DoctorCommand(CommonOptions common, Surroundings surroundings) : base(
        "doctor",
        "Says what this machine offers (devices, instruction sets, memory), what the model and an SAE need with a full context on each device, and why something would not run. Exit code 1 if they would not run on the device of --device.\n" +
        "With --sae it also runs a sample text: whether the SAE is as sparse as its path says and reconstructs, and if not, which site nearby fits better.",
        "  kernelscope doctor --model google/gemma-2-2b --sae gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71",
        common,
        surroundings) => _sae = new SaeOptions(this);

    protected override int Run(ParseResult parsed)
    {
        string asked = Common.DeviceOf(parsed);
        NeedRow model = Model(Common.ModelOf(parsed));
        NeedRow? sae = _sae.IsGiven(parsed) ? Sae(_sae.NameOf(parsed)!) : null;
        IReadOnlyList<DeviceProbe> devices = DeviceProbe.All(asked);
        DeviceFitRow[] needs = model.Ok ? [.. devices.Select(d => d.Hold([("weights", model.WeightBytes), ("context", model.ContextBytes), ("SAE", sae?.WeightBytes ?? 0)]))] : [];
        bool fits = devices.Zip(needs).Any(d => d.First.Answers(asked) && d.Second.Ok);
        FitResult? fit = null;
        if (model.Ok && fits && sae is { Ok: true })
            (sae, fit) = Examine(parsed, sae);
        var result = new DoctorResult(
            typeof(DoctorCommand).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "",
            RuntimeInformation.FrameworkDescription,
            RuntimeInformation.OSDescription,
            RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant(),
            Environment.ProcessorCount,
            Simd(),
            new MemoryRow(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes, MemoryCheck.Available()),
            Devices(devices),
            model,
            sae)
        { Fit = fit, Needs = needs };
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            Print(result);
        return model.Ok && fits && sae is not { Ok: false } ? ExitCode.Done : ExitCode.Failed;
    }

    private static NeedRow Model(string name)
    {
        try
        {
            using ModelFiles files = ModelFiles.Open(name);
            int context = files.Config.ContextLength;
            (string Path, string? Problem)? packed = files.Packed();
            return new NeedRow(name, true, null, files.WeightBytes, context, Session.BytesFor(files.Config, context)) { Packed = packed?.Path, PackedProblem = packed?.Problem, Remarks = files.Remarks.Count > 0 ? [.. files.Remarks] : null };
        }
        catch (Exception e) when (e is InvalidDataException or IOException or ArgumentException)
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
            using ModelFiles files = ModelFiles.Open(Common.ModelOf(parsed));
            using SaeFiles saeFiles = _sae.Open(parsed, files);
            // Without a tokenizer there is no text to try it on; nothing is wrong with the SAE.
            if (files.Tokenizer is null)
                return (sae, null);
            using Device device = Common.OpenDevice(parsed, Streams, ("weights", files.WeightBytes), ("SAE", saeFiles.Bytes), ("context", SaeExamination.ContextBytes(files)));
            return (sae, SaeExamination.Run(files, saeFiles, device, Streams, Cancellation));
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
            ("sse4.2", Sse42.IsSupported), ("avx", Avx.IsSupported), ("avx2", Avx2.IsSupported), ("fma", Fma.IsSupported), ("avx512f", Avx512F.IsSupported), ("avx512bw", Avx512BW.IsSupported),
            ("avx512dq", Avx512DQ.IsSupported), ("avx512vbmi", Avx512Vbmi.IsSupported), ("avx10.1", Avx10v1.IsSupported), ("neon", AdvSimd.IsSupported),
        ];
        return [.. sets.Where(s => s.Supported).Select(s => s.Name)];
    }

    private void Print(DoctorResult result)
    {
        StreamWriter output = Streams.Output;
        output.WriteLine($"kernelscope {result.Version}, {result.Runtime}, {result.Os}, {result.Architecture}");
        output.WriteLine($"cores   {result.Cores}; {string.Join(' ', result.Simd)}");
        output.WriteLine($"memory  {MemoryCheck.InMiB(result.Memory.AvailableBytes)} MiB available of {MemoryCheck.InMiB(result.Memory.TotalBytes)}");
        foreach (DeviceRow device in result.Devices)
            output.WriteLine($"device  {Mark(device.Ok)} {device.Name}: {device.Detail}");
        output.WriteLine($"model   {Mark(result.Model.Ok)} {Describe(result.Model)}");
        foreach (string remark in result.Model.Remarks ?? [])
            output.WriteLine($"        {Printable.OneLine(remark)}");
        if (result.Model.Packed is string packed)
            output.WriteLine($"packed  {Mark(result.Model.PackedProblem is null)} {(result.Model.PackedProblem is string problem ? Printable.OneLine(problem) : $"the cpu reads {Printable.Escape(packed)}")}");
        if (result.Sae is not null)
            output.WriteLine($"sae     {Mark(result.Sae.Ok)} {Describe(result.Sae)}");
        // Why there is no such device is said above.
        foreach (DeviceFitRow row in result.Needs.Where(n => n.TotalBytes > 0))
            output.WriteLine($"needs   {Mark(row.Ok)} {Describe(row)}");
        if (result.Fit is FitResult fit)
            output.WriteLine($"fit     {Mark(fit.Doubt is null)} {(fit.Doubt is null ? Describe(fit) : Printable.OneLine(fit.Doubt))}");
    }

    private static string Describe(FitResult fit) => string.Create(
        CultureInfo.InvariantCulture,
        $"at {fit.Used.Site}, on a sample text: L0 {fit.Used.L0:0.#}{(fit.ReleasedL0 is double released ? $" where its path says {released:0}" : "")}, median error ratio {fit.Used.ErrorRatio:0.###}");

    private static string Describe(DeviceFitRow row) =>
        $"{row.Device}: {MemoryCheck.InMiB(row.NeededBytes)} MiB ({string.Join(", ", row.Items.Select(i => $"{i.What} {MemoryCheck.InMiB(i.Bytes)}"))}) of {MemoryCheck.InMiB(row.FreeBytes)} MiB that are free{(row.Ok ? "" : ": too little memory")}";

    private static string Mark(bool ok) => ok ? "+" : "-";

    private static string Describe(NeedRow need)
    {
        string name = Printable.Escape(need.Name);
        string needs = need.WeightBytes == 0 ? "" : $"weights {MemoryCheck.InMiB(need.WeightBytes)} MiB";
        if (need.ContextTokens > 0)
            needs += string.Create(CultureInfo.InvariantCulture, $", a context of {need.ContextTokens:N0} tokens {MemoryCheck.InMiB(need.ContextBytes)} MiB");
        return need.Error is null ? $"{name}: {needs}" : $"{name}: {Printable.OneLine(need.Error)}{(needs.Length > 0 ? $" ({needs})" : "")}";
    }
}
