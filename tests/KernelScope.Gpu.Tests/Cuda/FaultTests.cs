using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Devices;
using KernelScope.Emulated;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>What a kernel does wrong in the emulator comes out of the device as the fault's own sentence.</summary>
public sealed class FaultTests
{
    [Theory]
    [InlineData("+2]", "is not a multiple of 4.", CudaResult.MisalignedAddress, ErrorTime.Immediate)]
    [InlineData("+4096]", "bytes from the end of buffer", CudaResult.IllegalAddress, ErrorTime.Immediate)]
    [InlineData("+2]", "is not a multiple of 4.", CudaResult.MisalignedAddress, ErrorTime.Late)]
    [InlineData("+4096]", "bytes from the end of buffer", CudaResult.IllegalAddress, ErrorTime.Late)]
    internal void A_fault_names_kernel_line_thread_and_address(string offset, string what, CudaResult result, ErrorTime errors)
    {
        using var device = new CudaDevice("emulated", new EmulatedDriver(new EmulatedDriverOptions { Errors = errors }),
            image: ChangedImage.WithBadCopy(offset));
        Mat x = device.CreateMat(1, 5, "x"), y = device.CreateMat(1, 5, "y");
        device.Copy(x, y);
        var error = Assert.Throws<CudaException>(() => device.Read(y, new float[5]));
        Assert.Equal(result, error.Result);
        Assert.Contains(errors == ErrorTime.Immediate ? "cuLaunchKernel (copy (op Copy, grid 1×1, block 256))"
            : "Queued since the last wait: copy (op Copy, grid 1×1, block 256).", error.Message, StringComparison.Ordinal);
        Assert.Matches("line [0-9]+", error.Message);
        Assert.Contains(what, error.Message, StringComparison.Ordinal);
        Assert.StartsWith("An earlier error has lost the GPU: the process cannot use it any more; start again.",
            Assert.Throws<CudaException>(() => device.CreateMat(1, 1, "z")).Message, StringComparison.Ordinal);
    }

    /// <summary>The third of five queued launches: with a wait after each it is named, without it is among those that are listed.</summary>
    [Theory]
    [InlineData(true, "^kernel copy \\(op Copy, grid 1×1, block 256\\): CUDA_ERROR_MISALIGNED_ADDRESS \\(716\\)\\.")]
    [InlineData(false, "Queued since the last wait: softcap .*; add_scaled .*; copy \\(op Copy, grid 1×1, block 256\\); softcap .*; " +
        "add_scaled \\(op AddScaled, grid 1×1, block 256\\)\\.$")]
    public void A_late_error_is_put_down_to_a_kernel(bool sync, string message)
    {
        var driver = new EmulatedDriver(new EmulatedDriverOptions { Errors = ErrorTime.Late });
        using var device = new CudaDevice("emulated", driver, options: new CudaDeviceOptions { Sync = sync },
            image: ChangedImage.WithBadCopy("+2]"));
        Mat x = device.CreateMat(1, 5, "x"), y = device.CreateMat(1, 5, "y");
        device.Write([1, 2, 3, 4, 5], x);
        device.Synchronize();
        device.Softcap(x, 30);
        device.AddScaled(x, 1, x);
        device.Copy(x, y);
        device.Softcap(x, 30);
        device.AddScaled(x, 1, x);
        Assert.Matches(message, Assert.Throws<CudaException>(device.Synchronize).Message);
    }

    [Theory]
    [InlineData(PtxEmulator.FaultKind.OutOfBounds, CudaResult.IllegalAddress)]
    [InlineData(PtxEmulator.FaultKind.UseAfterFree, CudaResult.IllegalAddress)]
    [InlineData(PtxEmulator.FaultKind.Misaligned, CudaResult.MisalignedAddress)]
    [InlineData(PtxEmulator.FaultKind.Trap, CudaResult.LaunchFailed)]
    [InlineData(PtxEmulator.FaultKind.InstructionBudget, CudaResult.LaunchTimeout)]
    [InlineData(PtxEmulator.FaultKind.GlobalRace, CudaResult.LaunchFailed)]
    internal void A_fault_is_the_result_that_hardware_gives_for_it(PtxEmulator.FaultKind fault, CudaResult result) =>
        Assert.Equal(result, EmulatedDriver.ResultOf(fault));

    [Fact]
    public void Memory_that_was_given_back_is_not_used()
    {
        using CudaDevice device = TestGpu.Open();
        Mat x = device.CreateMat(1, 5, "x"), y = device.CreateMat(1, 5, "y");
        x.Buffer.Dispose();
        Assert.Throws<ObjectDisposedException>(() => device.Copy(x, y));
    }

    [Fact]
    public void Launches_that_wait_run_before_their_memory_is_given_back()
    {
        using CudaDevice device = TestGpu.Open();
        Mat x = device.CreateMat(1, 5, "x"), y = device.CreateMat(1, 5, "y");
        device.Write([1, 2, 3, 4, 5], x);
        device.Copy(x, y);
        x.Buffer.Dispose();
        float[] values = new float[5];
        device.Read(y, values);
        Assert.Equal([1, 2, 3, 4, 5], values);
    }

    [Fact]
    public void Things_of_another_device_are_refused()
    {
        using CudaDevice device = TestGpu.Open(), other = TestGpu.Open();
        Mat x = device.CreateMat(1, 5, "x"), y = other.CreateMat(1, 5, "y");
        Assert.Contains("y [1, 5] is not in the memory of emulated", Assert.Throws<ArgumentException>(() => device.Copy(x, y)).Message,
            StringComparison.Ordinal);
        using SparseCodes codes = other.CreateCodes(5, "codes");
        Assert.Throws<ArgumentException>(() => device.TopK(x, 1, codes));
    }

    [Fact]
    public void A_shape_outside_a_kernel_is_refused_before_the_launch()
    {
        using CudaDevice device = TestGpu.Open();
        Mat q = device.CreateMat(1, 320, "q"), z = device.CreateMat(1, 320, "z");
        var cache = new KvLayer(device.CreateMat(4, 320, "keys"), device.CreateMat(4, 320, "values"), 1, 4);
        var error = Assert.Throws<ArgumentException>(() => device.Attend(q, cache, 0, new AttentionShape(1, 1f, 0f, 0), z));
        Assert.Contains("Heads of 320 values are too large for the CUDA kernels, which take up to 256.", error.Message,
            StringComparison.Ordinal);
        Mat rows = device.CreateMat(70_000, 1, "rows");
        using SparseCodes codes = device.CreateCodes(1, "top");
        Assert.Contains("70000 rows", Assert.Throws<ArgumentException>(() => device.TopK(rows, 1, codes)).Message,
            StringComparison.Ordinal);
    }
}
