using KernelScope.Chat;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Text;

namespace KernelScope.Cli.Inspection;

/// <summary>
/// Says what a path holds and whether loading it would work. It checks everything that loading checks, and more: an npz is streamed once to its end (CRC, DEFLATE).
/// Files are known by their names: <c>*.safetensors</c>, <c>*.npz</c> (<c>params.npz</c> is a Gemma Scope SAE), <c>*.npy</c>, <c>*.index.json</c>, <c>config.json</c>,
/// <c>generation_config.json</c>, <c>cfg.json</c>, <c>tokenizer.model</c>, <c>tokenizer.json</c>, <c>*.panels</c> (packed weights, whose checksums are compared), and folders that hold them.
/// </summary>
public static partial class Inspector
{
    private const int BufferLength = 1 << 18;

    /// <summary>Looks at one path. A bad file is a result, not an exception.</summary>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public static InspectionResult Inspect(string path, InspectOptions options, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(path);
        ArgumentNullException.ThrowIfNull(options);
        string format = FormatOf(path);
        try
        {
            List<string> remarks = [], notes = [];
            List<InspectedTensor> tensors = Check(path, format, options, remarks, notes, cancellation);
            return new InspectionResult(path, true, null, format, tensors) { Remarks = remarks, Notes = notes };
        }
        catch (InvalidDataException e)
        {
            return new InspectionResult(path, false, e.Message, format, []);
        }
    }

    private static string FormatOf(string path)
    {
        if (Directory.Exists(path))
            return FormatOfFolder(path);
        string name = Path.GetFileName(path);
        return name switch
        {
            SaeCheckpoint.ParamsName => "gemma_scope_sae",
            SaeCheckpoint.ConfigName => RawFile.IsThere(Beside(path, SparsifyConfig.WeightsName)) ? "sparsify_sae" : "saelens_sae",
            SparsifyConfig.WeightsName when RawFile.IsThere(Beside(path, SaeCheckpoint.ConfigName)) => "sparsify_sae",
            GemmaScope2Config.WeightsName when RawFile.IsThere(Beside(path, GemmaScope2Config.ConfigName)) => "gemma_scope_2_sae",
            _ when CircuitTracerConfig.IsLayerFile(path) && RawFile.IsThere(Beside(path, CircuitTracerConfig.ConfigName)) =>
                "circuit_tracer_transcoder",
            "config.json" => "config",
            "generation_config.json" => "generation_config",
            "tokenizer.model" or "tokenizer.json" => "tokenizer",
            _ when name.EndsWith(".safetensors", StringComparison.Ordinal) => "safetensors",
            _ when name.EndsWith(".npz", StringComparison.Ordinal) => "npz",
            _ when name.EndsWith(".npy", StringComparison.Ordinal) => "npy",
            _ when name.EndsWith(PanelFile.Extension, StringComparison.Ordinal) => "panels",
            _ when name.EndsWith(".safetensors.index.json", StringComparison.Ordinal) => "index",
            _ => "unknown",
        };
    }

    private static string Beside(string path, string name) => Path.Combine(Path.GetDirectoryName(path) ?? "", name);

    private static string FormatOfFolder(string path)
    {
        bool Has(string name) => RawFile.IsThere(Path.Combine(path, name));
        if (Has(GemmaScope2Config.WeightsName))
            return "gemma_scope_2_sae";
        if (Has("config.json") || Has("model.safetensors") || Has("model.safetensors.index.json") || Has("snapshots"))
            return "model";
        if (Has(SparsifyConfig.WeightsName))
            return "sparsify_sae";
        if (CircuitTracerConfig.IsSet(path))
            return "circuit_tracer_transcoder";
        if (Has(SaeCheckpoint.ConfigName) || Has(SaeCheckpoint.WeightsName))
            return "saelens_sae";
        return Has(SaeCheckpoint.ParamsName) ? "gemma_scope_sae" : "unknown";
    }

    private static List<InspectedTensor> Check(string path, string format, InspectOptions options, List<string> remarks,
        List<string> notes, CancellationToken cancellation)
    {
        switch (format)
        {
            case "safetensors":
                using (SafetensorsFile file = SafetensorsFile.Open(path)) return Describe(file, file.Contents, options, cancellation);
            case "npz":
                using (NpzFile file = NpzFile.Open(path)) return Describe(file, options, cancellation);
            case "npy":
                using (NpyFile file = NpyFile.Open(path)) return [Describe(file, options, cancellation)];
            case "gemma_scope_sae":
                return CheckGemmaScope(Directory.Exists(path) ? Path.Combine(path, SaeCheckpoint.ParamsName) : path, options, cancellation);
            case "saelens_sae" or "sparsify_sae" or "gemma_scope_2_sae" or "circuit_tracer_transcoder":
                using (SaeCheckpoint sae = SaeCheckpoint.Open(path))
                using (SafetensorsFile file = SafetensorsFile.Open(sae.Path)) return CheckedNumbers(sae,
                    Describe(file, file.Contents, options, cancellation));
            case "panels":
                using (PanelFile panels = PanelFile.Open(path))
                {
                    if (panels.IsRounded)
                        notes.Add($"{BadFile.Printable(path, 4096)}: the weights were rounded to bfloat16; runs use them with --panels " +
                            "bf16 only.");
                    return Describe(panels, options, cancellation);
                }

            case "index":
                using (ShardedTensors shards = ShardedTensors.OpenIndex(path)) return Describe(shards, options, cancellation);
            case "config":
                Gemma2Config.Parse(RawFile.ReadAll(path, Gemma2Config.MaxFileLength), path);
                return [];
            case "generation_config":
                Gemma2Config.StopIds(RawFile.ReadAll(path, Gemma2Config.MaxFileLength), path);
                return [];
            case "tokenizer":
                GemmaTokenizer.Open(path);
                return [];
            case "model":
                return CheckModel(path, options, remarks, notes, cancellation);
            default:
                throw Unknown(path);
        }
    }

    private static List<InspectedTensor> CheckGemmaScope(string path, InspectOptions options, CancellationToken cancellation)
    {
        NpzFile file = NpzFile.Open(path);
        using SaeCheckpoint sae = SaeCheckpoint.OfNpz(file);
        return CheckedNumbers(sae, Describe(file, options, cancellation));
    }

    // A NaN in one feature's encoder makes it never fire, and would pass for an answer: loading refuses it too.
    private static List<InspectedTensor> CheckedNumbers(SaeCheckpoint sae, List<InspectedTensor> tensors)
    {
        FiniteParameters.Require(sae);
        return tensors;
    }

    /// <summary>Compares the packed weights that a run on the cpu would use with their checksums. What a run passes over with a line is a note here, and what stops it is an error.</summary>
    private static void CheckPacked(Gemma2Checkpoint model, List<string> notes, CancellationToken cancellation)
    {
        if (PanelCache.Find(model, Environment.GetEnvironmentVariable) is not string path)
            return;
        PanelFile? panels = null;
        try
        {
            panels = PanelFile.Open(path);
        }
        catch (InvalidDataException)
        {
            // No such file at all: what is said of it below is all.
        }

        using (panels)
            panels?.Verify(cancellation);
        if (PackedWeights.Problem(model, path, verify: false) is string problem)
            notes.Add($"{problem.TrimEnd('.')}; it is not used.");
    }

    private static List<InspectedTensor> CheckModel(string path, InspectOptions options, List<string> remarks, List<string> notes,
        CancellationToken cancellation)
    {
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(path);
        remarks.AddRange(model.Remarks);
        if (model.OpenTokenizer() is GemmaTokenizer tokenizer)
            ChatFormat.Open(model.Folder, tokenizer);
        var tensors = new List<InspectedTensor>();
        foreach (SafetensorsFile file in model.Files)
            tensors.AddRange(Describe(file, file.Contents, options, cancellation));
        CheckPacked(model, notes, cancellation);
        return tensors;
    }

    private static List<InspectedTensor> Describe(ShardedTensors shards, InspectOptions options, CancellationToken cancellation)
    {
        var tensors = new List<InspectedTensor>();
        foreach (SafetensorsFile file in shards.Files)
            tensors.AddRange(Describe(file, file.Contents, options, cancellation));
        return tensors;
    }

    // With ordinary reads: a file that is being written meanwhile gives a sentence instead of a signal.
    private static List<InspectedTensor> Describe(SafetensorsFile file, IReadOnlyList<TensorInfo> infos, InspectOptions options,
        CancellationToken cancellation)
    {
        var tensors = new List<InspectedTensor>();
        byte[] buffer = options.Statistics ? new byte[BufferLength] : [];
        foreach (TensorInfo info in infos)
        {
            RangeScan? scan = options.Statistics && RangeScan.Covers(info.DType) ? new RangeScan(info.DType) : null;
            long at = file.OffsetOf(info.Name), end = at + info.ByteLength;
            for (; scan is not null && at < end; at += BufferLength)
            {
                cancellation.ThrowIfCancellationRequested();
                Span<byte> piece = buffer.AsSpan(0, (int)Math.Min(BufferLength, end - at));
                file.Raw.Read(at, piece);
                scan.Add(piece);
            }
            tensors.Add(Row(info, scan));
        }
        return tensors;
    }

    private static List<InspectedTensor> Describe(NpzFile file, InspectOptions options, CancellationToken cancellation)
    {
        var tensors = new List<InspectedTensor>();
        foreach (TensorInfo info in file.Contents)
        {
            RangeScan? scan = options.Statistics && RangeScan.Covers(info.DType) ? new RangeScan(info.DType) : null;
            if (scan is not null)
                file.Scan(info.Name, scan.Add, cancellation);
            tensors.Add(Row(info, scan));
        }
        file.Verify(cancellation);
        return tensors;
    }

    private static InspectedTensor Describe(NpyFile file, InspectOptions options, CancellationToken cancellation)
    {
        RangeScan? scan = options.Statistics && RangeScan.Covers(file.Info.DType) ? new RangeScan(file.Info.DType) : null;
        if (scan is not null)
            file.Scan(scan.Add, cancellation);
        return Row(file.Info, scan);
    }

    // Every panel is read for its checksum; a second reading for the ranges costs nothing beside it.
    private static List<InspectedTensor> Describe(PanelFile panels, InspectOptions options, CancellationToken cancellation)
    {
        panels.Verify(cancellation);
        return Describe(panels.Stored, panels.Matrices, options, cancellation);
    }

    private static InspectedTensor Row(TensorInfo info, RangeScan? scan) =>
        new(info.Name, info.DType.SafetensorsName(), info.Shape.ToArray(), scan?.Result);

    private static InvalidDataException Unknown(string path) => BadFile.At(path, Directory.Exists(path)
        ? "the folder holds no model (config.json, model.safetensors) and no SAE (params.npz, or cfg.json with sae_weights.safetensors)."
        : RawFile.IsThere(path) ? "the name says nothing: a .safetensors, .npz, .npy, .safetensors.index.json, config.json, " +
        "generation_config.json, cfg.json, tokenizer.model, tokenizer.json or .panels was expected."
        : "there is no such file or folder.");
}
