using System.Globalization;
using KernelScope.Cpu;
using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Devices;
using KernelScope.Emulated;

namespace KernelScope.Cli;

/// <summary>A device as it is found: whether it opens, and its memory at this moment.</summary>
/// <param name="Name">As on the command line.</param>
/// <param name="Detail">What it is.</param>
/// <param name="FreeBytes">Memory that can be had.</param>
/// <param name="TotalBytes">All of its memory.</param>
/// <param name="Problem">Why it cannot be used; null if it can.</param>
internal sealed record DeviceProbe(string Name, string Detail, long FreeBytes, long TotalBytes, string? Problem)
{
    /// <summary>Stands for all of them where there is none.</summary>
    private const string NoCuda = "cuda";

    /// <summary>Whether the memory is a CUDA device's: its own, and planned with work space.</summary>
    public bool IsCuda => Name.StartsWith("cuda", StringComparison.Ordinal) || Name == EmulatedDevices.Name;

    /// <summary>
    /// What models run on: the cpu, every CUDA device or the reason why there is none, and what was asked for beside these.
    /// </summary>
    /// <param name="asked">The device's name on the command line.</param>
    public static IReadOnlyList<DeviceProbe> All(string asked)
    {
        List<DeviceProbe> found = [Cpu(), .. Cuda()];
        if (asked == EmulatedDevices.Name)
            found.Add(Opened(EmulatedDevices.Name, "the CUDA device on an emulated GPU", () => EmulatedDevices.Open()));
        else if (CudaDevices.TryParse(asked, out int ordinal) && found.TrueForAll(d => d.Name != NameOf(ordinal) && d.Name != NoCuda))
            found.Add(Opened(NameOf(ordinal), "", () => CudaDevices.Open(asked)));
        return found;
    }

    /// <summary>Whether it is one that <paramref name="asked"/> may mean; auto takes the cpu.</summary>
    public bool Answers(string asked) => asked switch
    {
        "auto" or "reference" => Name == "cpu",
        _ => CudaDevices.TryParse(asked, out int ordinal) ? Name == NameOf(ordinal) || Name == NoCuda : Name == asked,
    };

    /// <summary>Holds needs against the free memory.</summary>
    /// <param name="needs">What needs how many bytes.</param>
    public DeviceFitRow Hold(ReadOnlySpan<(string What, long Bytes)> needs)
    {
        List<NeedItemRow> items = [];
        if (IsCuda)
        {
            items.AddRange(MemoryPlan.Create(null, needs).Items.Select(i => new NeedItemRow(i.What, i.Bytes)));
        }
        else
        {
            foreach ((string what, long bytes) in needs)
            {
                if (bytes > 0)
                    items.Add(new NeedItemRow(what, bytes));
            }
        }

        long needed = items.Sum(i => i.Bytes);
        string? error = Problem ?? (needed <= FreeBytes ? null : $"it needs {MemoryCheck.InMiB(needed)} MiB of memory, " +
            $"and {MemoryCheck.InMiB(FreeBytes)} MiB are available.");
        return new DeviceFitRow(Name, error is null, needed, FreeBytes, TotalBytes, items, error);
    }

    /// <summary>Which kernels multiply on the cpu.</summary>
    public static IReadOnlyList<ProductKernelRow> Kernels()
    {
        using var device = new CpuDevice(1, Precision.Fast);
        return [.. device.Kernels.Select(k => new ProductKernelRow(k.Stored, k.Exact, k.Fast))];
    }

    private static DeviceProbe Cpu()
    {
        using var device = new CpuDevice(1, Precision.Fast);
        return new DeviceProbe(
            "cpu",
            $"{device.InstructionSet}, {Environment.ProcessorCount} threads; precision fast by {device.FastProducts}",
            MemoryCheck.Available(),
            GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
            null);
    }

    private static IEnumerable<DeviceProbe> Cuda()
    {
        DriverDescription found = CudaDevices.Describe();
        return found.Devices.Count == 0
            ? [new DeviceProbe(NoCuda, "", 0, 0, found.Problem)]
            : found.Devices.Select((d, n) => Opened(NameOf(n), $"{d}, driver for CUDA {found.VersionText}",
            () => CudaDevices.Open(NameOf(n))));
    }

    private static DeviceProbe Opened(string name, string detail, Func<CudaDevice> open)
    {
        try
        {
            using CudaDevice device = open();
            (long free, long total) = device.MemoryInfo();
            return new DeviceProbe(name, $"{detail}, {MemoryCheck.InMiB(free)} MiB free", free, total, null);
        }
        catch (CudaException e)
        {
            return new DeviceProbe(name, detail, 0, 0, e.Message);
        }
    }

    private static string NameOf(int ordinal) => string.Create(CultureInfo.InvariantCulture, $"cuda:{ordinal}");
}
