using System.CommandLine;
using System.Globalization;
using KernelScope.Cli.Inspection;
using KernelScope.Files;
using KernelScope.Hub.Catalog;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary><c>inspect</c>: what files hold, and whether loading them would work.</summary>
internal sealed class InspectCommand : Verb
{
    private readonly Argument<string[]> _paths = new("PATH")
    {
        Description = "Files and folders: safetensors, npz, index, config.json, tokenizer.model, packed weights, SAE folders, model " +
            "folders; " +
            "or a name as --model and --sae take it.",
        Arity = ArgumentArity.OneOrMore,
    };

    private readonly Option<bool> _all = new("--all") { Description = "List every tensor of a model, not a summary." };
    private readonly Option<bool> _ranges = new("--ranges") { Description = "Read all values and show their smallest, largest and mean." };

    public InspectCommand(CommonOptions common, VerbEnvironment environment) : base(
        "inspect",
        "Shows what files hold and checks everything that loading would check. Exit code 1 if anything would not load.",
        "  kernelscope inspect demo res.3.2k.l0_19",
        common,
        environment)
    {
        Arguments.Add(_paths);
        Options.Add(_all);
        Options.Add(_ranges);
    }

    public override CommonUse Uses => CommonUse.Json;

    protected override int Run(ParseResult parsed)
    {
        var options = new InspectOptions { Statistics = parsed.GetValue(_ranges) };
        bool json = Common.JsonOf(parsed), ok = true;
        var all = new List<InspectedPath>();
        foreach (string path in parsed.GetRequiredValue(_paths))
        {
            InspectedPath result = Inspected(path, options);
            foreach (string note in result.Notes ?? [])
                Failure.WriteLine(Streams.Error, note);
            ok &= result.Ok;
            if (json)
                all.Add(result);
            else
                Print(result, parsed.GetValue(_all) || options.Statistics);
        }

        if (json)
            JsonOutput.Write(Streams, all);
        return ok ? ExitCode.Done : ExitCode.Failed;
    }

    /// <summary>A path, or else a name: the demo's, or one of the hub's that is in the cache.</summary>
    private InspectedPath Inspected(string path, InspectOptions options)
    {
        if (Path.Exists(path))
            return Summed(ToResult(Inspector.Inspect(path, options, Cancellation)), path);
        if (Inspector.InspectCarried(path, options, Cancellation) is InspectionResult carried)
            return Summed(ToResult(carried), path);
        try
        {
            string? found = ReleaseCatalog.TryParse(path, out _) ? SaeFiles.FindCached(path)
                : ReleasedModel.Find(path) is not null || HubCache.EntryName(path) is not null
                ? ModelFolder.Resolve(ModelName.Resolve(path)).Path : null;
            InspectedPath result = ToResult(Inspector.Inspect(found ?? path, options, Cancellation));
            return found is null ? result : Summed(result with { Path = path }, path);
        }
        catch (Exception e) when (e is WorkException or InvalidDataException)
        {
            return new InspectedPath(path, false, e.Message, "unknown", []);
        }
    }

    /// <summary>A model in a few lines.</summary>
    private static InspectedPath Summed(InspectedPath result, string name)
    {
        if (!result.Ok || result.Format != "model")
            return result;
        using ModelFiles files = ModelFiles.Open(name);
        Gemma2Config c = files.Config;
        var types = result.Tensors.GroupBy(t => t.Dtype).OrderByDescending(g => g.Count()).Select(g => $"{g.Count()} {g.Key}");
        string keyHeads = string.Create(CultureInfo.InvariantCulture, $"({c.KvHeadCount} for keys and values)");
        FormattableString[] lines =
        [
            $"{c.LayerCount} layers of width {c.ModelDim:N0}: {c.HeadCount} heads of {c.HeadDim} {keyHeads}, MLPs of {c.MlpDim:N0}",
            $"vocabulary {c.VocabSize:N0}, context {c.ContextLength:N0} tokens, window {c.SlidingWindow:N0}",
            $"BOS {c.BosId}, EOS {string.Join(", ", c.EosIds)}, padding {c.PadId}",
            $"weights {ByteText.Of(files.WeightBytes)} in {result.Tensors.Count} tensors: {string.Join(", ", types)}",
            files.Tokenizer is null ? (FormattableString)$"no tokenizer: it takes token ids, and no text"
                : $"tokenizer of {files.Tokenizer.PieceCount:N0} pieces",
        ];
        return result with { Summary = [.. lines.Select(FormattableString.Invariant)] };
    }

    private static InspectedPath ToResult(InspectionResult result) => new(
        result.Path,
        result.Ok,
        result.Error,
        result.Format,
        [.. result.Tensors.Select(t => new TensorRow(t.Name, t.DType, t.Shape) { Range = t.Range is TensorRange r
        ? new RangeRow(r.Minimum, r.Maximum, r.Mean, r.NanCount) : null })])
    {
        Remarks = result.Remarks.Count > 0 ? result.Remarks : null,
        Notes = result.Notes.Count > 0 ? result.Notes : null,
    };

    private void Print(InspectedPath result, bool all)
    {
        if (!result.Ok)
        {
            Streams.Output.Flush();
            Failure.WriteLine(Streams.Error, result.Error!);
            return;
        }

        StreamWriter output = Streams.Output;
        output.WriteLine($"{Printable.Escape(result.Path)}: {result.Format}, {result.Tensors.Count} tensors");
        foreach (string remark in result.Remarks ?? [])
            output.WriteLine($"  {Printable.OneLine(remark)}");
        foreach (string line in result.Summary ?? [])
            output.WriteLine($"  {line}");
        if (result.Summary is not null && !all)
            return;
        int names = Math.Min(60, result.Tensors.Count == 0 ? 0 : result.Tensors.Max(t => Printable.Escape(t.Name).Length));
        foreach (TensorRow tensor in result.Tensors)
        {
            string shape = $"[{string.Join(", ", tensor.Shape)}]";
            string values = tensor.Range is RangeRow range ? Range(range) : "";
            output.WriteLine($"  {Printable.Escape(tensor.Name).PadRight(names)}  {tensor.Dtype,-4}  {shape}{values}");
        }
    }

    private static string Range(RangeRow range) =>
        string.Create(CultureInfo.InvariantCulture, $"  {range.Min:G6} to {range.Max:G6}, " +
        $"mean {range.Mean:G4}{(range.NanCount > 0 ? $", {range.NanCount} NaN" : "")}");
}
