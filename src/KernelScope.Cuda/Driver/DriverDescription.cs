using System.Globalization;

namespace KernelScope.Cuda.Driver;

/// <summary>A CUDA device, as its driver describes it.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record DeviceDescription
{
    internal DeviceDescription(string name, int computeCapability, long totalBytes, int multiprocessorCount)
    {
        Name = name;
        ComputeCapability = computeCapability;
        TotalBytes = totalBytes;
        MultiprocessorCount = multiprocessorCount;
    }

    /// <summary>Name of the product.</summary>
    public string Name { get; init; }

    /// <summary>10·major + minor.</summary>
    public int ComputeCapability { get; init; }

    /// <summary>Bytes of memory.</summary>
    public long TotalBytes { get; init; }

    /// <summary>Number of multiprocessors.</summary>
    public int MultiprocessorCount { get; init; }

    /// <summary>One line: <c>NVIDIA A100-SXM4-40GB, compute capability 8.0, 108 multiprocessors, 40,326 MiB</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"{Name}, compute capability {ComputeCapability / 10}.{ComputeCapability % 10}, {MultiprocessorCount} " +
        $"multiprocessors, {MemoryText.MiB(TotalBytes)}");
}

/// <summary>What a driver offers.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record DriverDescription
{
    internal DriverDescription(string library, int version, IReadOnlyList<DeviceDescription> devices, string problem)
    {
        Library = library;
        Version = version;
        Devices = devices;
        Problem = problem;
    }

    /// <summary>File name of the driver's library.</summary>
    public string Library { get; init; }

    /// <summary>The newest CUDA that it supports, 1000·major + 10·minor; 0 if that cannot be told.</summary>
    public int Version { get; init; }

    /// <summary>The devices, by number.</summary>
    public IReadOnlyList<DeviceDescription> Devices { get; init; }

    /// <summary>Why there are none; empty if there are some.</summary>
    public string Problem { get; init; }

    /// <summary><see cref="Version"/> as people write it: <c>12.4</c>.</summary>
    public string VersionText => string.Create(CultureInfo.InvariantCulture, $"{Version / 1000}.{Version % 1000 / 10}");

    /// <summary>Whether the driver works and there simply is not a device.</summary>
    public bool HasNoDevice { get; private init; }

    /// <summary>Asks a driver. It never throws: what goes wrong is the <see cref="Problem"/>.</summary>
    internal static DriverDescription Read(ICudaDriver driver)
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
            return new DriverDescription(driver.Library, version, devices, count > 0 ? ""
                : $"{driver.Library} is installed, but there is no CUDA device.")
            { HasNoDevice = count == 0 };
        }
        catch (CudaException e) when (e.Result == CudaResult.NoDevice)
        {
            return new DriverDescription(driver.Library, version, [], $"{driver.Library} is installed, but there is no CUDA device " +
                $"({CudaResults.Name(e.Result)}).")
            { HasNoDevice = true };
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
