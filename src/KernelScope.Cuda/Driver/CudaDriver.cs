using System.Text;
using static KernelScope.Cuda.Driver.NativeMethods;

namespace KernelScope.Cuda.Driver;

/// <summary>The driver of this machine: <c>libcuda.so.1</c> or <c>nvcuda.dll</c>, as the NVIDIA driver installs it.</summary>
/// <remarks>Any number of threads may call it.</remarks>
internal sealed unsafe class CudaDriver : ICudaDriver
{
    private const uint NonBlockingStream = 1;
    private const uint EventWithoutTiming = 2;
    private const int CaptureThisThread = 1;
    private const int LogBytes = 16 * 1024;

    // CUjit_option of cuda.h.
    private const int WallTime = 2, InfoLogBuffer = 3, InfoLogBufferSize = 4, ErrorLogBuffer = 5, ErrorLogBufferSize = 6, LogVerbose = 12;

    private CudaDriver()
    {
    }

    /// <summary>Whether the driver library is installed.</summary>
    public static bool IsInstalled => NativeMethods.IsInstalled;

    /// <inheritdoc/>
    public string Library => FileName;

    /// <inheritdoc/>
    public string Detail => "";

    /// <summary>Finds the library.</summary>
    /// <exception cref="CudaException">It is not installed.</exception>
    public static CudaDriver Load()
    {
        if (!IsInstalled)
            throw new CudaException(CudaResult.NoDevice, DriverLibrary.Missing(OperatingSystem.IsWindows()));
        return new CudaDriver();
    }

    /// <inheritdoc/>
    public CudaResult Init() => cuInit(0);

    /// <inheritdoc/>
    public CudaResult DriverGetVersion(out int version) => cuDriverGetVersion(out version);

    /// <inheritdoc/>
    public CudaResult DeviceGetCount(out int count) => cuDeviceGetCount(out count);

    /// <inheritdoc/>
    public CudaResult DeviceGet(int ordinal, out int device) => cuDeviceGet(out device, ordinal);

    /// <inheritdoc/>
    public CudaResult DeviceGetName(int device, out string name)
    {
        Span<byte> text = stackalloc byte[256];
        text.Clear();
        CudaResult result;
        fixed (byte* first = text)
            result = cuDeviceGetName(first, text.Length - 1, device);
        name = ZeroTerminated(text);
        return result;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetAttribute(DeviceProperty attribute, int device, out int value) =>
        cuDeviceGetAttribute(out value, attribute, device);

    /// <inheritdoc/>
    public CudaResult DeviceTotalMem(int device, out long bytes)
    {
        CudaResult result = cuDeviceTotalMem(out nuint total, device);
        bytes = (long)total;
        return result;
    }

    /// <inheritdoc/>
    public CudaResult PrimaryCtxRetain(int device, out nint context) => cuDevicePrimaryCtxRetain(out context, device);

    /// <inheritdoc/>
    public CudaResult PrimaryCtxRelease(int device) => cuDevicePrimaryCtxRelease(device);

    /// <inheritdoc/>
    public CudaResult CtxSetCurrent(nint context) => cuCtxSetCurrent(context);

    /// <inheritdoc/>
    public CudaResult MemGetInfo(out long free, out long total)
    {
        CudaResult result = cuMemGetInfo(out nuint freeBytes, out nuint totalBytes);
        (free, total) = ((long)freeBytes, (long)totalBytes);
        return result;
    }

    /// <inheritdoc/>
    public CudaResult ModuleLoadData(ReadOnlySpan<byte> ptx, string name, out nint module, out CompilerReport report)
    {
        byte[] info = new byte[LogBytes], errors = new byte[LogBytes];
        CudaResult result;
        fixed (byte* image = ptx, infoLog = info, errorLog = errors)
        {
            int* options = stackalloc int[] { InfoLogBuffer, InfoLogBufferSize, ErrorLogBuffer, ErrorLogBufferSize, LogVerbose, WallTime };
            // Numbers are passed in the pointers themselves, and the time comes back in its own, as a float.
            void** values = stackalloc void*[] { infoLog, (void*)(nint)LogBytes, errorLog, (void*)(nint)LogBytes, (void*)1, null };
            result = cuModuleLoadDataEx(out module, image, 6, options, values);
            report = new CompilerReport($"{ZeroTerminated(errors)}\n{ZeroTerminated(info)}".Trim(),
                BitConverter.Int32BitsToSingle((int)(nint)values[5]));
        }

        return result;
    }

    /// <inheritdoc/>
    public CudaResult ModuleUnload(nint module) => cuModuleUnload(module);

    /// <inheritdoc/>
    public CudaResult ModuleGetFunction(nint module, string name, out nint function) => cuModuleGetFunction(out function, module, name);

    /// <inheritdoc/>
    public CudaResult FuncGetAttribute(FunctionProperty attribute, nint function, out int value) =>
        cuFuncGetAttribute(out value, attribute, function);

    /// <inheritdoc/>
    public CudaResult OccupancyMaxActiveBlocks(nint function, int blockSize, out int blocks) =>
        cuOccupancyMaxActiveBlocksPerMultiprocessor(out blocks, function, blockSize, 0);

    /// <inheritdoc/>
    public CudaResult MemAlloc(long bytes, string name, out ulong address) => cuMemAlloc(out address, (nuint)bytes);

    /// <inheritdoc/>
    public CudaResult MemFree(ulong address) => cuMemFree(address);

    /// <inheritdoc/>
    public CudaResult MemHostAlloc(long bytes, out nint pointer) => cuMemHostAlloc(out pointer, (nuint)bytes, 0);

    /// <inheritdoc/>
    public CudaResult MemFreeHost(nint pointer) => cuMemFreeHost(pointer);

    /// <inheritdoc/>
    public CudaResult MemsetD8Async(ulong destination, byte value, long bytes, nint stream) =>
        cuMemsetD8Async(destination, value, (nuint)bytes, stream);

    /// <inheritdoc/>
    public CudaResult MemcpyHtoDAsync(ulong destination, nint source, long bytes, nint stream) =>
        cuMemcpyHtoDAsync(destination, source, (nuint)bytes, stream);

    /// <inheritdoc/>
    public CudaResult MemcpyDtoHAsync(nint destination, ulong source, long bytes, nint stream) =>
        cuMemcpyDtoHAsync(destination, source, (nuint)bytes, stream);

    /// <inheritdoc/>
    public CudaResult MemcpyDtoDAsync(ulong destination, ulong source, long bytes, nint stream) =>
        cuMemcpyDtoDAsync(destination, source, (nuint)bytes, stream);

    /// <inheritdoc/>
    public CudaResult StreamCreate(out nint stream) => cuStreamCreate(out stream, NonBlockingStream);

    /// <inheritdoc/>
    public CudaResult StreamDestroy(nint stream) => cuStreamDestroy(stream);

    /// <inheritdoc/>
    public CudaResult StreamSynchronize(nint stream) => cuStreamSynchronize(stream);

    /// <inheritdoc/>
    public CudaResult StreamBeginCapture(nint stream) => cuStreamBeginCapture(stream, CaptureThisThread);

    /// <inheritdoc/>
    public CudaResult StreamEndCapture(nint stream, out nint graph) => cuStreamEndCapture(stream, out graph);

    /// <inheritdoc/>
    public CudaResult GraphInstantiate(nint graph, out nint executable) => cuGraphInstantiateWithFlags(out executable, graph, 0);

    /// <inheritdoc/>
    public CudaResult GraphDestroy(nint graph) => cuGraphDestroy(graph);

    /// <inheritdoc/>
    public CudaResult GraphLaunch(nint executable, nint stream) => cuGraphLaunch(executable, stream);

    /// <inheritdoc/>
    public CudaResult GraphExecDestroy(nint executable) => cuGraphExecDestroy(executable);

    /// <inheritdoc/>
    public CudaResult EventCreate(bool timing, out nint value) => cuEventCreate(out value, timing ? 0 : EventWithoutTiming);

    /// <inheritdoc/>
    public CudaResult EventDestroy(nint value) => cuEventDestroy(value);

    /// <inheritdoc/>
    public CudaResult EventRecord(nint value, nint stream) => cuEventRecord(value, stream);

    /// <inheritdoc/>
    public CudaResult EventSynchronize(nint value) => cuEventSynchronize(value);

    /// <inheritdoc/>
    public CudaResult EventElapsedTime(nint start, nint end, out float milliseconds) => cuEventElapsedTime(out milliseconds, start, end);

    /// <inheritdoc/>
    public CudaResult LaunchKernel(nint function, LaunchShape shape, nint stream, ReadOnlySpan<byte> parameters, ReadOnlySpan<int> offsets)
    {
        void** pointers = stackalloc void*[offsets.Length];
        fixed (byte* block = parameters)
        {
            for (int i = 0; i < offsets.Length; i++)
                pointers[i] = block + offsets[i];
            return cuLaunchKernel(function, (uint)shape.GridX, (uint)shape.GridY, (uint)shape.GridZ, (uint)shape.Block, 1, 1, 0, stream,
                pointers, null);
        }
    }

    /// <inheritdoc/>
    public CudaResult LaunchKernelEx(nint function, LaunchShape shape, nint stream, ReadOnlySpan<byte> parameters,
        ReadOnlySpan<int> offsets)
    {
        if (!HasLaunchKernelEx)
            return CudaResult.NotSupported;
        void** pointers = stackalloc void*[offsets.Length];
        var attribute = new LaunchAttribute { Id = LaunchAttribute.ProgrammaticStreamSerialization, Value = 1 };
        var config = new LaunchConfig
        {
            GridX = (uint)shape.GridX,
            GridY = (uint)shape.GridY,
            GridZ = (uint)shape.GridZ,
            BlockX = (uint)shape.Block,
            BlockY = 1,
            BlockZ = 1,
            Stream = stream,
            Attributes = &attribute,
            AttributeCount = 1,
        };
        fixed (byte* block = parameters)
        {
            for (int i = 0; i < offsets.Length; i++)
                pointers[i] = block + offsets[i];
            return cuLaunchKernelEx(&config, function, pointers, null);
        }
    }

    /// <summary>Nothing: the library stays loaded.</summary>
    public void Dispose()
    {
    }

    private static string ZeroTerminated(ReadOnlySpan<byte> text)
    {
        int end = text.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? text : text[..end]);
    }
}
