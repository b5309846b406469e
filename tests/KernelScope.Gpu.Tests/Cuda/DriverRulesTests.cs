using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.Model;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The rules of CUDA that the emulated driver keeps as a real one does, and that the device keeps them.</summary>
public sealed class DriverRulesTests
{
    [Fact]
    public void A_call_needs_a_current_context_of_its_thread()
    {
        using var driver = new EmulatedDriver();
        driver.PrimaryCtxRetain(0, out nint context);
        Assert.Equal(CudaResult.InvalidContext, driver.MemAlloc(16, "x", out _));
        Assert.Equal(CudaResult.Success, driver.CtxSetCurrent(context));
        Assert.Equal(CudaResult.Success, driver.MemAlloc(16, "x", out _));
        Assert.Equal(CudaResult.InvalidContext, OnThread(() => driver.StreamCreate(out _)));
        driver.PrimaryCtxRelease(0);
        Assert.Equal(CudaResult.ContextIsDestroyed, driver.MemAlloc(16, "x", out _));
    }

    /// <summary>
    /// Modules, work space and staging are made at an op's first call, wherever that comes from: after an await it is another thread.
    /// </summary>
    [Theory]
    [InlineData("Linear")]
    [InlineData("LinearOfManyRows")]
    [InlineData("GatedGelu")]
    [InlineData("Attend")]
    [InlineData("Write")]
    [InlineData("Read")]
    [InlineData("Allocate")]
    [InlineData("Synchronize")]
    public void An_op_may_be_the_first_call_of_its_thread(string op)
    {
        using CudaDevice device = TestGpu.Open();
        using var checkpoint = Gemma2Checkpoint.Open(Fixtures.Path("gemma2", "models", "bf16"));
        Weight weight = device.CreateWeight("w", new WeightPart(checkpoint.Layer(0).Gate), new WeightPart(checkpoint.Layer(0).Up));
        int rows = op == "LinearOfManyRows" ? 20 : 1;
        Mat x = device.CreateMat(rows, weight.Columns, "x"), y = device.CreateMat(rows, weight.Rows, "y"),
            half = device.CreateMat(1, weight.Rows / 2, "half");
        var cache = new KvLayer(device.CreateMat(4, 8, "keys"), device.CreateMat(4, 8, "values"), 1, 4);
        Mat q = device.CreateMat(1, 8, "q"), z = device.CreateMat(1, 8, "z");
        Assert.Null(OnThread(() => Record.Exception(() =>
        {
            switch (op)
            {
                case "GatedGelu": device.GatedGelu(x, weight, half); break;
                case "Attend": device.Attend(q, cache, 2, new AttentionShape(1, 1f, 0f, 0), z); break;
                case "Write": device.Write(new float[8], q); break;
                case "Read": device.Read(q, new float[8]); break;
                case "Allocate": device.CreateMat(1, 1, "more"); break;
                case "Synchronize": device.Synchronize(); break;
                default: device.Linear(x, weight, y); break;
            }
        })));
        device.Synchronize();
        weight.Dispose();
    }

    [Fact]
    public void A_device_may_be_disposed_on_another_thread()
    {
        var driver = new FailingDriver(new EmulatedDriver());
        var device = new CudaDevice("cuda:0", driver);
        device.CreateMat(3, 3, "x");
        Assert.Null(OnThread(() => Record.Exception(device.Dispose)));
        Assert.Equal(driver.Calls!.Count(c => c == nameof(ICudaDriver.MemAlloc)),
            driver.Calls!.Count(c => c == nameof(ICudaDriver.MemFree)));
    }

    [Theory]
    [InlineData(nameof(ICudaDriver.MemAlloc))]
    [InlineData(nameof(ICudaDriver.MemFree))]
    [InlineData(nameof(ICudaDriver.MemHostAlloc))]
    [InlineData(nameof(ICudaDriver.ModuleLoadData))]
    [InlineData(nameof(ICudaDriver.EventSynchronize))]
    [InlineData(nameof(ICudaDriver.StreamSynchronize))]
    public void What_is_not_safe_while_a_stream_is_captured_spoils_the_capture(string call)
    {
        using var driver = new EmulatedDriver();
        driver.PrimaryCtxRetain(0, out nint context);
        driver.CtxSetCurrent(context);
        driver.StreamCreate(out nint stream);
        driver.EventCreate(false, out nint mark);
        driver.MemAlloc(16, "x", out ulong address);
        Assert.Equal(CudaResult.Success, driver.StreamBeginCapture(stream));
        Assert.Equal(CudaResult.StreamCaptureUnsupported, call switch
        {
            nameof(ICudaDriver.MemAlloc) => driver.MemAlloc(16, "y", out _),
            nameof(ICudaDriver.MemFree) => driver.MemFree(address),
            nameof(ICudaDriver.MemHostAlloc) => driver.MemHostAlloc(16, out _),
            nameof(ICudaDriver.ModuleLoadData) => driver.ModuleLoadData("x"u8, "x", out _, out _),
            nameof(ICudaDriver.EventSynchronize) => driver.EventSynchronize(mark),
            _ => driver.StreamSynchronize(stream),
        });
        Assert.Equal(CudaResult.StreamCaptureInvalidated, driver.StreamEndCapture(stream, out _));
        Assert.Equal(CudaResult.Success, driver.StreamSynchronize(stream));
    }

    /// <summary>A driver that makes no graphs: the work is done launch by launch, and the user is told once.</summary>
    [Theory]
    [InlineData(nameof(ICudaDriver.GraphInstantiate))]
    [InlineData(nameof(ICudaDriver.StreamBeginCapture))]
    [InlineData("spoiled")]
    public void Without_graphs_launches_go_one_by_one(string failure)
    {
        var inner = new EmulatedDriver();
        bool captured = false;
        var driver = new FailingDriver(inner)
        {
            Fail = call =>
            {
                captured |= call == nameof(ICudaDriver.StreamBeginCapture);
                if (failure == "spoiled" && captured && call == nameof(ICudaDriver.LaunchKernel))
                {
                    captured = false;
                    inner.MemAlloc(16, "spoils", out _);
                }

                return call == failure ? CudaResult.NotSupported : null;
            },
        };
        List<string> warnings = [];
        using var device = new CudaDevice("cuda:0", driver, options: new CudaDeviceOptions { Warn = warnings.Add });
        float[] values = Repeat(device, times: 5);
        Assert.Equal(0, device.GraphLaunches);
        Assert.StartsWith("CUDA graphs are switched off on PTX emulator: cu", Assert.Single(warnings), StringComparison.Ordinal);
        using var plain = new CudaDevice("cuda:0", new EmulatedDriver(), options: new CudaDeviceOptions { Graphs = false });
        Assert.Equal(Repeat(plain, times: 5), values);

        static float[] Repeat(CudaDevice device, int times)
        {
            Mat x = device.CreateMat(1, 8, "x");
            float[] values = [1, 2, 3, 4, 5, 6, 7, 8];
            device.Write(values, x);
            for (int n = 0; n < times; n++)
            {
                for (int k = 0; k < 5; k++)
                    device.Softcap(x, 30);
                device.Read(x, values);
            }

            return values;
        }
    }

    [Fact]
    public void Batches_that_never_come_again_do_not_wait_for_each_other()
    {
        var driver = new FailingDriver(new EmulatedDriver());
        using var device = new CudaDevice("cuda:0", driver);
        Mat x = device.CreateMat(1, 8, "x");
        device.Synchronize();
        // The fourth of five launches that go out together differs each time. A write of a few bytes sends them off.
        int before = driver.Calls!.Count(c => c == nameof(ICudaDriver.StreamSynchronize));
        for (int n = 0; n < 100; n++)
        {
            for (int k = 0; k < 5; k++)
                device.Softcap(x, 30 + (k == 3 ? n : 0));
            device.Write(new float[8], x);
        }

        Assert.Equal(before, driver.Calls!.Count(c => c == nameof(ICudaDriver.StreamSynchronize)));
    }

    /// <summary>Graphs of batches that came twice make room too, and are destroyed at a wait that comes anyway.</summary>
    [Fact]
    public void Graphs_that_make_room_are_destroyed()
    {
        var driver = new FailingDriver(new EmulatedDriver());
        using (var device = new CudaDevice("cuda:0", driver))
        {
            Mat x = device.CreateMat(1, 8, "x");
            for (int n = 0; n < 160; n++)
            {
                for (int k = 0; k < 5; k++)
                    device.Softcap(x, 30 + (n / 2));
                device.Write(new float[8], x);
            }

            Assert.Equal(80, driver.Calls!.Count(c => c == nameof(ICudaDriver.GraphInstantiate)));
            Assert.InRange(driver.Calls!.Count(c => c == nameof(ICudaDriver.StreamSynchronize)), 1, 3);
        }

        Assert.Equal(80, driver.Calls!.Count(c => c == nameof(ICudaDriver.GraphExecDestroy)));
    }

    /// <summary>What is forgotten goes back where the device has its context, not on the finalizer's thread, which has none.</summary>
    [Fact]
    public void Forgotten_events_and_pinned_memory_are_given_back_by_the_device()
    {
        var driver = new FailingDriver(new EmulatedDriver());
        using var device = new CudaDevice("cuda:0", driver);
        Forget(device);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Assert.DoesNotContain(nameof(ICudaDriver.MemFreeHost), driver.Calls!);
        Assert.DoesNotContain(nameof(ICudaDriver.EventDestroy), driver.Calls!);
        device.CreateMat(1, 1, "x").Buffer.Dispose();
        Assert.Single(driver.Calls!, nameof(ICudaDriver.MemFreeHost));
        Assert.Single(driver.Calls!, nameof(ICudaDriver.EventDestroy));

        static void Forget(CudaDevice device)
        {
            _ = new PinnedMemory(device.Context, 64);
            _ = new CudaEvent(device.Context);
        }
    }

    [Theory]
    [InlineData(75)]
    [InlineData(80)]
    [InlineData(90)]
    public void A_device_that_computes_passes_the_self_test(int capability)
    {
        using CudaDevice device = TestGpu.Open(capability);
        long before = device.AllocatedBytes;
        Assert.Equal("", SelfTest.Problem(device));
        device.Synchronize();
        Assert.InRange(device.AllocatedBytes - before, 0, 9 << 20);
        using CudaDevice fast = TestGpu.Open(capability, new CudaDeviceOptions
        {
            Precision = Precision.Fast,
            SaePrecision = Precision.Fast
        });
        Assert.Equal("", SelfTest.Problem(fast));
    }

    [Theory]
    [InlineData("gemv_bf16", "gemv_bf16_1row", ", 8, 31, ", ", 4, 31, ", "the product of one row is off")]
    [InlineData("gemm_tensor_bf16_exact", "gemm_tensor_bf16_exact", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "the product of 72 rows is off")]
    [InlineData("attend_decode", "attend_wide_whole_2heads", "add.rn.f32", "sub.rn.f32", "attention is off")]
    [InlineData("attend_decode", "attend_wide_whole_2heads", ", 8, 31, ", ", 4, 31, ", "attention is off")]
    public void A_misread_instruction_fails_the_self_test(string file, string kernel, string text, string changed, string problem)
    {
        using var device = new CudaDevice("cuda:0", new EmulatedDriver(),
            image: ChangedImage.Of($"sm_80/{file}.ptx", kernel, body => body.Replace(text, changed, StringComparison.Ordinal)));
        Assert.StartsWith(problem, SelfTest.Problem(device), StringComparison.Ordinal);
    }

    private static T OnThread<T>(Func<T> work)
    {
        T result = default!;
        var thread = new Thread(() => result = work());
        thread.Start();
        thread.Join();
        return result;
    }
}
