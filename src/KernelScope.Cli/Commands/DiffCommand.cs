using System.CommandLine;
using KernelScope.Evaluation;

namespace KernelScope.Cli;

/// <summary><c>diff</c>: where two files of captured activations part.</summary>
internal sealed class DiffCommand : Verb
{
    private readonly Argument<string> _a = new("A")
    {
        Description = "The reference (npz, npy or safetensors): what run --capture --out " +
        "wrote, or another program's arrays named by hook point."
    };
    private readonly Argument<string> _b = new("B") { Description = "What is held against it." };
    private readonly Option<double> _tolerance = Tolerance();
    private readonly Option<bool> _fail = new("--fail") { Description = "Exit code 1 if they differ, with --json too." };
    private readonly Option<bool> _noFail = new("--no-fail") { Description = "Exit code 0 although they differ." };

    public DiffCommand(CommonOptions common, VerbEnvironment environment) : base(
        "diff",
        "Compares two captures and names the first hook point (in the order in which they fire), position and element where they part.\n" +
        "Arrays pair by hook point, also under TransformerLens' names, with or without a batch dimension of 1. Needs no model.\n" +
        "Exit code 1 if they differ, or an array is in one of them only (--no-fail: 0);\n" +
        "with --json it is 0, and the document says it, unless --fail is given.",
        "  kernelscope run \"She loved the river\" --capture all --out a.npz\n" +
        "  kernelscope run \"She loved the river\" --capture all --out b.npz --device reference\n" +
        "  kernelscope diff a.npz b.npz --tolerance 1e-4",
        common,
        environment)
    {
        Arguments.Add(_a);
        Arguments.Add(_b);
        Options.Add(_tolerance);
        Options.Add(_fail);
        Options.Add(_noFail);
    }

    public override CommonUse Uses => CommonUse.Json;

    protected override void CheckOptions(ParseResult parsed)
    {
        if (parsed.GetValue(_fail) && parsed.GetValue(_noFail))
            throw new UsageException("--fail and --no-fail were both given.");
    }

    protected override int Run(ParseResult parsed)
    {
        string a = ArrayInput.Require(parsed.GetRequiredValue(_a)), b = ArrayInput.Require(parsed.GetRequiredValue(_b));
        double tolerance = parsed.GetValue(_tolerance);
        ActivationDiff diff;
        using (var progress = new Progress(Streams, "Comparing"))
            diff = ActivationDiff.Of(a, b, tolerance, progress, Cancellation);
        DiffResult result = Result(a, b, tolerance, diff);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            DiffView.Print(Streams, result);
        // Programs read "parts" in the document; people and their scripts have the exit code.
        bool fails = parsed.GetValue(_fail) || !(parsed.GetValue(_noFail) || Common.JsonOf(parsed));
        return result.Parts && fails ? ExitCode.Failed : ExitCode.Done;
    }

    /// <summary>How far two values may be apart.</summary>
    public static Option<double> Tolerance()
    {
        var option = new Option<double>("--tolerance")
        {
            Description = "What a difference may be, as a share of the array's largest " +
            "value in the reference.",
            HelpName = "X",
            DefaultValueFactory = _ => ActivationDiff.DefaultTolerance
        };
        option.Validators.Add(r => Parsing.Require(r, option, v => double.IsFinite(v) && v >= 0,
            "--tolerance is {0}; it must be 0 or a positive number."));
        return option;
    }

    /// <summary>Whether a parting is a failure.</summary>
    public static Option<bool> Fail() => new("--fail")
    {
        Description = "Exit code 1 if they part, or an array is in one of them only; " +
        "without it a comparison that was made is a success."
    };

    /// <summary>A comparison as it is printed.</summary>
    public static DiffResult Result(string a, string b, double tolerance, ActivationDiff diff)
    {
        ArrayDiffRow[] rows = [.. diff.Arrays.Select(Row)];
        bool parts = diff.FirstParting is not null || diff.OnlyInA.Count + diff.OnlyInB.Count > 0;
        return new DiffResult(a, b, tolerance, parts, rows.FirstOrDefault(r => r.First is not null)?.First, rows, diff.OnlyInA,
            diff.OnlyInB);
    }

    private static ArrayDiffRow Row(ArrayDiff diff) =>
        new(diff.A.Name, diff.Parts, diff.Compared, diff.Nmse, diff.MaxDifference, diff.Largest, diff.First is Departure f
        ? new DepartureRow(diff.A.Name, f.Position, f.Element, f.A, f.B) : null)
        { Note = diff.Note };
}
