using System.Runtime.InteropServices;

namespace KernelScope.Cuda.Driver;

/// <summary>A mark in the stream.</summary>
internal sealed class CudaEvent : SafeHandle
{
    private readonly CudaContext _context;
    private bool _recorded;

    public CudaEvent(CudaContext context, bool timing = false) : base(0, ownsHandle: true)
    {
        _context = context;
        context.MakeCurrent();
        context.Check(context.Driver.EventCreate(timing, out nint value), nameof(ICudaDriver.EventCreate));
        SetHandle(value);
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Marks the end of what is in the stream.</summary>
    public void Record()
    {
        _context.Check(_context.Driver.EventRecord(handle, _context.Stream), nameof(ICudaDriver.EventRecord));
        _recorded = true;
    }

    /// <summary>Waits until the stream has passed the mark; returns at once if there is none.</summary>
    public void Wait()
    {
        if (_recorded)
            _context.Check(_context.Driver.EventSynchronize(handle), nameof(ICudaDriver.EventSynchronize));
    }

    /// <summary>Seconds from an earlier mark to this one; both have timing and are past.</summary>
    public double SecondsSince(CudaEvent start)
    {
        _context.Check(_context.Driver.EventElapsedTime(start.handle, handle, out float milliseconds),
            nameof(ICudaDriver.EventElapsedTime));
        return milliseconds / 1e3;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        _context.Release(ReleasedKind.Event, (ulong)handle);
        return true;
    }
}
