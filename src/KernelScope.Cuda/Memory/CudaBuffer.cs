using KernelScope.Cuda.Driver;
using KernelScope.Devices;

namespace KernelScope.Cuda.Memory;

/// <summary>Device memory that holds float32 values.</summary>
internal sealed class CudaBuffer : DeviceBuffer
{
    private readonly CudaDevice _device;

    public CudaBuffer(CudaDevice device, DeviceMemory memory, string name, long length) : base(name, length)
    {
        _device = device;
        Memory = memory;
    }

    /// <summary>The memory.</summary>
    public DeviceMemory Memory { get; }

    /// <summary>Element (0, 0) of a matrix on <paramref name="device"/>.</summary>
    /// <exception cref="ArgumentException">The matrix belongs to another device.</exception>
    public static ulong AddressOf(CudaDevice device, Mat x)
    {
        if (x.Buffer is not CudaBuffer buffer || buffer._device != device)
            throw new ArgumentException($"{x} is not in the memory of {device.Name}.", nameof(x));
        buffer.ThrowIfDisposed();
        return buffer.Memory.Address + (ulong)(x.Offset * sizeof(float));
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        Memory.Dispose();
        _device.CollectReleased();
        base.Dispose(disposing);
    }
}
