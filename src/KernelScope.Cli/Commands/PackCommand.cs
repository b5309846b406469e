using System.CommandLine;
using KernelScope.Cpu.Panels;

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

    public PackCommand(CommonOptions common, Surroundings surroundings) : base(
        "pack",
        "Writes the weights once more, in the order in which the cpu device reads them fastest, bfloat16 in 12 bits a value and " +
        "without a bit lost; the file is three quarters as large as a bfloat16 model's, and as large as another's. Every later run " +
        "of that model on the cpu uses it, as long as the weights are the same.\n" +
        "Results stay what they are to float32 noise: sums run in another order.",
        "  kernelscope pack --model demo --out demo.panels",
        common,
        surroundings)
    {
        Options.Add(_out);
        Options.Add(_list);
        Options.Add(_clean);
    }

    public override CommonUse Uses => CommonUse.Json | CommonUse.Model;

    protected override int Run(ParseResult parsed)
    {
        string? target = parsed.GetValue(_out);
        if (target is { Length: 0 })
            throw new UsageException("--out is empty; it needs a file.");
        OutputPlaces.Require([("--out", target)]);
        bool list = parsed.GetValue(_list), clean = parsed.GetValue(_clean);
        if ((list && clean) || ((list || clean) && target is not null))
            throw new UsageException("--list, --clean and --out are three different things; one of them at a time.");
        if (list || clean)
        {
            List<PackedRow> rows = list ? PackedFiles.All(Streams, Cancellation) : PackedFiles.Clean(Streams, Cancellation);
            return Show(rows, clean, Common.JsonOf(parsed));
        }

        string name = Common.ModelOf(parsed);
        using ModelFiles files = ModelFiles.Open(name);
        PackResult result = files.Pack(target, Streams, Cancellation);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            Streams.Output.WriteLine(Printable.Escape(result.Path));
        return ExitCode.Done;
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
            string state = deleted ? $"deleted: {row.Problem}" : row.Problem ?? "in use by every run of this model on the cpu";
            string of = row.Source is string source ? $" of {Printable.Escape(source)}" : "";
            Streams.Output.WriteLine($"{Printable.Escape(row.Path)}: {ByteText.Of(row.Bytes)}{of}; {Printable.OneLine(state)}");
        }

        if (rows.Count == 0)
            Streams.Error.WriteLine(deleted ? "There is nothing to delete." : "There are no packed weights in the cache.");
        return ExitCode.Done;
    }
}
