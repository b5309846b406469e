using KernelScope.Cuda;

namespace KernelScope.Emulated;

/// <summary>The device <c>emulated</c>: <see cref="CudaDevice"/> on the PTX emulator. Slow, and it checks what a GPU does not tell.</summary>
public static class EmulatedDevices
{
    /// <summary>Its name on the command line.</summary>
    public const string Name = "emulated";

    /// <summary>Opens a new one, with memory of its own.</summary>
    public static CudaDevice Open(CudaDeviceOptions? options = null, EmulatedDriverOptions? driver = null) =>
        new(Name, new EmulatedDriver(driver), 0, options);
}
