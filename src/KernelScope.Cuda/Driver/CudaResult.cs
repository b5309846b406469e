namespace KernelScope.Cuda.Driver;

/// <summary>What a call of the CUDA driver returns (CUresult of cuda.h). Values that are not listed are printed as numbers.</summary>
/// <remarks>Numbers and meanings: NVIDIA, CUDA Driver API, "Data types used by CUDA driver", enum CUresult.</remarks>
internal enum CudaResult
{
    /// <summary>Done.</summary>
    Success = 0,

    /// <summary>An argument is outside its range.</summary>
    InvalidValue = 1,

    /// <summary>No memory is left.</summary>
    OutOfMemory = 2,

    /// <summary>The driver was not initialised, or that failed.</summary>
    NotInitialized = 3,

    /// <summary>The driver is shutting down.</summary>
    Deinitialized = 4,

    /// <summary>A stub of the driver library is installed in place of the library.</summary>
    StubLibrary = 34,

    /// <summary>The device cannot be used now.</summary>
    DeviceUnavailable = 46,

    /// <summary>There is no CUDA device.</summary>
    NoDevice = 100,

    /// <summary>There is no device of that number.</summary>
    InvalidDevice = 101,

    /// <summary>The module's code is malformed.</summary>
    InvalidImage = 200,

    /// <summary>No context is current, or it is not valid.</summary>
    InvalidContext = 201,

    /// <summary>Memory could not be mapped.</summary>
    MapFailed = 205,

    /// <summary>The module has no code for this device.</summary>
    NoBinaryForGpu = 209,

    /// <summary>A memory error that could not be corrected.</summary>
    EccUncorrectable = 214,

    /// <summary>The PTX did not compile.</summary>
    InvalidPtx = 218,

    /// <summary>An NVLink error that could not be corrected. Sticky.</summary>
    NvlinkUncorrectable = 220,

    /// <summary>The driver has no PTX compiler.</summary>
    JitCompilerNotFound = 221,

    /// <summary>The PTX is of a newer version than the driver knows.</summary>
    UnsupportedPtxVersion = 222,

    /// <summary>Compiling PTX is turned off.</summary>
    JitCompilationDisabled = 223,

    /// <summary>A memory error that was contained to this process. Sticky.</summary>
    Contained = 226,

    /// <summary>A shared library that the driver needs could not be initialised.</summary>
    SharedObjectInitFailed = 303,

    /// <summary>The system call failed.</summary>
    OperatingSystem = 304,

    /// <summary>A handle is not valid.</summary>
    InvalidHandle = 400,

    /// <summary>Nothing of that name.</summary>
    NotFound = 500,

    /// <summary>Not finished yet.</summary>
    NotReady = 600,

    /// <summary>A kernel accessed an address that is not its own. Sticky.</summary>
    IllegalAddress = 700,

    /// <summary>A launch asks for more registers, threads or shared memory than there is.</summary>
    LaunchOutOfResources = 701,

    /// <summary>A kernel ran longer than the system allows. Sticky.</summary>
    LaunchTimeout = 702,

    /// <summary>The context was destroyed.</summary>
    ContextIsDestroyed = 709,

    /// <summary>A device-side assertion failed. Sticky.</summary>
    Assert = 710,

    /// <summary>A stack overflowed or was corrupted. Sticky.</summary>
    HardwareStackError = 714,

    /// <summary>A kernel executed an instruction that is none. Sticky.</summary>
    IllegalInstruction = 715,

    /// <summary>A kernel accessed an address that is not a multiple of the access's size. Sticky.</summary>
    MisalignedAddress = 716,

    /// <summary>A kernel used an address in the wrong address space. Sticky.</summary>
    InvalidAddressSpace = 717,

    /// <summary>A kernel jumped to an address that is not valid. Sticky.</summary>
    InvalidProgramCounter = 718,

    /// <summary>A kernel failed. Sticky.</summary>
    LaunchFailed = 719,

    /// <summary>A cooperative launch has more blocks than fit on the device at once.</summary>
    CooperativeLaunchTooLarge = 720,

    /// <summary>A kernel ended without giving tensor memory back. Sticky.</summary>
    TensorMemoryLeak = 721,

    /// <summary>Not allowed to this user.</summary>
    NotPermitted = 800,

    /// <summary>Not supported by this system.</summary>
    NotSupported = 801,

    /// <summary>The system is not ready for CUDA work: on NVSwitch machines the fabric manager does not run.</summary>
    SystemNotReady = 802,

    /// <summary>Driver and library do not fit together.</summary>
    SystemDriverMismatch = 803,

    /// <summary>The device does not support forward compatibility: this driver library is newer than the kernel's driver.</summary>
    CompatNotSupportedOnDevice = 804,

    /// <summary>The call is not allowed while a stream is captured.</summary>
    StreamCaptureUnsupported = 900,

    /// <summary>An earlier error spoiled the capture.</summary>
    StreamCaptureInvalidated = 901,

    /// <summary>Something else.</summary>
    Unknown = 999,
}

/// <summary>What results mean.</summary>
internal static class CudaResults
{
    /// <summary>The name in cuda.h, such as <c>CUDA_ERROR_OUT_OF_MEMORY</c>; the number of a result that is not listed.</summary>
    public static string Name(CudaResult result) => result switch
    {
        CudaResult.Success => "CUDA_SUCCESS",
        CudaResult.InvalidValue => "CUDA_ERROR_INVALID_VALUE",
        CudaResult.OutOfMemory => "CUDA_ERROR_OUT_OF_MEMORY",
        CudaResult.NotInitialized => "CUDA_ERROR_NOT_INITIALIZED",
        CudaResult.Deinitialized => "CUDA_ERROR_DEINITIALIZED",
        CudaResult.StubLibrary => "CUDA_ERROR_STUB_LIBRARY",
        CudaResult.DeviceUnavailable => "CUDA_ERROR_DEVICE_UNAVAILABLE",
        CudaResult.NoDevice => "CUDA_ERROR_NO_DEVICE",
        CudaResult.InvalidDevice => "CUDA_ERROR_INVALID_DEVICE",
        CudaResult.InvalidImage => "CUDA_ERROR_INVALID_IMAGE",
        CudaResult.InvalidContext => "CUDA_ERROR_INVALID_CONTEXT",
        CudaResult.MapFailed => "CUDA_ERROR_MAP_FAILED",
        CudaResult.NoBinaryForGpu => "CUDA_ERROR_NO_BINARY_FOR_GPU",
        CudaResult.EccUncorrectable => "CUDA_ERROR_ECC_UNCORRECTABLE",
        CudaResult.InvalidPtx => "CUDA_ERROR_INVALID_PTX",
        CudaResult.NvlinkUncorrectable => "CUDA_ERROR_NVLINK_UNCORRECTABLE",
        CudaResult.JitCompilerNotFound => "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
        CudaResult.UnsupportedPtxVersion => "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        CudaResult.JitCompilationDisabled => "CUDA_ERROR_JIT_COMPILATION_DISABLED",
        CudaResult.Contained => "CUDA_ERROR_CONTAINED",
        CudaResult.SharedObjectInitFailed => "CUDA_ERROR_SHARED_OBJECT_INIT_FAILED",
        CudaResult.OperatingSystem => "CUDA_ERROR_OPERATING_SYSTEM",
        CudaResult.InvalidHandle => "CUDA_ERROR_INVALID_HANDLE",
        CudaResult.NotFound => "CUDA_ERROR_NOT_FOUND",
        CudaResult.NotReady => "CUDA_ERROR_NOT_READY",
        CudaResult.IllegalAddress => "CUDA_ERROR_ILLEGAL_ADDRESS",
        CudaResult.LaunchOutOfResources => "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
        CudaResult.LaunchTimeout => "CUDA_ERROR_LAUNCH_TIMEOUT",
        CudaResult.ContextIsDestroyed => "CUDA_ERROR_CONTEXT_IS_DESTROYED",
        CudaResult.Assert => "CUDA_ERROR_ASSERT",
        CudaResult.HardwareStackError => "CUDA_ERROR_HARDWARE_STACK_ERROR",
        CudaResult.IllegalInstruction => "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        CudaResult.MisalignedAddress => "CUDA_ERROR_MISALIGNED_ADDRESS",
        CudaResult.InvalidAddressSpace => "CUDA_ERROR_INVALID_ADDRESS_SPACE",
        CudaResult.InvalidProgramCounter => "CUDA_ERROR_INVALID_PC",
        CudaResult.LaunchFailed => "CUDA_ERROR_LAUNCH_FAILED",
        CudaResult.CooperativeLaunchTooLarge => "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE",
        CudaResult.TensorMemoryLeak => "CUDA_ERROR_TENSOR_MEMORY_LEAK",
        CudaResult.NotPermitted => "CUDA_ERROR_NOT_PERMITTED",
        CudaResult.NotSupported => "CUDA_ERROR_NOT_SUPPORTED",
        CudaResult.SystemNotReady => "CUDA_ERROR_SYSTEM_NOT_READY",
        CudaResult.SystemDriverMismatch => "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        CudaResult.CompatNotSupportedOnDevice => "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        CudaResult.StreamCaptureUnsupported => "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        CudaResult.StreamCaptureInvalidated => "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        CudaResult.Unknown => "CUDA_ERROR_UNKNOWN",
        _ => FormattableString.Invariant($"CUDA error {(int)result}"),
    };

    /// <summary>
    /// Whether the process has lost the GPU: every later call gives an error again, in a new context too, until the process is started
    /// again.
    /// </summary>
    public static bool IsSticky(CudaResult result) => result is
        CudaResult.EccUncorrectable or CudaResult.NvlinkUncorrectable or CudaResult.Contained or CudaResult.TensorMemoryLeak
        or CudaResult.IllegalAddress or CudaResult.LaunchTimeout or CudaResult.ContextIsDestroyed
        or CudaResult.Assert or
        (>= CudaResult.HardwareStackError and <= CudaResult.LaunchFailed);
}
