namespace KernelScope.Devices;

/// <summary>Memory of a device that holds float32 values, with a name that errors and profiles can print.</summary>
/// <remarks>Whoever asked the device for it disposes it; any number of threads may use it, see <see cref="DeviceResource"/>. A <see cref="Mat"/> is a view of it and owns nothing.</remarks>
public abstract class DeviceBuffer : DeviceResource
{
    /// <summary>Describes a buffer.</summary>
    /// <param name="name">What it holds, for messages.</param>
    /// <param name="length">Number of float32 values.</param>
    protected DeviceBuffer(string name, long length) : base(name) => Length = length;

    /// <summary>Number of float32 values.</summary>
    public long Length { get; }
}

/// <summary>A row-major float32 matrix [rows, columns] on a device: a view of a <see cref="DeviceBuffer"/>.</summary>
/// <remarks>Element (r, j) is at <c>Offset + r·Stride + j</c>. Row offsets are computed in 64 bits. A value, which any number of threads may read.</remarks>
public readonly struct Mat : IEquatable<Mat>
{
    /// <summary>A dense view of a whole buffer or of its beginning.</summary>
    public Mat(DeviceBuffer buffer, int rows, int columns) : this(buffer, 0, rows, columns, columns)
    {
    }

    private Mat(DeviceBuffer buffer, long offset, int rows, int columns, int stride)
    {
        long end = rows == 0 || columns == 0 ? offset : offset + ((long)(rows - 1) * stride) + columns;
        if (rows < 0 || columns < 0 || end > buffer.Length)
            throw new ArgumentException($"A view [{rows}, {columns}] does not fit into the {buffer.Length} values of '{buffer.Name}'.",
                nameof(buffer));
        Buffer = buffer;
        Offset = offset;
        Rows = rows;
        Columns = columns;
        Stride = stride;
    }

    /// <summary>The memory behind the view.</summary>
    public DeviceBuffer Buffer { get; }

    /// <summary>Index of element (0, 0) in the buffer.</summary>
    public long Offset { get; }

    /// <summary>Number of rows.</summary>
    public int Rows { get; }

    /// <summary>Number of columns.</summary>
    public int Columns { get; }

    /// <summary>Distance between two rows, in values; at least <see cref="Columns"/>.</summary>
    public int Stride { get; }

    /// <summary>Whether the rows follow each other without a gap.</summary>
    public bool IsDense => Stride == Columns || Rows <= 1;

    /// <summary>The rows <paramref name="start"/> … <paramref name="start"/> + <paramref name="count"/> − 1.</summary>
    public Mat RowRange(int start, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((long)start + count, Rows, nameof(count));
        return new Mat(Buffer, Offset + ((long)start * Stride), count, Columns, Stride);
    }

    /// <summary>The columns <paramref name="start"/> … <paramref name="start"/> + <paramref name="count"/> − 1 of every row.</summary>
    public Mat ColumnRange(int start, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((long)start + count, Columns, nameof(count));
        return new Mat(Buffer, Offset + start, Rows, count, Stride);
    }

    /// <inheritdoc/>
    public bool Equals(Mat other) =>
        ReferenceEquals(Buffer, other.Buffer) && Offset == other.Offset && Rows == other.Rows && Columns == other.Columns
            && Stride == other.Stride;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Mat other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Buffer, Offset, Rows, Columns, Stride);

    /// <summary>Whether two views are the same elements.</summary>
    public static bool operator ==(Mat left, Mat right) => left.Equals(right);

    /// <summary>Whether two views differ.</summary>
    public static bool operator !=(Mat left, Mat right) => !left.Equals(right);

    /// <summary>Name and shape, e.g. <c>resid [12, 224]</c>.</summary>
    public override string ToString() => Buffer is null ? "(none)" : $"{Buffer.Name} [{Rows}, {Columns}]";
}
