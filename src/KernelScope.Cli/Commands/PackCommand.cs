using System.CommandLine;
using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary><c>pack</c>: writes a model's weights once more, in the order in which the cpu device reads them fastest.</summary>
internal sealed class PackCommand : Verb
{
    private readonly Option<string?> _out = new("--out") { Description = $"Where. Default: the user's cache. DIR/kernelscope{PanelFile.Extension} beside the weights is found too.", HelpName = "FILE" };

    public PackCommand(CommonOptions common, Surroundings surroundings) : base(
        "pack",
        "Writes the weights once more, in the order in which the cpu device reads them fastest, bfloat16 in 12 bits a value and without a bit lost; the file is three quarters as large as a bfloat16 model's, and as large as another's. Every later run of that model on the cpu uses it, as long as the weights are the same.\n" +
        "Results stay what they are to float32 noise: sums run in another order.",
        "  kernelscope pack --model demo --out demo.panels",
        common,
        surroundings) => Options.Add(_out);

    public override CommonUse Uses => CommonUse.Json | CommonUse.Model;

    protected override int Run(ParseResult parsed)
    {
        string? target = parsed.GetValue(_out);
        if (target is { Length: 0 })
            throw new UsageException("--out is empty; it needs a file.");
        string name = Common.ModelOf(parsed);
        using ModelFiles files = ModelFiles.Open(name);
        PackResult result = files.Pack(target, Streams, Cancellation);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            Streams.Output.WriteLine(Printable.Escape(result.Path));
        return ExitCode.Done;
    }
}
