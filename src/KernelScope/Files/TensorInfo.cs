namespace KernelScope.Files;

/// <summary>What a file says of one of its tensors, checked, without its data.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed class TensorInfo
{
    private readonly long[] _shape;

    /// <summary>Describes a tensor.</summary>
    /// <param name="name">The name in the file.</param>
    /// <param name="dtype">The element type.</param>
    /// <param name="shape">The dimensions, outermost first; empty for a scalar.</param>
    /// <param name="columnMajor">Whether the elements lie in Fortran order.</param>
    /// <exception cref="ArgumentException">A dimension is negative, or the bytes do not fit 63 bits.</exception>
    public TensorInfo(string name, DType dtype, ReadOnlySpan<long> shape, bool columnMajor = false)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (!TryCount(shape, dtype, out long count))
            throw new ArgumentException($"The shape {BadFile.Shape(shape)} has a negative dimension or too many elements.", nameof(shape));
        Name = name;
        DType = dtype;
        _shape = shape.ToArray();
        ElementCount = count;
        ColumnMajor = columnMajor;
    }

    /// <summary>The name in the file.</summary>
    public string Name { get; }

    /// <summary>The element type.</summary>
    public DType DType { get; }

    /// <summary>The dimensions, outermost first; empty for a scalar.</summary>
    public ReadOnlySpan<long> Shape => _shape;

    /// <summary>The product of the dimensions.</summary>
    public long ElementCount { get; }

    /// <summary><see cref="ElementCount"/> times the size of an element.</summary>
    public long ByteLength => ElementCount * DType.ByteSize();

    /// <summary>Whether the first index runs fastest (Fortran order) instead of the last.</summary>
    public bool ColumnMajor { get; }

    /// <summary>Name, type and shape: <c>model.norm.weight BF16 [224]</c>.</summary>
    public override string ToString() => $"{BadFile.Printable(Name, 100)} {DType.SafetensorsName()} {BadFile.Shape(_shape)}";

    /// <summary>
    /// The number of elements of a shape. False if a dimension is negative or the product of the dimensions, or the bytes, overflow 63 bits;
    /// an overflow counts even where another dimension is 0, as in the safetensors package.
    /// </summary>
    internal static bool TryCount(ReadOnlySpan<long> shape, DType dtype, out long count)
    {
        Int128 product = 1;
        bool empty = false;
        count = 0;
        foreach (long dimension in shape)
        {
            if (dimension < 0)
                return false;
            if (dimension == 0)
                empty = true;
            else
                product *= dimension;
            if (product > long.MaxValue / dtype.ByteSize())
                return false;
        }
        count = empty ? 0 : (long)product;
        return true;
    }
}
