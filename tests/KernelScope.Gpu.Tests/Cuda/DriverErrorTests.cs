using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.PtxEmulator;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>What users are told when there is no driver, no device, no memory, or a call fails.</summary>
public sealed class DriverErrorTests
{
    /// <summary>Calls that give something back; after a failure there is nothing to be done about them.</summary>
    private static readonly string[] NotChecked =
    [
        nameof(ICudaDriver.StreamDestroy), nameof(ICudaDriver.PrimaryCtxRelease), nameof(ICudaDriver.ModuleUnload),
        nameof(ICudaDriver.EventDestroy),
        nameof(ICudaDriver.MemFreeHost), nameof(ICudaDriver.GraphDestroy), nameof(ICudaDriver.GraphExecDestroy),
        // Launches then go one by one: DriverRulesTests.
        nameof(ICudaDriver.StreamBeginCapture), nameof(ICudaDriver.StreamEndCapture), nameof(ICudaDriver.GraphInstantiate),
    ];

    [SkippableFact]
    public void Without_a_driver_one_sentence_says_so()
    {
        Skip.If(CudaDriver.IsInstalled, "this machine has a driver");
        string message = DriverLibrary.Missing(OperatingSystem.IsWindows());
        Assert.Equal(message, Assert.Throws<CudaException>(() => CudaDevices.Open("cuda")).Message);
        Assert.Equal(message, CudaDevices.Describe().Problem);
    }

    [Theory]
    [InlineData("cuda", true, 0)]
    [InlineData("cuda:3", true, 3)]
    [InlineData("cuda:", false, 0)]
    [InlineData("cuda:-1", false, 0)]
    [InlineData("cuda: 1", false, 0)]
    [InlineData("cpu", false, 0)]
    public void Device_names_are_cuda_and_a_number(string name, bool valid, int ordinal)
    {
        Assert.Equal(valid, CudaDevices.TryParse(name, out int parsed));
        Assert.Equal(ordinal, parsed);
    }

    [Fact]
    public void A_device_that_is_not_there_is_refused()
    {
        var error = Assert.Throws<CudaException>(() => new CudaDevice("cuda:2", new EmulatedDriver(), 2));
        Assert.Equal("There is no device cuda:2: this machine has 1 CUDA device, counted from 0.", error.Message);
    }

    [Fact]
    public void A_driver_too_old_for_the_PTX_is_refused_with_both_versions()
    {
        var error = Assert.Throws<CudaException>(
            () => new CudaDevice("cuda:0", new EmulatedDriver(new EmulatedDriverOptions { DriverVersion = 10_020 })));
        Assert.Equal(CudaResult.UnsupportedPtxVersion, error.Result);
        Assert.Equal("The NVIDIA driver is too old: it supports CUDA 10.2, and the kernels (PTX 7.0) need CUDA 11.4. Install a newer " +
            "driver.", error.Message);
    }

    [Fact]
    public void A_device_too_old_for_every_kernel_is_refused()
    {
        var error = Assert.Throws<CudaException>(() => TestGpu.Open(70));
        Assert.Contains("compute capability 7.0", error.Message, StringComparison.Ordinal);
        Assert.Contains("7.5 and newer", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_driver_without_devices_is_described()
    {
        using var driver = new FailingDriver(new EmulatedDriver())
        {
            Fail = call => call == nameof(ICudaDriver.Init)
            ? CudaResult.NoDevice : null
        };
        Assert.Equal("PTX emulator is installed, but there is no CUDA device (CUDA_ERROR_NO_DEVICE).",
            DriverDescription.Read(driver).Problem);
    }

    [Fact]
    public void A_device_is_described_in_a_line()
    {
        using var driver = new EmulatedDriver();
        DriverDescription found = DriverDescription.Read(driver);
        Assert.Equal("12.4", found.VersionText);
        Assert.Equal("PTX emulator, compute capability 8.0, 108 multiprocessors, 1,024 MiB", Assert.Single(found.Devices).ToString());
    }

    [Fact]
    public void Too_little_memory_is_said_in_MiB()
    {
        using CudaDevice device = Small(64);
        var error = Assert.Throws<CudaException>(() => device.Allocate(100L << 18, "resid"));
        Assert.Equal(CudaResult.OutOfMemory, error.Result);
        Assert.Matches("^100 MiB for 'resid' do not fit: [0-9]+ MiB of the 64 MiB of PTX emulator are free\\.$", error.Message);
        // The device goes on.
        Mat x = device.CreateMat(2, 3, "x");
        float[] values = [1, 2, 3, 4, 5, 6];
        device.Write(values, x);
        device.Read(x, values);
        Assert.Equal([1, 2, 3, 4, 5, 6], values);
    }

    /// <summary>
    /// Every call of a small run is made to fail in turn: each failure stops the run and is named with its call and its result.
    /// </summary>
    [Fact]
    public void Every_result_is_checked_and_named()
    {
        List<string> calls = [];
        Scenario(new FailingDriver(new EmulatedDriver()), calls);
        string[] names = [.. calls.Distinct().Except(NotChecked)];
        Assert.InRange(names.Length, 22, 40);
        foreach (string name in names)
        {
            using var driver = new FailingDriver(new EmulatedDriver()) { Fail = call => call == name ? CudaResult.InvalidHandle : null };
            var error = Assert.Throws<CudaException>(() => Scenario(driver, []));
            Assert.Contains($"cu{name}", error.Message, StringComparison.Ordinal);
            Assert.Contains("CUDA_ERROR_INVALID_HANDLE", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_launch_that_fails_names_kernel_and_grid()
    {
        using var device = new CudaDevice("cuda:0", new FailingDriver(new EmulatedDriver())
        {
            Fail = call =>
            call == nameof(ICudaDriver.LaunchKernel) ? CudaResult.LaunchOutOfResources : null
        });
        Mat x = device.CreateMat(2, 3, "x");
        device.Softcap(x, 30);
        var error = Assert.Throws<CudaException>(device.Synchronize);
        Assert.Equal("cuLaunchKernel (softcap (op Softcap, grid 2×1, block 256)) failed with CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701).",
            error.Message);
    }

    [Fact]
    public void After_a_fault_every_call_says_that_the_device_is_lost_and_why()
    {
        bool fault = false;
        var driver = new FailingDriver(new EmulatedDriver())
        {
            Fail = call => fault && call is not nameof(ICudaDriver.CtxSetCurrent)
            ? CudaResult.IllegalAddress : null
        };
        using var device = new CudaDevice("cuda:0", driver);
        Mat x = device.CreateMat(2, 3, "x");
        device.Softcap(x, 30);
        device.Synchronize();
        fault = true;
        device.Softcap(x, 30);
        var first = Assert.Throws<CudaException>(device.Synchronize);
        Assert.Contains("CUDA_ERROR_ILLEGAL_ADDRESS", first.Message, StringComparison.Ordinal);
        var second = Assert.Throws<CudaException>(() => device.Read(x, new float[6]));
        Assert.StartsWith("An earlier error has lost the GPU: the process cannot use it any more; start again.", second.Message,
            StringComparison.Ordinal);
        Assert.Contains(first.Message, second.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_was_taken_is_given_back()
    {
        List<string> calls = [];
        Scenario(new FailingDriver(new EmulatedDriver()), calls);
        AssertBalanced(calls);
    }

    /// <summary>A launch fails among plain ones, and among those of a graph that is being captured.</summary>
    [Theory]
    [InlineData(nameof(ICudaDriver.LaunchKernel))]
    [InlineData(nameof(ICudaDriver.StreamBeginCapture))]
    public void What_was_taken_is_given_back_after_a_failure_too(string before)
    {
        List<string> calls = [];
        bool seen = false;
        var driver = new FailingDriver(new EmulatedDriver())
        {
            Fail = call =>
            {
                bool fails = seen && call == nameof(ICudaDriver.LaunchKernel);
                seen |= call == before;
                return fails ? CudaResult.Unknown : null;
            },
        };
        Assert.Throws<CudaException>(() => Scenario(driver, calls));
        AssertBalanced(calls);
    }

    [Theory]
    [InlineData(220)]
    [InlineData(226)]
    [InlineData(721)]
    public void What_ends_the_process_is_known_as_such(int result)
    {
        Assert.True(CudaResults.IsSticky((CudaResult)result));
        Assert.False(CudaResults.IsSticky(CudaResult.SystemNotReady));
    }

    /// <summary>A library in each of the places where drivers lie: the first that is there is taken.</summary>
    [Fact]
    public void The_driver_library_is_looked_for_in_its_usual_places()
    {
        string[] places = ["libcuda.so.1", "libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1",
            "/usr/local/cuda/compat/libcuda.so.1"];
        for (int n = 0; n < places.Length; n++)
            Assert.Equal((places[n], 7), DriverLibrary.Find(windows: false, file => Array.IndexOf(places, file) >= n ? 7 : 0));
        Assert.Equal(("libcuda.so.1", 0), DriverLibrary.Find(windows: false, _ => 0));
        Assert.Equal(("nvcuda.dll", 7), DriverLibrary.Find(windows: true, _ => 7));
        Assert.Contains("LD_LIBRARY_PATH", DriverLibrary.Missing(windows: false), StringComparison.Ordinal);
    }

    [Fact]
    public void Codes_are_named_as_in_cuda_h()
    {
        Assert.Equal("CUDA_ERROR_OUT_OF_MEMORY", CudaResults.Name(CudaResult.OutOfMemory));
        Assert.Equal("CUDA error 12345", CudaResults.Name((CudaResult)12345));
        foreach (CudaResult result in Enum.GetValues<CudaResult>().Where(r => r != CudaResult.Success))
            Assert.Matches("^CUDA_ERROR_[A-Z_]+$", CudaResults.Name(result));
    }

    private static void AssertBalanced(List<string> calls)
    {
        foreach ((string take, string give) in new[]
        {
            (nameof(ICudaDriver.MemAlloc), nameof(ICudaDriver.MemFree)),
                (nameof(ICudaDriver.MemHostAlloc), nameof(ICudaDriver.MemFreeHost)),
            (nameof(ICudaDriver.StreamCreate), nameof(ICudaDriver.StreamDestroy)),
                (nameof(ICudaDriver.EventCreate), nameof(ICudaDriver.EventDestroy)),
            (nameof(ICudaDriver.ModuleLoadData), nameof(ICudaDriver.ModuleUnload)),
                (nameof(ICudaDriver.PrimaryCtxRetain), nameof(ICudaDriver.PrimaryCtxRelease)),
            (nameof(ICudaDriver.StreamEndCapture), nameof(ICudaDriver.GraphDestroy)),
                (nameof(ICudaDriver.GraphInstantiate), nameof(ICudaDriver.GraphExecDestroy)),
        })
        {
            Assert.Equal(calls.Count(c => c == take), calls.Count(c => c == give));
        }
    }

    /// <summary>
    /// A model loaded, prefilled and decoded until a graph is replayed; <paramref name="calls"/> gets what was asked of the driver.
    /// </summary>
    private static void Scenario(FailingDriver driver, List<string> calls)
    {
        try
        {
            using var device = new CudaDevice("cuda:0", driver);
            device.MemoryInfo();
            using Model.Gemma2Model model = Model.Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "eos-list"));
            using Model.Session session = model.NewSession(chunkLength: 4);
            float[] logits = new float[model.Config.VocabSize];
            for (int i = 0; i < 4; i++)
                device.Read(model.Forward([2 + i], session), logits);
        }
        finally
        {
            calls.AddRange(driver.Calls!);
        }
    }

    private static CudaDevice Small(int megabytes) =>
        EmulatedDevices.Open(driver: new EmulatedDriverOptions { Gpu = new EmulatedGpuOptions { MemoryBytes = (long)megabytes << 20 } });
}
