using System.Buffers.Binary;
using System.Runtime.InteropServices;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Conformance;

/// <summary>How a stored matrix is stored.</summary>
/// <param name="DType">Type of its elements.</param>
/// <param name="Transposed">Stored [in, out].</param>
/// <param name="ColumnMajor">Fortran order.</param>
/// <param name="ByteOffset">Bytes between a 64-byte line and its first element: mapped files promise no alignment.</param>
internal readonly record struct WeightForm(DType DType, bool Transposed = false, bool ColumnMajor = false, int ByteOffset = 0)
{
    /// <summary>Every dtype, both orders, aligned and not.</summary>
    public static readonly WeightForm[] All =
    [
        new(DType.BF16), new(DType.F32), new(DType.F16), new(DType.F64),
        new(DType.F32, Transposed: true), new(DType.BF16, Transposed: true, ByteOffset: 1), new(DType.F16, ColumnMajor: true),
            new(DType.F64, Transposed: true),
        new(DType.F32, ByteOffset: 3), new(DType.BF16, ByteOffset: 2), new(DType.F16, Transposed: true, ByteOffset: 5),
            new(DType.F64, ColumnMajor: true, ByteOffset: 4),
        new(DType.F32, Transposed: true, ColumnMajor: true),
    ];

    public static WeightForm At(int turn) => All[turn % All.Length];

    public override string ToString() =>
        DType.SafetensorsName().ToLowerInvariant() + (Transposed ? " transposed" : "") + (ColumnMajor ? " column-major" : "")
            + (ByteOffset > 0 ? $" at byte {ByteOffset}" : "");
}

/// <summary>One stored matrix of a weight: its number of outputs and its form.</summary>
internal readonly record struct PartForm(int Rows, WeightForm Form);

/// <summary>A weight of a case on both devices; its bytes lie in memory as a mapped file's would.</summary>
internal sealed unsafe class TrialWeight : IDisposable
{
    private readonly List<nint> _memory = [];
    private readonly HostWeight _host;

    public TrialWeight(string name, int columns, ReadOnlySpan<PartForm> parts, Func<int, int, double> value, Device tested,
        Device reference)
    {
        WeightPart[] views = new WeightPart[parts.Length];
        int firstRow = 0;
        for (int p = 0; p < parts.Length; p++)
        {
            int offset = firstRow;
            views[p] = Store($"{name}.{p}", parts[p].Rows, columns, parts[p].Form, (r, i) => value(offset + r, i));
            firstRow += parts[p].Rows;
        }

        _host = new HostWeight(name, views);
        Tested = tested.CreateWeight(name, views);
        Reference = reference.CreateWeight(name, views);
    }

    public Weight Tested { get; }

    public Weight Reference { get; }

    public int Rows => _host.Rows;

    public int Columns => _host.Columns;

    /// <summary>Element (output, input) as stored.</summary>
    public double this[int r, int i] => _host.At(r, i);

    /// <summary>√Σw² of one output's weights.</summary>
    public double NormOf(int r)
    {
        double squares = 0;
        for (int i = 0; i < Columns; i++)
            squares += this[r, i] * this[r, i];
        return Math.Sqrt(squares);
    }

    /// <summary>√Σw² of one input's weights.</summary>
    public double NormOfInput(int i)
    {
        double squares = 0;
        for (int r = 0; r < Rows; r++)
            squares += this[r, i] * this[r, i];
        return Math.Sqrt(squares);
    }

    public double[] Norms() => [.. Enumerable.Range(0, Rows).Select(NormOf)];

    public void Dispose()
    {
        Tested.Dispose();
        Reference.Dispose();
        foreach (nint memory in _memory)
            NativeMemory.AlignedFree((void*)memory);
        _memory.Clear();
    }

    /// <summary>The one place where a tensor is made without a file.</summary>
    private WeightPart Store(string name, int rows, int columns, WeightForm form, Func<int, int, double> value)
    {
        int size = form.DType.ByteSize();
        long bytes = (long)rows * columns * size;
        // Exactly as many bytes as the file would have: a read past the end leaves the allocation.
        byte* memory = (byte*)NativeMemory.AlignedAlloc((nuint)(bytes + form.ByteOffset), 64);
        _memory.Add((nint)memory);
        byte* first = memory + form.ByteOffset;
        bool inputsFirst = form.Transposed ^ form.ColumnMajor;
        for (int r = 0; r < rows; r++)
        {
            for (int i = 0; i < columns; i++)
            {
                long n = inputsFirst ? ((long)i * rows) + r : ((long)r * columns) + i;
                Encode(value(r, i), form.DType, new Span<byte>(first + (n * size), size));
            }
        }

        long[] shape = form.Transposed ? [columns, rows] : [rows, columns];
        return new WeightPart(new TensorView("(memory)", new TensorInfo(name, form.DType, shape, form.ColumnMajor), first, this),
            form.Transposed);
    }

    private static void Encode(double value, DType type, Span<byte> destination)
    {
        switch (type)
        {
            case DType.F32: BinaryPrimitives.WriteSingleLittleEndian(destination, (float)value); break;
            case DType.BF16: BinaryPrimitives.WriteUInt16LittleEndian(destination, ((BFloat16)(float)value).Bits); break;
            case DType.F16: BinaryPrimitives.WriteHalfLittleEndian(destination, (Half)value); break;
            default: BinaryPrimitives.WriteDoubleLittleEndian(destination, value); break;
        }
    }
}
