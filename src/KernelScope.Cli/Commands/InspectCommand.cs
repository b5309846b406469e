using System.CommandLine;
using System.Globalization;
using KernelScope.Cli.Inspection;

namespace KernelScope.Cli;

/// <summary><c>inspect</c>: what files hold, and whether loading them would work.</summary>
internal sealed class InspectCommand : Verb
{
    private readonly Argument<string[]> _paths = new("PATH") { Description = "Files and folders: safetensors, npz, index, config.json, tokenizer.model, packed weights, SAE folders, model folders.", Arity = ArgumentArity.OneOrMore };
    private readonly Option<bool> _ranges = new("--ranges") { Description = "Read all values and show their smallest, largest and mean." };

    public InspectCommand(CommonOptions common, Surroundings surroundings) : base(
        "inspect",
        "Shows what files hold and checks everything that loading would check. Exit code 1 if anything would not load.",
        "  kernelscope inspect weights/gemma-2-2b sae/params.npz",
        common,
        surroundings)
    {
        Arguments.Add(_paths);
        Options.Add(_ranges);
    }

    protected override int Run(ParseResult parsed)
    {
        var options = new InspectOptions { Statistics = parsed.GetValue(_ranges) };
        bool json = Common.JsonOf(parsed), ok = true;
        var all = new List<InspectedPath>();
        foreach (string path in parsed.GetRequiredValue(_paths))
        {
            InspectedPath result = Of(Inspector.Inspect(path, options, Cancellation));
            foreach (string note in result.Notes ?? [])
                Failure.WriteLine(Streams.Error, note);
            ok &= result.Ok;
            if (json)
                all.Add(result);
            else
                Print(result);
        }

        if (json)
            JsonOutput.Write(Streams, all);
        return ok ? ExitCode.Done : ExitCode.Failed;
    }

    private static InspectedPath Of(InspectionResult result) => new(
        result.Path,
        result.Ok,
        result.Error,
        result.Format,
        [.. result.Tensors.Select(t => new TensorRow(t.Name, t.DType, t.Shape) { Range = t.Range is TensorRange r ? new RangeRow(r.Minimum, r.Maximum, r.Mean, r.NanCount) : null })])
    { Notes = result.Notes.Count > 0 ? result.Notes : null };

    private void Print(InspectedPath result)
    {
        if (!result.Ok)
        {
            Streams.Output.Flush();
            Failure.WriteLine(Streams.Error, result.Error!);
            return;
        }

        StreamWriter output = Streams.Output;
        output.WriteLine($"{Printable.Escape(result.Path)}: {result.Format}, {result.Tensors.Count} tensors");
        int names = Math.Min(60, result.Tensors.Count == 0 ? 0 : result.Tensors.Max(t => Printable.Escape(t.Name).Length));
        foreach (TensorRow tensor in result.Tensors)
        {
            string shape = $"[{string.Join(", ", tensor.Shape)}]";
            output.WriteLine($"  {Printable.Escape(tensor.Name).PadRight(names)}  {tensor.Dtype,-4}  {shape}{(tensor.Range is RangeRow range ? Range(range) : "")}");
        }
    }

    private static string Range(RangeRow range) =>
        string.Create(CultureInfo.InvariantCulture, $"  {range.Min:G6} to {range.Max:G6}, mean {range.Mean:G4}{(range.NanCount > 0 ? $", {range.NanCount} NaN" : "")}");
}
