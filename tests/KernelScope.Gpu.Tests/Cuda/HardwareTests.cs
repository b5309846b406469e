using KernelScope.Conformance;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Tests.Model;
using Xunit.Abstractions;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The op suite and a model on a GPU, where there is one. None of this has run where the project is developed.</summary>
[Trait("Category", "Gpu")]
public sealed class HardwareTests(ITestOutputHelper output)
{
    [SkippableTheory]
    [InlineData(Precision.Exact)]
    [InlineData(Precision.Fast)]
    public void The_op_suite_agrees_with_the_reference_on_the_GPU(Precision precision)
    {
        using CudaDevice device = Open(new CudaDeviceOptions { Precision = precision });
        output.WriteLine(device.Description.ToString());
        string[] failures =
            [.. ConformanceSuite.Cases(ConformanceScale.Default).Select(c => c.Run(device)).Where(r => !r.Ok).Select(r => r.ToString())];
        foreach (string failure in failures)
            output.WriteLine(failure);
        Assert.True(failures.Length == 0, $"{failures.Length} cases fail; the first: {failures.FirstOrDefault()}");
    }

    [SkippableTheory]
    [InlineData("base")]
    [InlineData("bf16")]
    [InlineData("hd256")]
    public void A_model_runs_on_the_GPU_as_in_transformers(string name)
    {
        using var run = new GoldenRun(Open(new CudaDeviceOptions()), name, "", doubles: false);
        foreach ((string array, double error, double limit) in run.Departures())
            Assert.True(error <= limit, $"{name} {array}: departs by {error:g3} of its largest value, allowed {limit:g3}");
    }

    private static CudaDevice Open(CudaDeviceOptions options)
    {
        string problem = CudaDevices.Describe().Problem;
        Skip.If(problem.Length > 0, problem);
        return CudaDevices.Open("cuda", options);
    }
}
