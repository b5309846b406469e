using KernelScope.Cuda.Ptx;
using Xunit.Abstractions;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The op suite (<c>KernelScope.Conformance</c>) on the emulated device, from the PTX that is shipped.</summary>
public sealed class ConformanceTests(SuiteRun run, ITestOutputHelper output) : IClassFixture<SuiteRun>
{
    [Fact]
    public void The_op_suite_agrees_with_the_reference()
    {
        foreach (string failure in run.Failures)
            output.WriteLine(failure);
        Assert.True(run.Failures.Count == 0, $"{run.Failures.Count} of {run.Count} cases fail; the first: {run.Failures.FirstOrDefault()}");
    }

    /// <summary>Sums of an A100's and of an H100's tensor cores differ, and both are within float32's limit.</summary>
    [Fact]
    public void Exact_products_hold_on_the_tensor_cores_of_both_generations()
    {
        // Cases without tensor cores are the same on both.
        (double Ampere, double Hopper)[] differing =
            [.. run.ProductErrors["sm_80"].Zip(run.ProductErrors["sm_90"]).Where(pair => pair.First != pair.Second)];
        Assert.NotEmpty(differing);
        double ampere = differing.Max(d => d.Ampere), hopper = differing.Max(d => d.Hopper);
        output.WriteLine(FormattableString.Invariant($"largest error of |x·w|: Ampere {ampere:g3}, Hopper {hopper:g3}"));
        Assert.InRange(Math.Max(ampere, hopper), 1e-9, 1e-6);
    }

    [Fact]
    public void A_fast_encoder_rounds_to_bfloat16_and_no_further()
    {
        foreach ((string name, double error) in run.FastSaeErrors)
        {
            output.WriteLine(FormattableString.Invariant($"{name}: {error:g3}"));
            // Rounding moves a value by 2⁻⁹; an exact encoder would be a thousand times better.
            Assert.InRange(error, 1e-5, 8e-3);
        }
    }

    [Fact]
    public void The_device_measures_its_own_limits()
    {
        // Three devices with tensor cores, six with multiply-adds; what an emulator gives is between a thousand and 10¹² a second.
        Assert.Equal(9, run.Peaks.Count);
        Assert.All(run.Peaks, p => Assert.InRange(p, 1e3, 1e12));
        using var device = TestGpu.Open();
        long before = device.AllocatedBytes;
        Assert.InRange(device.MeasureCopyBandwidth(1 << 20, 3), 1e6, 1e13);
        Assert.Equal(before, device.AllocatedBytes);
    }

    [Fact]
    public void Every_kernel_of_the_manifest_is_executed_from_the_PTX_of_every_target()
    {
        string[] missing = [.. PtxImage.Embedded.Manifest.Kernels
            .SelectMany(k => k.Code.Select(c => (Target: $"{c.Target}", k.Name)))
            // What waits for the launch before behind its first instructions; OverlapTests has the others.
            .SelectMany(k => k.Target == "sm_80" && k.Name.Contains("gemv", StringComparison.Ordinal) ? [k, ("sm_90", k.Name)]
                : new[] { k })
            .Where(k => run.Log.Of(k.Target, k.Name) == 0)
            .Select(k => $"{k.Target}/{k.Name}")];
        Assert.True(missing.Length == 0, $"not executed: {string.Join(", ", missing)}");
    }
}
