using KernelScope.Cuda.Launching;
using KernelScope.Devices;

namespace KernelScope.Cuda.Memory;

/// <summary>Rows of float32 values in device memory, as kernels see them.</summary>
/// <param name="Address">The first value.</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="Columns">Number of columns.</param>
/// <param name="Stride">Distance of two rows, in values.</param>
internal readonly record struct Operand(ulong Address, int Rows, int Columns, int Stride)
{
    /// <summary>Number of values from the first to the last.</summary>
    public long Span => ((Rows - 1L) * Stride) + Columns;

    /// <summary>From the first value to the last.</summary>
    public View<float> View => new(Address, Span);

    /// <summary>Whether every row begins at a multiple of 16 bytes.</summary>
    public bool IsAligned => Address % 16 == 0 && (Stride % 4 == 0 || Rows == 1);

    /// <summary>Some of the rows.</summary>
    public Operand RowRange(int first, int count) =>
        this with { Address = Address + (ulong)((long)first * Stride * sizeof(float)), Rows = count };

    /// <summary>A matrix on <paramref name="device"/>.</summary>
    public static Operand From(CudaDevice device, Mat x) => new(CudaBuffer.AddressOf(device, x), x.Rows, x.Columns, x.Stride);
}
