using System.CommandLine;
using KernelScope.Conformance;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary><c>verify</c>: this device, and given real weights these files, against stored and published reference numbers.</summary>
internal sealed class VerifyCommand : Verb
{
    private readonly SaeOptions _sae;
    private readonly Option<string?> _textFile = new("--text-file") { Description = "With --model and --sae: text like OpenWebText for SAEBench's numbers, 250 sequences of 128 tokens (32,000 tokens).", HelpName = "F" };

    public VerifyCommand(CommonOptions common, Surroundings surroundings) : base(
        "verify",
        "Checks a device: every op on every shape class against its equation in double, then the demo model and its SAEs against stored numbers of transformers and SAELens.\n" +
        "With --model and real Gemma 2 weights, and --sae, also numbers that others have published of them. Exit code 1 if a check fails; what lacks files is listed as not run.",
        "  kernelscope verify --device cpu",
        common,
        surroundings)
    {
        _sae = new SaeOptions(this);
        Options.Add(_textFile);
    }

    protected override void CheckOptions(ParseResult parsed) => Belongs(parsed, _sae.IsGiven(parsed), "--sae", _sae.Places);

    protected override int Run(ParseResult parsed)
    {
        using ModelFiles files = ModelFiles.Open(Common.ModelOf(parsed), Common.NoMapOf(parsed));
        bool saeGiven = _sae.IsGiven(parsed);
        string? text = parsed.GetValue(_textFile);
        if (files.IsDemo && (saeGiven || text is not null))
            throw new UsageException("--sae and --text-file belong to published numbers, which are of real weights: give --model too.");
        if (text is not null && !saeGiven)
            throw new UsageException("--text-file needs --sae: the published numbers on text are of SAEs.");
        using SaeFiles? saeFiles = saeGiven ? _sae.Open(parsed, files) : null;
        string? doubt = null;
        TokenSet? tokens = text is null ? null : EvalTokens.Read(text, null, null, null, files, out doubt);
        if (doubt is not null)
            SaeDoubt.Warn(Streams, doubt);
        using Device device = Common.OpenDevice(
            parsed, Streams, ("weights", files.WeightBytes), ("SAE", saeFiles?.Bytes ?? 0), ("evaluation", tokens is null ? 0 : SaeEvaluation.BytesFor(files.Config, tokens.Length, 1)));
        List<CheckRow> checks = [];
        List<NotRunRow> notRun = [];
        using (var progress = new Progress(Streams, "Ops"))
            checks.AddRange(OpSuite.Run(device, progress, Cancellation));
        Add(DemoGoldens.Run(device, Cancellation));
        if (files.IsDemo)
            Add(PublishedChecks.Lacking());
        else
            AddPublished(device, files, saeFiles, tokens);

        var result = new VerifyResult(device.Name, device.Precision == Precision.Exact ? "exact" : "fast", files.Name, checks, notRun);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            VerifyView.Print(Streams, result);
        return checks.TrueForAll(c => c.Ok) ? ExitCode.Done : ExitCode.Failed;

        void Add(IEnumerable<VerificationCheck> found)
        {
            foreach (VerificationCheck check in found)
            {
                if (check.Ok is bool ok)
                    checks.Add(new CheckRow(check.Name, ok, check.Measured, check.Limit) { Source = check.Source, Message = ok ? null : check.Message });
                else
                    notRun.Add(new NotRunRow(check.Name, check.Message, check.Source) { Tolerance = check.Tolerance });
            }
        }

        void AddPublished(Device on, ModelFiles modelFiles, SaeFiles? sae, TokenSet? set)
        {
            using Gemma2Model model = modelFiles.Load(on, Streams, Cancellation);
            using JumpReluSae? loaded = sae?.Load(on);
            SaeTarget? target = loaded is null ? null : new SaeTarget(Path.Exists(sae!.Name) ? Path.GetFullPath(sae.Name) : sae.Name, loaded, sae.Site, sae.SiteOut);
            Add(PublishedChecks.OfModel(model, modelFiles.Tokenizer, modelFiles.Name, Cancellation));
            Add(PublishedChecks.OfSae(model, modelFiles.Tokenizer, target, set, Cancellation));
        }
    }
}
