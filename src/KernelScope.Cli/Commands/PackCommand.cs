using System.CommandLine;
using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary><c>pack</c>: writes a model's weights once more, in the order in which the cpu device reads them fastest.</summary>
internal sealed class PackCommand : Verb
{
    private readonly Option<string?> _out = new("--out")
    {
        Description = $"Where. Default: the user's cache. DIR/kernelscope{PanelFile.Extension} beside the weights is found too.",
        HelpName = "FILE",
    };

    private readonly Option<bool> _list = new("--list")
    {
        Description = "Show the packed weights in the cache, of which model each is, and whether a run would use it: all of them " +
            "are read, to find damaged ones.",
    };
    private readonly Option<bool> _clean = new("--clean")
    {
        Description = "Delete those in the cache that no run would use: their weights are gone or others, they are of another " +
            "version, damaged, or were left by a run that was killed.",
    };

    private readonly Option<string?> _as = new("--as")
    {
        Description = "bf16: round every matrix to bfloat16 (to nearest, ties to even) and say what that does to the predictions on a " +
            "text. The file has a name of its own; runs use it with --panels bf16 and never without. With --safetensors: the type of all " +
            "weights; default there: bf16 if that changes no value, else the types that they have.",
        HelpName = "bf16|f16|f32",
    };
    private readonly Option<string?> _safetensors = new("--safetensors")
    {
        Description = "Write a model folder for other programs instead: config.json, tokenizer, generation_config.json, and weights in " +
            "safetensors, in shards of 5 GB with an index where they are larger. DIR must be missing or empty, and appears when it is " +
            "complete.",
        HelpName = "DIR",
    };
    private readonly Option<string?> _textFile = new("--text-file")
    {
        Description = "The text on which rounding is measured. Default: the example text that the program carries.",
        HelpName = "F",
    };

    public PackCommand(CommonOptions common, VerbEnvironment environment) : base(
        "pack",
        "Writes the weights once more, in the order in which the cpu device reads them fastest, bfloat16 in 12 bits a value and " +
        "without a bit lost; the file is three quarters as large as a bfloat16 model's, three eighths as large as a float32 model's " +
        "whose values are all bfloat16 (each matrix is looked at), and as large as another's. Every later run of that model on the cpu " +
        "uses it, as long as the weights are the same.\n" +
        "Results stay what they are to float32 noise: sums run in another order.",
        "  kernelscope pack --model demo --out demo.panels\n" +
        "  kernelscope pack --safetensors demo-f16 --as f16\n" +
        "  kernelscope pack --model demo-f16 --as bf16\n" +
        "  kernelscope run \"She loved the river\" --model demo-f16 --panels bf16",
        common,
        environment)
    {
        foreach (Option option in (Option[])[_out, _as, _safetensors, _textFile, _list, _clean])
            Options.Add(option);
        _as.Validators.Add(r => Parsing.Require(
            r, _as, v => v is "bf16" or "f16" or "f32", "'{0}' is not a type of weights: there are bf16, f16 and f32."));
        _safetensors.Validators.Add(r => Parsing.Require(
            r, _safetensors, v => v is { Length: > 0 }, "--safetensors is empty; it needs a folder."));
    }

    public override CommonUse Uses => CommonUse.Json | CommonUse.Model;

    protected override void CheckOptions(ParseResult parsed)
    {
        bool exports = parsed.GetValue(_safetensors) is not null;
        Belongs(parsed, parsed.GetValue(_as) is not null, "--as: only what was rounded is measured", _textFile);
        if (parsed.GetValue(_as) is "f16" or "f32" && !exports)
            throw new UsageException("--as f16 and f32 are for --safetensors: packed weights are rounded to bf16, or kept as they are.");
        Option[] given = [.. new Option[] { _list, _clean, _out, _safetensors }.Where(o => parsed.GetResult(o) is { Implicit: false })];
        if (given.Length > 1)
            throw new UsageException("--list, --clean, --out and --safetensors are different things; one of them at a time.");
        if (parsed.GetValue(_list) || parsed.GetValue(_clean))
            Belongs(parsed, false, "a model to pack", _as);
    }

    protected override int Run(ParseResult parsed)
    {
        string? target = parsed.GetValue(_out);
        if (target is { Length: 0 })
            throw new UsageException("--out is empty; it needs a file.");
        OutputPlaces.Require([("--out", target)], parsed.GetValue(_textFile));
        bool list = parsed.GetValue(_list), clean = parsed.GetValue(_clean);
        if (list || clean)
        {
            List<PackedRow> rows = list ? PackedFiles.All(Streams, Cancellation) : PackedFiles.Clean(Streams, Cancellation);
            return Show(rows, clean, Common.JsonOf(parsed));
        }

        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        // A text that cannot be read is told before the long part.
        int[][]? text = parsed.GetValue(_as) is null ? null : Text(parsed.GetValue(_textFile), files);
        return parsed.GetValue(_safetensors) is string folder ? Export(parsed, files, folder, text) : Pack(parsed, files, target, text);
    }

    private int Pack(ParseResult parsed, ModelFiles files, string? target, int[][]? text)
    {
        bool rounded = parsed.GetValue(_as) is not null;
        PackResult result = files.Pack(target, rounded, Streams, Cancellation);
        if (rounded && result.NotBf16 > 0)
        {
            EffectResult? effect = Effect(parsed, files, text, result.Bytes, files.Name, result.Path);
            result = result with { Effect = effect };
        }

        if (Common.JsonOf(parsed))
        {
            JsonOutput.Write(Streams, result);
            return ExitCode.Done;
        }

        Streams.Output.WriteLine(Printable.Escape(result.Path));
        PackView.Print(Streams, result);
        return ExitCode.Done;
    }

    private int Export(ParseResult parsed, ModelFiles files, string folder, int[][]? text)
    {
        DType? type = parsed.GetValue(_as) switch { "bf16" => DType.BF16, "f16" => DType.F16, "f32" => DType.F32, _ => null };
        ExportResult result = ModelExport.Write(files, folder, type, Streams, Cancellation);
        if (result.Changed > 0)
            result = result with { Effect = Effect(parsed, files, text, result.Bytes, folder) };
        if (Common.JsonOf(parsed))
        {
            JsonOutput.Write(Streams, result);
            return ExitCode.Done;
        }

        Streams.Output.WriteLine(Printable.Escape(result.Path));
        PackView.Print(Streams, result);
        return ExitCode.Done;
    }

    private static int[][]? Text(string? textFile, ModelFiles files) =>
        textFile is null && files.Tokenizer is null ? null : RoundingEffect.Sequences(textFile, files);

    /// <summary>Measures what rounding does, from a rounded model or from rounded panels; null where there is no text, or not the memory for both models.</summary>
    private EffectResult? Effect(
        ParseResult parsed, ModelFiles files, int[][]? text, long roundedBytes, string model, string? panels = null)
    {
        if (text is null)
        {
            Streams.Error.WriteLine($"What rounding does is not measured: {Printable.Escape(files.Name)} has no tokenizer for a text.");
            return null;
        }

        try
        {
            MemoryCheck.Require(("weights", files.WeightBytesOn("cpu")), ("rounded weights", roundedBytes));
        }
        catch (WorkException e)
        {
            Streams.Error.WriteLine($"What rounding does is not measured: {e.Message}");
            return null;
        }

        using var exact = Workbench.Open(parsed, this, files.Name);
        exact.Load();
        using var rounded = Workbench.Open(parsed, this, model);
        rounded.Panels = PanelUse.None;
        rounded.OpenDevice();
        if (panels is not null)
            ModelPanels.Use(((CpuDevice)rounded.Device).Panels, rounded.Files.Checkpoint, PanelFile.Open(panels), rounded: true);
        rounded.LoadWeights();
        string name = RoundingEffect.NameOf(parsed.GetValue(_textFile));
        return RoundingEffect.Measure(name, text, exact.Model, rounded.Model, Streams, Cancellation);
    }

    private int Show(List<PackedRow> rows, bool deleted, bool json)
    {
        if (json)
        {
            JsonOutput.Write(Streams, rows);
            return ExitCode.Done;
        }

        foreach (PackedRow row in rows)
        {
            string use = row.Rounded ? "runs of this model on the cpu with --panels bf16" : "every run of this model on the cpu";
            string state = deleted ? $"deleted: {row.Problem}" : row.Problem ?? $"in use by {use}";
            string of = row.Rounded ? " rounded to bfloat16" : "";
            of += row.Source is string source ? $" of {Printable.Escape(source)}" : "";
            Streams.Output.WriteLine($"{Printable.Escape(row.Path)}: {ByteText.Of(row.Bytes)}{of}; {Printable.OneLine(state)}");
        }

        if (rows.Count == 0)
            Streams.Error.WriteLine(deleted ? "There is nothing to delete." : "There are no packed weights in the cache.");
        return ExitCode.Done;
    }
}
