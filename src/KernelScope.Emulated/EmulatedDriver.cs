using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using KernelScope.Cuda.Driver;
using KernelScope.PtxEmulator;

namespace KernelScope.Emulated;

/// <summary>When a driver tells what a kernel did wrong.</summary>
public enum ErrorTime
{
    /// <summary>At its launch.</summary>
    Immediate,

    /// <summary>
    /// As a GPU's driver does: the launch succeeds, and the next call that waits or touches memory fails, and every call after it.
    /// </summary>
    Late,
}

/// <summary>How the emulated driver behaves.</summary>
public sealed record EmulatedDriverOptions
{
    /// <summary>The device.</summary>
    public EmulatedGpuOptions Gpu { get; init; } = new();

    /// <summary>How kernels run and what is checked.</summary>
    public LaunchOptions Launch { get; init; } = new();

    /// <summary>What it gives as its CUDA version, 1000·major + 10·minor.</summary>
    public int DriverVersion { get; init; } = 12_040;

    /// <summary>When it tells what a kernel did wrong.</summary>
    public ErrorTime Errors { get; init; }

    /// <summary>Called after every launch, replayed ones included.</summary>
    public Action<PtxKernel, LaunchResult>? Launched { get; init; }
}

/// <summary>
/// A CUDA driver whose one device is the PTX emulator: the same calls, the same kernels, and a fault wherever a kernel breaks a rule.
/// </summary>
/// <remarks>
/// Kernels run at once and in order. A fault becomes the result that a GPU's driver gives for it and stays, as on a GPU, where the process
/// must be started again; what only the emulator
/// finds becomes <see cref="CudaResult.LaunchFailed"/>. <see cref="Detail"/> says which kernel, line, thread and address.
/// The rules of CUDA that a device can break are kept as strictly as the manual may be read: a call needs a current context of its thread,
/// and while a stream is captured what is not safe then spoils the capture
/// (cuThreadExchangeStreamCaptureMode).
/// </remarks>
internal sealed unsafe class EmulatedDriver : ICudaDriver
{
    private const nint OnlyContext = 1;
    private static readonly ConcurrentDictionary<string, PtxModule> Parsed = new(StringComparer.Ordinal);

    private readonly EmulatedDriverOptions _options;
    private readonly LaunchOptions _programmaticLaunch;
    private readonly EmulatedGpu _gpu;
    private readonly Dictionary<nint, object> _handles = [];
    private readonly HashSet<nint> _pinned = [];
    private readonly ThreadLocal<nint> _current = new();
    private List<RecordedLaunch>? _capture;
    private bool _captureSpoiled;
    private int _retained;
    private nint _nextHandle = 16;
    private CudaResult _fault;
    private string _faultText = "";
    private bool _faultWasTold;

    /// <summary>Makes a device.</summary>
    public EmulatedDriver(EmulatedDriverOptions? options = null)
    {
        _options = options ?? new EmulatedDriverOptions();
        _programmaticLaunch = _options.Launch with { Programmatic = true };
        _gpu = new EmulatedGpu(_options.Gpu);
    }

    /// <inheritdoc/>
    public string Library => "PTX emulator";

    /// <inheritdoc/>
    public string Detail { get; private set; } = "";

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
        _retained++;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult PrimaryCtxRelease(int device)
    {
        if (_retained == 0)
            return CudaResult.InvalidContext;
        _retained--;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult CtxSetCurrent(nint context)
    {
        if (context is not (0 or OnlyContext))
            return CudaResult.InvalidContext;
        _current.Value = context;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemGetInfo(out long free, out long total)
    {
        (free, total) = (_gpu.FreeBytes, _options.Gpu.MemoryBytes);
        return Call();
    }

    /// <inheritdoc/>
    public CudaResult ModuleLoadData(ReadOnlySpan<byte> ptx, string name, out nint module, out CompilerReport report)
    {
        module = 0;
        report = new CompilerReport("", 0);
        CudaResult result = Unsafe();
        if (result != CudaResult.Success)
            return result;
        long began = Stopwatch.GetTimestamp();
        try
        {
            string text = Encoding.UTF8.GetString(ptx.TrimEnd((byte)0));
            module = Add(Parsed.GetOrAdd(text, t => PtxModule.Parse(t, name)));
            report = new CompilerReport("", (float)Stopwatch.GetElapsedTime(began).TotalMilliseconds);
            return CudaResult.Success;
        }
        catch (PtxSyntaxException e)
        {
            report = new CompilerReport(e.Message, 0);
            return CudaResult.InvalidPtx;
        }
    }

    /// <inheritdoc/>
    public CudaResult ModuleUnload(nint module) => Remove<PtxModule>(module);

    /// <inheritdoc/>
    public CudaResult ModuleGetFunction(nint module, string name, out nint function)
    {
        function = 0;
        if (Call() is var result and not CudaResult.Success)
            return result;
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
        value = 0;
        if (Call() is var result and not CudaResult.Success)
            return result;
        if (!Get(function, out PtxKernel? kernel))
            return CudaResult.InvalidHandle;
        // Registers are the assembler's, of which there is none here.
        value = attribute switch
        {
            FunctionProperty.MaxThreadsPerBlock => kernel.MaxThreads is Dim3 most ? (int)most.Count : _options.Gpu.MaxThreadsPerBlock,
            FunctionProperty.SharedBytes => kernel.StaticSharedBytes,
            FunctionProperty.LocalBytes => kernel.LocalBytes,
            FunctionProperty.PtxVersion => Number(kernel.Module.Version.Replace(".", "", StringComparison.Ordinal)),
            FunctionProperty.BinaryVersion => _options.Gpu.ComputeCapability,
            _ => 0,
        };
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    /// <remarks>By threads alone: registers are the assembler's.</remarks>
    public CudaResult OccupancyMaxActiveBlocks(nint function, int blockSize, out int blocks)
    {
        const int ThreadsOfMultiprocessor = 2048;
        blocks = blockSize > 0 ? ThreadsOfMultiprocessor / blockSize : 0;
        if (Call() is var result and not CudaResult.Success)
            return result;
        return Get<PtxKernel>(function, out _) ? CudaResult.Success : CudaResult.InvalidHandle;
    }

    /// <inheritdoc/>
    public CudaResult MemAlloc(long bytes, string name, out ulong address)
    {
        address = 0;
        if (Unsafe() is var result and not CudaResult.Success)
            return result;
        if (bytes <= 0)
            return CudaResult.InvalidValue;
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
        pointer = 0;
        if (Unsafe() is var result and not CudaResult.Success)
            return result;
        pointer = (nint)NativeMemory.AlignedAlloc((nuint)bytes, 64);
        _pinned.Add(pointer);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemFreeHost(nint pointer)
    {
        if (Call() is var result and not CudaResult.Success)
            return result;
        if (!_pinned.Remove(pointer))
            return CudaResult.InvalidValue;
        NativeMemory.AlignedFree((void*)pointer);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemsetD8Async(ulong destination, byte value, long bytes, nint stream) =>
        Memory(() => _gpu.Fill(destination, value, bytes));

    /// <inheritdoc/>
    public CudaResult MemcpyHtoDAsync(ulong destination, nint source, long bytes, nint stream) =>
        Memory(() => _gpu.Write(destination, new ReadOnlySpan<byte>((void*)source, checked((int)bytes))));

    /// <inheritdoc/>
    public CudaResult MemcpyDtoHAsync(nint destination, ulong source, long bytes, nint stream) =>
        Memory(() => _gpu.Read(source, new Span<byte>((void*)destination, checked((int)bytes))));

    /// <inheritdoc/>
    public CudaResult MemcpyDtoDAsync(ulong destination, ulong source, long bytes, nint stream) =>
        Memory(() => _gpu.Copy(destination, source, bytes));

    /// <inheritdoc/>
    public CudaResult StreamCreate(out nint stream)
    {
        stream = 0;
        if (Call() is var result and not CudaResult.Success)
            return result;
        stream = Add(new object());
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult StreamDestroy(nint stream) => Remove<object>(stream);

    /// <inheritdoc/>
    public CudaResult StreamSynchronize(nint stream) => Unsafe();

    /// <inheritdoc/>
    public CudaResult StreamBeginCapture(nint stream)
    {
        if (Unsafe() is var result and not CudaResult.Success)
            return result;
        (_capture, _captureSpoiled) = ([], false);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult StreamEndCapture(nint stream, out nint graph)
    {
        graph = 0;
        if (Call() is var result and not CudaResult.Success)
            return result;
        if (_capture is null)
            return CudaResult.InvalidValue;
        List<RecordedLaunch> captured = _capture;
        _capture = null;
        if (_captureSpoiled)
            return CudaResult.StreamCaptureInvalidated;
        graph = Add(captured);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult GraphInstantiate(nint graph, out nint executable)
    {
        executable = 0;
        if (Call() is var result and not CudaResult.Success)
            return result;
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
        if (Call() is var called and not CudaResult.Success)
            return called;
        if (!Get(executable, out RecordedLaunch[]? launches))
            return CudaResult.InvalidHandle;
        foreach (RecordedLaunch launch in launches)
        {
            CudaResult result = Run(launch.Kernel, launch.Shape, launch.Parameters, launch.Programmatic);
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
        value = 0;
        if (Call() is var result and not CudaResult.Success)
            return result;
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
        return Told();
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
        return Told();
    }

    /// <inheritdoc/>
    public CudaResult EventSynchronize(nint value) => Unsafe();

    /// <inheritdoc/>
    public CudaResult LaunchKernel(nint function, LaunchShape shape, nint stream, ReadOnlySpan<byte> parameters,
        ReadOnlySpan<int> offsets) => Launch(function, shape, parameters, programmatic: false);

    /// <inheritdoc/>
    /// <remarks>CUDA 11.8 brought the call, and compute capability 9.0 the attribute.</remarks>
    public CudaResult LaunchKernelEx(nint function, LaunchShape shape, nint stream, ReadOnlySpan<byte> parameters,
        ReadOnlySpan<int> offsets) => _options.DriverVersion < 11_080 ? CudaResult.NotSupported
        : _options.Gpu.ComputeCapability < 90 ? CudaResult.InvalidValue : Launch(function, shape, parameters, programmatic: true);

    private CudaResult Launch(nint function, LaunchShape shape, ReadOnlySpan<byte> parameters, bool programmatic)
    {
        if (Call() is var result and not CudaResult.Success)
            return result;
        if (!Get(function, out PtxKernel? kernel))
            return CudaResult.InvalidHandle;
        if (_capture is null)
            return Run(kernel, shape, parameters, programmatic);
        if (_captureSpoiled)
            return CudaResult.StreamCaptureInvalidated;
        _capture.Add(new RecordedLaunch(kernel, shape, parameters.ToArray(), programmatic));
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (nint pointer in _pinned)
            NativeMemory.AlignedFree((void*)pointer);
        _pinned.Clear();
        _current.Dispose();
        _gpu.Dispose();
    }

    /// <summary>What a GPU's driver returns for a fault; what hardware does not notice is a failed launch here.</summary>
    internal static CudaResult ResultOf(FaultKind kind) => kind switch
    {
        FaultKind.OutOfBounds or FaultKind.UseAfterFree => CudaResult.IllegalAddress,
        FaultKind.Misaligned => CudaResult.MisalignedAddress,
        FaultKind.InstructionBudget => CudaResult.LaunchTimeout,
        _ => CudaResult.LaunchFailed,
    };

    private CudaResult Run(PtxKernel kernel, LaunchShape shape, ReadOnlySpan<byte> parameters, bool programmatic)
    {
        // Behind a fault nothing runs any more.
        if (_fault != CudaResult.Success)
            return _options.Errors == ErrorTime.Late && !_faultWasTold ? CudaResult.Success : Told();
        try
        {
            LaunchResult result = _gpu.Launch(kernel, new Dim3(shape.GridX, shape.GridY, shape.GridZ), new Dim3(shape.Block), 0,
                parameters, programmatic ? _programmaticLaunch : _options.Launch);
            _options.Launched?.Invoke(kernel, result);
            return CudaResult.Success;
        }
        catch (EmulatorFault fault) when (fault.Kind == FaultKind.LaunchContract)
        {
            // Refused at the launch, and nothing has run.
            Detail = fault.Message;
            return kernel.StaticSharedBytes > _options.Gpu.SharedBytesPerBlock ? CudaResult.LaunchOutOfResources : CudaResult.InvalidValue;
        }
        catch (EmulatorFault fault)
        {
            _faultText = fault.Message;
            _fault = ResultOf(fault.Kind);
            return _options.Errors == ErrorTime.Late ? CudaResult.Success : Told();
        }
    }

    /// <summary>
    /// What every call but those before a context is made of: a current context that lives, and no error that was told already.
    /// </summary>
    private CudaResult Call() =>
        _current.Value == 0 ? CudaResult.InvalidContext : _retained == 0 ? CudaResult.ContextIsDestroyed : _faultWasTold ? _fault
        : CudaResult.Success;

    /// <summary>A fault, which is told from here on.</summary>
    private CudaResult Told()
    {
        if (_fault == CudaResult.Success)
            return CudaResult.Success;
        (Detail, _faultWasTold) = (_faultText, true);
        return _fault;
    }

    /// <summary>A call that waits or takes memory: it tells faults, and is not allowed while a stream is captured.</summary>
    private CudaResult Unsafe()
    {
        if (Call() is var result and not CudaResult.Success)
            return result;
        if (_capture is null)
            return Told();
        _captureSpoiled = true;
        return CudaResult.StreamCaptureUnsupported;
    }

    private CudaResult Memory(Action action)
    {
        if (Unsafe() is var result and not CudaResult.Success)
            return result;
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

    private static int Number(string digits) => int.Parse(digits, NumberStyles.None, CultureInfo.InvariantCulture);

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

    private CudaResult Remove<T>(nint handle) => _handles.TryGetValue(handle, out object? value) && value is T && _handles.Remove(handle)
        ? CudaResult.Success : CudaResult.InvalidHandle;

    private sealed class Mark(bool timing)
    {
        public bool Timing { get; } = timing;

        /// <summary>When it was passed; 0: not yet.</summary>
        public long Timestamp { get; set; }
    }

    private sealed record RecordedLaunch(PtxKernel Kernel, LaunchShape Shape, byte[] Parameters, bool Programmatic);
}
