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

    public VerifyCommand(CommonOptions common, Surroundings surroundings) : base(
        "verify",
        "Checks a device: every op on every shape class against its equation in double, then the demo model and its SAEs against " +
        "stored numbers of transformers and SAELens.\n" +
        "With --model and real Gemma 2 weights, and --sae, also numbers that others have published of them. Exit code 1 if a check " +
        "fails; what lacks files is listed as not run.",
        "  kernelscope verify --device cpu\n  kernelscope verify --device cpu --op Linear --case denormals",
        common,
        surroundings)
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
        ModelFiles files = bench.Files;
        bool saeGiven = _sae.IsGiven(parsed);
        string? text = parsed.GetValue(_textFile);
        if (files.IsDemo && (saeGiven || text is not null))
            throw new UsageException("--sae and --text-file belong to published numbers, which are of real weights: give --model too.");
        if (text is not null && !saeGiven)
            throw new UsageException("--text-file needs --sae: the published numbers on text are of SAEs.");
        SaeFiles? sae = saeGiven ? _sae.Open(parsed, bench) : null;
        string? doubt = null;
        TokenSet? tokens = text is null ? null : EvalTokens.Read(text, null, null, null, files, out doubt);
        if (doubt is not null)
            Streams.Warn(doubt);
        string deviceName = Common.DeviceOf(parsed), precision = Common.PrecisionOf(parsed) == Precision.Exact ? "exact" : "fast";
        IReadOnlyList<ConformanceCase> cases = _cases.Cases(parsed, deviceName);
        OutputHashes? hashes = _cases.Hashes(parsed, deviceName, precision);
        bool picked = _cases.ArePicked(parsed);
        List<CheckRow> checks = [];
        List<NotRunRow> notRun = [];
        if (_cases.HashOutput(parsed) is string output)
            return WriteHashes(parsed, output, cases, precision);
        bool ownProcesses = _cases.InProcesses(parsed, deviceName);
        if (ownProcesses)
        {
            using var progress = new Progress(Streams, "Ops");
            checks.AddRange(new OpProcesses(op => ArgumentsFor(parsed, op), _cases.Timeout(parsed))
                .Run([.. cases.Select(c => c.Op).Distinct()], _cases.Jobs(parsed), progress, Cancellation));
        }

        if (ownProcesses && picked)
            return Print(parsed, deviceName, precision, files.Name, checks, notRun);
        bench.OpenDevice(bench.Weights, ("SAE", bench.SaeBytes),
            ("evaluation", tokens is null ? 0 : SaeEvaluation.BytesFor(files.Config, tokens.Length, 1)));
        if (!ownProcesses)
        {
            using var progress = new Progress(Streams, "Ops");
            checks.AddRange(OpSuite.Run(bench.Device, cases, hashes, null, progress, Cancellation));
        }

        if (picked)
            return Print(parsed, bench.Device.Name, precision, files.Name, checks, notRun);
        Add(DemoGoldens.Run(bench.Device, Cancellation));
        if (files.IsDemo)
            Add(PublishedChecks.Lacking());
        else
            AddPublished();

        return Print(parsed, bench.Device.Name, precision, files.Name, checks, notRun);

        void Add(IEnumerable<VerificationCheck> found)
        {
            foreach (VerificationCheck check in found)
            {
                if (check.Ok is bool ok)
                    checks.Add(new CheckRow(check.Name, ok, check.Measured, check.Limit)
                    {
                        Source = check.Source,
                        Message = ok ? null
                        : check.Message
                    });
                else
                    notRun.Add(new NotRunRow(check.Name, check.Message, check.Source) { Tolerance = check.Tolerance });
            }
        }

        void AddPublished()
        {
            bench.LoadWeights();
            SaeTarget? target = sae is null ? null
                : sae.Target with { Name = Path.Exists(sae.Name) ? Path.GetFullPath(sae.Name) : sae.Name };
            Add(PublishedChecks.OfModel(bench.Model, files.Tokenizer, files.Name, Cancellation));
            Add(PublishedChecks.OfSae(bench.Model, files.Tokenizer, target, tokens, Cancellation));
        }
    }

    private int Print(ParseResult parsed, string device, string precision, string model, List<CheckRow> checks, List<NotRunRow> notRun)
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
            checks = [.. new CrossChecks(cuda, _cases.Repeats(parsed), progress, Cancellation).Run()];
        return Print(parsed, device.Name, Common.PrecisionOf(parsed) == Precision.Exact ? "exact" : "fast", "none", checks, []);
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
