using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>Writes a model's folder once more, with weights in one type, for other programs: what transformers' <c>save_pretrained</c> leaves.</summary>
internal sealed class ModelExport
{
    /// <summary>Bytes of a shard, as the hub has them.</summary>
    public const long ShardBytes = 5_000_000_000;

    private const int PieceBytes = 1 << 24;

    // What a program that opens a model may look for beside its weights.
    private static readonly string[] Companions =
    [
        "generation_config.json", "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "added_tokens.json",
        "special_tokens_map.json", "chat_template.jinja", "chat_template.json",
    ];

    private readonly ModelFiles _files;
    private readonly List<(TensorInfo Target, TensorView Source)> _tensors = [];
    private readonly CancellationToken _cancellation;
    private readonly byte[] _stored = new byte[PieceBytes], _converted = new byte[2 * PieceBytes];
    private readonly Progress _progress;
    private readonly long _total;
    private long _done, _changed;

    private ModelExport(ModelFiles files, DType? type, Progress progress, CancellationToken cancellation)
    {
        _files = files;
        _progress = progress;
        _cancellation = cancellation;
        ShardedTensors weights = files.Checkpoint.Weights;
        // The hub's names, whatever wrappers made of them: another program looks for those.
        var names = new GemmaTensors(weights);
        (string Name, TensorView View)[] tensors = [.. names.Names.Select(n => (n.Name, View(names, n.Name)))];
        long bytes = tensors.Sum(t => t.View.ByteLength);
        _total = type is null ? 2 * bytes : bytes;
        Type = type ?? (Array.TrueForAll(tensors, t => IsBf16(t.View)) ? DType.BF16 : null);
        foreach ((string name, TensorView view) in tensors)
        {
            DType target = Type is DType wanted && ValueConversion.Covers(view.DType) ? wanted : view.DType;
            _tensors.Add((new TensorInfo(name, target, view.Shape), view));
        }
    }

    /// <summary>The type of all weights; null: each keeps its own.</summary>
    private DType? Type { get; }

    /// <summary>Writes the folder.</summary>
    /// <param name="files">The model.</param>
    /// <param name="folder">Where: none, or an empty one. It appears when it is complete.</param>
    /// <param name="type">Type of the weights; null: bfloat16 if that changes no value, else the types that they have.</param>
    /// <param name="streams">For progress.</param>
    /// <param name="cancellation">Stops it; nothing is left.</param>
    /// <param name="shardBytes">Bytes of a shard, unless one tensor has more.</param>
    /// <exception cref="WorkException">The folder cannot be written, or a value would become infinite.</exception>
    public static ExportResult Write(
        ModelFiles files, string folder, DType? type, Streams streams, CancellationToken cancellation, long shardBytes = ShardBytes)
    {
        using FolderInProgress target = FolderInProgress.Create(folder);
        using var progress = new Progress(streams, $"Converting {Printable.Escape(files.Name)}");
        var export = new ModelExport(files, type, progress, cancellation);
        List<List<(TensorInfo Target, TensorView Source)>> shards = export.Shards(shardBytes);
        string[] names = [.. shards.Select((_, n) => NameOfShard(n, shards.Count))];
        for (int s = 0; s < shards.Count; s++)
            export.WriteShard(target.At(names[s]), shards[s]);
        if (shards.Count > 1)
            WriteBytes(target.At("model.safetensors.index.json"), Index(shards, names));
        WriteBytes(target.At("config.json"), export.Config());
        foreach (string name in Companions)
        {
            if (files.Companion(name) is byte[] bytes)
                WriteBytes(target.At(name), bytes);
        }

        cancellation.ThrowIfCancellationRequested();
        target.Commit();
        DType stored = export.Type ?? files.Checkpoint.Embedding.DType;
        long values = export._tensors.Sum(t => t.Target.ElementCount), length = export._tensors.Sum(t => t.Target.ByteLength);
        return new ExportResult(files.Name, folder, NameOf(stored), length, export._tensors.Count, shards.Count, values, export._changed);
    }

    private static TensorView View(GemmaTensors names, string name) =>
        names.TryGet(name, out TensorView tensor) ? tensor : throw new InvalidOperationException(name);

    private static string NameOfShard(int n, int count) => count == 1 ? "model.safetensors"
        : string.Create(CultureInfo.InvariantCulture, $"model-{n + 1:00000}-of-{count:00000}.safetensors");

    private bool IsBf16(TensorView tensor)
    {
        long changed = 0;
        if (ValueConversion.Covers(tensor.DType) && tensor.DType != DType.BF16)
            ReadPieces(tensor, piece => changed += ValueConversion.Convert(tensor.DType, piece, DType.BF16, default).Changed);
        return changed == 0;
    }

    private List<List<(TensorInfo Target, TensorView Source)>> Shards(long most)
    {
        List<List<(TensorInfo Target, TensorView Source)>> shards = [[]];
        long bytes = 0;
        foreach ((TensorInfo Target, TensorView Source) tensor in _tensors)
        {
            if (bytes > 0 && bytes + tensor.Target.ByteLength > most)
            {
                shards.Add([]);
                bytes = 0;
            }

            bytes += tensor.Target.ByteLength;
            shards[^1].Add(tensor);
        }

        return shards;
    }

    private void WriteShard(string path, List<(TensorInfo Target, TensorView Source)> tensors)
    {
        using var writer = new SafetensorsWriter(path, tensors.Select(t => t.Target), new Dictionary<string, string> { ["format"] = "pt" });
        foreach ((TensorInfo target, TensorView source) in tensors)
        {
            long changed = 0, beyond = 0;
            ReadPieces(source, piece =>
            {
                if (target.DType == source.DType)
                {
                    writer.AppendBytes(piece.Span);
                    return;
                }

                Memory<byte> converted = _converted.AsMemory(0, piece.Length / source.DType.ByteSize() * target.DType.ByteSize());
                ValueConversion done = ValueConversion.Convert(source.DType, piece, target.DType, converted);
                (changed, beyond) = (changed + done.Changed, beyond + done.Beyond);
                writer.AppendBytes(converted.Span);
            });
            if (beyond > 0)
            {
                throw new WorkException(
                    $"{source.Describe()}: {beyond} of its values are beyond the largest of {NameOf(target.DType)} and would become " +
                    "infinite; choose another type with --as.");
            }

            _changed += changed;
        }

        writer.Commit();
    }

    // With ordinary reads: pages of the mapping would count as this process's memory.
    private void ReadPieces(TensorView tensor, Action<Memory<byte>> each)
    {
        var file = (SafetensorsFile)tensor.Owner;
        for (long at = 0; at < tensor.ByteLength; at += PieceBytes)
        {
            _cancellation.ThrowIfCancellationRequested();
            Memory<byte> piece = _stored.AsMemory(0, (int)Math.Min(PieceBytes, tensor.ByteLength - at));
            file.Raw.Read(file.OffsetOf(tensor.Name) + at, piece.Span);
            each(piece);
            _done += piece.Length;
            _progress.Report(_done / (double)_total);
        }
    }

    private static byte[] Index(List<List<(TensorInfo Target, TensorView Source)>> shards, string[] names)
    {
        var map = new JsonObject();
        var places = shards.SelectMany((s, n) => s.Select(t => (t.Target.Name, Shard: names[n])));
        foreach ((string tensor, string shard) in places.OrderBy(p => p.Name, StringComparer.Ordinal))
            map.Add(tensor, shard);
        long bytes = shards.Sum(s => s.Sum(t => t.Target.ByteLength));
        return Text(new JsonObject { ["metadata"] = new JsonObject { ["total_size"] = bytes }, ["weight_map"] = map });
    }

    // Programs look under either name; both say what the weights are.
    private byte[] Config()
    {
        JsonNode config = JsonNode.Parse(Encoding.UTF8.GetString(_files.ConfigBytes).TrimStart('\uFEFF'))!;
        string type = NameOf(Type ?? _files.Checkpoint.Embedding.DType);
        config["torch_dtype"] = type;
        if (config["dtype"] is not null)
            config["dtype"] = type;
        return Text(config);
    }

    private static string NameOf(DType type) => type switch { DType.F32 => "float32", DType.BF16 => "bfloat16", _ => "float16" };

    private static byte[] Text(JsonNode node)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true }))
            node.WriteTo(json);
        stream.WriteByte((byte)'\n');
        return stream.ToArray();
    }

    private static void WriteBytes(string path, byte[] bytes)
    {
        using AtomicFile file = AtomicFile.Create(path);
        file.Stream.Write(bytes);
        file.Commit();
    }
}
