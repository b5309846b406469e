using KernelScope.Cuda.Driver;

namespace KernelScope.Cuda.Memory;

/// <summary>
/// Device memory for what ops make on the way. Ops follow each other in the stream, so each begins anew at the first byte; the memory grows to the largest
/// op and stays.
/// </summary>
internal sealed class Scratch(CudaDevice device, CudaContext context) : IDisposable
{
    private const int Alignment = 256;

    private DeviceMemory? _memory;
    private long _used;

    /// <summary>Makes room for an op's pieces, of these lengths in bytes.</summary>
    /// <exception cref="CudaException">There is too little memory.</exception>
    public void Begin(params ReadOnlySpan<long> pieces)
    {
        long bytes = 0;
        foreach (long piece in pieces)
            bytes += Rounded(piece);
        _used = 0;
        if (_memory is not null && _memory.Bytes >= bytes && !device.Options.FreshScratch)
            return;
        // First back, then anew: the two need not fit beside each other.
        if (_memory is not null)
            device.GiveBackNow(_memory);
        _memory = null;
        _memory = context.Allocate(bytes, "work space");
    }

    /// <summary>The next piece.</summary>
    public ulong Take(long bytes)
    {
        ulong address = _memory!.Address + (ulong)_used;
        _used += Rounded(bytes);
        if (_used > _memory.Bytes)
            throw new InvalidOperationException("An op takes more work space than it asked for.");
        return address;
    }

    public void Dispose() => _memory?.Dispose();

    private static long Rounded(long bytes) => (bytes + Alignment - 1) & ~(long)(Alignment - 1);
}
