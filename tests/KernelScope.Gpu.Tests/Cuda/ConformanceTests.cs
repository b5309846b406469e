using KernelScope.Conformance;
using KernelScope.Cuda;
using Xunit.Abstractions;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The op suite (<c>KernelScope.Conformance</c>) on the emulated device, from the PTX that is shipped.</summary>
public sealed class ConformanceTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("sm_80", 80, "exact")]
    [InlineData("sm_80 fast", 80, "fast")]
    [InlineData("sm_75", 75, "exact")]
    public void The_op_suite_agrees_with_the_reference(string name, int capability, string precision)
    {
        using CudaDevice device = TestGpu.Open(capability, precision == "fast");
        var failures = new List<string>();
        foreach (ConformanceCase @case in ConformanceSuite.Cases(ConformanceScale.Tiny))
        {
            ConformanceResult result = @case.Run(device);
            if (!result.Ok)
                failures.Add(result.ToString());
        }

        foreach (string failure in failures)
            output.WriteLine(failure);
        Assert.True(failures.Count == 0, $"{name}: {failures.Count} cases fail; the first: {failures.FirstOrDefault()}");
    }
}
