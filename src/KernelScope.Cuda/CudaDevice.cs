using System.Runtime.InteropServices;
using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Cuda.Ptx;
using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>A CUDA device: every op by kernels that are shipped as PTX, through the driver or through the emulator.</summary>
/// <remarks>
/// Launches are queued and go to the driver together (see <see cref="LaunchQueue"/>); what a kernel does wrong therefore shows at the next
/// <see cref="Device.Read(Mat, Span{float})"/>, <see cref="Device.Write(ReadOnlySpan{float}, Mat)"/> or <see cref="Device.Synchronize"/>.
/// One op waits beside these:
/// <see cref="Device.SaeEncode"/> of so many rows that its codes need not fit into the room that is kept for them.
/// Any number of threads may call it: the context is made the calling thread's own where the driver is called, and launches are queued in
/// the order of the ops.
/// </remarks>
public sealed partial class CudaDevice : Device
{
    /// <summary>The oldest device that has kernels.</summary>
    internal const int OldestCapability = 75;

    // Raised by every change of the order of a sum in any kernel: files that hold results (runs, journals, checkpoints) are then not continued with other bits.
    private const int OrderOfSums = 2;

    private readonly KernelTable _kernels;
    private readonly LaunchQueue _queue;
    private readonly Scratch _scratch;
    private Staging? _staging;
    private CudaException? _deferred;
    private bool _disposed;

    /// <summary>Opens a device.</summary>
    /// <param name="name">Its name, as on the command line.</param>
    /// <param name="driver">The driver; the device disposes it.</param>
    /// <param name="ordinal">Number of the device.</param>
    /// <param name="options">How it computes.</param>
    /// <param name="image">The kernels; null: those inside this assembly.</param>
    /// <exception cref="CudaException">There is no such device, it is too old, or the driver is.</exception>
    internal CudaDevice(string name, ICudaDriver driver, int ordinal = 0, CudaDeviceOptions? options = null, PtxImage? image = null)
    {
        ArgumentNullException.ThrowIfNull(driver);
        Name = name;
        Options = options ?? new CudaDeviceOptions();
        PtxImage kernels = image ?? PtxImage.Embedded;
        Context = CudaContext.Open(driver, ordinal, kernels.Manifest.PtxVersionFor);
        try
        {
            if (Description.ComputeCapability < OldestCapability)
                throw new CudaException(CudaResult.NoBinaryForGpu, $"{Description} is too old: there are kernels for compute " +
                    "capability 7.5 and newer.");
            _kernels = new KernelTable(Context, kernels);
            _scratch = new Scratch(this, Context);
            _queue = new LaunchQueue(Context, Options);
            _tickets = Tickets(Context);
            Context.Overlaps = Options.Overlap && !Options.Sync && Description.ComputeCapability >= OverlapText.Capability
                && Driver.Version >= OverlapText.Cuda;
            if (Context.Overlaps)
                CheckOverlap();
        }
        catch
        {
            Context.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override Precision Precision => Options.Precision;

    /// <inheritdoc/>
    /// <remarks>In fast with tensor cores, and there of more than 8 rows.</remarks>
    public override bool RoundsAttention => Precision == Precision.Fast && HasTensorCores;

    /// <inheritdoc/>
    /// <remarks><see cref="PreferredChunkLength"/>.</remarks>
    public override int PreferredChunk => PreferredChunkLength;

    /// <inheritdoc/>
    public override string Arithmetic => $"sm_{Description.ComputeCapability}, tensor cores {(HasTensorCores ? "on" : "off")}, " +
        $"sums {OrderOfSums}, SAEs {Options.SaePrecision}";

    /// <summary>The options that it was opened with.</summary>
    public CudaDeviceOptions Options { get; }

    /// <summary>Name, compute capability and memory of the GPU.</summary>
    public DeviceDescription Description => Context.Description;

    /// <summary>Bytes of device memory that this device has allocated.</summary>
    public long AllocatedBytes => Context.AllocatedBytes;

    /// <summary>How many batches of launches were replayed as CUDA graphs.</summary>
    public long GraphLaunches => _queue.GraphLaunches;

    internal CudaContext Context { get; }

    internal Staging Staging => _staging ??= new Staging(Context);

    /// <summary>What the driver is.</summary>
    internal DriverDescription Driver => DriverDescription.Read(Context.Driver);

    /// <summary>
    /// Loads every module that this device would take, whatever becomes of the others, and says what the driver made of it.
    /// </summary>
    internal IReadOnlyList<LoadedModule> LoadModules()
    {
        using RunningOp op = Enter();
        return _kernels.LoadAll();
    }

    /// <summary>Free and total bytes of device memory.</summary>
    public (long Free, long Total) MemoryInfo()
    {
        using RunningOp op = Enter();
        Context.MakeCurrent();
        return Context.MemoryInfo();
    }

    /// <inheritdoc/>
    public override DeviceBuffer Allocate(long length, string name)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        using RunningOp op = Enter();
        DeviceMemory memory = Context.Allocate(length * sizeof(float), name);
        Context.Check(Context.Driver.MemsetD8Async(memory.Address, 0, memory.Bytes, Context.Stream),
            nameof(ICudaDriver.MemsetD8Async), name);
        return new CudaBuffer(this, memory, name, length);
    }

    /// <inheritdoc/>
    /// <remarks>
    /// Matrices that are stored [out, in] are uploaded here, through pinned memory; see <see cref="CudaWeight"/> for the others.
    /// </remarks>
    public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts)
    {
        using RunningOp op = Enter();
        return new CudaWeight(this, name, parts);
    }

    /// <inheritdoc/>
    public override SparseCodes CreateCodes(int featureCount, string name) => new CudaCodes(this, name, featureCount);

    /// <inheritdoc/>
    protected override void SynchronizeCore()
    {
        Flush();
        Context.Synchronize();
    }

    /// <inheritdoc/>
    protected override void ReadCore(SparseCodes codes, CodeList destination)
    {
        CudaCodes source = CudaCodes.From(this, codes);
        Flush();
        source.CopyTo(destination);
    }

    /// <inheritdoc/>
    protected override void WriteCore(CodeList codes, SparseCodes destination)
    {
        CudaCodes target = CudaCodes.From(this, destination);
        target.CheckFits(codes);
        Flush();
        target.CopyFrom(codes);
    }

    /// <inheritdoc/>
    /// <remarks>Memory that was disposed or forgotten; what is queued may still use it, so that runs first.</remarks>
    protected internal override void Collect()
    {
        try
        {
            if (!_disposed && Context.HasReleased)
            {
                _queue.Flush();
                Context.Collect();
            }
        }
        catch (CudaException e)
        {
            // Disposing must not throw, and a failed launch must not be forgotten.
            _deferred ??= e;
        }

        base.Collect();
    }

    /// <summary>
    /// Gives memory back that was disposed or forgotten, as soon as no op runs: one that runs may have taken its address already.
    /// </summary>
    internal void CollectReleased()
    {
        if (Context.HasReleased)
            CollectWhenIdle();
    }

    /// <summary>
    /// Gives back, within an op, memory that the device uses for itself, so that larger memory can take its place. Nothing of the op may be
    /// queued yet.
    /// </summary>
    internal void GiveBackNow(DeviceMemory memory)
    {
        try
        {
            _queue.Flush();
            Context.MakeCurrent();
            Context.Synchronize();
            Context.Free(memory);
        }
        catch (CudaException e)
        {
            // It belongs to launches before this op.
            memory.Dispose();
            _deferred ??= e;
        }

        CollectReleased();
    }

    /// <summary>Gives the driver what waits, and throws what came of launches that <see cref="Collect"/> gave it.</summary>
    private void Flush()
    {
        _queue.Flush();
        Context.MakeCurrent();
        if (_deferred is null)
            return;
        CudaException error = _deferred;
        _deferred = null;
        throw new CudaException(error.Result, error.Message);
    }

    /// <inheritdoc/>
    protected override void ReadCore(Mat x, Span<float> destination)
    {
        if (destination.IsEmpty)
            return;
        ulong source = x.IsDense ? CudaBuffer.AddressOf(this, x) : Gathered(x);
        Flush();
        Staging.Download(source, MemoryMarshal.AsBytes(destination));
        CollectReleased();
    }

    /// <inheritdoc/>
    protected override void WriteCore(ReadOnlySpan<float> values, Mat destination)
    {
        if (values.IsEmpty)
            return;
        ulong target = CudaBuffer.AddressOf(this, destination);
        if (destination.IsDense)
        {
            Flush();
            Staging.Upload(target, MemoryMarshal.AsBytes(values));
            return;
        }

        _scratch.Begin(values.Length * sizeof(float));
        ulong dense = _scratch.Take(values.Length * sizeof(float));
        Flush();
        Staging.Upload(dense, MemoryMarshal.AsBytes(values));
        Copy(dense, destination.Columns, target, destination.Stride, destination.Rows, destination.Columns);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!_disposed)
            GiveBack();
        base.Dispose(disposing);
    }

    private void GiveBack()
    {
        _disposed = true;
        // What is still queued was asked for, but nobody can see its results any more.
        Context.Drain();
        _queue.Dispose();
        _scratch.Dispose();
        _tickets.Dispose();
        _staging?.Dispose();
        _kernels.Dispose();
        Context.Dispose();
    }

    private ulong Gathered(Mat x)
    {
        long bytes = (long)x.Rows * x.Columns * sizeof(float);
        _scratch.Begin(bytes);
        ulong dense = _scratch.Take(bytes);
        Copy(CudaBuffer.AddressOf(this, x), x.Stride, dense, x.Columns, x.Rows, x.Columns);
        return dense;
    }
}
