using KernelScope.Devices;
using KernelScope.Gpu.Tests.Cuda;

namespace KernelScope.Tests;

/// <summary>The devices that the goldens run on here.</summary>
internal static class TestDevices
{
    public static readonly string[] All = ["emulated"];

    /// <summary>Tokens that a golden's greedy decoding is held to in every run; <c>SlowGoldenTests.cs</c> has all 24.</summary>
    public const int GreedySteps = 4;

    /// <summary>Prompts of a golden that are decoded from in every run.</summary>
    public static readonly string[] GreedyPrompts = [""];

    /// <summary>The emulated device, whatever the name: this project has no other.</summary>
    public static Device Open(string name) => TestGpu.Open();
}
