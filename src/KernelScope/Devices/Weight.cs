using KernelScope.Files;

namespace KernelScope.Devices;

/// <summary>One stored matrix of a <see cref="Weight"/>, and how it lies in its file.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct WeightPart
{
    /// <summary>One stored matrix, all of a weight or its next rows.</summary>
    /// <param name="tensor">The matrix, lent by an open file that outlives the weight.</param>
    /// <param name="transposed">False: stored [out, in], as Gemma's matrices. True: stored [in, out], as an SAE's W_enc and W_dec.</param>
    public WeightPart(TensorView tensor, bool transposed = false)
    {
        Tensor = tensor;
        Transposed = transposed;
    }

    /// <summary>The matrix, lent by an open file that outlives the weight.</summary>
    public TensorView Tensor { get; init; }

    /// <summary>False: stored [out, in], as Gemma's matrices. True: stored [in, out], as an SAE's W_enc and W_dec.</summary>
    public bool Transposed { get; init; }

    /// <summary>
    /// Whether the device is to keep a copy of the matrix in the order in which its products read it, where it knows such an order (the cpu does).
    /// Products of some rows are then faster, results the same to float32 noise; it takes time once, and as much memory as the matrix or three quarters of it.
    /// </summary>
    public bool Pack { get; init; }

    /// <summary>Number of outputs of this part.</summary>
    public int Rows => checked((int)Tensor.Shape[Transposed ? 1 : 0]);

    /// <summary>Number of inputs of this part.</summary>
    public int Columns => checked((int)Tensor.Shape[Transposed ? 0 : 1]);
}

/// <summary>A parameter matrix W [out, in] on a device, in the dtype of its file: y = x·Wᵀ.</summary>
/// <remarks>
/// It may be several stored matrices on top of each other (q, k and v; gate and up): the outputs then follow each other in one row.
/// A device decides how it is kept (in place in a mapped file, packed, uploaded); callers see its shape only. Any number of threads may use it; see <see cref="DeviceResource"/>.
/// </remarks>
public abstract class Weight : DeviceResource
{
    /// <summary>Checks and describes a weight.</summary>
    protected Weight(string name, ReadOnlySpan<WeightPart> parts) : base(name)
    {
        if (parts.IsEmpty)
            throw new ArgumentException($"'{name}' has no parts.", nameof(parts));
        long rows = 0;
        foreach (WeightPart part in parts)
        {
            if (part.Tensor.Shape.Length != 2)
                throw new ArgumentException($"{part.Tensor.Describe()} is not a matrix.", nameof(parts));
            if (part.Tensor.DType is not (DType.F32 or DType.BF16 or DType.F16 or DType.F64))
                throw new ArgumentException($"{part.Tensor.Describe()} does not hold floating-point values.", nameof(parts));
            if (part.Columns != parts[0].Columns)
                throw new ArgumentException($"{part.Tensor.Describe()} has {part.Columns} inputs where '{name}' has {parts[0].Columns}.",
                    nameof(parts));
            rows += part.Rows;
            ByteLength += part.Tensor.ByteLength;
        }

        Rows = checked((int)rows);
        Columns = parts[0].Columns;
    }

    /// <summary>Number of outputs.</summary>
    public int Rows { get; }

    /// <summary>Number of inputs.</summary>
    public int Columns { get; }

    /// <summary>Bytes of the stored matrices.</summary>
    internal long ByteLength { get; }

    /// <summary>Bytes that a product reads.</summary>
    internal virtual long ProductBytes => ByteLength;

    /// <summary>Whether products read a packed form of all of it.</summary>
    internal virtual bool IsPacked => false;

    /// <summary>Name and shape, e.g. <c>layers.3.qkv [512, 224]</c>.</summary>
    public override string ToString() => $"{Name} [{Rows}, {Columns}]";
}
