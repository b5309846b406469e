using System.Runtime.CompilerServices;
using KernelScope.Files;

namespace KernelScope.Devices;

/// <summary>One stored matrix where it lies in host memory, most often in a mapped file: any byte address, any supported dtype.</summary>
internal readonly unsafe struct HostPart
{
    public HostPart(WeightPart part, int firstRow)
    {
        Tensor = part.Tensor;
        FirstRow = firstRow;
        Rows = part.Rows;
        Columns = part.Columns;
        // Column-major [a, b] and row-major [b, a] are the same bytes.
        Transposed = part.Transposed ^ part.Tensor.ColumnMajor;
    }

    /// <summary>The stored matrix; kept whole, because the view keeps the mapping alive.</summary>
    public TensorView Tensor { get; }

    /// <summary>The first stored element; need not be aligned to the dtype.</summary>
    public byte* Pointer => Tensor.Pointer;

    /// <summary>Type of the elements.</summary>
    public DType DType => Tensor.DType;

    /// <summary>The weight's output to which row 0 of this part belongs.</summary>
    public int FirstRow { get; }

    /// <summary>Number of outputs of this part.</summary>
    public int Rows { get; }

    /// <summary>Number of inputs.</summary>
    public int Columns { get; }

    /// <summary>False: the bytes are row-major [out, in]. True: they are row-major [in, out].</summary>
    public bool Transposed { get; }

    /// <summary>Element (output <paramref name="r"/> of this part, input <paramref name="i"/>), widened without loss.</summary>
    public double At(int r, int i)
    {
        long n = Transposed ? ((long)i * Rows) + r : ((long)r * Columns) + i;
        return DType switch
        {
            DType.F32 => Unsafe.ReadUnaligned<float>(Pointer + (n * sizeof(float))),
            DType.BF16 => BitConverter.UInt32BitsToSingle((uint)Unsafe.ReadUnaligned<ushort>(Pointer + (n * sizeof(ushort))) << 16),
            DType.F16 => (double)Unsafe.ReadUnaligned<Half>(Pointer + (n * sizeof(ushort))),
            _ => Unsafe.ReadUnaligned<double>(Pointer + (n * sizeof(double))),
        };
    }
}

/// <summary>A parameter matrix used where it lies: no second copy of the weights.</summary>
internal class HostWeight : Weight
{
    public HostWeight(string name, ReadOnlySpan<WeightPart> parts) : base(name, parts)
    {
        Parts = new HostPart[parts.Length];
        int firstRow = 0;
        for (int p = 0; p < parts.Length; p++)
        {
            Parts[p] = new HostPart(parts[p], firstRow);
            firstRow += parts[p].Rows;
        }
    }

    /// <summary>The stored matrices, from the first output on.</summary>
    public HostPart[] Parts { get; }

    /// <summary>Element (output <paramref name="r"/>, input <paramref name="i"/>), widened without loss.</summary>
    public double At(int r, int i)
    {
        HostPart part = PartOf(r);
        return part.At(r - part.FirstRow, i);
    }

    /// <summary>The inputs' weights of output <paramref name="r"/>, widened without loss.</summary>
    public void WidenRow(int r, Span<double> destination)
    {
        HostPart part = PartOf(r);
        for (int i = 0; i < destination.Length; i++)
            destination[i] = part.At(r - part.FirstRow, i);
    }

    /// <summary>The stored matrices behind a weight of a host device.</summary>
    /// <exception cref="ArgumentException">The weight belongs to another kind of device.</exception>
    public static HostWeight From(Weight weight)
    {
        HostWeight host = weight as HostWeight ?? throw new ArgumentException($"{weight} is not in host memory.", nameof(weight));
        host.ThrowIfDisposed();
        return host;
    }

    private HostPart PartOf(int r)
    {
        int p = 0;
        while (r >= Parts[p].FirstRow + Parts[p].Rows)
            p++;
        return Parts[p];
    }
}
