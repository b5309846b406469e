namespace KernelScope.Files;

/// <summary>
/// A tensor where it lies: in a mapped file, or in the memory that a compressed entry was expanded into. Nothing is copied.
/// It is lent: valid until the <see cref="TensorFile"/> that gave it is disposed; <see cref="TensorCopy"/> refuses it after that, and any number of threads may copy from it. Offset, length, shape and type were checked against the file before it was made.
/// </summary>
public readonly unsafe struct TensorView
{
    private readonly TensorInfo _info;
    // Keeps the mapping from being finalized while a view is in use.
    private readonly object _owner;

    internal TensorView(string file, TensorInfo info, byte* pointer, object owner)
    {
        File = file;
        _info = info;
        Pointer = pointer;
        _owner = owner;
    }

    /// <summary>Path of the file that holds it.</summary>
    public string File { get; }

    /// <summary>The name in the file.</summary>
    public string Name => _info.Name;

    /// <summary>The element type.</summary>
    public DType DType => _info.DType;

    /// <summary>The dimensions, outermost first; empty for a scalar.</summary>
    public ReadOnlySpan<long> Shape => _info.Shape;

    /// <summary>The product of the dimensions.</summary>
    public long ElementCount => _info.ElementCount;

    /// <summary>Bytes from <see cref="Pointer"/> on.</summary>
    public long ByteLength => _info.ByteLength;

    /// <summary>The first element. It may be misaligned: no file format here promises more than bytes.</summary>
    public byte* Pointer { get; }

    /// <summary>Whether the first index runs fastest (a Fortran-order .npy) instead of the last.</summary>
    public bool ColumnMajor => _info.ColumnMajor;

    /// <summary>Name, type and shape without the data.</summary>
    public TensorInfo Info => _info;

    /// <summary>The object that owns the memory; whoever keeps <see cref="Pointer"/> must keep this too.</summary>
    internal object Owner => _owner;

    /// <summary>Whether two tensors of as many bytes hold the same, as stored. Ends at the first piece that differs.</summary>
    internal bool SameBits(in TensorView other)
    {
        const int Piece = 1 << 24;
        bool same = ByteLength == other.ByteLength;
        for (long at = 0; same && at < ByteLength; at += Piece)
        {
            int length = (int)Math.Min(Piece, ByteLength - at);
            same = new ReadOnlySpan<byte>(Pointer + at, length).SequenceEqual(new ReadOnlySpan<byte>(other.Pointer + at, length));
        }

        GC.KeepAlive(_owner);
        GC.KeepAlive(other._owner);
        return same;
    }
    /// <summary>Keeps the mapping until the result is disposed, for host code that reads <see cref="Pointer"/> where no model or SAE keeps it.</summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    internal Reading Read() => new(_owner as TensorFile);

    /// <summary>File, name, type and shape, fit for a message: <c>model.safetensors: model.norm.weight BF16 [224]</c>.</summary>
    public string Describe() => $"{BadFile.Printable(Path.GetFileName(File), 100)}: {_info}";

    /// <inheritdoc cref="Describe"/>
    public override string ToString() => _info is null ? "no tensor" : Describe();

    /// <summary>A read of mapped values that is going on.</summary>
    internal readonly ref struct Reading
    {
        private readonly TensorFile? _file;

        public Reading(TensorFile? file)
        {
            file?.Enter();
            _file = file;
        }

        public void Dispose() => _file?.Exit();
    }
}
