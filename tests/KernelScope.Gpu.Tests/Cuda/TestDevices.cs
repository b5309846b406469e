using KernelScope.Devices;
using KernelScope.Gpu.Tests.Cuda;

namespace KernelScope.Tests;

/// <summary>The devices that the goldens run on here.</summary>
internal static class TestDevices
{
    public static readonly string[] All = ["emulated"];

    /// <summary>The emulated device, whatever the name: this project has no other.</summary>
    public static Device Open(string name) => TestGpu.Open();
}
