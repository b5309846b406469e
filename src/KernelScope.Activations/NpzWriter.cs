using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace KernelScope.Files;

/// <summary>
/// Writes an .npz that NumPy reads: stored .npy arrays, little-endian, row-major, version 1.0 (2.0 if the header is long), with ZIP64 records where sizes need them.
/// Arrays go straight to the disk. The file appears on <see cref="Commit"/>; without it nothing is left.
/// </summary>
/// <remarks>For one caller at a time.</remarks>
/// <example>
/// <code>
/// using var writer = new NpzWriter("activations.npz");
/// writer.Add&lt;float>("resid_post.20", values, tokens.Length, model.Config.ModelDim);
/// writer.Commit();
/// </code>
/// </example>
public sealed class NpzWriter : IDisposable
{
    // Every local header carries a ZIP64 field, as NumPy's do: sizes are not known to be small until the array has been written.
    private const int LocalExtraLength = 20;
    private const ushort VersionZip64 = 45;
    // 1 January 1980, the first day that zip knows: the same arrays give the same bytes.
    private const ushort DosDate = 0x21;
    private const int Alignment = 64;

    private readonly AtomicFile _file;
    private readonly List<(byte[] Name, uint Crc, long Length, long Offset)> _entries = [];
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);
    private TensorInfo? _open;
    private long _localOffset, _dataOffset, _left;
    private uint _crc;

    /// <summary>Starts a file under a temporary name.</summary>
    /// <exception cref="IOException">It cannot be written there.</exception>
    public NpzWriter(string path) => _file = AtomicFile.Create(path);

    /// <summary>Writes an array, row-major. The element type is that of the span.</summary>
    /// <param name="name">The key that np.load gives it.</param>
    /// <param name="values">As many values as the shape has elements.</param>
    /// <param name="shape">The dimensions; none for a scalar.</param>
    /// <exception cref="ArgumentException">The name is used, NumPy has no such type, or the values do not fill the shape.</exception>
    public void Add<T>(string name, ReadOnlySpan<T> values, params ReadOnlySpan<long> shape) where T : unmanaged
    {
        var info = new TensorInfo(name, DTypes.Of<T>(), shape);
        if (info.ElementCount != values.Length)
            throw new ArgumentException($"{values.Length} values do not fill {info}.", nameof(values));
        Begin(info);
        Append(values);
        End();
    }

    /// <summary>Begins an array that comes in pieces: then <see cref="Append"/> until it is full, then <see cref="End"/>.</summary>
    /// <exception cref="ArgumentException">The name is used, or NumPy has no such type.</exception>
    public void Begin(TensorInfo info)
    {
        ArgumentNullException.ThrowIfNull(info);
        if (_open is not null)
            throw new InvalidOperationException($"{_open} has not been ended.");
        string descr = info.DType.NpyDescr()
            ?? throw new ArgumentException($"NumPy has no element type {info.DType.SafetensorsName()}.", nameof(info));
        if (info.ColumnMajor)
            throw new ArgumentException($"{info} is column-major; arrays are written row-major.", nameof(info));
        if (!_names.Add(info.Name))
            throw new ArgumentException($"There is already an array {BadFile.Quote(info.Name)}.", nameof(info));
        byte[] name = Encoding.UTF8.GetBytes(info.Name + ".npy");
        if (name.Length > ushort.MaxValue)
            throw new ArgumentException("The name is too long.", nameof(info));

        _localOffset = _file.Stream.Position;
        _entries.Add((name, 0, 0, _localOffset));
        WriteLocalHeader(name, 0, 0);
        _dataOffset = _file.Stream.Position;
        _open = info;
        _crc = 0;
        _left = info.ByteLength;
        Write(NpyHead(descr, info.Shape));
    }

    /// <summary>Writes the next values of the array that was begun.</summary>
    /// <exception cref="ArgumentException">They are of another type, or too many.</exception>
    public void Append<T>(ReadOnlySpan<T> values) where T : unmanaged
    {
        if (_open is null)
            throw new InvalidOperationException("No array was begun.");
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(values);
        if (DTypes.Of<T>() != _open.DType || bytes.Length > _left)
            throw new ArgumentException($"{values.Length} more values of {typeof(T).Name} do not fit {_open}.", nameof(values));
        Write(bytes);
        _left -= bytes.Length;
    }

    /// <summary>Ends the array that was begun.</summary>
    /// <exception cref="InvalidOperationException">It is not full.</exception>
    public void End()
    {
        if (_open is null || _left != 0)
            throw new InvalidOperationException(_open is null ? "No array was begun." : $"{_left} bytes of {_open} are missing.");
        long end = _file.Stream.Position, length = end - _dataOffset;
        _file.Stream.Position = _localOffset;
        _entries[^1] = (_entries[^1].Name, _crc, length, _localOffset);
        WriteLocalHeader(_entries[^1].Name, _crc, length);
        _file.Stream.Position = end;
        _open = null;
    }

    /// <summary>Writes the directory and gives the file its name.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public void Commit()
    {
        if (_open is not null)
            throw new InvalidOperationException($"{_open} has not been ended.");
        long start = _file.Stream.Position;
        foreach (var entry in _entries)
            WriteCentralHeader(entry.Name, entry.Crc, entry.Length, entry.Offset);
        WriteEnd(start, _file.Stream.Position - start);
        _file.Commit();
    }

    /// <summary>Without a commit, deletes what was written.</summary>
    public void Dispose() => _file.Dispose();

    private void Write(ReadOnlySpan<byte> bytes)
    {
        _crc = Crc32.Append(_crc, bytes);
        _file.Stream.Write(bytes);
    }

    private static byte[] NpyHead(string descr, ReadOnlySpan<long> shape)
    {
        string dimensions = BadFile.Shape(shape)[1..^1] + (shape.Length == 1 ? "," : "");
        string text = $"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dimensions}), }}";
        // Padded so that the data begins at a multiple of 64 within the entry, as NumPy does.
        bool isLong = text.Length + Alignment > ushort.MaxValue;
        int lead = isLong ? 12 : 10, total = (lead + text.Length + 1 + Alignment - 1) / Alignment * Alignment;
        byte[] head = new byte[total];
        head.AsSpan().Fill((byte)' ');
        "?NUMPY"u8.CopyTo(head);
        head[0] = 0x93;
        (head[6], head[7]) = ((byte)(isLong ? 2 : 1), 0);
        if (isLong)
            BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan(8), total - lead);
        else
            BinaryPrimitives.WriteUInt16LittleEndian(head.AsSpan(8), (ushort)(total - lead));
        Encoding.ASCII.GetBytes(text, head.AsSpan(lead));
        head[^1] = (byte)'\n';
        return head;
    }

    private static ushort Flags(ReadOnlySpan<byte> name) => (ushort)(Ascii.IsValid(name) ? 0 : 1 << 11);

    private void WriteLocalHeader(byte[] name, uint crc, long length)
    {
        Span<byte> header = stackalloc byte[30];
        header.Clear();
        "PK\x03\x04"u8.CopyTo(header);
        U16(header, 4, VersionZip64);
        U16(header, 6, Flags(name));
        U16(header, 12, DosDate);
        U32(header, 14, crc);
        U32(header, 18, uint.MaxValue);
        U32(header, 22, uint.MaxValue);
        U16(header, 26, (ushort)name.Length);
        U16(header, 28, LocalExtraLength);
        _file.Stream.Write(header);
        _file.Stream.Write(name);
        WriteZip64Extra(length, length);
    }

    private void WriteCentralHeader(byte[] name, uint crc, long length, long offset)
    {
        bool wideLength = length >= uint.MaxValue, wideOffset = offset >= uint.MaxValue;
        int extra = (wideLength ? 16 : 0) + (wideOffset ? 8 : 0);
        Span<byte> header = stackalloc byte[46];
        header.Clear();
        "PK\x01\x02"u8.CopyTo(header);
        U16(header, 4, VersionZip64);
        U16(header, 6, VersionZip64);
        U16(header, 8, Flags(name));
        U16(header, 14, DosDate);
        U32(header, 16, crc);
        U32(header, 20, wideLength ? uint.MaxValue : (uint)length);
        U32(header, 24, wideLength ? uint.MaxValue : (uint)length);
        U16(header, 28, (ushort)name.Length);
        U16(header, 30, (ushort)(extra > 0 ? extra + 4 : 0));
        U32(header, 42, wideOffset ? uint.MaxValue : (uint)offset);
        _file.Stream.Write(header);
        _file.Stream.Write(name);
        if (wideLength && wideOffset)
            WriteZip64Extra(length, length, offset);
        else if (wideLength)
            WriteZip64Extra(length, length);
        else if (wideOffset)
            WriteZip64Extra(offset);
    }

    private void WriteZip64Extra(params ReadOnlySpan<long> values)
    {
        Span<byte> extra = stackalloc byte[4 + (8 * values.Length)];
        U16(extra, 0, 1);
        U16(extra, 2, (ushort)(8 * values.Length));
        for (int i = 0; i < values.Length; i++)
            BinaryPrimitives.WriteInt64LittleEndian(extra[(4 + (8 * i))..], values[i]);
        _file.Stream.Write(extra);
    }

    private void WriteEnd(long start, long length)
    {
        bool wide = _entries.Count >= ushort.MaxValue || start >= uint.MaxValue || length >= uint.MaxValue;
        if (wide)
            WriteZip64End(start, length);
        Span<byte> end = stackalloc byte[22];
        end.Clear();
        "PK\x05\x06"u8.CopyTo(end);
        U16(end, 8, wide ? ushort.MaxValue : (ushort)_entries.Count);
        U16(end, 10, wide ? ushort.MaxValue : (ushort)_entries.Count);
        U32(end, 12, wide ? uint.MaxValue : (uint)length);
        U32(end, 16, wide ? uint.MaxValue : (uint)start);
        _file.Stream.Write(end);
    }

    private void WriteZip64End(long start, long length)
    {
        Span<byte> record = stackalloc byte[56 + 20];
        record.Clear();
        "PK\x06\x06"u8.CopyTo(record);
        BinaryPrimitives.WriteInt64LittleEndian(record[4..], 56 - 12);
        U16(record, 12, VersionZip64);
        U16(record, 14, VersionZip64);
        BinaryPrimitives.WriteInt64LittleEndian(record[24..], _entries.Count);
        BinaryPrimitives.WriteInt64LittleEndian(record[32..], _entries.Count);
        BinaryPrimitives.WriteInt64LittleEndian(record[40..], length);
        BinaryPrimitives.WriteInt64LittleEndian(record[48..], start);
        "PK\x06\x07"u8.CopyTo(record[56..]);
        BinaryPrimitives.WriteInt64LittleEndian(record[64..], start + length);
        U32(record, 72, 1);
        _file.Stream.Write(record);
    }

    private static void U16(Span<byte> bytes, int at, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(bytes[at..], value);

    private static void U32(Span<byte> bytes, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes[at..], value);
}
