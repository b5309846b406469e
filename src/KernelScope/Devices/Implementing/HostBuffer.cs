using KernelScope.Numerics;

namespace KernelScope.Devices;

/// <summary>Memory of the host, outside the garbage collector's heap: zero at first, and its first value lies on a 64-byte line.</summary>
/// <remarks>Any number of threads may use and dispose it through ops of its device; who reads it by pointer must not dispose it meanwhile.</remarks>
public sealed unsafe class HostBuffer : DeviceBuffer
{
    private const int Alignment = 64;

    // A cache for a whole context is touched bit by bit: it would be rounded up to whole large pages, twice a layer.
    private const long LargeBytes = 128L << 20;

    private readonly OpGate? _gate;
    private readonly Memory _memory;
    private readonly float* _start;

    /// <summary>Asks the system for memory. Pages that nobody writes to are never touched.</summary>
    /// <param name="name">What it holds, for messages.</param>
    /// <param name="length">Number of float32 values.</param>
    /// <param name="device">The device whose ops use it: the memory goes back when none of them runs. Without one it goes back as soon as it is disposed.</param>
    public HostBuffer(string name, long length, Device? device = null) : base(name, length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        nuint bytes = checked(((nuint)length * sizeof(float)) + Alignment);
        // Zeroed by the system, not by us: a cache for a whole context costs what is used of it.
        void* memory = ZeroedMemory.Allocate(bytes);
        _memory = new Memory(memory, bytes);
        _gate = device?.Gate;
        if ((long)bytes >= LargeBytes)
            LargePages.Want(memory, (long)bytes);
        _start = (float*)(((nuint)memory + Alignment - 1) & ~(nuint)(Alignment - 1));
    }

    /// <summary>Gives back memory that nobody disposed.</summary>
    ~HostBuffer() => Dispose(disposing: false);

    /// <summary>The first value; valid until the end of the op that asks for it, or until disposal.</summary>
    /// <exception cref="ObjectDisposedException">The buffer was disposed.</exception>
    public float* Start
    {
        get
        {
            ThrowIfDisposed();
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
        // Also from a finalizer: an op may still run with the pointer of a buffer that nobody names any more.
        if (_gate is null)
            _memory?.Dispose();
        else
            _gate.Release(_memory);
        base.Dispose(disposing);
    }

    private sealed class Memory(void* first, nuint bytes) : IDisposable
    {
        public void Dispose() => ZeroedMemory.Free(first, bytes);
    }
}
