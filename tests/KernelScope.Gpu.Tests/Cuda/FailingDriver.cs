using KernelScope.Cuda.Driver;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Another driver, some of whose calls give a result of the test's choice instead of being made.</summary>
internal sealed class FailingDriver(ICudaDriver inner) : ICudaDriver
{
    /// <summary>Asked before every call; what it gives is returned, null lets the call through.</summary>
    public Func<string, CudaResult?> Fail { get; set; } = _ => null;

    /// <summary>Calls made or refused, in order; null: they are not kept.</summary>
    public List<string>? Calls { get; init; } = [];

    public string Library => inner.Library;

    public string Detail => inner.Detail;

    public CudaResult Init() => Refused(nameof(Init)) ?? inner.Init();

    public CudaResult DriverGetVersion(out int version)
    {
        version = default;
        return Refused(nameof(DriverGetVersion)) ?? inner.DriverGetVersion(out version);
    }

    public CudaResult DeviceGetCount(out int count)
    {
        count = default;
        return Refused(nameof(DeviceGetCount)) ?? inner.DeviceGetCount(out count);
    }

    public CudaResult DeviceGet(int ordinal, out int device)
    {
        device = default;
        return Refused(nameof(DeviceGet)) ?? inner.DeviceGet(ordinal, out device);
    }

    public CudaResult DeviceGetName(int device, out string name)
    {
        name = "";
        return Refused(nameof(DeviceGetName)) ?? inner.DeviceGetName(device, out name);
    }

    public CudaResult DeviceGetAttribute(DeviceProperty attribute, int device, out int value)
    {
        value = default;
        return Refused(nameof(DeviceGetAttribute)) ?? inner.DeviceGetAttribute(attribute, device, out value);
    }

    public CudaResult DeviceTotalMem(int device, out long bytes)
    {
        bytes = default;
        return Refused(nameof(DeviceTotalMem)) ?? inner.DeviceTotalMem(device, out bytes);
    }

    public CudaResult PrimaryCtxRetain(int device, out nint context)
    {
        context = default;
        return Refused(nameof(PrimaryCtxRetain)) ?? inner.PrimaryCtxRetain(device, out context);
    }

    public CudaResult PrimaryCtxRelease(int device) => Refused(nameof(PrimaryCtxRelease)) ?? inner.PrimaryCtxRelease(device);

    public CudaResult CtxSetCurrent(nint context) => Refused(nameof(CtxSetCurrent)) ?? inner.CtxSetCurrent(context);

    public CudaResult MemGetInfo(out long free, out long total)
    {
        free = default;
        total = default;
        return Refused(nameof(MemGetInfo)) ?? inner.MemGetInfo(out free, out total);
    }

    public CudaResult ModuleLoadData(ReadOnlySpan<byte> ptx, string name, out nint module, out CompilerReport report)
    {
        module = default;
        report = new CompilerReport("", 0);
        return Refused(nameof(ModuleLoadData)) ?? inner.ModuleLoadData(ptx, name, out module, out report);
    }

    public CudaResult ModuleUnload(nint module) => Refused(nameof(ModuleUnload)) ?? inner.ModuleUnload(module);

    public CudaResult ModuleGetFunction(nint module, string name, out nint function)
    {
        function = default;
        return Refused(nameof(ModuleGetFunction)) ?? inner.ModuleGetFunction(module, name, out function);
    }

    public CudaResult FuncGetAttribute(FunctionProperty attribute, nint function, out int value)
    {
        value = default;
        return Refused(nameof(FuncGetAttribute)) ?? inner.FuncGetAttribute(attribute, function, out value);
    }

    public CudaResult OccupancyMaxActiveBlocks(nint function, int blockSize, out int blocks)
    {
        blocks = default;
        return Refused(nameof(OccupancyMaxActiveBlocks)) ?? inner.OccupancyMaxActiveBlocks(function, blockSize, out blocks);
    }

    public CudaResult MemAlloc(long bytes, string name, out ulong address)
    {
        address = default;
        return Refused(nameof(MemAlloc)) ?? inner.MemAlloc(bytes, name, out address);
    }

    public CudaResult MemFree(ulong address) => Refused(nameof(MemFree)) ?? inner.MemFree(address);

    public CudaResult MemHostAlloc(long bytes, out nint pointer)
    {
        pointer = default;
        return Refused(nameof(MemHostAlloc)) ?? inner.MemHostAlloc(bytes, out pointer);
    }

    public CudaResult MemFreeHost(nint pointer) => Refused(nameof(MemFreeHost)) ?? inner.MemFreeHost(pointer);

    public CudaResult MemsetD8Async(ulong destination, byte value, long bytes, nint stream) => Refused(nameof(MemsetD8Async))
        ?? inner.MemsetD8Async(destination, value, bytes, stream);

    public CudaResult MemcpyHtoDAsync(ulong destination, nint source, long bytes, nint stream) => Refused(nameof(MemcpyHtoDAsync))
        ?? inner.MemcpyHtoDAsync(destination, source, bytes, stream);

    public CudaResult MemcpyDtoHAsync(nint destination, ulong source, long bytes, nint stream) => Refused(nameof(MemcpyDtoHAsync))
        ?? inner.MemcpyDtoHAsync(destination, source, bytes, stream);

    public CudaResult MemcpyDtoDAsync(ulong destination, ulong source, long bytes, nint stream) => Refused(nameof(MemcpyDtoDAsync))
        ?? inner.MemcpyDtoDAsync(destination, source, bytes, stream);

    public CudaResult StreamCreate(out nint stream)
    {
        stream = default;
        return Refused(nameof(StreamCreate)) ?? inner.StreamCreate(out stream);
    }

    public CudaResult StreamDestroy(nint stream) => Refused(nameof(StreamDestroy)) ?? inner.StreamDestroy(stream);

    public CudaResult StreamSynchronize(nint stream) => Refused(nameof(StreamSynchronize)) ?? inner.StreamSynchronize(stream);

    public CudaResult StreamBeginCapture(nint stream) => Refused(nameof(StreamBeginCapture)) ?? inner.StreamBeginCapture(stream);

    public CudaResult StreamEndCapture(nint stream, out nint graph)
    {
        graph = default;
        return Refused(nameof(StreamEndCapture)) ?? inner.StreamEndCapture(stream, out graph);
    }

    public CudaResult GraphInstantiate(nint graph, out nint executable)
    {
        executable = default;
        return Refused(nameof(GraphInstantiate)) ?? inner.GraphInstantiate(graph, out executable);
    }

    public CudaResult GraphDestroy(nint graph) => Refused(nameof(GraphDestroy)) ?? inner.GraphDestroy(graph);

    public CudaResult GraphLaunch(nint executable, nint stream) => Refused(nameof(GraphLaunch)) ?? inner.GraphLaunch(executable, stream);

    public CudaResult GraphExecDestroy(nint executable) => Refused(nameof(GraphExecDestroy)) ?? inner.GraphExecDestroy(executable);

    public CudaResult EventCreate(bool timing, out nint value)
    {
        value = default;
        return Refused(nameof(EventCreate)) ?? inner.EventCreate(timing, out value);
    }

    public CudaResult EventDestroy(nint value) => Refused(nameof(EventDestroy)) ?? inner.EventDestroy(value);

    public CudaResult EventRecord(nint value, nint stream) => Refused(nameof(EventRecord)) ?? inner.EventRecord(value, stream);

    public CudaResult EventSynchronize(nint value) => Refused(nameof(EventSynchronize)) ?? inner.EventSynchronize(value);

    public CudaResult EventElapsedTime(nint start, nint end, out float milliseconds)
    {
        milliseconds = default;
        return Refused(nameof(EventElapsedTime)) ?? inner.EventElapsedTime(start, end, out milliseconds);
    }

    public CudaResult LaunchKernel(nint function, LaunchShape shape, nint stream, ReadOnlySpan<byte> parameters,
        ReadOnlySpan<int> offsets) => Refused(nameof(LaunchKernel)) ?? inner.LaunchKernel(function, shape, stream, parameters, offsets);

    public CudaResult LaunchKernelEx(nint function, LaunchShape shape, nint stream, ReadOnlySpan<byte> parameters,
        ReadOnlySpan<int> offsets) => Refused(nameof(LaunchKernelEx)) ?? inner.LaunchKernelEx(function, shape, stream, parameters, offsets);

    public void Dispose() => inner.Dispose();

    private CudaResult? Refused(string call)
    {
        Calls?.Add(call);
        return Fail(call);
    }
}
