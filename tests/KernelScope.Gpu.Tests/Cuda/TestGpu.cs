using System.Collections.Concurrent;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The emulated device as tests use it; every kernel that it runs is noted.</summary>
internal static class TestGpu
{
    /// <summary>Kernels executed so far, by the target of their PTX.</summary>
    public static ConcurrentDictionary<(string Target, string Name), int> Executed { get; } = new();

    public static CudaDevice Open(int capability = 80, bool fast = false, CudaDeviceOptions? options = null) =>
        EmulatedDevices.Open(
            options ?? new CudaDeviceOptions
            {
                Precision = fast ? Precision.Fast : Precision.Exact,
                KeysPerSplit = 8,
                FreshScratch = true,
            },
            new EmulatedDriverOptions { Gpu = new EmulatedGpuOptions { ComputeCapability = capability }, Launched = Note });

    private static void Note(PtxKernel kernel, LaunchResult result) => Executed.AddOrUpdate((kernel.Module.Target, kernel.Name), 1, (_, n) => n + 1);
}
