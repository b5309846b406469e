using System.Buffers;
using System.Runtime.InteropServices;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>The rows of one site of one shard, opened and checked: x [rows, d], and sequence, position and token of each.</summary>
internal sealed class RowShard : IDisposable
{
    private readonly SafetensorsFile? _file;
    private readonly long _start;
    private readonly float[]? _values;

    private RowShard(SafetensorsFile file, SiteRecord site)
    {
        TensorView x = file["x"];
        (_file, _start) = (file, file.OffsetOf("x"));
        (Path, Type, Width, Rows) = (file.Path, x.DType, site.Width, (int)x.Shape[0]);
    }

    private RowShard(string name, float[] values, int width, int rows) => (Path, _values, Width, Rows) = (name, values, width, rows);

    /// <summary>d.</summary>
    public int Width { get; }

    /// <summary>Number of rows.</summary>
    public int Rows { get; }

    /// <summary>How values are stored.</summary>
    public DType Type { get; } = DType.F32;

    /// <summary>Where it lies; of rows in memory, what messages call them.</summary>
    public string Path { get; }

    /// <summary>Number of each row's sequence, ascending.</summary>
    public int[] Sequence { get => field ??= TokenShard.Values<int>(_file!["sequence"]); private init; }

    /// <summary>Position of each row in it.</summary>
    public int[] Position { get => field ??= TokenShard.Values<int>(_file!["position"]); private init; }

    /// <summary>Token of each row.</summary>
    public int[] Token { get => field ??= TokenShard.Values<int>(_file!["token"]); private init; }

    /// <summary>Rows that lie in memory already.</summary>
    public static RowShard OfMemory(string name, float[] values, int width, int[] sequence, int[] position, int[] token) =>
        new(name, values, width, sequence.Length) { Sequence = sequence, Position = position, Token = token };

    /// <summary>Opens the rows of a site.</summary>
    /// <param name="folder">The run.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="manifest">The shard.</param>
    /// <param name="site">Which site.</param>
    /// <param name="trust">Whether the file's hash is not compared with the manifest's.</param>
    /// <param name="cancellationToken">Ends that comparison.</param>
    /// <exception cref="InvalidDataException">The file is missing, damaged, or not what the manifest says.</exception>
    public static RowShard Open(RunFolder folder, RunPlan plan, ShardManifest manifest, SiteRecord site, bool trust,
        CancellationToken cancellationToken = default)
    {
        SafetensorsFile file = OpenFile(folder.At(RunFolder.Acts(site.Name, manifest.Shard)), manifest.Sites[site.Name].File, site.Name,
            trust, cancellationToken);
        try
        {
            foreach (TensorInfo tensor in SiteRows.Tensors(site, plan.RowType, manifest.Rows))
                TokenShard.Require(file, tensor.Name, tensor.DType, tensor.Shape);
            foreach ((string name, string expected) in SiteRows.Metadata(plan, manifest.Shard, site.Name, plan.RowType))
            {
                if (file.Metadata.TryGetValue(name, out string? found) && found != expected)
                    throw BadFile.At(file.Path, $"its metadata say {name} {BadFile.Printable(found, 64)}; {expected} was expected.");
            }

            var shard = new RowShard(file, site);
            ShardRecord record = plan.Shards[manifest.Shard];
            int bad = Array.FindIndex(shard.Sequence, s => s < record.FirstSequence || s >= record.FirstSequence + record.Sequences);
            if (bad >= 0)
                throw BadFile.At(file.Path, $"row {bad} is of sequence {shard.Sequence[bad]}; the shard has sequences " +
                    $"{record.FirstSequence} to {record.FirstSequence + record.Sequences - 1}.");
            bad = Array.FindIndex(shard.Position, p => p < 0 || p >= plan.Context);
            if (bad >= 0)
                throw BadFile.At(file.Path,
                    $"row {bad} is at position {shard.Position[bad]}; positions are 0 to {plan.Context - 1}.");
            bad = Array.FindIndex(shard.Token, id => id < 0);
            return bad < 0 ? shard : throw BadFile.At(file.Path, $"row {bad} has the token {shard.Token[bad]}; ids are at least 0.");
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Copies rows as float32.</summary>
    /// <exception cref="InvalidDataException">A value is not finite.</exception>
    public void Read(int row, Span<float> destination)
    {
        if (Type == DType.F32)
        {
            ReadStored(row, MemoryMarshal.AsBytes(destination));
            return;
        }

        byte[] stored = ArrayPool<byte>.Shared.Rent(destination.Length * Type.ByteSize());
        ReadStored(row, stored.AsSpan(0, destination.Length * Type.ByteSize()));
        RowValues.Widen(Type, stored.AsSpan(0, destination.Length * Type.ByteSize()), destination);
        ArrayPool<byte>.Shared.Return(stored);
    }

    /// <summary>Copies rows as they are stored, in <see cref="Type"/>. A file is read, not mapped: that is faster, and a file that somebody
    /// shortens is an error like others.</summary>
    /// <exception cref="InvalidDataException">A value is not finite, or the file cannot be read.</exception>
    public void ReadStored(int row, Span<byte> destination)
    {
        long start = (long)row * Width * Type.ByteSize(), length = (long)Rows * Width * Type.ByteSize();
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start + destination.Length, length, nameof(row));
        if (_values is not null)
            MemoryMarshal.AsBytes(_values.AsSpan(row * Width, destination.Length / sizeof(float))).CopyTo(destination);
        else
            _file!.Raw.Read(_start + start, destination);
        int bad = RowValues.FirstNotFinite(Type, destination);
        if (bad >= 0)
            throw BadFile.At(Path, $"row {row + (bad / Width)}, value {bad % Width} is not a finite number.");
    }

    /// <summary>Keeps the file open until the result is disposed; null where there is none.</summary>
    public IDisposable? Hold() => _file?.Hold();

    public void Dispose() => _file?.Dispose();

    /// <summary>Opens a file of a shard and compares it with its manifest.</summary>
    public static SafetensorsFile OpenFile(string path, StoredFile stored, string what, bool trust,
        CancellationToken cancellationToken = default)
    {
        var file = SafetensorsFile.Open(path);
        try
        {
            if (file.Length != stored.Bytes)
                throw BadFile.At(path, $"the file of {what} has {file.Length} bytes; its manifest says {stored.Bytes}.");
            if (!trust && PlacedFile.HashOf(file.Raw, cancellationToken) != stored.Sha256)
                throw BadFile.At(path, $"the file of {what} is damaged: its SHA-256 is not that of its manifest. 'plan --verify' takes " +
                    $"the shard back, and 'work' makes it again.");
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }
}

/// <summary>The codes of one SAE of one shard, read and checked.</summary>
internal sealed class CodeShard
{
    private CodeShard(long[] rowStart, int[] feature, float[] value, int[] sequence, int[] position)
    {
        RowStart = rowStart;
        Feature = feature;
        Value = value;
        Sequence = sequence;
        Position = position;
    }

    /// <summary>Where each row begins in <see cref="Feature"/>; one more than there are rows.</summary>
    public long[] RowStart { get; }

    /// <summary>Indices, ascending in each row.</summary>
    public int[] Feature { get; }

    /// <summary>Values.</summary>
    public float[] Value { get; }

    /// <summary>Number of each row's sequence.</summary>
    public int[] Sequence { get; }

    /// <summary>Position of each row.</summary>
    public int[] Position { get; }

    /// <summary>Number of rows.</summary>
    public int Rows => RowStart.Length - 1;

    /// <summary>Reads the codes of a shard; their hash is compared with the manifest's.</summary>
    /// <exception cref="InvalidDataException">The file is missing, damaged, or not what the manifest says.</exception>
    public static CodeShard Read(RunFolder folder, ShardManifest manifest, SaeRecord sae)
    {
        CodesManifest codes = manifest.Codes[sae.Id];
        string path = folder.At(RunFolder.Codes(sae.Id, manifest.Shard));
        using SafetensorsFile file = RowShard.OpenFile(path, codes.File, sae.Id, trust: false);
        foreach (TensorInfo tensor in CodeRows.Tensors(manifest.Rows, codes.Active))
            TokenShard.Require(file, tensor.Name, tensor.DType, tensor.Shape);
        var shard = new CodeShard(
            TokenShard.Values<long>(file["row_ptr"]), TokenShard.Values<int>(file["feature"]), TokenShard.Values<float>(file["value"]),
            TokenShard.Values<int>(file["sequence"]), TokenShard.Values<int>(file["position"]));
        shard.Check(path, sae.Features);
        return shard;
    }

    /// <summary>Copies the codes of some rows.</summary>
    public void CopyTo(CodeList destination, int firstRow, int rows)
    {
        int first = (int)RowStart[firstRow], count = (int)(RowStart[firstRow + rows] - first);
        destination.Resize(rows, count);
        for (int r = 0; r <= rows; r++)
            destination.RowStart[r] = RowStart[firstRow + r] - first;
        Feature.AsSpan(first, count).CopyTo(destination.Feature);
        Value.AsSpan(first, count).CopyTo(destination.Value);
    }

    /// <summary>Refuses rows that are not positions of the shard's sequences, in their order.</summary>
    /// <exception cref="InvalidDataException">There is one.</exception>
    public void RequirePlaces(string path, TokenShard tokens)
    {
        (int Sequence, int Position) last = (-1, -1);
        for (int r = 0; r < Rows; r++)
        {
            long own = Sequence[r] - tokens.FirstSequence;
            bool isThere = own >= 0 && own < tokens.Sequences.Length && (uint)Position[r] < (uint)tokens.Sequences[own].Length;
            if (!isThere || (Sequence[r], Position[r]).CompareTo(last) <= 0)
                throw BadFile.At(path, $"row {r} is of sequence {Sequence[r]}, position {Position[r]}; the shard's tokens have no such " +
                    "place after " +
                    $"{last.Sequence}, {last.Position}.");
            last = (Sequence[r], Position[r]);
        }
    }

    private void Check(string path, int features)
    {
        if (RowStart[0] != 0 || RowStart[^1] != Feature.Length)
            throw BadFile.At(path, $"row_ptr goes from {RowStart[0]} to {RowStart[^1]}; 0 to {Feature.Length} was expected.");
        for (int r = 0; r < Rows; r++)
        {
            if (RowStart[r + 1] < RowStart[r] || RowStart[r + 1] > Feature.Length)
                throw BadFile.At(path, $"row_ptr falls at row {r}.");
            int last = -1;
            for (long i = RowStart[r]; i < RowStart[r + 1]; i++)
            {
                if (Feature[i] <= last || Feature[i] >= features || !float.IsFinite(Value[i]))
                    throw BadFile.At(path, $"row {r} has the feature {Feature[i]} with the value {Value[i]} after {last}; ascending " +
                        $"features below {features} with finite values were expected.");
                last = Feature[i];
            }
        }
    }
}
