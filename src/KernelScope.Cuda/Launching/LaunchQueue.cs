using System.Runtime.InteropServices;
using KernelScope.Cuda.Driver;

namespace KernelScope.Cuda.Launching;

/// <summary>
/// Launches that were asked for and not yet given to the driver. Small data of the host (token ids, the position) that they read is
/// collected beside them and
/// goes over in one copy; the launches follow, one by one or, where the same launches came before, as one graph.
/// </summary>
/// <remarks>
/// The steps of a decode loop differ in that small data only, which lies at the same addresses in every batch, so that step n is the graph
/// of step n − 1 replayed:
/// no caller has to say what a step is. Nothing is allocated once the buffers have grown to the largest batch.
/// </remarks>
internal sealed class LaunchQueue : IDisposable
{
    /// <summary>Launches after which what waits goes to the driver: a forward pass of the largest model has about 500.</summary>
    private const int ManyLaunches = 1024;

    /// <summary>Blocks along y or z that a device allows.</summary>
    public const int MaxGridYZ = 65_535;

    /// <summary>Pieces of a few bytes that an op may upload without saying so.</summary>
    private const int SmallPieces = 8;

    /// <summary>Bytes of small data of a batch.</summary>
    private const int HostDataBytes = 256 * 1024;

    private const int HostDataAlignment = 16;
    private const int Slots = 4;

    private readonly CudaContext _context;
    private readonly GraphCache? _graphs;
    private readonly bool _sync;
    private readonly DeviceMemory _hostData;
    private readonly PinnedMemory _pinned;
    private readonly CudaEvent[] _slotUsed = new CudaEvent[Slots];
    private Launch[] _launches = new Launch[64];
    private byte[] _parameters = new byte[16 * 1024];
    private string _op = "";
    private Kernel? _open;
    private int _launchCount;
    private int _parameterBytes;
    private int _nextParameter;
    private int _hostBytes;
    private int _slot;
    private int _position;
    private View<int> _positionView;

    /// <summary>An empty queue.</summary>
    /// <param name="context">Where launches go.</param>
    /// <param name="options">Whether batches that come again are replayed as graphs, and whether every launch is waited for.</param>
    public LaunchQueue(CudaContext context, CudaDeviceOptions options)
    {
        _context = context;
        _sync = options.Sync;
        _graphs = options.Graphs && !_sync ? new GraphCache(context, options.Warn) : null;
        _hostData = context.Allocate(HostDataBytes, "small host data");
        _pinned = new PinnedMemory(context, Slots * HostDataBytes);
        for (int s = 0; s < Slots; s++)
            _slotUsed[s] = new CudaEvent(context);
    }

    /// <summary>Number of the last launch that was asked for.</summary>
    public long LaunchNumber { get; private set; }

    /// <summary>How often a batch was replayed as a graph.</summary>
    public long GraphLaunches { get; private set; }

    /// <summary>
    /// Begins an op: what waits goes to the driver if there is much of it, or if <paramref name="hostBytes"/> of small data have no place
    /// beside it.
    /// What an op uploads and the launches that read it then go over together.
    /// </summary>
    /// <param name="op">The op, for messages.</param>
    /// <param name="hostBytes">Bytes of small data that it will upload.</param>
    public void BeginOp(string op, int hostBytes = 0)
    {
        _op = op;
        if (_launchCount >= ManyLaunches || _hostBytes + hostBytes + (SmallPieces * HostDataAlignment) > HostDataBytes)
            Flush();
    }

    /// <summary>Copies small data of the host to where the launches of this op can read it.</summary>
    /// <returns>Where it is on the device.</returns>
    public View<T> Upload<T>(ReadOnlySpan<T> data)
        where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(data);
        if (_hostBytes + bytes.Length > HostDataBytes)
            throw new InvalidOperationException($"An op uploads {bytes.Length} bytes more than it said it would.");
        int at = _hostBytes;
        if (at == 0)
        {
            _context.MakeCurrent();
            _slotUsed[_slot].Wait();
        }

        bytes.CopyTo(_pinned.Span[((_slot * HostDataBytes) + at)..]);
        _hostBytes = (at + bytes.Length + HostDataAlignment - 1) & ~(HostDataAlignment - 1);
        return new View<T>(_hostData.Address + (ulong)at, data.Length);
    }

    /// <summary>Where the launches of this op can read a position; the ops of one batch mostly share it.</summary>
    public View<int> Position(int position)
    {
        if (_positionView.Length == 0 || _position != position)
            (_positionView, _position) = (Upload<int>([position]), position);
        return _positionView;
    }

    /// <summary>Begins a launch; its parameters follow in order, then <see cref="End"/>. The kernels' own types in <c>Kernels.g.cs</c> do that.</summary>
    /// <exception cref="ArgumentException">The grid is empty or larger than a device allows.</exception>
    public LaunchQueue Begin(Kernel kernel, Grid grid)
    {
        (long x, long y, long z) = grid;
        if (x is <= 0 or > int.MaxValue || y is <= 0 or > MaxGridYZ || z is <= 0 or > MaxGridYZ)
            throw new ArgumentException($"Kernel '{kernel.Info.Name}' cannot be launched with a grid of ({x}, {y}, {z}) blocks.");
        if (_launchCount == _launches.Length)
            Array.Resize(ref _launches, 2 * _launches.Length);
        if (_parameterBytes + kernel.ParameterBytes > _parameters.Length)
            Array.Resize(ref _parameters, 2 * _parameters.Length);
        _launches[_launchCount] = new Launch(kernel, new LaunchShape((int)x, (int)y, (int)z, kernel.Info.GroupSize),
            _parameterBytes, _op);
        _open = kernel;
        _nextParameter = 0;
        // Gaps between parameters are part of what is compared.
        _parameters.AsSpan(_parameterBytes, kernel.ParameterBytes).Clear();
        return this;
    }

    /// <summary>A view: address and number of elements.</summary>
    public LaunchQueue Add<T>(View<T> view)
    {
        long elements = view.Length / (_open?.ValuesOfElement[_nextParameter] ?? 1);
        Span<byte> place = Next(16);
        MemoryMarshal.Write(place, view.Address);
        MemoryMarshal.Write(place[8..], elements);
        return this;
    }

    /// <summary>An i32.</summary>
    public LaunchQueue Add(int value)
    {
        MemoryMarshal.Write(Next(4), value);
        return this;
    }

    /// <summary>An i64.</summary>
    public LaunchQueue Add(long value)
    {
        MemoryMarshal.Write(Next(8), value);
        return this;
    }

    /// <summary>An f32.</summary>
    public LaunchQueue Add(float value)
    {
        MemoryMarshal.Write(Next(4), value);
        return this;
    }

    /// <summary>Ends the launch.</summary>
    public void End()
    {
        Kernel kernel = _open ?? throw new InvalidOperationException("No launch was begun.");
        if (_nextParameter != kernel.Info.Parameters.Count)
            throw new InvalidOperationException($"Kernel '{kernel.Info.Name}' takes {kernel.Info.Parameters.Count} parameters; it was " +
                $"given {_nextParameter}.");
        _parameterBytes += kernel.ParameterBytes;
        _launchCount++;
        LaunchNumber++;
        _open = null;
    }

    /// <summary>Takes a launch back, if it is the last one and still waits.</summary>
    /// <returns>Whether it was.</returns>
    public bool TakeBack(long number)
    {
        if (_launchCount == 0 || number != LaunchNumber)
            return false;
        _parameterBytes = _launches[--_launchCount].Start;
        // Nobody can take it back again, nor one that came before it.
        LaunchNumber++;
        return true;
    }

    /// <summary>Gives the driver everything that waits. It does not wait for the device.</summary>
    public void Flush()
    {
        if (_launchCount == 0 && _hostBytes == 0)
            return;
        int launches = _launchCount, parameterBytes = _parameterBytes, hostBytes = _hostBytes;
        // What fails is gone: it must not come again with the next batch.
        (_launchCount, _parameterBytes, _hostBytes, _positionView) = (0, 0, 0, default);
        _context.MakeCurrent();
        if (hostBytes > 0)
        {
            nint source = _pinned.Pointer + (_slot * HostDataBytes);
            _context.Check(_context.Driver.MemcpyHtoDAsync(_hostData.Address, source, hostBytes, _context.Stream),
                nameof(ICudaDriver.MemcpyHtoDAsync), "small host data");
            _slotUsed[_slot].Record();
            _slot = (_slot + 1) % Slots;
        }

        var batch = new LaunchBatch(_launches.AsSpan(0, launches), _parameters.AsSpan(0, parameterBytes));
        if (_graphs is not null && _graphs.TryReplay(batch))
            GraphLaunches++;
        else
            batch.Issue(_context, _context.Launches, _sync);
    }

    public void Dispose()
    {
        _graphs?.Dispose();
        foreach (CudaEvent used in _slotUsed)
            used.Dispose();
        _pinned.Dispose();
        _hostData.Dispose();
    }

    private Span<byte> Next(int size)
    {
        Kernel kernel = _open ?? throw new InvalidOperationException("No launch was begun.");
        IReadOnlyList<Ptx.PtxParameter> parameters = kernel.Info.Parameters;
        if (_nextParameter >= parameters.Count || parameters[_nextParameter].Size != size)
            throw new InvalidOperationException($"Parameter {_nextParameter} of kernel '{kernel.Info.Name}' is not one of {size} bytes.");
        return _parameters.AsSpan(_parameterBytes + parameters[_nextParameter++].Offset, size);
    }
}

/// <summary>One launch.</summary>
/// <param name="Kernel">The kernel.</param>
/// <param name="Shape">Grid and block.</param>
/// <param name="Start">Where its parameters begin in the batch's.</param>
/// <param name="Op">The op that asked for it.</param>
internal readonly record struct Launch(Kernel Kernel, LaunchShape Shape, int Start, string Op)
{
    /// <summary><c>gemm_tensor_bf16_exact (op Linear, grid 18×4, block 256)</c>.</summary>
    public string Describe()
    {
        string grid = Shape.GridZ > 1 ? FormattableString.Invariant($"{Shape.GridX}×{Shape.GridY}×{Shape.GridZ}")
            : FormattableString.Invariant($"{Shape.GridX}×{Shape.GridY}");
        return FormattableString.Invariant($"{Kernel.Info.Name} (op {Op}, grid {grid}, block {Shape.Block})");
    }
}

/// <summary>Launches in order, with their parameters.</summary>
internal readonly ref struct LaunchBatch(ReadOnlySpan<Launch> launches, ReadOnlySpan<byte> parameters)
{
    public ReadOnlySpan<Launch> Launches { get; } = launches;

    public ReadOnlySpan<byte> Parameters { get; } = parameters;

    /// <summary>Notes them as given to the driver.</summary>
    public void Note(LaunchLog log)
    {
        foreach (ref readonly Launch launch in Launches)
            log.Add(launch);
    }

    /// <summary>Gives the launches to the driver one by one.</summary>
    /// <param name="context">Where they go.</param>
    /// <param name="log">Where they are noted; null: they are captured, not launched.</param>
    /// <param name="sync">Whether to wait after each, so that what one does wrong is its own error.</param>
    public void Issue(CudaContext context, LaunchLog? log, bool sync = false)
    {
        for (int n = 0; n < Launches.Length; n++)
        {
            Launch launch = Launches[n];
            ReadOnlySpan<byte> block = Parameters.Slice(launch.Start, launch.Kernel.ParameterBytes);
            // What comes before the first is a copy, perhaps, or a kernel of before: it begins when all that has ended.
            bool overlaps = context.Overlaps && n > 0;
            CudaResult result = overlaps
                ? context.Driver.LaunchKernelEx(launch.Kernel.Function, launch.Shape, context.Stream, block, launch.Kernel.Offsets)
                : context.Driver.LaunchKernel(launch.Kernel.Function, launch.Shape, context.Stream, block, launch.Kernel.Offsets);
            if (sync && result == CudaResult.Success)
                result = context.Driver.StreamSynchronize(context.Stream);
            if (result != CudaResult.Success && sync)
                throw context.LaunchFailed(result, launch);
            if (result != CudaResult.Success)
                context.Check(result, overlaps ? nameof(ICudaDriver.LaunchKernelEx) : nameof(ICudaDriver.LaunchKernel), launch.Describe());
            log?.Add(launch);
        }
    }
}
