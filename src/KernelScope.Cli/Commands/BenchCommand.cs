using System.CommandLine;
using System.Runtime.InteropServices;
using KernelScope.Cpu;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Emulated;
using KernelScope.Files;
using KernelScope.Measuring;

namespace KernelScope.Cli;

/// <summary><c>bench</c>: how fast this device is, beside what it could be.</summary>
internal sealed class BenchCommand : Verb
{
    private const int DefaultRounds = 5;
    private const string DemoShape = KernelScope.Demo.ModelName;
    private static readonly string DefaultShape = ModelSizes.Released[0];
    private static readonly string[] Shapes = [.. ModelSizes.Released, DemoShape];
    private readonly Option<string?> _shape = new("--shape")
    {
        Description = $"Whose sizes: {string.Join(", ", Shapes)}. " +
        $"Weights are random and made in memory; demo is the model inside. Default: {DefaultShape}, or demo on a device that is " +
        "not made for speed.",
        HelpName = "SHAPE"
    };
    private readonly Option<int?> _layers = new("--layers")
    {
        Description = "Layers that are made and measured; their time is " +
        "multiplied up to the whole model. Fewer if they do not fit into memory. Default: 2, or on a CUDA device all.",
        HelpName = "N"
    };
    private readonly Option<string?> _dtype = new("--dtype")
    {
        Description = "Type of the random weights: bf16 (default) or f32.",
        HelpName = "bf16|f32"
    };
    private readonly Option<int> _rounds = new("--rounds")
    {
        Description = "Every case is timed once a round, each right after its " +
        "limit, until it has taken ten seconds.",
        HelpName = "N",
        DefaultValueFactory = _ => DefaultRounds
    };

    public BenchCommand(CommonOptions common, VerbEnvironment environment) : base(
        "bench",
        "Measures decode, prefill of 512 and 2,048 tokens, and encode and decode of SAEs of 16k, 65k and 131k features, each as a " +
        "share of what this device's memory or arithmetic was measured to give just before it.",
        "  kernelscope bench --shape demo --rounds 1",
        common,
        environment)
    {
        _shape.Validators.Add(r => Parsing.Require(r, _shape, v => Shapes.Contains(v), $"'{{0}}' is not a shape: there " +
            $"are {string.Join(", ", Shapes)}."));
        _layers.Validators.Add(r => Parsing.Require(r, _layers, v => v >= 1, "--layers is {0}; it must be 1 or more."));
        _dtype.Validators.Add(r => Parsing.Require(r, _dtype, v => v is "bf16" or "f32",
            "'{0}' is not a type of weights: there are bf16 and f32."));
        _rounds.Validators.Add(r => Parsing.Require(r, _rounds, v => v is >= 1 and <= 1000, "--rounds is {0}; it must be 1 to 1000."));
        foreach (Option option in (Option[])[_shape, _layers, _dtype, _rounds])
            Options.Add(option);
    }

    public override CommonUse Uses => CommonUse.Json | CommonUse.Compute | CommonUse.Kv;

    protected override int Run(ParseResult parsed)
    {
        int? layers = parsed.GetValue(_layers);
        string? dtype = parsed.GetValue(_dtype);
        using Device device = Common.OpenDevice(parsed, Streams);
        bool isSlow = device is ReferenceDevice || device.Name == EmulatedDevices.Name;
        string shape = parsed.GetValue(_shape) ?? (isSlow ? DemoShape : DefaultShape);
        Check(shape, layers, dtype, device, isSlow);

        DType type = dtype == "f32" ? DType.F32 : DType.BF16;
        using BenchSubject subject = shape == DemoShape
            ? BenchSubject.OfDemo(device, isSlow, Common.KvOf(parsed), Cancellation)
            : BenchSubject.OfShape(device, shape, layers, type, Common.KvOf(parsed), Streams, Cancellation);
        int rounds = parsed.GetValue(_rounds);
        using var limits = DeviceLimits.Create(device);
        var measured = new BenchRounds(subject.Cases.All, limits, Cancellation);
        BenchCaseRow[] rows;
        using (var progress = new Progress(Streams, "Measuring"))
            rows = measured.Run(rounds, progress);
        Spread? bandwidth = measured.Limit(Bound.Bandwidth);
        var result = new BenchResult(
            device.Name,
            device.Precision == Precision.Exact ? "exact" : "fast",
            Common.KvOf(parsed) == DType.BF16 ? "bf16" : "f32",
            new BenchMachine(RuntimeInformation.OSDescription, RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant(),
            Environment.ProcessorCount, Detail(device)),
            shape,
            subject.Type.SafetensorsName().ToLowerInvariant(),
            subject.Measured.LayerCount,
            subject.LayersOfModel,
            rounds,
            new BenchLimitRow(limits.OfReads ? bandwidth : null, limits.OfReads ? null : bandwidth,
            measured.Limit(Bound.Peak))
            { Bf16Peak = measured.Limit(Bound.Bf16Peak) },
            rows);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            BenchView.Print(Streams, result);
        return ExitCode.Done;
    }

    private static void Check(string shape, int? layers, string? dtype, Device device, bool isSlow)
    {
        if (shape == DemoShape)
        {
            if (layers is not null || dtype is not null)
                throw new UsageException("--layers and --dtype belong to random weights; the demo has its own.");
            return;
        }

        if (isSlow)
            throw new UsageException($"the {device.Name} device would take hours for {shape}: it shows what is computed, not how fast; " +
                "give --shape demo.");
        int whole = ModelSizes.ConfigOf(shape).LayerCount;
        if (layers > whole)
            throw new UsageException($"--layers is {layers}; {shape} has {whole}.");
    }

    private static string Detail(Device device) => device switch
    {
        CpuDevice { FastProducts: string fast } cpu => $"{cpu.InstructionSet}, fast products by {fast}, {cpu.Threads} threads",
        CpuDevice cpu => $"{cpu.InstructionSet}, {cpu.Threads} threads",
        CudaDevice when device.Name != EmulatedDevices.Name => string.Join("; ", CudaDevices.Describe().Devices),
        CudaDevice => "emulated GPU: its times say nothing of a real one",
        _ => "scalar, sums in double",
    };
}
