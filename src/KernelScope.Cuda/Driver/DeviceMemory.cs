using System.Runtime.InteropServices;

namespace KernelScope.Cuda.Driver;

/// <summary>A piece of device memory. Disposed or forgotten, it goes back when the launches that were queued before have run.</summary>
internal sealed class DeviceMemory : SafeHandle
{
    private readonly CudaContext _context;
    private int _released;

    public DeviceMemory(CudaContext context, ulong address, long bytes, string name) : base(0, ownsHandle: true)
    {
        _context = context;
        Bytes = bytes;
        Name = name;
        SetHandle((nint)address);
    }

    /// <summary>Length.</summary>
    public long Bytes { get; }

    /// <summary>What it holds, for messages.</summary>
    public string Name { get; }

    /// <summary>The first byte.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    public ulong Address
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return (ulong)handle;
        }
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Closes it without giving the memory back, which is the caller's from here on.</summary>
    /// <returns>False: it was given back already.</returns>
    public bool TryForget(out ulong address)
    {
        address = (ulong)handle;
        bool mine = Interlocked.Exchange(ref _released, 1) == 0;
        Dispose();
        return mine;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        // The finalizer's thread comes here too: no call of the driver, which may be at work on another thread.
        if (Interlocked.Exchange(ref _released, 1) == 0)
            _context.Release(ReleasedKind.Memory, (ulong)handle, Bytes);
        return true;
    }
}

/// <summary>Pinned memory of the host, from which and to which copies run beside other work.</summary>
internal sealed unsafe class PinnedMemory : SafeHandle
{
    private readonly CudaContext _context;

    public PinnedMemory(CudaContext context, int bytes) : base(0, ownsHandle: true)
    {
        _context = context;
        Length = bytes;
        context.MakeCurrent();
        context.Check(context.Driver.MemHostAlloc(bytes, out nint pointer), nameof(ICudaDriver.MemHostAlloc), MemoryText.MiB(bytes));
        SetHandle(pointer);
    }

    /// <summary>Length in bytes.</summary>
    public int Length { get; }

    /// <summary>The first byte.</summary>
    public nint Pointer => handle;

    /// <summary>All of it.</summary>
    public Span<byte> Span => new((void*)handle, Length);

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        _context.Release(ReleasedKind.PinnedMemory, (ulong)handle);
        return true;
    }
}
