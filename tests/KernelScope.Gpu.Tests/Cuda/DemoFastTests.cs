using KernelScope.Cpu;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Tests;
using Xunit.Abstractions;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The fast precision on the demo's texts.</summary>
[Trait("Category", "Slow")]
public sealed class DemoFastTests(ITestOutputHelper output)
{
    [Fact]
    public void The_best_token_stays_at_99_of_100_positions()
    {
        using CudaDevice fast = TestGpu.Open(options: new CudaDeviceOptions { Precision = Precision.Fast });
        using var exact = new CpuDevice();
        var found = BestTokens.Compare(fast, exact);
        output.WriteLine(found.ToString());
        Assert.True(found.Agree, found.ToString());
    }
}
