using System.CommandLine;
using KernelScope.Conformance;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.PtxEmulator;

namespace KernelScope.Cli;

/// <summary><c>verify</c>: this device, and given real weights these files, against stored and published reference numbers.</summary>
internal sealed class VerifyCommand : Verb
{
    private readonly SaeOptions _sae;
    private readonly CaseOptions _cases;
    private readonly Option<string?> _textFile = new("--text-file")
    {
        Description = "With --model and --sae: text like OpenWebText for " +
        "SAEBench's numbers, 250 sequences of 128 tokens (32,000 tokens).",
        HelpName = "F"
    };

    public VerifyCommand(CommonOptions common, VerbEnvironment environment) : base(
        "verify",
        "Checks a device: every op on every shape class against its equation in double, then the demo model and its SAEs against " +
        "stored numbers of transformers and SAELens.\n" +
        "With --model and real Gemma 2 weights, and --sae, also numbers that others have published of them. Exit code 1 if a check " +
        "fails; what lacks files is listed as not run.",
        "  kernelscope verify --device cpu\n  kernelscope verify --device cpu --op Linear --case denormals",
        common,
        environment)
    {
        _sae = new SaeOptions(this);
        Options.Add(_textFile);
        _cases = new CaseOptions(this);
    }

    protected override void CheckOptions(ParseResult parsed)
    {
        Belongs(parsed, _sae.IsGiven(parsed), "--sae", _sae.Places);
        _cases.Check(parsed);
    }

    protected override int Run(ParseResult parsed)
    {
        if (_cases.IsCross(parsed))
            return Cross(parsed);
        using var bench = Workbench.Open(parsed, this);
        string deviceName = Common.DeviceOf(parsed), precision = PrecisionOf(parsed), model = bench.Files.Name;
        (SaeFiles? sae, TokenSet? tokens) = OpenPublished(parsed, bench);
        IReadOnlyList<ConformanceCase> cases = _cases.Cases(parsed, deviceName);
        OutputHashes? hashes = _cases.Hashes(parsed, deviceName, precision);
        if (_cases.HashOutput(parsed) is string output)
            return WriteHashes(parsed, output, cases, precision);
        List<CheckRow> checks = [];
        bool picked = _cases.ArePicked(parsed), ownProcesses = _cases.InProcesses(parsed, deviceName);
        if (ownProcesses)
        {
            using var progress = new Progress(Streams, "Ops");
            checks.AddRange(new OpProcesses(op => ArgumentsFor(parsed, op), _cases.Timeout(parsed))
                .Run([.. cases.Select(c => c.Op).Distinct()], _cases.Jobs(parsed), progress, Cancellation));
        }

        if (ownProcesses && picked)
            return Print(parsed, deviceName, precision, model, checks, []);
        bench.OpenDevice(bench.Weights, ("SAE", bench.SaeBytes),
            ("evaluation", tokens is null ? 0 : SaeEvaluation.BytesFor(bench.Files.Config, tokens.Length, 1)));
        if (!ownProcesses)
        {
            using var progress = new Progress(Streams, "Ops");
            checks.AddRange(OpSuite.Run(bench.Device, cases, hashes, null, progress, Cancellation));
        }

        IReadOnlyList<VerificationCheck> numbers = picked ? [] : ReferenceNumbers(bench, sae, tokens);
        checks.AddRange(numbers.Where(n => n.Ok is not null).Select(n => new CheckRow(n.Name, n.Ok!.Value, n.Measured, n.Limit)
        {
            Source = n.Source,
            Message = n.Ok.Value ? null : n.Message,
        }));
        return Print(parsed, bench.Device.Name, precision, model, checks, [.. numbers.Where(n => n.Ok is null).Select(
            n => new NotRunRow(n.Name, n.Message, n.Source) { Tolerance = n.Tolerance })]);
    }

    private string PrecisionOf(ParseResult parsed) => Common.PrecisionOf(parsed) == Precision.Exact ? "exact" : "fast";

    /// <summary>The SAE and the text that published numbers are of, where they were given.</summary>
    private (SaeFiles? Sae, TokenSet? Tokens) OpenPublished(ParseResult parsed, Workbench bench)
    {
        bool saeGiven = _sae.IsGiven(parsed);
        string? text = parsed.GetValue(_textFile);
        if (bench.Files.IsDemo && (saeGiven || text is not null))
            throw new UsageException("--sae and --text-file belong to published numbers, which are of real weights: give --model too.");
        if (text is not null && !saeGiven)
            throw new UsageException("--text-file needs --sae: the published numbers on text are of SAEs.");
        SaeFiles? sae = saeGiven ? _sae.Open(parsed, bench) : null;
        if (text is null)
            return (sae, null);
        TokenSet tokens = EvalTokens.Read(text, null, null, null, bench.Files, out string? doubt);
        if (doubt is not null)
            Streams.Warn(doubt);
        return (sae, tokens);
    }

    /// <summary>The demo against stored numbers of other software; real weights against numbers that others have published.</summary>
    private List<VerificationCheck> ReferenceNumbers(Workbench bench, SaeFiles? sae, TokenSet? tokens)
    {
        List<VerificationCheck> numbers = [.. DemoGoldens.Run(bench.Device, Cancellation)];
        if (bench.Files.IsDemo)
            return [.. numbers, .. PublishedChecks.Lacking()];
        bench.LoadWeights();
        SaeTarget? target = sae is null ? null
            : sae.Target with { Name = Path.Exists(sae.Name) ? Path.GetFullPath(sae.Name) : sae.Name };
        return
        [
            .. numbers,
            .. PublishedChecks.OfModel(bench.Model, bench.Files.Tokenizer, bench.Files.Name, Cancellation),
            .. PublishedChecks.OfSae(bench.Model, bench.Files.Tokenizer, target, tokens, Cancellation),
        ];
    }

    private int Print(
        ParseResult parsed, string device, string precision, string model, List<CheckRow> checks, IReadOnlyList<NotRunRow> notRun)
    {
        var result = new VerifyResult(device, precision, model, checks, notRun);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            VerifyView.Print(Streams, result);
        return checks.TrueForAll(c => c.Ok) ? ExitCode.Done : ExitCode.Failed;
    }

    /// <summary>The arguments of the process that runs an op.</summary>
    private List<string> ArgumentsFor(ParseResult parsed, string op) =>
        [Name, .. Common.GivenOf(parsed), .. _cases.ForOp(parsed, op), "--json"];

    private int Cross(ParseResult parsed)
    {
        using Device device = Common.OpenDevice(parsed, Streams);
        if (device is not CudaDevice cuda)
            throw new UsageException($"--cross compares kernels of a CUDA device, and the {device.Name} device has none.");
        List<CheckRow> checks;
        using (var progress = new Progress(Streams, "Forms"))
            checks = [.. new CrossChecks(cuda, _cases.Repeats(parsed, device.Name), progress, Cancellation).Run()];
        return Print(parsed, device.Name, PrecisionOf(parsed), "none", checks, []);
    }

    private int WriteHashes(ParseResult parsed, string path, IReadOnlyList<ConformanceCase> cases, string precision)
    {
        if (Common.DeviceOf(parsed) != EmulatedDevices.Name)
            throw new UsageException("--write-hashes is for --device emulated, which knows where tensor cores took part.");
        bool portable = true;
        var written = new Dictionary<string, OutputHash>(StringComparer.Ordinal);
        List<CheckRow> rows;
        CudaDeviceOptions options = Common.CudaOptionsOf(parsed, Streams) with { SaePrecision = Precision.Exact };
        using (CudaDevice device = EmulatedDevices.Open(options,
            new EmulatedDriverOptions { Launched = (_, result) => portable &= result.Threads(InstructionClass.Matrix) == 0 }))
        using (var progress = new Progress(Streams, "Ops"))
            rows = [.. OpSuite.Run(device, cases, null, Note, progress, Cancellation)];
        using (AtomicFile file = AtomicFile.Create(path))
        {
            new OutputHashes(_cases.Scale(parsed, EmulatedDevices.Name), precision, written).Write(file.Stream);
            file.Commit();
        }

        return Print(parsed, EmulatedDevices.Name, precision, "none", rows, []);

        void Note(ConformanceResult result)
        {
            written.Add($"{result.Op}: {result.Name}", new OutputHash { Hash = result.Hash, Portable = portable });
            portable = true;
        }
    }
}
