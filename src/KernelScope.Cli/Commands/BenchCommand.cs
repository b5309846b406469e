using System.CommandLine;
using System.Runtime.InteropServices;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Devices.Cpu;
using KernelScope.Devices.Reference;
using KernelScope.Emulated;
using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary><c>bench</c>: how fast this device is, beside what it could be.</summary>
internal sealed class BenchCommand : Verb
{
    private const int DefaultRounds = 5;
    private readonly Option<string?> _shape = new("--shape") { Description = $"Whose sizes: {string.Join(", ", BenchShape.Names)}. Weights are random and made in memory; demo is the model inside. Default: {BenchShape.Default}, or demo on a device that is not made for speed.", HelpName = "SHAPE" };
    private readonly Option<int?> _layers = new("--layers") { Description = "Layers that are made and measured; their time is multiplied up to the whole model. Fewer if they do not fit into memory. Default: 2.", HelpName = "N" };
    private readonly Option<string?> _dtype = new("--dtype") { Description = "Type of the random weights: bf16 (default) or f32.", HelpName = "bf16|f32" };
    private readonly Option<int> _rounds = new("--rounds") { Description = "Every case is timed once a round, each right after its limit.", HelpName = "N", DefaultValueFactory = _ => DefaultRounds };

    public BenchCommand(CommonOptions common, Surroundings surroundings) : base(
        "bench",
        "Measures decode, prefill, and encode and decode of SAEs, each as a share of what this device's memory or arithmetic was measured to give just before it.",
        "  kernelscope bench --shape gemma-2-2b --dtype bf16 --rounds 5",
        common,
        surroundings)
    {
        _shape.Validators.Add(r => Parsing.Require(r, _shape, v => BenchShape.Names.Contains(v), $"'{{0}}' is no shape: there are {string.Join(", ", BenchShape.Names)}."));
        _layers.Validators.Add(r => Parsing.Require(r, _layers, v => v >= 1, "--layers is {0}; it must be 1 or more."));
        _dtype.Validators.Add(r => Parsing.Require(r, _dtype, v => v is "bf16" or "f32", "'{0}' is no type of weights: there are bf16 and f32."));
        _rounds.Validators.Add(r => Parsing.Require(r, _rounds, v => v is >= 1 and <= 1000, "--rounds is {0}; it must be 1 to 1000."));
        foreach (Option option in (Option[])[_shape, _layers, _dtype, _rounds])
            Options.Add(option);
    }

    protected override int Run(ParseResult parsed)
    {
        if (Common.ModelOf(parsed) != BenchShape.Demo)
            throw new UsageException("bench makes its weights itself: it takes --shape, not --model.");
        int? layers = parsed.GetValue(_layers);
        string? dtype = parsed.GetValue(_dtype);
        using Device device = Common.OpenDevice(parsed);
        bool isSlow = device is ReferenceDevice || device.Name == EmulatedDevices.Name;
        string shape = parsed.GetValue(_shape) ?? (isSlow ? BenchShape.Demo : BenchShape.Default);
        Check(shape, layers, dtype, device, isSlow);

        DType type = dtype == "f32" ? DType.F32 : DType.BF16;
        using BenchSubject subject = shape == BenchShape.Demo
            ? BenchSubject.OfDemo(device, isSlow, Cancellation)
            : BenchSubject.OfShape(device, shape, layers, type, Streams, Cancellation);
        int rounds = parsed.GetValue(_rounds);
        using var limits = BenchLimits.Of(device);
        BenchCaseRow[] rows = Measure(subject.Cases.All, limits, rounds);
        Spread? bandwidth = limits.Measured(Bound.Bandwidth);
        var result = new BenchResult(
            device.Name,
            device.Precision == Precision.Exact ? "exact" : "fast",
            new BenchMachine(RuntimeInformation.OSDescription, RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant(), Environment.ProcessorCount, Detail(device)),
            shape,
            subject.Type.SafetensorsName().ToLowerInvariant(),
            subject.Measured.LayerCount,
            subject.LayersOfModel,
            rounds,
            new BenchLimitRow(limits.OfReads ? bandwidth : null, limits.OfReads ? null : bandwidth, limits.Measured(Bound.Peak), limits.Measured(Bound.Bf16Peak)),
            rows);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            BenchView.Print(Streams, result);
        return ExitCode.Done;
    }

    private static void Check(string shape, int? layers, string? dtype, Device device, bool isSlow)
    {
        if (shape == BenchShape.Demo)
        {
            if (layers is not null || dtype is not null)
                throw new UsageException("--layers and --dtype belong to random weights; the demo has its own.");
            return;
        }

        if (isSlow)
            throw new UsageException($"the {device.Name} device would take hours for {shape}: it shows what is computed, not how fast; give --shape demo.");
        int whole = BenchShape.ConfigOf(shape).LayerCount;
        if (layers > whole)
            throw new UsageException($"--layers is {layers}; {shape} has {whole}.");
    }

    /// <summary>Rounds through all cases: what else runs on the machine disturbs them alike.</summary>
    private BenchCaseRow[] Measure(IReadOnlyList<BenchCase> cases, BenchLimits limits, int rounds)
    {
        using var progress = new Progress(Streams, "Measuring");
        List<double>[] seconds = [.. cases.Select(_ => new List<double>())], shares = [.. cases.Select(_ => new List<double>())];
        int done = 0, turns = (rounds + 1) * cases.Count;
        // Once without the clock: memory is touched and code is compiled.
        foreach (BenchCase one in cases)
        {
            Cancellation.ThrowIfCancellationRequested();
            one.Seconds();
            progress.Report(++done / (double)turns);
        }

        for (int round = 0; round < rounds; round++)
        {
            for (int c = 0; c < cases.Count; c++)
            {
                Cancellation.ThrowIfCancellationRequested();
                double? limit = limits.Measure(cases[c].Bound);
                double taken = cases[c].Seconds();
                seconds[c].Add(taken);
                if (limit is double most)
                    shares[c].Add((cases[c].Bound == Bound.Bandwidth ? cases[c].Cost.Bytes : cases[c].Cost.Flops) / taken / most);
                progress.Report(++done / (double)turns);
            }
        }

        return [.. cases.Select((one, c) => new BenchCaseRow(one.Name, one.Rows, Spread.Of(seconds[c])!, one.Cost.Bytes, one.Cost.Flops, BoundName(one.Bound), Spread.Of(shares[c]), one.Scaled))];
    }

    private static string BoundName(Bound bound) => bound switch
    {
        Bound.Bandwidth => "bandwidth",
        Bound.Peak => "peak",
        _ => "bf16_peak",
    };

    private static string Detail(Device device) => device switch
    {
        CpuDevice { FastProducts: string fast } cpu => $"{cpu.InstructionSet}, fast products by {fast}, {cpu.Threads} threads",
        CpuDevice cpu => $"{cpu.InstructionSet}, {cpu.Threads} threads",
        CudaDevice when device.Name != EmulatedDevices.Name => string.Join("; ", CudaDevices.Describe().Devices),
        CudaDevice => "emulated GPU: its times say nothing of a real one",
        _ => "scalar, sums in double",
    };
}
