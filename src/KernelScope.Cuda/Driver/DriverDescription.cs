using System.Globalization;

namespace KernelScope.Cuda.Driver;

/// <summary>A CUDA device, as its driver describes it.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Name">Name of the product.</param>
/// <param name="ComputeCapability">10·major + minor.</param>
/// <param name="TotalBytes">Memory.</param>
/// <param name="MultiprocessorCount">Number of multiprocessors.</param>
public sealed record DeviceDescription(string Name, int ComputeCapability, long TotalBytes, int MultiprocessorCount)
{
    /// <summary>One line: <c>NVIDIA A100-SXM4-40GB, compute capability 8.0, 108 multiprocessors, 40,326 MiB</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"{Name}, compute capability {ComputeCapability / 10}.{ComputeCapability % 10}, {MultiprocessorCount} multiprocessors, {MemoryText.MiB(TotalBytes)}");
}

/// <summary>What a driver offers.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Library">The library.</param>
/// <param name="Version">The newest CUDA that it supports, 1000·major + 10·minor; 0 if that cannot be told.</param>
/// <param name="Devices">The devices, by number.</param>
/// <param name="Problem">Why there are none; empty if there are some.</param>
public sealed record DriverDescription(string Library, int Version, IReadOnlyList<DeviceDescription> Devices, string Problem)
{
    /// <summary><see cref="Version"/> as people write it: <c>12.4</c>.</summary>
    public string VersionText => string.Create(CultureInfo.InvariantCulture, $"{Version / 1000}.{Version % 1000 / 10}");

    /// <summary>Whether the driver works and there simply is no device.</summary>
    public bool HasNoDevice { get; private init; }

    /// <summary>Asks a driver. It never throws: what goes wrong is the <see cref="Problem"/>.</summary>
    public static DriverDescription Of(ICudaDriver driver)
    {
        ArgumentNullException.ThrowIfNull(driver);
        int version = 0;
        var devices = new List<DeviceDescription>();
        try
        {
            CudaContext.Check(driver, driver.DriverGetVersion(out version), nameof(ICudaDriver.DriverGetVersion));
            CudaContext.Check(driver, driver.Init(), nameof(ICudaDriver.Init));
            CudaContext.Check(driver, driver.DeviceGetCount(out int count), nameof(ICudaDriver.DeviceGetCount));
            for (int ordinal = 0; ordinal < count; ordinal++)
                devices.Add(Describe(driver, ordinal));
            return new DriverDescription(driver.Library, version, devices, count > 0 ? "" : $"{driver.Library} is installed, but there is no CUDA device.") { HasNoDevice = count == 0 };
        }
        catch (CudaException e) when (e.Result == CudaResult.NoDevice)
        {
            return new DriverDescription(driver.Library, version, [], $"{driver.Library} is installed, but there is no CUDA device ({CudaResults.Name(e.Result)}).") { HasNoDevice = true };
        }
        catch (CudaException e)
        {
            return new DriverDescription(driver.Library, version, [], $"{driver.Library} is installed, but does not work: {e.Message}");
        }
    }

    private static DeviceDescription Describe(ICudaDriver driver, int ordinal)
    {
        CudaContext.Check(driver, driver.DeviceGet(ordinal, out int device), nameof(ICudaDriver.DeviceGet));
        CudaContext.Check(driver, driver.DeviceGetName(device, out string name), nameof(ICudaDriver.DeviceGetName));
        CudaContext.Check(driver, driver.DeviceTotalMem(device, out long bytes), nameof(ICudaDriver.DeviceTotalMem));
        int capability = (10 * Attribute(DeviceProperty.ComputeCapabilityMajor)) + Attribute(DeviceProperty.ComputeCapabilityMinor);
        return new DeviceDescription(name, capability, bytes, Attribute(DeviceProperty.MultiprocessorCount));

        int Attribute(DeviceProperty attribute)
        {
            CudaContext.Check(driver, driver.DeviceGetAttribute(attribute, device, out int value), nameof(ICudaDriver.DeviceGetAttribute));
            return value;
        }
    }
}
