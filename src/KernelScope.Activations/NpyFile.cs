namespace KernelScope.Files;

/// <summary>A .npy file: one array, which is called as the file is. It is used in place through the mapping; a big-endian one is copied into memory when it is first asked for.</summary>
/// <remarks>Any number of threads may use it, as any <see cref="TensorFile"/>.</remarks>
public sealed unsafe class NpyFile : TensorFile
{
    private readonly RawFile _file;
    private readonly NpyHeader _header;
    private readonly byte* _data;
    private readonly Lock _copying = new();
    private NativeBuffer? _copy;

    private NpyFile(RawFile file, NpyHeader header) : base(file.Path)
    {
        _file = file;
        _header = header;
        _data = file.Map() + header.Length;
        Contents = [header.Info];
    }

    /// <inheritdoc/>
    public override IReadOnlyList<TensorInfo> Contents { get; }

    /// <summary>Type and shape of the array.</summary>
    public TensorInfo Info => _header.Info;

    /// <summary>Opens a file and checks its header; reads no data.</summary>
    /// <exception cref="InvalidDataException">It cannot be read or is malformed; the message says where.</exception>
    public static NpyFile Open(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        return Parse(RawFile.Open(path));
    }

    /// <summary>Opens what is open already; it then owns the file, also if this throws.</summary>
    internal static NpyFile Parse(RawFile file)
    {
        try
        {
            byte[] start = new byte[Math.Min(file.Length, NpyHeader.MaxLength)];
            file.Read(0, start);
            return new NpyFile(file, NpyHeader.Parse(System.IO.Path.GetFileNameWithoutExtension(file.Path), start, file.Length, file.Path));
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
        tensor = default;
        if (name != Info.Name)
            return false;
        if (!_header.BigEndian)
        {
            tensor = new TensorView(Path, Info, _data, this);
            return true;
        }

        lock (_copying)
            _copy ??= Reversed();
        tensor = new TensorView(Path, Info, _copy.Pointer, _copy);
        return true;
    }

    /// <summary>Passes the data through <paramref name="consume"/> in pieces of whole elements, with ordinary reads.</summary>
    internal void Scan(Action<ReadOnlySpan<byte>> consume, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[1 << 18];
        for (long at = 0; at < Info.ByteLength; at += buffer.Length)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Span<byte> piece = buffer.AsSpan(0, (int)Math.Min(buffer.Length, Info.ByteLength - at));
            _file.Read(_header.Length + at, piece);
            if (_header.BigEndian)
                ByteOrder.Reverse(piece, Info.DType);
            consume(piece);
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing)
            return;
        _copy?.Dispose();
        _file.Dispose();
    }

    private NativeBuffer Reversed()
    {
        NativeBuffer buffer = NativeBuffer.TryCreate(Info.ByteLength)
            ?? throw BadFile.At(Path, $"the array is big-endian, so it is copied, and needs {Info.ByteLength} bytes of memory; this " +
                $"machine has {GC.GetGCMemoryInfo().TotalAvailableMemoryBytes}.");
        try
        {
            long at = 0;
            Scan(
                piece =>
                {
                    piece.CopyTo(new Span<byte>(buffer.Pointer + at, piece.Length));
                    at += piece.Length;
                },
                CancellationToken.None);
            return buffer;
        }
        catch
        {
            buffer.Dispose();
            throw;
        }
    }
}
