using System.IO.Compression;

namespace KernelScope.Files;

/// <summary>
/// An .npz file: a zip of .npy arrays. Stored entries are used in place through the mapping; deflated and big-endian ones are expanded into unmanaged memory when they are first asked for,
/// after arithmetic has shown that the file can hold what it claims (DEFLATE expands at most 1,032 times). Most Gemma Scope files are stored; some on the hub are smaller than
/// their arrays, so they are presumably deflated (inferred from listed sizes, not seen).
/// <para>
/// Checksums: an expanded entry's CRC is checked while it is expanded. A stored entry's CRC needs a read of all its bytes, which for an SAE of 19 GB is worth saying, so
/// <see cref="Open"/> does not check it; <see cref="Verify"/> does, once.
/// </para>
/// </summary>
/// <remarks>Any number of threads may use it, as any <see cref="TensorFile"/>.</remarks>
public sealed unsafe class NpzFile : TensorFile
{
    private const int BufferLength = 1 << 18;
    private readonly RawFile _file;
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly byte* _map;
    private readonly Lock _expanding = new();

    private NpzFile(RawFile file, List<Entry> entries) : base(file.Path)
    {
        _file = file;
        foreach (Entry entry in entries)
            if (!_entries.TryAdd(entry.Header.Info.Name, entry))
                throw BadFile.At(file.Path, $"the array {BadFile.Quote(entry.Header.Info.Name)} is there twice.");
        Contents = [.. entries.Select(e => e.Header.Info)];
        _map = file.Map();
    }

    /// <inheritdoc/>
    public override IReadOnlyList<TensorInfo> Contents { get; }

    /// <summary>Bytes of the file.</summary>
    public long Length => _file.Length;

    /// <summary>Opens a file and checks its directory and array headers; reads no data.</summary>
    /// <exception cref="InvalidDataException">It cannot be read or is malformed; the message says where.</exception>
    /// <param name="path">Where.</param>
    /// <param name="intoMemory">Reads the file into memory instead of mapping it; see <see cref="TensorFile"/>.</param>
    public static NpzFile Open(string path, bool intoMemory = false)
    {
        ArgumentNullException.ThrowIfNull(path);
        return Parse(RawFile.Open(path, intoMemory));
    }

    /// <summary>Opens what is open already; it then owns the file, also if this throws.</summary>
    internal static NpzFile Parse(RawFile file)
    {
        try
        {
            return new NpzFile(file, [.. ZipDirectory.Read(file).Select(zip => new Entry(zip, ReadHeader(file, zip)))]);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override bool TryGet(string name, out TensorView tensor)
    {
        bool found = _entries.TryGetValue(name, out Entry? entry);
        tensor = found ? View(entry!) : default;
        return found;
    }

    /// <summary>Reads every entry to its end and checks it: CRC-32, the DEFLATE stream, the length. Keeps nothing; an entry that was checked is not read again.</summary>
    /// <exception cref="InvalidDataException">An entry is damaged; the message names it.</exception>
    public void Verify(CancellationToken cancellationToken = default)
    {
        foreach (Entry entry in _entries.Values)
            if (!entry.Verified)
                Scan(entry, null, cancellationToken);
    }

    /// <summary>Passes an array's data through <paramref name="consume"/> in pieces of whole elements, checking the entry on the way.</summary>
    internal void Scan(string name, Action<ReadOnlySpan<byte>> consume, CancellationToken cancellationToken) =>
        Scan(_entries[name], consume, cancellationToken);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing)
            return;
        foreach (Entry entry in _entries.Values)
            entry.Expanded?.Dispose();
        _file.Dispose();
    }

    private TensorView View(Entry entry)
    {
        if (!entry.Zip.Deflated && !entry.Header.BigEndian)
            return new TensorView(Path, entry.Header.Info, _map + entry.Zip.DataOffset + entry.Header.Length, this);
        lock (_expanding) entry.Expanded ??= Expand(entry);
        return new TensorView(Path, entry.Header.Info, entry.Expanded.Pointer, this);
    }

    private NativeBuffer Expand(Entry entry)
    {
        long length = entry.Header.Info.ByteLength;
        NativeBuffer buffer = NativeBuffer.TryCreate(length)
            ?? throw BadFile.At(Path, $"the array {entry.Header.Info} cannot be used where it lies (it is " +
                $"{(entry.Zip.Deflated ? "compressed" : "big-endian")}) and needs {length} bytes of memory; this machine has " +
                $"{GC.GetGCMemoryInfo().TotalAvailableMemoryBytes}.");
        try
        {
            long at = 0;
            Scan(entry, piece =>
            {
                piece.CopyTo(new Span<byte>(buffer.Pointer + at, piece.Length));
                at += piece.Length;
            }, CancellationToken.None);
            return buffer;
        }
        catch
        {
            buffer.Dispose();
            throw;
        }
    }

    private void Scan(Entry entry, Action<ReadOnlySpan<byte>>? consume, CancellationToken cancellationToken)
    {
        ZipEntry zip = entry.Zip;
        using Stream stream = OpenStream(_file, zip);
        byte[] buffer = new byte[BufferLength];
        uint crc = 0;
        long left = zip.Length;
        int skip = entry.Header.Length;
        while (left > 0)
        {
            cancellationToken.ThrowIfCancellationRequested();
            // The head first and alone, so that every further piece begins at an element.
            int want = (int)Math.Min(left, skip > 0 ? skip : BufferLength);
            ReadPiece(stream, zip, buffer.AsSpan(0, want));
            crc = Crc32.Append(crc, buffer.AsSpan(0, want));
            if (skip == 0 && consume is not null)
            {
                if (entry.Header.BigEndian)
                    ByteOrder.Reverse(buffer.AsSpan(0, want), entry.Header.Info.DType);
                consume(buffer.AsSpan(0, want));
            }
            skip = 0;
            left -= want;
        }
        if (zip.Deflated && !AtEnd(stream, zip))
            throw Bad(zip, $"expands to more than the {zip.Length} bytes it declares");
        if (crc != zip.Crc)
            throw Bad(zip, $"is damaged: its checksum is {crc:x8}, and should be {zip.Crc:x8}");
        entry.Verified = true;
    }

    private static NpyHeader ReadHeader(RawFile file, ZipEntry zip)
    {
        string name = zip.Name.EndsWith(".npy", StringComparison.Ordinal) ? zip.Name[..^4] : zip.Name;
        byte[] start = new byte[Math.Min(zip.Length, NpyHeader.MaxLength)];
        using Stream stream = OpenStream(file, zip);
        int present = ReadUpTo(stream, zip, start, file.Path);
        return NpyHeader.Parse(name, start.AsSpan(0, present), zip.Length, file.Path);
    }

    private static Stream OpenStream(RawFile file, ZipEntry zip)
    {
        var slice = new FileSlice(file, zip.DataOffset, zip.StoredLength);
        return zip.Deflated ? new DeflateStream(slice, CompressionMode.Decompress) : slice;
    }

    private void ReadPiece(Stream stream, ZipEntry zip, Span<byte> piece)
    {
        if (ReadUpTo(stream, zip, piece, Path) < piece.Length)
            throw Bad(zip, $"expands to fewer than the {zip.Length} bytes it declares");
    }

    private bool AtEnd(Stream stream, ZipEntry zip)
    {
        Span<byte> one = stackalloc byte[1];
        return ReadUpTo(stream, zip, one, Path) == 0;
    }

    private static int ReadUpTo(Stream stream, ZipEntry zip, Span<byte> destination, string path)
    {
        try
        {
            return stream.ReadAtLeast(destination, destination.Length, throwOnEndOfStream: false);
        }
        catch (InvalidDataException e) when (zip.Deflated)
        {
            throw BadFile.At(path, $"the zip entry {BadFile.Quote(zip.Name)} cannot be expanded ({e.Message.TrimEnd('.')}).", e);
        }
    }

    private InvalidDataException Bad(ZipEntry zip, string what) => BadFile.At(Path, $"the zip entry {BadFile.Quote(zip.Name)} {what}.");

    private sealed class Entry(ZipEntry zip, NpyHeader header)
    {
        public ZipEntry Zip => zip;

        public NpyHeader Header => header;

        public NativeBuffer? Expanded { get; set; }

        public bool Verified { get; set; }
    }
}
