using System.Collections.Concurrent;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The emulated device as tests use it.</summary>
internal static class TestGpu
{
    /// <summary>A device with the settings that users get.</summary>
    public static CudaDevice Open(int capability = 80, CudaDeviceOptions? options = null,
        Action<PtxKernel, LaunchResult>? launched = null) =>
        EmulatedDevices.Open(options, Driver(capability, launched));

    public static EmulatedDriverOptions Driver(int capability = 80, Action<PtxKernel, LaunchResult>? launched = null) =>
        new() { Gpu = new EmulatedGpuOptions { ComputeCapability = capability, MemoryBytes = 256 << 20 }, Launched = launched };

    /// <summary>Settings under which small shapes take every path: keys split, inputs shared, work in pieces, nothing of another op to be read by mistake.</summary>
    public static CudaDeviceOptions Strict(Precision precision = default) => new()
    {
        Precision = precision,
        SaePrecision = Precision.Exact,
        KeysPerSplit = 8,
        RingSplitColumns = 40,
        FreshScratch = true,
    };

    /// <summary>Notes which kernels ran, by target and name.</summary>
    public sealed class KernelLog
    {
        private readonly ConcurrentDictionary<(string Target, string Name), int> _counts = new();

        public void Note(PtxKernel kernel, LaunchResult result) =>
            _counts.AddOrUpdate((kernel.Module.Target, kernel.Name), 1, (_, n) => n + 1);

        public int Of(string target, string name) => _counts.GetValueOrDefault((target, name));

        public int OfAll(string name) => _counts.Where(c => c.Key.Name == name).Sum(c => c.Value);
    }
}
