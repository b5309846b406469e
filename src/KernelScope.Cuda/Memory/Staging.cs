using KernelScope.Cuda.Driver;

namespace KernelScope.Cuda.Memory;

/// <summary>Fills a piece of what is being uploaded.</summary>
/// <param name="first">First byte of the piece in the whole.</param>
/// <param name="piece">Where its bytes go.</param>
internal delegate void FillPiece(long first, Span<byte> piece);

/// <summary>Copies between host and device through two pinned blocks: while one is on its way, the host fills the other.</summary>
internal sealed class Staging : IDisposable
{
    private const int BlockBytes = 4 << 20;

    private readonly CudaContext _context;
    private readonly PinnedMemory[] _blocks = new PinnedMemory[2];
    private readonly CudaEvent[] _used = new CudaEvent[2];
    private int _next;

    public Staging(CudaContext context)
    {
        _context = context;
        for (int b = 0; b < 2; b++)
        {
            _blocks[b] = new PinnedMemory(context, BlockBytes);
            _used[b] = new CudaEvent(context);
        }
    }

    /// <summary>
    /// Uploads <paramref name="bytes"/> that <paramref name="fill"/> gives piece by piece; a piece is a multiple of <paramref name="unit"/>
    /// bytes.
    /// </summary>
    /// <remarks>The copies are in the stream when this returns; the host's data is no longer needed.</remarks>
    /// <exception cref="ArgumentException">A unit is larger than a block.</exception>
    public void Upload(ulong destination, long bytes, long unit, FillPiece fill)
    {
        if (unit > BlockBytes)
            throw new ArgumentException($"Pieces of {unit} bytes do not fit into blocks of {BlockBytes}.", nameof(unit));
        long most = BlockBytes / unit * unit;
        _context.MakeCurrent();
        for (long first = 0; first < bytes; first += most)
        {
            int length = (int)Math.Min(most, bytes - first);
            PinnedMemory block = Free();
            fill(first, block.Span[..length]);
            _context.Check(_context.Driver.MemcpyHtoDAsync(destination + (ulong)first, block.Pointer, length, _context.Stream),
                nameof(ICudaDriver.MemcpyHtoDAsync));
            _used[_next].Record();
            _next ^= 1;
        }
    }

    /// <summary>Uploads a span.</summary>
    public void Upload(ulong destination, ReadOnlySpan<byte> data)
    {
        _context.MakeCurrent();
        for (int first = 0; first < data.Length; first += BlockBytes)
        {
            ReadOnlySpan<byte> piece = data.Slice(first, Math.Min(BlockBytes, data.Length - first));
            PinnedMemory block = Free();
            piece.CopyTo(block.Span);
            _context.Check(_context.Driver.MemcpyHtoDAsync(destination + (ulong)first, block.Pointer, piece.Length, _context.Stream),
                nameof(ICudaDriver.MemcpyHtoDAsync));
            _used[_next].Record();
            _next ^= 1;
        }
    }

    /// <summary>Waits for the stream and copies to the host.</summary>
    public void Download(ulong source, Span<byte> data)
    {
        _context.MakeCurrent();
        for (int first = 0; first < data.Length; first += BlockBytes)
        {
            Span<byte> piece = data.Slice(first, Math.Min(BlockBytes, data.Length - first));
            PinnedMemory block = Free();
            Fetch(block.Pointer, source + (ulong)first, piece.Length);
            _context.Synchronize("results are read");
            block.Span[..piece.Length].CopyTo(piece);
        }
    }

    /// <summary>Copies three pieces to the host with one wait, if the first is not too long for that.</summary>
    public void Download(ulong source0, Span<byte> data0, ulong source1, Span<byte> data1, ulong source2, Span<byte> data2)
    {
        if (data0.Length + data1.Length + data2.Length > BlockBytes)
        {
            Download(source0, data0);
            Download(source1, data1);
            Download(source2, data2);
            return;
        }

        _context.MakeCurrent();
        PinnedMemory block = Free();
        Fetch(block.Pointer, source0, data0.Length);
        Fetch(block.Pointer + data0.Length, source1, data1.Length);
        Fetch(block.Pointer + data0.Length + data1.Length, source2, data2.Length);
        _context.Synchronize("results are read");
        block.Span[..data0.Length].CopyTo(data0);
        block.Span.Slice(data0.Length, data1.Length).CopyTo(data1);
        block.Span.Slice(data0.Length + data1.Length, data2.Length).CopyTo(data2);
    }

    public void Dispose()
    {
        foreach (CudaEvent used in _used)
            used.Dispose();
        foreach (PinnedMemory block in _blocks)
            block.Dispose();
    }

    private void Fetch(nint destination, ulong source, int bytes)
    {
        if (bytes > 0)
            _context.Check(_context.Driver.MemcpyDtoHAsync(destination, source, bytes, _context.Stream),
                nameof(ICudaDriver.MemcpyDtoHAsync), "results are read");
    }

    private PinnedMemory Free()
    {
        _used[_next].Wait();
        return _blocks[_next];
    }
}
