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
    private readonly bool _rounds;
    private byte[] _stored = [], _packed = [];
    private ushort[] _narrow = [];
    private long _done;

    private PanelFileWriter(TensorInfo[] matrices, bool rounds, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        _progress = progress;
        _cancellation = cancellationToken;
        _rounds = rounds;
        _total = matrices.Sum(m => IsPlanned(m) ? 2 * m.ByteLength : m.ByteLength);
    }

    /// <summary>Packs matrices [out, in] of weight files.</summary>
    /// <param name="path">Where; the file appears when it is complete.</param>
    /// <param name="name">The folder of the weights, to be told later.</param>
    /// <param name="source">The weight files.</param>
    /// <param name="names">The matrices, each F32, BF16 or F16.</param>
    /// <param name="rounds">Whether matrices of wider types are rounded to bfloat16. Without it those of float32 are kept as bfloat16 where that changes no value, else as they are.</param>
    /// <param name="progress">Told the share that is written.</param>
    /// <param name="cancellationToken">Stops it; nothing is left.</param>
    /// <returns>How each matrix was packed.</returns>
    /// <exception cref="IOException">It cannot be written there.</exception>
    public static IReadOnlyList<PackedMatrixInfo> Write(
        string path,
        string name,
        ShardedTensors source,
        IReadOnlyList<string> names,
        bool rounds,
        IProgress<double>? progress,
        CancellationToken cancellationToken)
    {
        SourceIdentity.Flush(source);
        byte[]? before = SourceIdentity.Stamp(source, names);
        // Where the files' times do not tell that nothing changed meanwhile, the bytes must.
        byte[]? first = before is not null && SourceIdentity.IsSettled(source) ? null
            : SourceIdentity.Contents(source, names, cancellationToken);
        TensorInfo[] matrices = [.. names.Select(name => source.TryGet(name, out TensorView tensor) ? tensor.Info
            : throw BadFile.At(source.Path, $"the tensor {name} is missing."))];
        // If it cannot be written there, that is to be said before all weights are read for the plan.
        AtomicFile.Create(path).Dispose();
        var packing = new PanelFileWriter(matrices, rounds, progress, cancellationToken);
        MatrixPlan[] plans = [.. matrices.Select(m => packing.Plan(FileOf(source, m), m))];
        List<TensorInfo> parts = [.. plans.SelectMany(Parts)];
        byte[] folder = Encoding.UTF8.GetBytes(name);
        var control = new TensorInfo(PanelFile.ControlName, DType.U8,
            [PanelFile.ControlBytes(parts.Sum(p => (long)PanelFile.UnitsOf(p)), folder.Length)]);
        using var writer = new SafetensorsWriter(path, [.. parts, control], rounds ? PanelFile.RoundedMetadata : null, PanelFile.Alignment);
        foreach (MatrixPlan plan in plans)
            packing.Pack(FileOf(source, plan.Matrix), plan, writer);
        byte[] contents = SourceIdentity.Contents(source, names, cancellationToken);
        bool settled = SourceIdentity.IsSettled(source);
        byte[]? after = SourceIdentity.Stamp(source, names);
        bool changed = first is null ? !before.AsSpan().SequenceEqual(after) : !first.AsSpan().SequenceEqual(contents);
        if (changed)
            throw BadFile.At(source.Path, "the weights changed while they were packed.");
        writer.Append<byte>(packing.Control(contents, settled ? after! : new byte[SourceIdentity.Length], writer.HeaderChecksum, folder));
        cancellationToken.ThrowIfCancellationRequested();
        writer.Commit();
        return [.. plans.Select(Describe)];
    }

    private static PackedMatrixInfo Describe(MatrixPlan plan) => new()
    {
        Matrix = plan.Matrix,
        Bits = plan.Compact is null ? 8 * plan.Packed.DType.ByteSize() : 12,
        Values = plan.Matrix.ElementCount,
        NotBf16 = plan.NotBf16,
    };

    private static SafetensorsFile FileOf(ShardedTensors source, TensorInfo matrix) => source.TryGet(matrix.Name, out TensorView tensor)
        ? (SafetensorsFile)tensor.Owner : throw new UnreachableException();

    private static IEnumerable<TensorInfo> Parts(MatrixPlan plan) => plan.Compact is null
        ? [PanelFile.Describe(plan.Packed)]
        : [PanelFile.DescribeCompact(plan.Packed), PanelFile.DescribeTable(plan.Packed, plan.Compact.TableBytes)];

    // Most matrices are read twice: first for the plan, because the header says how large everything is.
    private bool IsPlanned(TensorInfo matrix) => matrix.DType != DType.F16 || _rounds;

    private MatrixPlan Plan(SafetensorsFile file, TensorInfo matrix)
    {
        if (!IsPlanned(matrix))
            return new MatrixPlan(matrix, matrix, null, null);
        var compact = new CompactPlan((int)matrix.Shape[0], (int)matrix.Shape[1]);
        long changed = ReadBatches(file, matrix, narrows: true, (part, firstPanel) => compact.Read(part, firstPanel));
        return changed > 0 && !_rounds
            ? new MatrixPlan(matrix, matrix, null, changed)
            : new MatrixPlan(matrix, new TensorInfo(matrix.Name, DType.BF16, matrix.Shape.ToArray()), compact.Pays ? compact
            : null, changed);
    }

    private void Pack(SafetensorsFile file, MatrixPlan matrixPlan, SafetensorsWriter writer)
    {
        (TensorInfo matrix, CompactPlan? plan) = (matrixPlan.Packed, matrixPlan.Compact);
        byte[] table = new byte[plan?.TableBytes ?? 0];
        long panelBytes = PanelLayout.PanelBytes(matrix.DType, matrix.Shape[1], compact: plan is not null);
        fixed (byte* tableStart = table)
        {
            CompactTable exceptions = plan?.Begin(tableStart) ?? default;
            ReadBatches(file, matrixPlan.Matrix, narrows: matrix.DType == DType.BF16, (part, firstPanel) =>
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

        if (plan is null)
            return;
        _checksums.Add(PanelChecksum.Of(table));
        writer.AppendBytes(table);
    }

    /// <summary>Reads a matrix a few whole panels at a time.</summary>
    /// <param name="file">Where it is.</param>
    /// <param name="matrix">The matrix.</param>
    /// <param name="narrows">Whether each part is given as bfloat16, rounded where it must be.</param>
    /// <param name="each">Receives the parts and their first panels.</param>
    /// <returns>How many values were changed by that.</returns>
    private long ReadBatches(SafetensorsFile file, TensorInfo matrix, bool narrows, Action<StoredMatrix, int> each)
    {
        int outputs = (int)matrix.Shape[0], inputs = (int)matrix.Shape[1];
        long rowBytes = (long)inputs * matrix.DType.ByteSize(), panelBytes = PanelLayout.Outputs * rowBytes, changed = 0;
        int batch = (int)Math.Clamp(BatchBytes / Math.Max(panelBytes, 1), 1, PanelLayout.PanelCount(outputs)) * PanelLayout.Outputs;
        Grow(ref _stored, batch * rowBytes, matrix);
        for (int first = 0; first < outputs; first += batch)
        {
            _cancellation.ThrowIfCancellationRequested();
            int rows = Math.Min(batch, outputs - first);
            Span<byte> stored = _stored.AsSpan(0, (int)(rows * rowBytes));
            file.Raw.Read(file.OffsetOf(matrix.Name) + (first * rowBytes), stored);
            fixed (byte* values = stored)
            {
                var part = new StoredMatrix { DType = matrix.DType, Pointer = values, Outputs = rows, Inputs = inputs };
                if (narrows && matrix.DType != DType.BF16)
                    changed += EachNarrowed(part, first / PanelLayout.Outputs, each);
                else
                    each(part, first / PanelLayout.Outputs);
            }

            _done += stored.Length;
            _progress?.Report(_done / (double)_total);
        }

        return changed;
    }

    private long EachNarrowed(StoredMatrix part, int firstPanel, Action<StoredMatrix, int> each)
    {
        int count = part.Outputs * part.Inputs;
        if (_narrow.Length < count)
            _narrow = new ushort[count];
        fixed (ushort* narrow = _narrow)
        {
            long changed = Bf16Narrowing.Narrow(part.DType, part.Pointer, count, narrow);
            each(part with { DType = DType.BF16, Pointer = (byte*)narrow }, firstPanel);
            return changed;
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
        if (bytes > Array.MaxLength)
            throw new NotSupportedException($"{matrix} has rows too long to be packed.");
        if (buffer.Length < bytes)
            buffer = new byte[bytes];
    }

    /// <summary>What becomes of a matrix.</summary>
    /// <param name="Matrix">As its file stores it.</param>
    /// <param name="Packed">With the type that its panels have.</param>
    /// <param name="Compact">The plan of compact panels; null: others are better.</param>
    /// <param name="NotBf16">How many values are not bfloat16; null where nobody counted.</param>
    private sealed record MatrixPlan(TensorInfo Matrix, TensorInfo Packed, CompactPlan? Compact, long? NotBf16);
}
