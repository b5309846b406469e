using System.Runtime.InteropServices;

namespace KernelScope.Cuda.Driver;

/// <summary>A mark in the stream.</summary>
internal sealed class CudaEvent : SafeHandle
{
    private readonly CudaContext _context;
    private bool _recorded;

    public CudaEvent(CudaContext context) : base(0, ownsHandle: true)
    {
        _context = context;
        context.Check(context.Driver.EventCreate(out nint value), nameof(ICudaDriver.EventCreate));
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

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => _context.Driver.EventDestroy(handle) == CudaResult.Success;
}
