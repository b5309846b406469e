using System.CommandLine;
using System.Globalization;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary><c>encode</c>: the SAE codes of stored activations.</summary>
internal sealed class EncodeCommand : Verb
{
    private readonly Argument<string> _activations = new("ACTS")
    {
        Description = "An npz, npy or safetensors file with activations of " +
        "any leading shape, f16, bf16, f32 or f64; the last dimension is the SAE's input ([heads, d_head] for an attention SAE)."
    };
    private readonly Option<string?> _key = new("--key")
    {
        Description = "Which array of it; not needed where there is one.",
        HelpName = "NAME"
    };
    private readonly Option<string?> _specialIds = new("--special-ids")
    {
        Description = "Where the file holds tokens: ids whose rows do not count. Default: those of --model where it is given, else " +
            "0,1,2 (padding, EOS, BOS). Padding (0) never counts.",
        HelpName = "IDS",
    };

    private readonly Option<string> _sae = SaeOptions.Required();
    private readonly Option<string?> _out = new("--out")
    {
        Description = "Where the codes go: an npz with row_ptr i64, feature i32, " +
        "value f32 and reconstruction f32 [rows, d_out].",
        HelpName = "F.npz"
    };

    public EncodeCommand(CommonOptions common, VerbEnvironment environment) : base(
        "encode",
        "Encodes stored activations with an SAE. Needs no model. L0 is the mean number of active features of a row, FVU = sum |x - " +
        "x'|^2 / sum |x - mean x|^2 over all rows that count:\n" +
        "where the file holds tokens too, rows of BOS, EOS and padding do not. They are encoded like the others.\n" +
        "FVU has no value for a transcoder, whose output is another site; a params.npz of equal widths outside a transcoder folder " +
        "passes for an SAE.",
        "  kernelscope run \"And the king said\" --capture resid_post.3 --out acts.npz\n  kernelscope encode acts.npz --key " +
        "resid_post.3 --sae res.3.2k.l0_19 --out codes.npz",
        common,
        environment)
    {
        Arguments.Add(_activations);
        Options.Add(_key);
        Options.Add(_sae);
        Options.Add(_specialIds);
        Options.Add(_out);
    }

    /// <summary>An SAE is exact in either precision.</summary>
    public override CommonUse Uses => CommonUse.All & ~CommonUse.Precision;

    protected override void CheckOptions(ParseResult parsed)
    {
        if (Common.HasModel(parsed) && parsed.GetValue(_specialIds) is not null)
            throw new UsageException("--model does nothing beside --special-ids: it says which ids do not count.");
    }

    protected override int Run(ParseResult parsed)
    {
        using TensorFile file = ArrayFile.Open(ArrayInput.Require(parsed.GetRequiredValue(_activations)));
        using var bench = Workbench.WithoutModel(parsed, this);
        SaeFiles saeFiles = bench.Add(SaeFiles.Open(parsed.GetRequiredValue(_sae), Common.NoMapOf(parsed)));
        (string? special, IEnumerable<string> ofModel) = SpecialOfModel(parsed);
        OutputPlaces.Require([("--out", parsed.GetValue(_out))], [file.Path, .. saeFiles.InputPaths, .. ofModel]);
        TensorView x = Array(file, parsed.GetValue(_key));
        long rows = RowsOf(x, saeFiles);
        file.VerifyIfSmall(SaeCheckpoint.VerifyOnOpenLimit, Cancellation);
        bool[]? counted = CountedRows.Of(file, x.Info, rows, parsed.GetValue(_specialIds) ?? special, Streams);
        bench.OpenDevice(("SAE", saeFiles.Bytes), ("rows", RowEncoder.BlockBytes(saeFiles.Config)));
        using NpzWriter? writer = parsed.GetValue(_out) is string path ? new NpzWriter(path) : null;
        bench.LoadWeights();
        using var encoder = new RowEncoder(saeFiles.Sae, x, rows, counted);
        EncodeResult result;
        using (var progress = new Progress(Streams, "Encoding"))
            result = encoder.Run(writer, progress, Cancellation);
        writer?.Commit();
        Written.Say(Streams, parsed.GetValue(_out));
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            Streams.Output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{result.Rows:N0} rows{(result.RowsCounted == result.Rows ? "" : $", of which {result.RowsCounted:N0} count")} · " +
                $"L0 {Number(result.L0)} · FVU {Number(result.Fvu)}"));
        return ExitCode.Done;
    }

    /// <summary>The ids of --model that do not count, and the model's files; null: none was named.</summary>
    private (string? Ids, IEnumerable<string> Files) SpecialOfModel(ParseResult parsed)
    {
        if (!Common.HasModel(parsed))
            return (null, []);
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        return (string.Join(',', [files.Config.PadId, files.BosId, .. files.Config.TextEndIds]), files.InputPaths);
    }

    private static string Number(double? value) => value?.ToString("0.#####", CultureInfo.InvariantCulture) ?? "not defined";

    private static TensorView Array(TensorFile file, string? key)
    {
        if (file is NpyFile npy)
            return key is null || key == npy.Info.Name ? file[npy.Info.Name]
                : throw new UsageException("--key names an array of a file with several; a .npy holds one.");
        if (key is null)
        {
            TensorInfo[] arrays = [.. file.Contents.Where(c => c.Name != CapturedArrays.Tokens)];
            return arrays.Length == 1 ? file[arrays[0].Name]
                : throw new UsageException($"--key is missing: {Printable.Escape(file.Path)} has {Names(file)}.");
        }

        if (file.TryGet(key, out TensorView array))
            return array;
        // A hook point's other name; two of them must agree.
        return CapturedArrays.Read(file).TryGetValue(CapturedArrays.KeyOf(key), out TensorInfo? known)
            ? file[known.Name]
            : throw new WorkException($"{file.Path}: there is no array '{key}' in it; it has {Names(file)}.");
    }

    private static string Names(TensorFile file)
    {
        const int Shown = 12;
        string names = string.Join(", ", file.Contents.Take(Shown).Select(c => c.Name));
        return file.Contents.Count switch { 0 => "none", <= Shown => names, int n => $"{names} and {n - Shown} more" };
    }

    /// <summary>Number of rows once the leading dimensions are flattened: the last dimension, or the product of the last two, is d_in.</summary>
    private static long RowsOf(in TensorView x, SaeFiles sae)
    {
        int width = sae.Config.InputDim;
        ReadOnlySpan<long> shape = x.Shape;
        if (!x.DType.IsFloat())
            throw new WorkException($"{x.Describe()} holds no floating-point numbers.");
        bool flat = shape.Length >= 1 && shape[^1] == width;
        bool heads = shape.Length >= 2 && shape[^2] * shape[^1] == width;
        if (!flat && !heads)
            throw new WorkException($"{x.Describe()} does not end in {sae.Name}'s {width} inputs, neither as [.., {width}] nor as [.., " +
                "heads, d_head].");
        return x.ElementCount / width;
    }
}
