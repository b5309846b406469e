using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Emulated;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>What <c>--device auto</c> finds: the first device on which a plan fits, or why there is none.</summary>
public sealed class AutoTests
{
    private const long MiB = 1 << 20;

    [Fact]
    public void A_device_on_which_the_plan_fits_is_taken()
    {
        using CudaDevice? device = CudaDevices.OpenIfFits(Plan(weights: 100), null, () => Gpu(512), out string why);
        Assert.Equal(("cuda:0", ""), (device?.Name, why));
        Assert.Equal(Devices.Precision.Exact, device!.Precision);
    }

    [Fact]
    public void Too_little_memory_is_said_in_MiB_and_nothing_was_loaded()
    {
        var driver = new FailingDriver(Gpu(512));
        Assert.Null(CudaDevices.OpenIfFits(MemoryPlan.Create(null, ("weights", 300 * MiB), ("SAE", 100 * MiB)), null, () => driver,
            out string why));
        Assert.Matches("^656 MiB \\(weights 300 MiB, SAE 100 MiB, work space 256 MiB\\) do not fit on cuda:0: [0-9]+ MiB of 512 MiB " +
            "are free\\.$", why);
        Assert.DoesNotContain(nameof(ICudaDriver.ModuleLoadData), driver.Calls!);
        Assert.DoesNotContain(nameof(ICudaDriver.MemcpyHtoDAsync), driver.Calls!);
        // What the device itself took went back, and so did its context.
        foreach ((string take, string give) in new[] { (nameof(ICudaDriver.MemAlloc), nameof(ICudaDriver.MemFree)),
            (nameof(ICudaDriver.PrimaryCtxRetain), nameof(ICudaDriver.PrimaryCtxRelease)) })
            Assert.Equal(driver.Calls!.Count(c => c == take), driver.Calls!.Count(c => c == give));
    }

    [Fact]
    public void A_driver_too_old_for_the_kernels_is_named_with_both_versions()
    {
        Assert.Null(CudaDevices.OpenIfFits(Plan(weights: 1), null,
            () => new EmulatedDriver(new EmulatedDriverOptions { DriverVersion = 11_020 }), out string why));
        Assert.Contains("it supports CUDA 11.2", why, StringComparison.Ordinal);
        Assert.Contains("need CUDA 11.4", why, StringComparison.Ordinal);
    }

    [Fact]
    public void A_device_too_old_for_the_kernels_is_named()
    {
        Assert.Null(CudaDevices.OpenIfFits(Plan(weights: 1), null, () => Gpu(512, capability: 61), out string why));
        Assert.Contains("compute capability 6.1", why, StringComparison.Ordinal);
    }

    [Fact]
    public void A_driver_that_does_not_take_the_PTX_or_a_device_that_computes_wrongly_is_not_taken_unasked()
    {
        Assert.Null(CudaDevices.OpenIfFits(Plan(weights: 1), null, () => new FailingDriver(Gpu(512))
        {
            Fail = c =>
            c == nameof(ICudaDriver.ModuleLoadData) ? CudaResult.InvalidPtx : null
        }, out string why));
        Assert.Contains("CUDA_ERROR_INVALID_PTX", why, StringComparison.Ordinal);
        Assert.Contains("kernels/ptx/sm_80/", why, StringComparison.Ordinal);
        // Launches that do nothing.
        Assert.Null(CudaDevices.OpenIfFits(Plan(weights: 1), null,
            () => new FailingDriver(Gpu(512)) { Fail = c => c == nameof(ICudaDriver.LaunchKernel) ? CudaResult.Success : null }, out why));
        Assert.Contains("cuda:0 (PTX emulator) does not compute as it should: the product of one row is off by 1 of the largest value",
            why, StringComparison.Ordinal);
    }

    [Fact]
    public void A_driver_that_does_not_work_is_explained()
    {
        Assert.Null(CudaDevices.OpenIfFits(Plan(weights: 1), null, () => new FailingDriver(Gpu(512))
        {
            Fail = c =>
            c == nameof(ICudaDriver.Init) ? CudaResult.SystemDriverMismatch : null
        }, out string why));
        Assert.Contains("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", why, StringComparison.Ordinal);
    }

    [Fact]
    public void Where_there_is_no_driver_or_no_device_there_is_nothing_to_explain()
    {
        Assert.Null(CudaDevices.OpenIfFits(Plan(weights: 1), null,
            () => throw new CudaException(CudaResult.NoDevice, "There is no NVIDIA driver."), out string why));
        Assert.Equal("", why);
        Assert.Null(CudaDevices.OpenIfFits(Plan(weights: 1), null,
            () => new FailingDriver(Gpu(512)) { Fail = c => c == nameof(ICudaDriver.Init) ? CudaResult.NoDevice : null }, out why));
        Assert.Equal("", why);
    }

    [Fact]
    public void Needs_of_nothing_are_left_out_of_the_plan()
    {
        MemoryPlan plan = MemoryPlan.Create(new CudaDeviceOptions { WorkBytes = 8 * MiB }, ("weights", 5 * MiB), ("SAE", 0));
        Assert.Equal([("weights", 5 * MiB), ("work space", (16 + 128) * MiB)], plan.Items);
    }

    private static MemoryPlan Plan(long weights) => MemoryPlan.Create(null, ("weights", weights * MiB));

    private static EmulatedDriver Gpu(int megabytes, int capability = 80) =>
        new(new EmulatedDriverOptions { Gpu = new EmulatedGpuOptions { MemoryBytes = megabytes * MiB, ComputeCapability = capability } });
}
