namespace KernelScope.Cuda.Driver;

/// <summary>Properties that <see cref="ICudaDriver.DeviceGetAttribute"/> gives (CUdevice_attribute of cuda.h).</summary>
internal enum DeviceProperty
{
    /// <summary>Number of multiprocessors.</summary>
    MultiprocessorCount = 16,

    /// <summary>Compute capability, the number before the point.</summary>
    ComputeCapabilityMajor = 75,

    /// <summary>Compute capability, the number behind the point.</summary>
    ComputeCapabilityMinor = 76,
}

/// <summary>Properties of a loaded kernel (CUfunction_attribute of cuda.h).</summary>
internal enum FunctionProperty
{
    /// <summary>Threads of a block at most, given the registers that the kernel came to need.</summary>
    MaxThreadsPerBlock = 0,

    /// <summary>Bytes of static shared memory.</summary>
    SharedBytes = 1,

    /// <summary>Bytes of local memory of a thread: spilled registers, and arrays indexed at run time.</summary>
    LocalBytes = 3,

    /// <summary>Registers of a thread.</summary>
    Registers = 4,

    /// <summary>Version of the PTX that it was compiled from, 10·major + minor.</summary>
    PtxVersion = 5,

    /// <summary>Architecture that it was compiled for, 10·major + minor.</summary>
    BinaryVersion = 6,
}

/// <summary>What the driver's compiler says of a module.</summary>
/// <param name="Log">Errors and remarks; empty if none.</param>
/// <param name="Milliseconds">What compiling took; 0 where the driver had it in its cache.</param>
internal readonly record struct CompilerReport(string Log, float Milliseconds);

/// <summary>Extent of a launch.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="GridX">Blocks along x.</param>
/// <param name="GridY">Blocks along y.</param>
/// <param name="GridZ">Blocks along z.</param>
/// <param name="Block">Threads of a block, along x.</param>
internal readonly record struct LaunchShape(int GridX, int GridY, int GridZ, int Block);

/// <summary>
/// Everything that <see cref="CudaDevice"/> asks of a driver: the calls of the CUDA driver API of the same names, with the same meaning and
/// results.
/// One implementation calls the driver, another executes PTX in the emulator, tests make a third that fails on demand.
/// </summary>
/// <remarks>
/// Not for several threads at once, except where CUDA allows it; the current context is per thread. Handles are opaque numbers. Every
/// method is one call
/// (or the few that CUDA needs for it) and returns its result; nothing here throws. Lengths are in bytes.
/// Its device calls it for one op at a time, from any number of threads, and never from finalizers.
/// </remarks>
internal interface ICudaDriver : IDisposable
{
    /// <summary>What it is, for messages: <c>libcuda.so.1</c>.</summary>
    string Library { get; }

    /// <summary>What there is to say about the last call that failed, beyond its result; empty if nothing.</summary>
    string Detail { get; }

    /// <summary>cuInit.</summary>
    CudaResult Init();

    /// <summary>cuDriverGetVersion: the newest CUDA that the driver supports, 1000·major + 10·minor.</summary>
    CudaResult DriverGetVersion(out int version);

    /// <summary>cuDeviceGetCount.</summary>
    CudaResult DeviceGetCount(out int count);

    /// <summary>cuDeviceGet.</summary>
    CudaResult DeviceGet(int ordinal, out int device);

    /// <summary>cuDeviceGetName.</summary>
    CudaResult DeviceGetName(int device, out string name);

    /// <summary>cuDeviceGetAttribute.</summary>
    CudaResult DeviceGetAttribute(DeviceProperty attribute, int device, out int value);

    /// <summary>cuDeviceTotalMem.</summary>
    CudaResult DeviceTotalMem(int device, out long bytes);

    /// <summary>cuDevicePrimaryCtxRetain.</summary>
    CudaResult PrimaryCtxRetain(int device, out nint context);

    /// <summary>cuDevicePrimaryCtxRelease.</summary>
    CudaResult PrimaryCtxRelease(int device);

    /// <summary>cuCtxSetCurrent.</summary>
    CudaResult CtxSetCurrent(nint context);

    /// <summary>cuMemGetInfo: of the current context's device.</summary>
    CudaResult MemGetInfo(out long free, out long total);

    /// <summary>cuModuleLoadDataEx with the compiler's log.</summary>
    /// <param name="ptx">PTX text, UTF-8, with a zero byte at its end.</param>
    /// <param name="name">Name of the text, for messages.</param>
    /// <param name="module">The module.</param>
    /// <param name="report">What the compiler said.</param>
    CudaResult ModuleLoadData(ReadOnlySpan<byte> ptx, string name, out nint module, out CompilerReport report);

    /// <summary>cuModuleUnload.</summary>
    CudaResult ModuleUnload(nint module);

    /// <summary>cuModuleGetFunction.</summary>
    CudaResult ModuleGetFunction(nint module, string name, out nint function);

    /// <summary>cuFuncGetAttribute.</summary>
    CudaResult FuncGetAttribute(FunctionProperty attribute, nint function, out int value);

    /// <summary>cuOccupancyMaxActiveBlocksPerMultiprocessor: how many blocks of a size a multiprocessor holds at once.</summary>
    CudaResult OccupancyMaxActiveBlocks(nint function, int blockSize, out int blocks);

    /// <summary>cuMemAlloc; <paramref name="name"/> is for messages of those who can use it.</summary>
    CudaResult MemAlloc(long bytes, string name, out ulong address);

    /// <summary>cuMemFree.</summary>
    CudaResult MemFree(ulong address);

    /// <summary>cuMemHostAlloc: pinned memory of the host.</summary>
    CudaResult MemHostAlloc(long bytes, out nint pointer);

    /// <summary>cuMemFreeHost.</summary>
    CudaResult MemFreeHost(nint pointer);

    /// <summary>cuMemsetD8Async.</summary>
    CudaResult MemsetD8Async(ulong destination, byte value, long bytes, nint stream);

    /// <summary>cuMemcpyHtoDAsync.</summary>
    CudaResult MemcpyHtoDAsync(ulong destination, nint source, long bytes, nint stream);

    /// <summary>cuMemcpyDtoHAsync.</summary>
    CudaResult MemcpyDtoHAsync(nint destination, ulong source, long bytes, nint stream);

    /// <summary>cuMemcpyDtoDAsync.</summary>
    CudaResult MemcpyDtoDAsync(ulong destination, ulong source, long bytes, nint stream);

    /// <summary>cuStreamCreate, not synchronised with the default stream.</summary>
    CudaResult StreamCreate(out nint stream);

    /// <summary>cuStreamDestroy.</summary>
    CudaResult StreamDestroy(nint stream);

    /// <summary>cuStreamSynchronize.</summary>
    CudaResult StreamSynchronize(nint stream);

    /// <summary>cuStreamBeginCapture, of this thread's calls.</summary>
    CudaResult StreamBeginCapture(nint stream);

    /// <summary>cuStreamEndCapture.</summary>
    CudaResult StreamEndCapture(nint stream, out nint graph);

    /// <summary>cuGraphInstantiateWithFlags.</summary>
    CudaResult GraphInstantiate(nint graph, out nint executable);

    /// <summary>cuGraphDestroy.</summary>
    CudaResult GraphDestroy(nint graph);

    /// <summary>cuGraphLaunch.</summary>
    CudaResult GraphLaunch(nint executable, nint stream);

    /// <summary>cuGraphExecDestroy.</summary>
    CudaResult GraphExecDestroy(nint executable);

    /// <summary>cuEventCreate; without timing, which costs, unless it is asked for.</summary>
    CudaResult EventCreate(bool timing, out nint value);

    /// <summary>cuEventDestroy.</summary>
    CudaResult EventDestroy(nint value);

    /// <summary>cuEventRecord.</summary>
    CudaResult EventRecord(nint value, nint stream);

    /// <summary>cuEventSynchronize.</summary>
    CudaResult EventSynchronize(nint value);

    /// <summary>cuEventElapsedTime: between two events with timing that are both past.</summary>
    CudaResult EventElapsedTime(nint start, nint end, out float milliseconds);

    /// <summary>cuLaunchKernel.</summary>
    /// <param name="function">The kernel.</param>
    /// <param name="shape">Grid and block.</param>
    /// <param name="stream">The stream.</param>
    /// <param name="parameters">The parameter block.</param>
    /// <param name="offsets">Where each parameter begins in it.</param>
    CudaResult LaunchKernel(nint function, LaunchShape shape, nint stream, ReadOnlySpan<byte> parameters, ReadOnlySpan<int> offsets);

    /// <summary>
    /// cuLaunchKernelEx with programmatic stream serialization: the kernel may start before the one before it in the stream has ended, and waits for it itself. The rest as <see cref="LaunchKernel"/>.
    /// </summary>
    CudaResult LaunchKernelEx(nint function, LaunchShape shape, nint stream, ReadOnlySpan<byte> parameters, ReadOnlySpan<int> offsets);
}
