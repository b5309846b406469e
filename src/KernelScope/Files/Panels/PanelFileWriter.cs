using System.Buffers.Binary;

namespace KernelScope.Files;

/// <summary>Writes a <see cref="PanelFile"/>: a few panels are read, packed and written at a time, so that no second copy of the weights is ever in memory.</summary>
internal sealed unsafe class PanelFileWriter
{
    // Two of these are in memory, one for what is read and one for what is written.
    private const int BatchBytes = 8 << 20;

    private readonly SafetensorsWriter _writer;
    private readonly List<uint> _checksums = [];
    private readonly IProgress<double>? _progress;
    private readonly CancellationToken _cancellation;
    private readonly long _total;
    private byte[] _stored = [], _packed = [];
    private long _done;

    private PanelFileWriter(SafetensorsWriter writer, long total, IProgress<double>? progress, CancellationToken cancellation)
    {
        _writer = writer;
        _total = total;
        _progress = progress;
        _cancellation = cancellation;
    }

    /// <summary>Packs matrices [out, in] of weight files.</summary>
    /// <param name="path">Where; the file appears when it is complete.</param>
    /// <param name="source">The weight files.</param>
    /// <param name="names">The matrices, each F32, BF16 or F16.</param>
    /// <param name="progress">Told the share that is written.</param>
    /// <param name="cancellation">Stops it; nothing is left.</param>
    /// <exception cref="IOException">It cannot be written there.</exception>
    public static void Write(string path, ShardedTensors source, IReadOnlyList<string> names, IProgress<double>? progress, CancellationToken cancellation)
    {
        byte[] hash = SourceHash.Of(source.Files);
        TensorInfo[] matrices = [.. names.Select(name => source.TryGet(name, out TensorView tensor) ? tensor.Info : throw BadFile.Of(source.Path, $"the tensor {name} is missing."))];
        List<TensorInfo> stored = [.. matrices.Select(PanelFile.Describe), new TensorInfo(PanelFile.ControlName, DType.U8, [PanelFile.ControlBytes(matrices.Length)])];
        using var writer = new SafetensorsWriter(path, stored, null, PanelFile.Alignment);
        var packing = new PanelFileWriter(writer, stored.Sum(t => t.ByteLength), progress, cancellation);
        foreach (TensorInfo matrix in matrices)
        {
            source.TryGet(matrix.Name, out TensorView tensor);
            packing.Pack((SafetensorsFile)tensor.Owner, matrix);
        }

        writer.Append<byte>(packing.Control(hash));
        cancellation.ThrowIfCancellationRequested();
        if (!SourceHash.Of(source.Files).AsSpan().SequenceEqual(hash)) throw BadFile.Of(source.Path, "the weights changed while they were packed.");
        writer.Commit();
    }

    private void Pack(SafetensorsFile file, TensorInfo matrix)
    {
        int outputs = (int)matrix.Shape[0], inputs = (int)matrix.Shape[1];
        long rowBytes = (long)inputs * matrix.DType.ByteSize(), panelBytes = PanelLayout.PanelBytes(matrix.DType, inputs);
        int batch = (int)Math.Clamp(BatchBytes / Math.Max(panelBytes, 1), 1, PanelLayout.PanelCount(outputs)) * PanelLayout.Outputs;
        Grow(ref _stored, batch * rowBytes, matrix);
        Grow(ref _packed, batch / PanelLayout.Outputs * panelBytes, matrix);
        long start = file.OffsetOf(matrix.Name);
        uint crc = 0;
        for (int first = 0; first < outputs; first += batch)
        {
            _cancellation.ThrowIfCancellationRequested();
            int rows = Math.Min(batch, outputs - first), panels = (int)PanelLayout.PanelCount(rows);
            file.Raw.Read(start + (first * rowBytes), _stored.AsSpan(0, (int)(rows * rowBytes)));
            PackBatch(matrix.DType, rows, inputs, panels);
            ReadOnlySpan<byte> packed = _packed.AsSpan(0, (int)(panels * panelBytes));
            crc = Crc32.Append(crc, packed);
            _writer.AppendBytes(packed);
            _done += packed.Length;
            _progress?.Report(_done / (double)_total);
        }

        _checksums.Add(crc);
    }

    private void PackBatch(DType type, int rows, int inputs, int panels)
    {
        long rowBytes = (long)inputs * type.ByteSize(), panelBytes = PanelLayout.PanelBytes(type, inputs);
        fixed (byte* from = _stored, to = _packed)
        {
            nint source = (nint)from, target = (nint)to;
            Parallel.For(0, panels, p =>
            {
                int first = p * PanelLayout.Outputs;
                PanelPacker.PackPanel(type, (byte*)source + (first * rowBytes), rowBytes, type.ByteSize(), Math.Min(PanelLayout.Outputs, rows - first), inputs, (byte*)target + (p * panelBytes));
            });
        }
    }

    private byte[] Control(byte[] hash)
    {
        byte[] control = new byte[PanelFile.ControlBytes(_checksums.Count)];
        BinaryPrimitives.WriteUInt32LittleEndian(control, PanelLayout.Version);
        hash.CopyTo(control, sizeof(uint));
        int at = sizeof(uint) + hash.Length;
        foreach (uint crc in (ReadOnlySpan<uint>)[.. _checksums, _writer.HeaderChecksum])
        {
            BinaryPrimitives.WriteUInt32LittleEndian(control.AsSpan(at), crc);
            at += sizeof(uint);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(control.AsSpan(at), Crc32.Append(0, control.AsSpan(0, at)));
        return control;
    }

    private static void Grow(ref byte[] buffer, long bytes, TensorInfo matrix)
    {
        if (bytes > Array.MaxLength) throw new NotSupportedException($"{matrix} has rows too long to be packed.");
        if (buffer.Length < bytes) buffer = new byte[bytes];
    }
}
