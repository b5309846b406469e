using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>Writes a <see cref="PanelFile"/>: a few panels are read, packed and written at a time, so that no second copy of the weights is ever in memory.</summary>
internal sealed unsafe class PanelFileWriter
{
    // Two of these are in memory, one for what is read and one for what is written.
    private const int BatchBytes = 8 << 20;

    private readonly List<uint> _checksums = [];
    private readonly IProgress<double>? _progress;
    private readonly CancellationToken _cancellation;
    private readonly long _total;
    private byte[] _stored = [], _packed = [];
    private long _done;

    // Matrices of bfloat16 are read twice: first for the plan, because the header says how large everything is.
    private PanelFileWriter(TensorInfo[] matrices, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        _progress = progress;
        _cancellation = cancellationToken;
        _total = matrices.Sum(m => m.DType == DType.BF16 ? 2 * m.ByteLength : m.ByteLength);
    }

    /// <summary>Packs matrices [out, in] of weight files.</summary>
    /// <param name="path">Where; the file appears when it is complete.</param>
    /// <param name="name">The folder of the weights, to be told later.</param>
    /// <param name="source">The weight files.</param>
    /// <param name="names">The matrices, each F32, BF16 or F16.</param>
    /// <param name="progress">Told the share that is written.</param>
    /// <param name="cancellationToken">Stops it; nothing is left.</param>
    /// <exception cref="IOException">It cannot be written there.</exception>
    public static void Write(string path, string name, ShardedTensors source, IReadOnlyList<string> names, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        SourceIdentity.Flush(source);
        byte[]? before = SourceIdentity.Stamp(source, names);
        // Where the files' times do not tell that nothing changed meanwhile, the bytes must.
        byte[]? first = before is not null && SourceIdentity.IsSettled(source) ? null : SourceIdentity.Contents(source, names, cancellationToken);
        TensorInfo[] matrices = [.. names.Select(name => source.TryGet(name, out TensorView tensor) ? tensor.Info : throw BadFile.Of(source.Path, $"the tensor {name} is missing."))];
        // If it cannot be written there, that is to be said before all weights are read for the plan.
        AtomicFile.Create(path).Dispose();
        var packing = new PanelFileWriter(matrices, progress, cancellationToken);
        CompactPlan?[] plans = [.. matrices.Select(m => packing.Plan(FileOf(source, m), m))];
        List<TensorInfo> parts = [.. matrices.Zip(plans).SelectMany(Parts)];
        byte[] folder = Encoding.UTF8.GetBytes(name);
        using var writer = new SafetensorsWriter(path, [.. parts, new TensorInfo(PanelFile.ControlName, DType.U8, [PanelFile.ControlBytes(parts.Sum(p => (long)PanelFile.UnitsOf(p)), folder.Length)])], null, PanelFile.Alignment);
        for (int m = 0; m < matrices.Length; m++)
            packing.Pack(FileOf(source, matrices[m]), matrices[m], plans[m], writer);
        byte[] contents = SourceIdentity.Contents(source, names, cancellationToken);
        bool settled = SourceIdentity.IsSettled(source);
        byte[]? after = SourceIdentity.Stamp(source, names);
        bool changed = first is null ? !before.AsSpan().SequenceEqual(after) : !first.AsSpan().SequenceEqual(contents);
        if (changed) throw BadFile.Of(source.Path, "the weights changed while they were packed.");
        writer.Append<byte>(packing.Control(contents, settled ? after! : new byte[SourceIdentity.Length], writer.HeaderChecksum, folder));
        cancellationToken.ThrowIfCancellationRequested();
        writer.Commit();
    }

    private static SafetensorsFile FileOf(ShardedTensors source, TensorInfo matrix) => source.TryGet(matrix.Name, out TensorView tensor) ? (SafetensorsFile)tensor.Owner : throw new UnreachableException();

    private static IEnumerable<TensorInfo> Parts((TensorInfo Matrix, CompactPlan? Plan) of) =>
        of.Plan is null ? [PanelFile.Describe(of.Matrix)] : [PanelFile.DescribeCompact(of.Matrix), PanelFile.DescribeTable(of.Matrix, of.Plan.TableBytes)];

    private CompactPlan? Plan(SafetensorsFile file, TensorInfo matrix)
    {
        if (matrix.DType != DType.BF16) return null;
        var plan = new CompactPlan((int)matrix.Shape[0], (int)matrix.Shape[1]);
        ReadBatches(file, matrix, (part, firstPanel) => plan.Read(part, firstPanel));
        return plan.Pays ? plan : null;
    }

    private void Pack(SafetensorsFile file, TensorInfo matrix, CompactPlan? plan, SafetensorsWriter writer)
    {
        byte[] table = new byte[plan?.TableBytes ?? 0];
        long panelBytes = PanelLayout.PanelBytes(matrix.DType, matrix.Shape[1], compact: plan is not null);
        fixed (byte* tableStart = table)
        {
            CompactTable exceptions = plan?.Begin(tableStart) ?? default;
            ReadBatches(file, matrix, (part, firstPanel) =>
            {
                Grow(ref _packed, part.PanelCount * panelBytes, matrix);
                fixed (byte* panels = _packed)
                {
                    if (plan is null)
                        PanelPacker.Pack(part, panels);
                    else
                        CompactPacker.Pack(part, exceptions, firstPanel, panels);
                }

                ReadOnlySpan<byte> packed = _packed.AsSpan(0, (int)(part.PanelCount * panelBytes));
                for (int p = 0; p < part.PanelCount; p++)
                    _checksums.Add(PanelChecksum.Of(packed.Slice((int)(p * panelBytes), (int)panelBytes)));
                writer.AppendBytes(packed);
            });
        }

        if (plan is null) return;
        _checksums.Add(PanelChecksum.Of(table));
        writer.AppendBytes(table);
    }

    /// <summary>Reads a matrix a few whole panels at a time.</summary>
    private void ReadBatches(SafetensorsFile file, TensorInfo matrix, Action<StoredMatrix, int> each)
    {
        int outputs = (int)matrix.Shape[0], inputs = (int)matrix.Shape[1];
        long rowBytes = (long)inputs * matrix.DType.ByteSize(), panelBytes = PanelLayout.Outputs * rowBytes;
        int batch = (int)Math.Clamp(BatchBytes / Math.Max(panelBytes, 1), 1, PanelLayout.PanelCount(outputs)) * PanelLayout.Outputs;
        Grow(ref _stored, batch * rowBytes, matrix);
        for (int first = 0; first < outputs; first += batch)
        {
            _cancellation.ThrowIfCancellationRequested();
            int rows = Math.Min(batch, outputs - first);
            Span<byte> stored = _stored.AsSpan(0, (int)(rows * rowBytes));
            file.Raw.Read(file.OffsetOf(matrix.Name) + (first * rowBytes), stored);
            fixed (byte* values = stored)
                each(new StoredMatrix { DType = matrix.DType, Pointer = values, Outputs = rows, Inputs = inputs }, first / PanelLayout.Outputs);
            _done += stored.Length;
            _progress?.Report(_done / (double)_total);
        }
    }

    private byte[] Control(byte[] contents, byte[] stamp, uint headerChecksum, byte[] folder)
    {
        byte[] control = new byte[PanelFile.ControlBytes(_checksums.Count, folder.Length)];
        BinaryPrimitives.WriteUInt32LittleEndian(control, PanelLayout.Version);
        contents.CopyTo(control, sizeof(uint));
        stamp.CopyTo(control, sizeof(uint) + contents.Length);
        int at = sizeof(uint) + contents.Length + stamp.Length;
        foreach (uint number in (ReadOnlySpan<uint>)[.. _checksums, headerChecksum, (uint)folder.Length])
        {
            BinaryPrimitives.WriteUInt32LittleEndian(control.AsSpan(at), number);
            at += sizeof(uint);
        }

        folder.CopyTo(control, at);
        at += folder.Length;
        BinaryPrimitives.WriteUInt32LittleEndian(control.AsSpan(at), Crc32.Append(0, control.AsSpan(0, at)));
        return control;
    }

    private static void Grow(ref byte[] buffer, long bytes, TensorInfo matrix)
    {
        if (bytes > Array.MaxLength) throw new NotSupportedException($"{matrix} has rows too long to be packed.");
        if (buffer.Length < bytes) buffer = new byte[bytes];
    }
}
