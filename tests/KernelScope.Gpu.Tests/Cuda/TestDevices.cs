using KernelScope.Devices;
using KernelScope.Gpu.Tests.Cuda;

namespace KernelScope.Tests;

/// <summary>The devices that the goldens run on here.</summary>
internal static class TestDevices
{
    public static readonly string[] All = ["emulated"];

    public static Device Open(string name) => TestGpu.Open(name == "emulated sm_75" ? 75 : 80);
}
