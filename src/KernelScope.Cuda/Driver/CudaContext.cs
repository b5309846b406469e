using System.Collections.Concurrent;
using System.Globalization;
using KernelScope.Cuda.Launching;

namespace KernelScope.Cuda.Driver;

/// <summary>What of the driver's was let go, on whatever thread.</summary>
internal enum ReleasedKind
{
    /// <summary>Device memory.</summary>
    Memory,

    /// <summary>Pinned memory of the host.</summary>
    PinnedMemory,

    /// <summary>An event.</summary>
    Event,
}

/// <summary>
/// A device opened for work: its primary context and one stream. Every result of the driver is checked here and becomes a <see
/// cref="CudaException"/>.
/// </summary>
/// <remarks>
/// After a sticky error the process has lost the GPU: every later call says so and names the error that did it. An error of a kernel is
/// reported by a later call, which names what was launched since the last wait.
/// The driver's current context is per thread, and others may change it between two calls: it is set where the driver is called for a group
/// of things, not where ops begin.
/// </remarks>
internal sealed class CudaContext : IDisposable
{
    /// <summary>The oldest CUDA whose drivers have every call that is made here (cuGraphInstantiateWithFlags came with 11.4).</summary>
    private const int OldestVersion = 11_040;

    private readonly ConcurrentQueue<(ReleasedKind Kind, ulong Handle)> _released = new();
    private readonly HashSet<ulong> _live = [];
    private readonly int _device;
    private readonly nint _context;
    private nint _stream;
    private string? _lostBy;
    private long _allocatedBytes;
    private bool _disposed;

    private CudaContext(ICudaDriver driver, int device, nint context, DeviceDescription description)
    {
        Driver = driver;
        _device = device;
        _context = context;
        Description = description;
    }

    /// <summary>Opens a device.</summary>
    /// <param name="driver">The driver; the context owns it from here on.</param>
    /// <param name="ordinal">Number of the device.</param>
    /// <param name="ptxVersionFor">Version of the PTX that a device of a compute capability will load, such as <c>7.0</c>.</param>
    /// <exception cref="CudaException">There is no such device, or the driver is too old.</exception>
    public static CudaContext Open(ICudaDriver driver, int ordinal, Func<int, string> ptxVersionFor)
    {
        DriverDescription found = DriverDescription.Read(driver);
        if (found.Problem.Length > 0)
            throw new CudaException(CudaResult.NoDevice, found.Problem);
        if ((uint)ordinal >= (uint)found.Devices.Count)
            throw new CudaException(CudaResult.InvalidDevice, $"There is no device cuda:{ordinal}: this machine " +
                $"has {found.Devices.Count} CUDA device{(found.Devices.Count == 1 ? "" : "s")}, counted from 0.");
        string ptxVersion = ptxVersionFor(found.Devices[ordinal].ComputeCapability);
        int needed = Math.Max(OldestVersion, PtxVersions.CudaFor(ptxVersion));
        if (found.Version < needed)
        {
            throw new CudaException(CudaResult.UnsupportedPtxVersion, string.Create(CultureInfo.InvariantCulture,
                $"The NVIDIA driver is too old: it supports CUDA {found.VersionText}, and the kernels (PTX {ptxVersion}) need " +
                $"CUDA {needed / 1000}.{needed % 1000 / 10}. Install a newer driver."));
        }

        Check(driver, driver.DeviceGet(ordinal, out int device), nameof(ICudaDriver.DeviceGet));
        Check(driver, driver.PrimaryCtxRetain(device, out nint handle), nameof(ICudaDriver.PrimaryCtxRetain));
        var context = new CudaContext(driver, device, handle, found.Devices[ordinal]);
        try
        {
            context.MakeCurrent();
            context.Check(driver.StreamCreate(out context._stream), nameof(ICudaDriver.StreamCreate));
            return context;
        }
        catch
        {
            context.Dispose();
            throw;
        }
    }

    /// <summary>The driver.</summary>
    public ICudaDriver Driver { get; }

    /// <summary>What the device is.</summary>
    public DeviceDescription Description { get; }

    /// <summary>The one stream, in whose order everything happens.</summary>
    public nint Stream => _stream;

    /// <summary>What was launched since the last wait.</summary>
    public LaunchLog Launches { get; } = new();

    /// <summary>
    /// Whether launches of a batch start while the one before them ends. Kernels that are loaded meanwhile have the instructions for it, and behave in other launches as without.
    /// </summary>
    public bool Overlaps { get; set; }

    /// <summary>How often the stream was waited for: what was in it before the last time is done.</summary>
    public long Waits { get; private set; }

    /// <summary>Bytes of device memory that are allocated through this context.</summary>
    public long AllocatedBytes => Interlocked.Read(ref _allocatedBytes);

    /// <summary>Makes the context the calling thread's own.</summary>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    public void MakeCurrent()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        Check(Driver.CtxSetCurrent(_context), nameof(ICudaDriver.CtxSetCurrent));
    }

    /// <summary>Throws for every result but success. <paramref name="about"/> is what was being done.</summary>
    public void Check(CudaResult result, string call, string about = "")
    {
        if (_lostBy is not null && result != CudaResult.Success)
            throw new CudaException(result, "An earlier error has lost the GPU: the process cannot use it any more; start again. The " +
                $"error was: {_lostBy}");
        if (result == CudaResult.Success)
            return;
        throw Failed(result, Message(Driver, result, call, about) + (CudaResults.IsSticky(result) ? Launches.Describe() : ""));
    }

    /// <summary>The error of one launch, which is known because it was waited for.</summary>
    public CudaException LaunchFailed(CudaResult result, in Launch launch)
    {
        string detail = Driver.Detail.Length == 0 ? "" : $" {Driver.Detail}";
        return Failed(result, $"kernel {launch.Describe()}: {CudaResults.Name(result)} ({(int)result}).{detail}");
    }

    private CudaException Failed(CudaResult result, string message)
    {
        if (CudaResults.IsSticky(result))
            _lostBy = message;
        return new CudaException(result, message);
    }

    /// <summary>Waits for everything in the stream.</summary>
    public void Synchronize(string about = "")
    {
        Check(Driver.StreamSynchronize(_stream), nameof(ICudaDriver.StreamSynchronize), about);
        Launches.Clear();
        Waits++;
    }

    /// <summary>Free and total bytes of the device.</summary>
    public (long Free, long Total) MemoryInfo()
    {
        Check(Driver.MemGetInfo(out long free, out long total), nameof(ICudaDriver.MemGetInfo));
        return (free, total);
    }

    /// <summary>Asks for device memory. Its content is undefined.</summary>
    /// <exception cref="CudaException">There is too little; the message says how much was asked for and how much there is.</exception>
    public DeviceMemory Allocate(long bytes, string name)
    {
        long rounded = Math.Max(bytes, 1);
        MakeCurrent();
        CudaResult result = Driver.MemAlloc(rounded, name, out ulong address);
        if (result == CudaResult.OutOfMemory)
        {
            (long free, long total) = MemoryInfo();
            throw new CudaException(result, $"{MemoryText.MiB(bytes)} for '{name}' do not fit: {MemoryText.MiB(free)} of " +
                $"the {MemoryText.MiB(total)} of {Description.Name} are free.");
        }

        Check(result, nameof(ICudaDriver.MemAlloc), name);
        _live.Add(address);
        Interlocked.Add(ref _allocatedBytes, rounded);
        return new DeviceMemory(this, address, rounded, name);
    }

    /// <summary>Notes what is no longer used; any thread may call it, finalizers too. <see cref="Collect"/> gives it back.</summary>
    public void Release(ReleasedKind kind, ulong handle, long deviceBytes = 0)
    {
        _released.Enqueue((kind, handle));
        Interlocked.Add(ref _allocatedBytes, -deviceBytes);
    }

    /// <summary>Whether something released waits for <see cref="Collect"/>.</summary>
    public bool HasReleased => !_released.IsEmpty;

    /// <summary>
    /// Gives back what was released; everything that uses it must be in the stream already, so that it is waited for here.
    /// </summary>
    public void Collect()
    {
        if (_disposed || _released.IsEmpty)
            return;
        MakeCurrent();
        Synchronize();
        while (_released.TryDequeue(out (ReleasedKind Kind, ulong Handle) released))
        {
            (CudaResult result, string call) = GiveBack(released.Kind, released.Handle);
            Check(result, call);
        }
    }

    private (CudaResult Result, string Call) GiveBack(ReleasedKind kind, ulong handle)
    {
        switch (kind)
        {
            case ReleasedKind.Event:
                return (Driver.EventDestroy((nint)handle), nameof(ICudaDriver.EventDestroy));
            case ReleasedKind.PinnedMemory:
                return (Driver.MemFreeHost((nint)handle), nameof(ICudaDriver.MemFreeHost));
            default:
                _live.Remove(handle);
                return (Driver.MemFree(handle), nameof(ICudaDriver.MemFree));
        }
    }

    /// <summary>Gives memory back at once; the stream must have come to where nothing uses it.</summary>
    public void Free(DeviceMemory memory)
    {
        // Disposed by another thread meanwhile: it is collected when the op ends.
        if (!memory.TryForget(out ulong address))
            return;
        Interlocked.Add(ref _allocatedBytes, -memory.Bytes);
        _live.Remove(address);
        Check(Driver.MemFree(address), nameof(ICudaDriver.MemFree), memory.Name);
    }

    /// <summary>Makes the context current and waits for the stream, whatever comes of it: the context is about to be disposed.</summary>
    public void Drain()
    {
        // Results are not looked at: after a sticky error every call fails, and there is nothing else to do.
        _ = Driver.CtxSetCurrent(_context);
        if (_stream != 0)
            _ = Driver.StreamSynchronize(_stream);
    }

    /// <summary>Gives all memory, the stream and the context back, also after an error.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        Drain();
        if (_stream != 0)
            _ = Driver.StreamDestroy(_stream);
        while (_released.TryDequeue(out (ReleasedKind Kind, ulong Handle) released))
            _ = GiveBack(released.Kind, released.Handle);
        foreach (ulong address in _live)
            _ = Driver.MemFree(address);
        _live.Clear();
        _ = Driver.PrimaryCtxRelease(_device);
        Driver.Dispose();
    }

    /// <summary>Throws for every result but success, where there is no context yet.</summary>
    public static void Check(ICudaDriver driver, CudaResult result, string call)
    {
        if (result != CudaResult.Success)
            throw new CudaException(result, Message(driver, result, call, ""));
    }

    private static string Message(ICudaDriver driver, CudaResult result, string call, string about)
    {
        string name = CudaResults.Name(result);
        string where = about.Length == 0 ? $"cu{call}" : $"cu{call} ({about})";
        string detail = driver.Detail.Length == 0 ? "" : $" {driver.Detail}";
        return $"{where} failed with {name} ({(int)result}).{detail}";
    }
}
