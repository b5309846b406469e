using System.Globalization;
using KernelScope.Cuda.Driver;

namespace KernelScope.Cuda;

/// <summary>The CUDA devices of this machine.</summary>
/// <remarks>Any number of threads may call it.</remarks>
/// <example>
/// <code>
/// using CudaDevice device = CudaDevices.Open("cuda:0");
/// using var model = Gemma2Model.Open(device, "google/gemma-2-2b");
/// </code>
/// </example>
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
            (name.StartsWith(Prefix + ":", StringComparison.Ordinal)
            && int.TryParse(name.AsSpan(Prefix.Length + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ordinal));
    }

    /// <summary>Opens <c>cuda[:n]</c>.</summary>
    /// <exception cref="ArgumentException">The name is another.</exception>
    /// <exception cref="CudaException">There is no driver or no such device, or one of them is too old.</exception>
    public static CudaDevice Open(string name, CudaDeviceOptions? options = null)
    {
        if (!TryParse(name, out int ordinal))
            throw new ArgumentException($"'{name}' is not a CUDA device: they are called cuda, or cuda:0, cuda:1 and so on.", nameof(name));
        return new CudaDevice(string.Create(CultureInfo.InvariantCulture, $"{Prefix}:{ordinal}"), CudaDriver.Load(), ordinal, options);
    }

    /// <summary>Opens the first device of this machine on which a plan fits now.</summary>
    /// <param name="plan">What will be loaded and made.</param>
    /// <param name="options">The device's options.</param>
    /// <param name="why">Where there is none, why; empty where this machine has no driver or no device, so that there is nothing to
    /// explain.</param>
    /// <returns>The device; null if there is none.</returns>
    public static CudaDevice? OpenIfFits(MemoryPlan plan, CudaDeviceOptions? options, out string why) =>
        OpenIfFits(plan, options, CudaDriver.Load, out why);

    /// <summary>The same with a driver of the caller's choice, which is loaded anew for every device that is tried.</summary>
    internal static CudaDevice? OpenIfFits(MemoryPlan plan, CudaDeviceOptions? options, Func<ICudaDriver> load, out string why)
    {
        ArgumentNullException.ThrowIfNull(plan);
        why = "";
        int count = 1;
        for (int ordinal = 0; ordinal < count; ordinal++)
        {
            try
            {
                ICudaDriver driver = load();
                if (ordinal == 0)
                {
                    DriverDescription found = DriverDescription.Read(driver);
                    count = found.Devices.Count;
                    if (count == 0)
                    {
                        why = found.HasNoDevice ? "" : found.Problem;
                        driver.Dispose();
                        return null;
                    }
                }

                var device = new CudaDevice(string.Create(CultureInfo.InvariantCulture, $"{Prefix}:{ordinal}"), driver, ordinal, options);
                why = Refusal(device, plan);
                if (why.Length == 0)
                    return device;
                device.Dispose();
            }
            catch (CudaException e)
            {
                why = e.Result == CudaResult.NoDevice ? "" : e.Message;
            }
        }

        return null;
    }

    /// <summary>
    /// Why a device is not taken unasked; empty if it is. Nobody asked for this device by name, so it must show that it computes before it
    /// gets a model.
    /// </summary>
    private static string Refusal(CudaDevice device, MemoryPlan plan)
    {
        (long free, long total) = device.MemoryInfo();
        if (!plan.Fits(free))
            return plan.Describe(device.Name, free, total);
        try
        {
            string problem = SelfTest.Problem(device);
            return problem.Length == 0 ? "" : $"{device.Name} ({device.Description.Name}) does not compute as it should: {problem}; " +
                $"'kernelscope verify --device {device.Name}' shows more.";
        }
        catch (CudaException e)
        {
            return e.Message;
        }
    }

    /// <summary>What this machine has: driver version and devices, or why there are none. It never throws.</summary>
    public static DriverDescription Describe()
    {
        try
        {
            using CudaDriver driver = CudaDriver.Load();
            return DriverDescription.Read(driver);
        }
        catch (CudaException e)
        {
            return new DriverDescription("", 0, [], e.Message);
        }
    }
}
