using System.Runtime.InteropServices;
using KernelScope.Numerics;

namespace KernelScope.Devices;

/// <summary>Memory of the host, outside the garbage collector's heap: zero at first, and its first value lies on a 64-byte line.</summary>
public sealed unsafe class HostBuffer : DeviceBuffer
{
    private const int Alignment = 64;

    // A cache for a whole context is touched bit by bit: it would be rounded up to whole large pages, twice a layer.
    private const long LargeBytes = 128L << 20;

    private void* _memory;
    private float* _start;

    /// <summary>Asks the system for memory. Pages that nobody writes to are never touched.</summary>
    public HostBuffer(string name, long length) : base(name, length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        nuint bytes = checked(((nuint)length * sizeof(float)) + Alignment);
        // Zeroed by the system (calloc), not by us: a cache for a whole context costs what is used of it.
        _memory = NativeMemory.AllocZeroed(bytes);
        if ((long)bytes >= LargeBytes)
            LargePages.Want(_memory, (long)bytes);
        _start = (float*)(((nuint)_memory + Alignment - 1) & ~(nuint)(Alignment - 1));
    }

    /// <summary>Gives back memory that nobody disposed.</summary>
    ~HostBuffer() => Dispose(disposing: false);

    /// <summary>The first value.</summary>
    /// <exception cref="ObjectDisposedException">The memory was given back.</exception>
    public float* Start
    {
        get
        {
            ObjectDisposedException.ThrowIf(_start is null, this);
            return _start;
        }
    }

    /// <summary>Element (0, 0) of a matrix in host memory.</summary>
    /// <exception cref="ArgumentException">The matrix belongs to another kind of device.</exception>
    public static float* Pointer(Mat x) => x.Buffer is HostBuffer buffer
        ? buffer.Start + x.Offset
        : throw new ArgumentException($"{x} is not in host memory.", nameof(x));

    /// <summary>Row <paramref name="r"/> of a matrix in host memory.</summary>
    public static Span<float> Row(Mat x, int r)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(r);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(r, x.Rows);
        return new Span<float>(Pointer(x) + ((long)r * x.Stride), x.Columns);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        NativeMemory.Free(_memory);
        _memory = null;
        _start = null;
    }
}
