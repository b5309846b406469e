using KernelScope.Conformance;
using KernelScope.Devices;
using KernelScope.Devices.Reference;

namespace KernelScope.Tests.Devices;

public class ConformanceSuiteTests
{
    [Fact]
    public void Reference_agrees_with_itself()
    {
        using ReferenceDevice device = new();
        Assert.Empty(Failures(device, ConformanceScale.Default));
    }

    [Fact]
    public void Reference_agrees_with_itself_at_the_tiny_scale()
    {
        using ReferenceDevice device = new();
        Assert.Empty(Failures(device, ConformanceScale.Tiny));
    }

    internal static List<string> Failures(Device device, ConformanceScale scale) =>
        [.. ConformanceSuite.Cases(scale).Select(c => c.Run(device)).Where(result => !result.Ok).Select(result => result.ToString())];
}
