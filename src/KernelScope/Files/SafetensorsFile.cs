using System.Buffers.Binary;

namespace KernelScope.Files;

/// <summary>
/// A safetensors file, memory-mapped: u64 header length N (little-endian), N bytes of JSON, then the tensors' bytes, row-major.
/// Held to what the safetensors package accepts, and stricter where that would let two readers take different numbers (a name twice).
/// </summary>
/// <remarks>Any number of threads may use it, as any <see cref="TensorFile"/>.</remarks>
public sealed unsafe class SafetensorsFile : TensorFile
{
    private readonly RawFile _file;
    private readonly Dictionary<string, SafetensorsHeader.Entry> _entries;
    private readonly byte* _data;

    private SafetensorsFile(RawFile file, List<SafetensorsHeader.Entry> entries, long dataStart, Dictionary<string, string> metadata)
        : base(file.Path)
    {
        Metadata = metadata;
        _file = file;
        _data = file.Map() + dataStart;
        DataStart = dataStart;
        _entries = entries.ToDictionary(e => e.Info.Name, StringComparer.Ordinal);
        Contents = [.. entries.Select(e => e.Info)];
    }

    /// <inheritdoc/>
    public override IReadOnlyList<TensorInfo> Contents { get; }

    /// <summary>Bytes of the file.</summary>
    public long Length => _file.Length;

    /// <summary>The texts of __metadata__.</summary>
    internal IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Where the tensors' bytes begin in the file.</summary>
    internal long DataStart { get; }

    /// <summary>The file under it, for reads that must not touch the mapping.</summary>
    internal RawFile Raw => _file;

    /// <summary>Opens and checks a file; touches no weights.</summary>
    /// <exception cref="InvalidDataException">It cannot be read or is malformed; the message says where.</exception>
    /// <param name="path">Where.</param>
    /// <param name="intoMemory">Reads the file into memory instead of mapping it; see <see cref="TensorFile"/>.</param>
    public static SafetensorsFile Open(string path, bool intoMemory = false)
    {
        ArgumentNullException.ThrowIfNull(path);
        return Parse(RawFile.Open(path, intoMemory));
    }

    /// <summary>Opens what is open already; it then owns the file, also if this throws.</summary>
    internal static SafetensorsFile Parse(RawFile file)
    {
        try
        {
            var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
            List<SafetensorsHeader.Entry> entries = ReadHeader(file, out long dataStart, metadata);
            return new SafetensorsFile(file, entries, dataStart, metadata);
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
        bool found = _entries.TryGetValue(name, out SafetensorsHeader.Entry entry);
        tensor = found ? new TensorView(Path, entry.Info, _data + entry.Begin, this) : default;
        return found;
    }

    /// <summary>Where a tensor's bytes begin in the file.</summary>
    internal long OffsetOf(string name) => DataStart + _entries[name].Begin;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
            _file.Dispose();
    }

    private static List<SafetensorsHeader.Entry> ReadHeader(RawFile file, out long dataStart, Dictionary<string, string> metadata)
    {
        if (file.Length < sizeof(ulong))
            throw BadFile.At(file.Path, $"the file has {file.Length} bytes; the header's length alone takes 8.");
        Span<byte> prefix = stackalloc byte[sizeof(ulong)];
        file.Read(0, prefix);
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (length > SafetensorsHeader.MaxLength)
            throw BadFile.At(file.Path, $"the header is said to have {length} bytes, over the limit of {SafetensorsHeader.MaxLength}: " +
                "this is not a safetensors file.");
        dataStart = sizeof(ulong) + (long)length;
        if (dataStart > file.Length)
            throw BadFile.At(file.Path, $"the header is said to have {length} bytes, but the file ends after " +
                $"{file.Length - sizeof(ulong)} of them (an incomplete download?).");
        byte[] json = new byte[length];
        file.Read(sizeof(ulong), json);
        return SafetensorsHeader.Parse(json, file.Length - dataStart, file.Path, metadata);
    }
}
