using System.Buffers.Binary;

namespace KernelScope.Files;

/// <summary>
/// Packed matrices in a file, memory-mapped: a safetensors file of panels (<see cref="PanelLayout"/>), each under its matrix's name, behind compact ones their <see cref="CompactTable"/>, and at the end one tensor <c>kernelscope.panels</c>
/// that says which layout they have, which weight files they were made from, and their checksums.
/// </summary>
/// <remarks>
/// The last tensor, U8: the layout's number (u32), the source's hash (32 bytes), the CRC-32 of each packed matrix and each table in the order of their bytes (u32 each), the CRC-32 of the file's header (u32),
/// the CRC-32 of all of this tensor before it (u32); little-endian. Opening checks everything but the matrices' own checksums, which would read all of them: <see cref="Verify"/> does.
/// Any number of threads may read it and dispose it; checkpoints that use it keep it mapped.
/// </remarks>
public sealed unsafe class PanelFile : IDisposable
{
    /// <summary>How names of panel files end.</summary>
    public const string Extension = ".panels";

    /// <summary>Data begins at a page, so that every step of a panel lies in whole cache lines.</summary>
    internal const int Alignment = 4096;

    internal const string ControlName = "kernelscope.panels";

    private const string TableEnding = ".exceptions";

    private const int BufferBytes = 1 << 20;
    private readonly SafetensorsFile _file;
    private readonly byte[] _control;

    private PanelFile(SafetensorsFile file)
    {
        _file = file;
        Parts = [.. file.Contents.Where(t => t.Name != ControlName)];
        Matrices = [.. Parts.Where(t => !t.Name.EndsWith(TableEnding, StringComparison.Ordinal))];
        _control = ReadControl();
        CheckAlignment();
    }

    /// <summary>The path it was opened by.</summary>
    public string Path => _file.Path;

    /// <summary>Bytes of the file.</summary>
    public long Length => _file.Length;

    /// <summary>The packed matrices as they are stored: U8 [panels, groups, 384] for compact panels, [panels, steps, 32, 2] for pair panels, [panels, inputs, 32] for F32.</summary>
    public IReadOnlyList<TensorInfo> Matrices { get; }

    /// <summary>The matrices and their tables.</summary>
    internal IReadOnlyList<TensorInfo> Parts { get; }

    /// <summary>The safetensors file that holds them.</summary>
    internal SafetensorsFile Stored => _file;

    /// <summary>Opens and checks a file; touches no panels.</summary>
    /// <exception cref="InvalidDataException">It cannot be read, is malformed, or has another layout; the message says what.</exception>
    public static PanelFile Open(string path)
    {
        SafetensorsFile file = SafetensorsFile.Open(path);
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

    /// <summary>Checks that the panels were made from these weight files, as they are now.</summary>
    /// <exception cref="InvalidDataException">They were not.</exception>
    public void RequireSource(ShardedTensors source)
    {
        ArgumentNullException.ThrowIfNull(source);
        if (!SourceHash.Of(source.Files).AsSpan().SequenceEqual(_control.AsSpan(sizeof(uint), SourceHash.Length)))
            throw BadFile.Of(Path, $"it was packed from other weights than {BadFile.Printable(source.Path, 4096)} holds now.");
    }

    /// <summary>The panels of a matrix.</summary>
    /// <exception cref="InvalidDataException">There are none of that name, type and shape.</exception>
    public PanelView this[TensorView matrix] => TryGet(matrix, out PanelView panels)
        ? panels
        : throw BadFile.Of(Path, $"it has no panels of {matrix.Info}.");

    /// <summary>Reads every panel and compares the checksums.</summary>
    /// <exception cref="InvalidDataException">A matrix is damaged; the message names it.</exception>
    public void Verify(CancellationToken cancellation = default)
    {
        byte[] buffer = new byte[BufferBytes];
        for (int n = 0; n < Parts.Count; n++)
        {
            uint crc = 0;
            long at = _file.OffsetOf(Parts[n].Name), end = at + Parts[n].ByteLength;
            for (; at < end; at += buffer.Length)
            {
                cancellation.ThrowIfCancellationRequested();
                Span<byte> piece = buffer.AsSpan(0, (int)Math.Min(buffer.Length, end - at));
                _file.Raw.Read(at, piece);
                crc = Crc32.Append(crc, piece);
            }

            if (crc != ReadUInt32(sizeof(uint) + SourceHash.Length + (n * sizeof(uint))))
                throw BadFile.Of(Path, $"{BadFile.Quote(Parts[n].Name)} is damaged: its checksum is {crc:x8}, and should be {ReadUInt32(sizeof(uint) + SourceHash.Length + (n * sizeof(uint))):x8}.");
        }
    }

    /// <summary>Gives the mapping back, as soon as no checkpoint uses it; views are then invalid.</summary>
    public void Dispose() => _file.Dispose();

    /// <summary>Keeps the mapping until the result is disposed.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    internal IDisposable Hold() => _file.Hold();

    /// <summary>Bytes of the last tensor of a file with so many matrices and tables.</summary>
    internal static int ControlBytes(int parts) => sizeof(uint) + SourceHash.Length + ((parts + 2) * sizeof(uint));

    /// <summary>What is stored for a matrix in the plain layout of its type.</summary>
    internal static TensorInfo Describe(TensorInfo matrix)
    {
        long panels = PanelLayout.PanelCount(matrix.Shape[0]), inputs = matrix.Shape[1];
        long[] shape = PanelLayout.StepInputs(matrix.DType) == 1 ? [panels, inputs, PanelLayout.Outputs] : [panels, (inputs + 1) / 2, PanelLayout.Outputs, 2];
        return new TensorInfo(matrix.Name, matrix.DType, shape);
    }

    /// <summary>What is stored for a matrix in compact panels.</summary>
    internal static TensorInfo DescribeCompact(TensorInfo matrix) => new(
        matrix.Name,
        DType.U8,
        [PanelLayout.PanelCount(matrix.Shape[0]), PanelLayout.CompactPanelBytes(matrix.Shape[1]) / PanelLayout.CompactBytes, PanelLayout.CompactBytes]);

    /// <summary>What is stored beside compact panels.</summary>
    internal static TensorInfo DescribeTable(TensorInfo matrix, long bytes) => new(matrix.Name + TableEnding, DType.U8, [bytes]);

    private bool TryGet(TensorView matrix, out PanelView panels)
    {
        panels = default;
        if (matrix.Shape.Length != 2 || !PanelLayout.Covers(matrix.DType) || !_file.TryGet(matrix.Name, out TensorView stored)) return false;
        int outputs = checked((int)matrix.Shape[0]), inputs = checked((int)matrix.Shape[1]);
        if (stored.DType == matrix.DType && stored.Shape.SequenceEqual(Describe(matrix.Info).Shape))
            panels = new PanelView(matrix.DType, outputs, inputs, stored.Pointer, stored.Owner);
        else if (matrix.DType == DType.BF16 && stored.DType == DType.U8 && stored.Shape.SequenceEqual(DescribeCompact(matrix.Info).Shape))
            panels = new PanelView(matrix.DType, outputs, inputs, stored.Pointer, stored.Owner, TableOf(matrix, inputs));
        return !panels.IsNone;
    }

    private PanelWindow* TableOf(TensorView matrix, int inputs)
    {
        if (!_file.TryGet(matrix.Name + TableEnding, out TensorView table) || table.DType != DType.U8) throw BadFile.Of(Path, $"the exceptions of {BadFile.Quote(matrix.Name)} are missing.");
        var windows = (PanelWindow*)table.Pointer;
        if (!new CompactTable(windows, (int)PanelLayout.PanelCount(matrix.Shape[0])).IsSound(table.ByteLength, inputs)) throw BadFile.Of(Path, $"the exceptions of {BadFile.Quote(matrix.Name)} are out of range or out of order.");
        return windows;
    }

    private byte[] ReadControl()
    {
        if (!_file.TryGet(ControlName, out TensorView tensor) || tensor.DType != DType.U8) throw BadFile.Of(Path, "this is no file of packed weights.");
        int length = ControlBytes(Parts.Count);
        byte[] control = new byte[Math.Min(length, tensor.ByteLength)];
        _file.Raw.Read(_file.OffsetOf(ControlName), control);
        // The number first: a file of another layout may have anything behind it.
        uint version = control.Length < sizeof(uint) ? 0 : BinaryPrimitives.ReadUInt32LittleEndian(control);
        if (version != PanelLayout.Version) throw BadFile.Of(Path, $"its panels have layout {version}; this program reads layout {PanelLayout.Version}.");
        int end = length - sizeof(uint);
        if (tensor.ByteLength != length || Crc32.Append(0, control.AsSpan(0, end)) != BinaryPrimitives.ReadUInt32LittleEndian(control.AsSpan(end))) throw BadFile.Of(Path, "its table of checksums is damaged.");
        byte[] header = new byte[_file.DataStart - sizeof(ulong)];
        _file.Raw.Read(sizeof(ulong), header);
        return Crc32.Append(0, header) == BinaryPrimitives.ReadUInt32LittleEndian(control.AsSpan(end - sizeof(uint))) ? control : throw BadFile.Of(Path, "its header is damaged.");
    }

    private void CheckAlignment()
    {
        foreach (TensorInfo part in Parts)
            if (!(PanelLayout.Covers(part.DType) || part.DType == DType.U8) || _file.OffsetOf(part.Name) % PanelLayout.StepBytes != 0) throw BadFile.Of(Path, $"{BadFile.Quote(part.Name)} is of a type that is not packed, or does not begin at a multiple of {PanelLayout.StepBytes} bytes.");
    }

    private uint ReadUInt32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_control.AsSpan(offset));
}
