using System.Globalization;
using KernelScope.Cuda.Driver;

namespace KernelScope.Cuda;

/// <summary>The CUDA devices of this machine.</summary>
public static class CudaDevices
{
    private const string Prefix = "cuda";

    /// <summary>Whether a device name is one of these: <c>cuda</c> or <c>cuda:1</c>.</summary>
    /// <param name="name">The name.</param>
    /// <param name="ordinal">The device's number; 0 where the name has none.</param>
    public static bool TryParse(string name, out int ordinal)
    {
        ArgumentNullException.ThrowIfNull(name);
        ordinal = 0;
        return name == Prefix ||
            (name.StartsWith(Prefix + ":", StringComparison.Ordinal) && int.TryParse(name.AsSpan(Prefix.Length + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ordinal));
    }

    /// <summary>Opens <c>cuda[:n]</c>.</summary>
    /// <exception cref="ArgumentException">The name is another.</exception>
    /// <exception cref="CudaException">There is no driver or no such device, or one of them is too old.</exception>
    public static CudaDevice Open(string name, CudaDeviceOptions? options = null)
    {
        if (!TryParse(name, out int ordinal))
            throw new ArgumentException($"'{name}' is no CUDA device: they are called cuda, or cuda:0, cuda:1 and so on.", nameof(name));
        return new CudaDevice(string.Create(CultureInfo.InvariantCulture, $"{Prefix}:{ordinal}"), CudaDriver.Load(), ordinal, options);
    }

    /// <summary>What this machine has: driver version and devices, or why there are none. It never throws.</summary>
    public static DriverDescription Describe()
    {
        try
        {
            using CudaDriver driver = CudaDriver.Load();
            return DriverDescription.Of(driver);
        }
        catch (CudaException e)
        {
            return new DriverDescription("", 0, [], e.Message);
        }
    }
}
