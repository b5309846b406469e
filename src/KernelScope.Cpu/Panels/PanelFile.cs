using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>
/// Packed matrices in a file, memory-mapped: a safetensors file of panels (<see cref="PanelLayout"/>), each under its matrix's name, behind compact ones their <see cref="CompactTable"/>, and at the end one tensor <c>kernelscope.panels</c>
/// that says which layout they have, which weight files they were made from, and their checksums. A matrix of float32 whose values are all bfloat16 is stored as one of bfloat16;
/// one that was rounded to it is only in a file that says so (<see cref="IsRounded"/>).
/// </summary>
/// <remarks>
/// The last tensor, U8, little-endian: the layout's number (u32); <see cref="SourceIdentity.Contents"/> of the source and its <see cref="SourceIdentity.Stamp"/>, zeros where there is none (32 bytes each);
/// <see cref="PanelChecksum"/>s in the order of the bytes, one of each panel and one of each table (u32 each); the CRC-32 of the file's header (u32); the path of the source (u32 bytes, UTF-8);
/// the CRC-32 of all of this tensor before it (u32). Opening checks everything but the panels; those of a matrix are compared when a product first reads it, and all of them by <see cref="Verify"/>.
/// Tables, which say where values go, are copied out of the mapping before they are checked.
/// Any number of threads may read it and dispose it; checkpoints that use it keep it mapped.
/// </remarks>
public sealed unsafe class PanelFile : IDisposable
{
    /// <summary>How names of panel files end.</summary>
    public const string Extension = ".panels";

    /// <summary>Data begins at a page, so that every step of a panel lies in whole cache lines.</summary>
    internal const int Alignment = 4096;

    internal const string ControlName = "kernelscope.panels";

    /// <summary>What a file of rounded weights has in its header.</summary>
    internal static readonly IReadOnlyDictionary<string, string> RoundedMetadata = new Dictionary<string, string> { [RoundedKey] = "BF16" };

    private const string RoundedKey = "kernelscope.rounded";
    private const string TableEnding = ".exceptions";

    private const int ChecksumsAt = sizeof(uint) + (2 * SourceIdentity.Length);
    private const int MostPathBytes = 1 << 14;
    private readonly SafetensorsFile _file;
    private readonly byte[] _control;
    private readonly Dictionary<string, int> _firstChecksum = new(StringComparer.Ordinal);
    private readonly Dictionary<string, PanelGuard> _guards = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();
    private readonly int _checksumCount;

    private PanelFile(SafetensorsFile file)
    {
        _file = file;
        Parts = [.. file.Contents.Where(t => t.Name != ControlName)];
        Matrices = [.. Parts.Where(t => !t.Name.EndsWith(TableEnding, StringComparison.Ordinal))];
        CheckVersion();
        CheckParts();
        foreach (TensorInfo part in Parts)
        {
            _firstChecksum.Add(part.Name, _checksumCount);
            _checksumCount += UnitsOf(part);
        }

        _control = ReadControl(out string source);
        SourcePath = source;
    }

    /// <summary>The path it was opened by.</summary>
    public string Path => _file.Path;

    /// <summary>Bytes of the file.</summary>
    public long Length => _file.Length;

    /// <summary>The folder whose weights were packed, as it was named then.</summary>
    public string SourcePath { get; }

    /// <summary>Whether wider values were rounded to bfloat16: the panels are then not those of the weights, and are used only where that is asked for.</summary>
    public bool IsRounded => _file.Metadata.ContainsKey(RoundedKey);

    /// <summary>The packed matrices as they are stored: U8 [panels, groups, 384] for compact panels, [panels, steps, 32, 2] for pair panels, [panels, inputs, 32] for F32.</summary>
    public IReadOnlyList<TensorInfo> Matrices { get; }

    /// <summary>The matrices and their tables.</summary>
    internal IReadOnlyList<TensorInfo> Parts { get; }

    /// <summary>The safetensors file that holds them.</summary>
    internal SafetensorsFile Stored => _file;

    /// <summary>Opens and checks a file; touches no panels.</summary>
    /// <exception cref="InvalidDataException">It cannot be read, is malformed, or has another layout; the message says what.</exception>
    /// <param name="path">Where.</param>
    /// <param name="intoMemory">Reads the file into memory instead of mapping it; see <see cref="TensorFile"/>.</param>
    public static PanelFile Open(string path, bool intoMemory = false)
    {
        SafetensorsFile file = SafetensorsFile.Open(path, intoMemory);
        try
        {
            return new PanelFile(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Checks that the panels were made from these very matrices, as they are now.</summary>
    /// <param name="source">The weight files.</param>
    /// <param name="names">The matrices.</param>
    /// <returns>Whether all bytes had to be read for that, because the files' times do not tell.</returns>
    /// <exception cref="InvalidDataException">They were not.</exception>
    internal bool RequireSource(ShardedTensors source, IReadOnlyList<string> names)
    {
        ReadOnlySpan<byte> contents = _control.AsSpan(sizeof(uint), SourceIdentity.Length),
            stamp = _control.AsSpan(sizeof(uint) + SourceIdentity.Length, SourceIdentity.Length);
        if (stamp.ContainsAnyExcept((byte)0) && SourceIdentity.Stamp(source, names) is byte[] now && stamp.SequenceEqual(now))
            return false;
        return SourceIdentity.Contents(source, names).AsSpan().SequenceEqual(contents)
            ? true
            : throw BadFile.At(Path, $"it was packed from other weights than {BadFile.Printable(source.Path, 4096)} holds now.");
    }

    /// <summary>The panels of a matrix.</summary>
    /// <exception cref="InvalidDataException">There are none of that name, type and shape.</exception>
    internal PanelView this[TensorView matrix] => TryGet(matrix, out PanelView panels)
        ? panels
        : throw BadFile.At(Path, $"it has no panels of {matrix.Info}.");

    /// <summary>Reads every panel and compares the checksums.</summary>
    /// <exception cref="InvalidDataException">A matrix is damaged; the message names it.</exception>
    public void Verify(CancellationToken cancellationToken = default)
    {
        byte[] buffer = [];
        foreach (TensorInfo part in Parts)
        {
            int units = UnitsOf(part), bytes = checked((int)(part.ByteLength / Math.Max(units, 1)));
            if (buffer.Length < bytes)
                buffer = new byte[bytes];
            for (int u = 0; u < units; u++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                _file.Raw.Read(_file.OffsetOf(part.Name) + ((long)u * bytes), buffer.AsSpan(0, bytes));
                if (PanelChecksum.Of(buffer.AsSpan(0, bytes)) != ChecksumOf(part, u))
                    throw PanelGuard.Damaged(Path, part.Name, u);
            }
        }
    }

    /// <summary>Gives the mapping back, as soon as no checkpoint uses it; views are then invalid.</summary>
    public void Dispose() => _file.Dispose();

    /// <summary>Keeps the mapping until the result is disposed.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    internal IDisposable Hold() => _file.Hold();

    /// <summary>Bytes of the last tensor of a file with so many checksums, made from weights at a path of so many bytes.</summary>
    internal static int ControlBytes(long checksums, int pathBytes) =>
        checked((int)(ChecksumsAt + ((checksums + 3) * sizeof(uint)) + pathBytes));

    /// <summary>Checksums of a stored part: one for each panel; one for a table.</summary>
    internal static int UnitsOf(TensorInfo part) => part.Shape.Length == 1 ? 1 : checked((int)part.Shape[0]);

    /// <summary>What is stored for a matrix in the plain layout of its type.</summary>
    internal static TensorInfo Describe(TensorInfo matrix)
    {
        long panels = PanelLayout.PanelCount(matrix.Shape[0]), inputs = matrix.Shape[1];
        long[] shape = PanelLayout.StepInputs(matrix.DType) == 1 ? [panels, inputs, PanelLayout.Outputs]
            : [panels, (inputs + 1) / 2, PanelLayout.Outputs, 2];
        return new TensorInfo(matrix.Name, matrix.DType, shape);
    }

    /// <summary>What is stored for a matrix in compact panels.</summary>
    internal static TensorInfo DescribeCompact(TensorInfo matrix) => new(
        matrix.Name,
        DType.U8,
        [PanelLayout.PanelCount(matrix.Shape[0]), PanelLayout.CompactPanelBytes(matrix.Shape[1]) / PanelLayout.CompactBytes,
        PanelLayout.CompactBytes]);

    /// <summary>What is stored beside compact panels.</summary>
    internal static TensorInfo DescribeTable(TensorInfo matrix, long bytes) => new(matrix.Name + TableEnding, DType.U8, [bytes]);

    private bool TryGet(TensorView matrix, out PanelView panels)
    {
        panels = default;
        if (matrix.Shape.Length != 2 || !PanelLayout.Covers(matrix.DType)
            || !_file.TryGet(matrix.Name, out TensorView stored)) return false;
        int outputs = checked((int)matrix.Shape[0]), inputs = checked((int)matrix.Shape[1]);
        bool compact = stored.DType == DType.U8;
        var packed = new TensorInfo(matrix.Name, compact ? DType.BF16 : stored.DType, matrix.Shape.ToArray());
        if (packed.DType != matrix.DType && !(packed.DType == DType.BF16 && (matrix.DType == DType.F32 || IsRounded)))
            return false;
        if (!stored.Shape.SequenceEqual((compact ? DescribeCompact(packed) : Describe(packed)).Shape))
            return false;
        PanelGuard guard;
        lock (_lock)
        {
            if (!_guards.TryGetValue(matrix.Name, out guard!))
                _guards.Add(matrix.Name, guard = Guard(stored, compact ? CopyTable(matrix, inputs) : []));
        }

        panels = new PanelView(packed.DType, outputs, inputs, stored.Pointer, stored.Owner, guard.Windows, guard);
        return !panels.IsNone;
    }

    private PanelGuard Guard(TensorView stored, ulong[] table)
    {
        int panels = UnitsOf(stored.Info);
        uint[] checksums = GC.AllocateUninitializedArray<uint>(panels, pinned: true);
        for (int p = 0; p < panels; p++)
            checksums[p] = ChecksumOf(stored.Info, p);
        return new PanelGuard(Path, stored.Name, checksums, table);
    }

    private ulong[] CopyTable(TensorView matrix, int inputs)
    {
        string name = matrix.Name + TableEnding;
        if (!_file.TryGet(name, out TensorView table) || table.DType != DType.U8 || table.Shape.Length != 1) throw BadFile.At(Path,
            $"the exceptions of {BadFile.Quote(matrix.Name)} are missing.");
        if (table.ByteLength > Array.MaxLength) throw BadFile.At(Path, $"the exceptions of {BadFile.Quote(matrix.Name)} are more than " +
            "there can be.");
        ulong[] copy = GC.AllocateUninitializedArray<ulong>((int)(table.ByteLength / sizeof(ulong)), pinned: true);
        Span<byte> bytes = MemoryMarshal.AsBytes(copy.AsSpan());
        _file.Raw.Read(_file.OffsetOf(name), bytes);
        if (PanelChecksum.Of(bytes) != ChecksumOf(table.Info, 0))
            throw PanelGuard.Damaged(Path, name, 0);
        fixed (ulong* first = copy)
        {
            if (!new CompactTable((PanelWindow*)first, (int)PanelLayout.PanelCount(matrix.Shape[0])).IsSound(bytes.Length,
                inputs)) throw BadFile.At(Path, $"the exceptions of {BadFile.Quote(matrix.Name)} are out of range or out of order.");
        }

        return copy;
    }

    // First: a file of another layout may have anything behind it.
    private void CheckVersion()
    {
        if (!_file.TryGet(ControlName, out TensorView tensor) || tensor.DType != DType.U8) throw BadFile.At(Path,
            "this is not a file of packed weights.");
        byte[] number = new byte[Math.Min(sizeof(uint), tensor.ByteLength)];
        _file.Raw.Read(_file.OffsetOf(ControlName), number);
        uint version = number.Length < sizeof(uint) ? 0 : BinaryPrimitives.ReadUInt32LittleEndian(number);
        if (version != PanelLayout.Version) throw BadFile.At(Path, $"its panels have layout {version}; this program reads " +
            $"layout {PanelLayout.Version}, and leaves the file as it is until it is packed anew.");
    }

    private byte[] ReadControl(out string source)
    {
        _file.TryGet(ControlName, out TensorView tensor);
        int least = ControlBytes(_checksumCount, 0);
        byte[] control = new byte[Math.Min(least + MostPathBytes, tensor.ByteLength)];
        _file.Raw.Read(_file.OffsetOf(ControlName), control);
        int end = control.Length - sizeof(uint);
        if (tensor.ByteLength != control.Length || control.Length < least
            || Crc32.Append(0, control.AsSpan(0, end)) != BinaryPrimitives.ReadUInt32LittleEndian(control.AsSpan(end))) throw BadFile.At(
            Path, "its table of checksums is damaged.");
        int tail = ChecksumsAt + (_checksumCount * sizeof(uint));
        source = Encoding.UTF8.GetString(control.AsSpan(tail + (2 * sizeof(uint)), end - tail - (2 * sizeof(uint))));
        byte[] header = new byte[_file.DataStart - sizeof(ulong)];
        _file.Raw.Read(sizeof(ulong), header);
        return Crc32.Append(0, header) == BinaryPrimitives.ReadUInt32LittleEndian(control.AsSpan(tail)) && source.Length > 0
            ? control
            : throw BadFile.At(Path, "its header is damaged.");
    }

    private void CheckParts()
    {
        foreach (TensorInfo part in Parts)
        {
            if (!(PanelLayout.Covers(part.DType) || part.DType == DType.U8) || _file.OffsetOf(part.Name) % PanelLayout.StepBytes != 0)
                throw BadFile.At(Path, $"{BadFile.Quote(part.Name)} is of a type that is not packed, or does not begin at a multiple " +
                    $"of {PanelLayout.StepBytes} bytes.");
            int units = part.Shape.Length > 0 && part.Shape[0] is >= 0 and <= int.MaxValue ? UnitsOf(part) : 0;
            if (units == 0 || part.ByteLength % ((long)units * PanelLayout.StepBytes) != 0 || part.ByteLength / units > Array.MaxLength)
                throw BadFile.At(Path, $"{BadFile.Quote(part.Name)} has {part.ByteLength} bytes, which are not whole panels.");
        }
    }

    private uint ChecksumOf(TensorInfo part, int unit) => ReadUInt32(ChecksumsAt + ((_firstChecksum[part.Name] + unit) * sizeof(uint)));

    private uint ReadUInt32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_control.AsSpan(offset));
}
