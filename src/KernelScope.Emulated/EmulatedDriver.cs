using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Text;
using KernelScope.Cuda.Driver;
using KernelScope.PtxEmulator;

namespace KernelScope.Emulated;

/// <summary>How the emulated driver behaves.</summary>
public sealed record EmulatedDriverOptions
{
    /// <summary>The device.</summary>
    public EmulatedGpuOptions Gpu { get; init; } = new();

    /// <summary>How kernels run and what is checked.</summary>
    public LaunchOptions Launch { get; init; } = new();

    /// <summary>What it gives as its CUDA version, 1000·major + 10·minor.</summary>
    public int DriverVersion { get; init; } = 12_040;

    /// <summary>Called after every launch, replayed ones included.</summary>
    public Action<PtxKernel, LaunchResult>? Launched { get; init; }
}

/// <summary>A CUDA driver whose one device is the PTX emulator: the same calls, the same kernels, and a fault wherever a kernel breaks a rule.</summary>
/// <remarks>
/// Everything happens at once and in order, so a stream is never behind. A fault becomes <see cref="CudaResult.LaunchFailed"/> and stays, as on a GPU;
/// <see cref="Detail"/> says which kernel, line, thread and address.
/// </remarks>
internal sealed unsafe class EmulatedDriver : ICudaDriver
{
    private const nint OnlyContext = 1;
    private static readonly ConcurrentDictionary<string, PtxModule> Parsed = new(StringComparer.Ordinal);

    private readonly EmulatedDriverOptions _options;
    private readonly EmulatedGpu _gpu;
    private readonly Dictionary<nint, object> _handles = [];
    private readonly HashSet<nint> _pinned = [];
    private List<RecordedLaunch>? _capture;
    private nint _nextHandle = 16;
    private bool _faulted;

    /// <summary>Makes a device.</summary>
    public EmulatedDriver(EmulatedDriverOptions? options = null)
    {
        _options = options ?? new EmulatedDriverOptions();
        _gpu = new EmulatedGpu(_options.Gpu);
    }

    /// <inheritdoc/>
    public string Library => "PTX emulator";

    /// <inheritdoc/>
    public string Detail { get; private set; } = "";

    /// <summary>The device, for tests that look at its memory.</summary>
    public EmulatedGpu Gpu => _gpu;

    /// <inheritdoc/>
    public CudaResult Init() => CudaResult.Success;

    /// <inheritdoc/>
    public CudaResult DriverGetVersion(out int version)
    {
        version = _options.DriverVersion;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetCount(out int count)
    {
        count = 1;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGet(int ordinal, out int device)
    {
        device = 0;
        return ordinal == 0 ? CudaResult.Success : CudaResult.InvalidDevice;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetName(int device, out string name)
    {
        name = Library;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetAttribute(DeviceProperty attribute, int device, out int value)
    {
        EmulatedGpuOptions gpu = _options.Gpu;
        value = attribute switch
        {
            DeviceProperty.MultiprocessorCount => gpu.MultiprocessorCount,
            DeviceProperty.ComputeCapabilityMajor => gpu.ComputeCapability / 10,
            DeviceProperty.ComputeCapabilityMinor => gpu.ComputeCapability % 10,
            _ => -1,
        };
        return value < 0 ? CudaResult.InvalidValue : CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceTotalMem(int device, out long bytes)
    {
        bytes = _options.Gpu.MemoryBytes;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult PrimaryCtxRetain(int device, out nint context)
    {
        context = OnlyContext;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult PrimaryCtxRelease(int device) => CudaResult.Success;

    /// <inheritdoc/>
    public CudaResult CtxSetCurrent(nint context) => context == OnlyContext ? CudaResult.Success : CudaResult.InvalidContext;

    /// <inheritdoc/>
    public CudaResult MemGetInfo(out long free, out long total)
    {
        (free, total) = (_gpu.FreeBytes, _options.Gpu.MemoryBytes);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult ModuleLoadData(ReadOnlySpan<byte> ptx, string name, out nint module, out string log)
    {
        module = 0;
        log = "";
        if (_faulted)
            return CudaResult.LaunchFailed;
        try
        {
            string text = Encoding.UTF8.GetString(ptx.TrimEnd((byte)0));
            module = Add(Parsed.GetOrAdd(text, t => PtxModule.Parse(t, name)));
            return CudaResult.Success;
        }
        catch (PtxSyntaxException e)
        {
            log = e.Message;
            return CudaResult.InvalidPtx;
        }
    }

    /// <inheritdoc/>
    public CudaResult ModuleUnload(nint module) => Remove<PtxModule>(module);

    /// <inheritdoc/>
    public CudaResult ModuleGetFunction(nint module, string name, out nint function)
    {
        function = 0;
        if (!Get(module, out PtxModule? found))
            return CudaResult.InvalidHandle;
        PtxKernel? kernel = found.Kernels.FirstOrDefault(k => k.Name == name);
        if (kernel is null)
            return CudaResult.NotFound;
        function = Add(kernel);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult FuncGetAttribute(FunctionProperty attribute, nint function, out int value)
    {
        value = _options.Gpu.MaxThreadsPerBlock;
        return Get<PtxKernel>(function, out _) ? CudaResult.Success : CudaResult.InvalidHandle;
    }

    /// <inheritdoc/>
    public CudaResult MemAlloc(long bytes, string name, out ulong address)
    {
        address = 0;
        if (bytes <= 0)
            return CudaResult.InvalidValue;
        if (_faulted)
            return CudaResult.LaunchFailed;
        try
        {
            address = _gpu.Allocate(bytes, name);
            return CudaResult.Success;
        }
        catch (InsufficientMemoryException)
        {
            return CudaResult.OutOfMemory;
        }
    }

    /// <inheritdoc/>
    public CudaResult MemFree(ulong address) => Memory(() => _gpu.Free(address));

    /// <inheritdoc/>
    public CudaResult MemHostAlloc(long bytes, out nint pointer)
    {
        pointer = (nint)NativeMemory.AlignedAlloc((nuint)bytes, 64);
        _pinned.Add(pointer);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemFreeHost(nint pointer)
    {
        if (!_pinned.Remove(pointer))
            return CudaResult.InvalidValue;
        NativeMemory.AlignedFree((void*)pointer);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemsetD8Async(ulong destination, byte value, long bytes, nint stream) => Memory(() => _gpu.Fill(destination, value, bytes));

    /// <inheritdoc/>
    public CudaResult MemcpyHtoDAsync(ulong destination, nint source, long bytes, nint stream) =>
        Memory(() => _gpu.Write(destination, new ReadOnlySpan<byte>((void*)source, checked((int)bytes))));

    /// <inheritdoc/>
    public CudaResult MemcpyDtoHAsync(nint destination, ulong source, long bytes, nint stream) =>
        Memory(() => _gpu.Read(source, new Span<byte>((void*)destination, checked((int)bytes))));

    /// <inheritdoc/>
    public CudaResult MemcpyDtoDAsync(ulong destination, ulong source, long bytes, nint stream) => Memory(() => _gpu.Copy(destination, source, bytes));

    /// <inheritdoc/>
    public CudaResult StreamCreate(out nint stream)
    {
        stream = Add(new object());
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult StreamDestroy(nint stream) => Remove<object>(stream);

    /// <inheritdoc/>
    public CudaResult StreamSynchronize(nint stream) => _capture is not null ? CudaResult.StreamCaptureUnsupported : Sticky();

    /// <inheritdoc/>
    public CudaResult StreamBeginCapture(nint stream)
    {
        if (_capture is not null)
            return CudaResult.StreamCaptureUnsupported;
        _capture = [];
        return Sticky();
    }

    /// <inheritdoc/>
    public CudaResult StreamEndCapture(nint stream, out nint graph)
    {
        graph = 0;
        if (_capture is null)
            return CudaResult.InvalidValue;
        graph = Add(_capture);
        _capture = null;
        return Sticky();
    }

    /// <inheritdoc/>
    public CudaResult GraphInstantiate(nint graph, out nint executable)
    {
        executable = 0;
        if (!Get(graph, out List<RecordedLaunch>? launches))
            return CudaResult.InvalidHandle;
        executable = Add(launches.ToArray());
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult GraphDestroy(nint graph) => Remove<List<RecordedLaunch>>(graph);

    /// <inheritdoc/>
    public CudaResult GraphLaunch(nint executable, nint stream)
    {
        if (!Get(executable, out RecordedLaunch[]? launches))
            return CudaResult.InvalidHandle;
        foreach (RecordedLaunch launch in launches)
        {
            CudaResult result = Run(launch.Kernel, launch.Shape, launch.Parameters);
            if (result != CudaResult.Success)
                return result;
        }

        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult GraphExecDestroy(nint executable) => Remove<RecordedLaunch[]>(executable);

    /// <inheritdoc/>
    public CudaResult EventCreate(bool timing, out nint value)
    {
        value = Add(new Mark(timing));
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult EventDestroy(nint value) => Remove<Mark>(value);

    /// <inheritdoc/>
    public CudaResult EventRecord(nint value, nint stream)
    {
        if (!Get(value, out Mark? mark))
            return CudaResult.InvalidHandle;
        mark.Timestamp = Stopwatch.GetTimestamp();
        return Sticky();
    }

    /// <inheritdoc/>
    /// <remarks>Time of the host: it says how fast the emulator is.</remarks>
    public CudaResult EventElapsedTime(nint start, nint end, out float milliseconds)
    {
        milliseconds = 0;
        if (!Get(start, out Mark? first) || !Get(end, out Mark? last) || !first.Timing || !last.Timing)
            return CudaResult.InvalidHandle;
        if (first.Timestamp == 0 || last.Timestamp == 0)
            return CudaResult.NotReady;
        milliseconds = (float)Stopwatch.GetElapsedTime(first.Timestamp, last.Timestamp).TotalMilliseconds;
        return Sticky();
    }

    /// <inheritdoc/>
    public CudaResult EventSynchronize(nint value) => Sticky();

    /// <inheritdoc/>
    public CudaResult LaunchKernel(nint function, LaunchShape shape, nint stream, ReadOnlySpan<byte> parameters, ReadOnlySpan<int> offsets)
    {
        if (!Get(function, out PtxKernel? kernel))
            return CudaResult.InvalidHandle;
        if (_capture is null)
            return Run(kernel, shape, parameters);
        _capture.Add(new RecordedLaunch(kernel, shape, parameters.ToArray()));
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (nint pointer in _pinned)
            NativeMemory.AlignedFree((void*)pointer);
        _pinned.Clear();
        _gpu.Dispose();
    }

    private CudaResult Run(PtxKernel kernel, LaunchShape shape, ReadOnlySpan<byte> parameters)
    {
        if (_faulted)
            return CudaResult.LaunchFailed;
        try
        {
            LaunchResult result = _gpu.Launch(kernel, new Dim3(shape.GridX, shape.GridY, shape.GridZ), new Dim3(shape.Block), 0, parameters, _options.Launch);
            _options.Launched?.Invoke(kernel, result);
            return CudaResult.Success;
        }
        catch (EmulatorFault fault)
        {
            Detail = fault.Message;
            _faulted = true;
            return CudaResult.LaunchFailed;
        }
    }

    private CudaResult Sticky() => _faulted ? CudaResult.LaunchFailed : CudaResult.Success;

    private CudaResult Memory(Action action)
    {
        if (_faulted)
            return CudaResult.LaunchFailed;
        if (_capture is not null)
            return CudaResult.StreamCaptureUnsupported;
        try
        {
            action();
            return CudaResult.Success;
        }
        catch (ArgumentException e)
        {
            Detail = e.Message;
            return CudaResult.InvalidValue;
        }
    }

    private nint Add(object value)
    {
        _handles.Add(_nextHandle, value);
        return _nextHandle++;
    }

    private bool Get<T>(nint handle, [NotNullWhen(true)] out T? value)
        where T : class
    {
        value = _handles.GetValueOrDefault(handle) as T;
        return value is not null;
    }

    private CudaResult Remove<T>(nint handle) => _handles.TryGetValue(handle, out object? value) && value is T && _handles.Remove(handle) ? CudaResult.Success : CudaResult.InvalidHandle;

    private sealed class Mark(bool timing)
    {
        public bool Timing { get; } = timing;

        /// <summary>When it was passed; 0: not yet.</summary>
        public long Timestamp { get; set; }
    }

    private sealed record RecordedLaunch(PtxKernel Kernel, LaunchShape Shape, byte[] Parameters);
}
