using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>Memory of the emulated device, and what a launch must satisfy.</summary>
public class DeviceTests
{
    private const string Nothing = "mov.u32 %r10, 0;";

    [Fact]
    public void Buffers_are_aligned_apart_and_counted()
    {
        using var gpu = new EmulatedGpu(new EmulatedGpuOptions { MemoryBytes = 1 << 20 });
        long free = gpu.FreeBytes;
        ulong a = gpu.Allocate(1, "a");
        ulong b = gpu.Allocate(1000, "b");
        Assert.Equal(0UL, a % 256);
        Assert.Equal(0UL, b % 256);
        Assert.True(b - a > 256);
        Assert.True(gpu.FreeBytes < free);
        gpu.Free(a);
        gpu.Free(b);
        Assert.Equal(free, gpu.FreeBytes);
    }

    [Fact]
    public void Full_device_says_so_and_freed_room_is_used_again()
    {
        using var gpu = new EmulatedGpu(new EmulatedGpuOptions { MemoryBytes = 1 << 20 });
        ulong[] buffers = [.. Enumerable.Range(0, 3).Select(i => gpu.Allocate(300_000, $"b{i}"))];
        InsufficientMemoryException full = Assert.Throws<InsufficientMemoryException>(() => gpu.Allocate(300_000, "more"));
        Assert.Contains("1048576 bytes", full.Message, StringComparison.Ordinal);
        gpu.Free(buffers[1]);
        Assert.Equal(buffers[1], gpu.Allocate(300_000, "again"));
    }

    [Fact]
    public void Host_access_must_stay_inside_one_buffer()
    {
        using var gpu = new EmulatedGpu(new EmulatedGpuOptions { MemoryBytes = 1 << 20 });
        ulong a = gpu.Allocate(16, "weights");
        gpu.Write(a + 8, new byte[8]);
        ArgumentException error = Assert.Throws<ArgumentException>(() => gpu.Write(a + 9, new byte[8]));
        Assert.Contains("'weights' (16 bytes)", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => gpu.Read(a - 1, new byte[1]));
        Assert.Throws<ArgumentException>(() => gpu.Free(a + 8));
        gpu.Free(a);
        Assert.Throws<ArgumentException>(() => gpu.Read(a, new byte[1]));
    }

    [Fact]
    public void Copies_and_fills_carry_whether_bytes_were_written()
    {
        using var test = new PtxTest();
        ulong a = test.Gpu.Allocate(256, "a");
        ulong b = test.Gpu.Allocate(256, "b");
        test.Gpu.Fill(a, 0x11, 128);
        test.Gpu.Copy(b, a, 256);
        test.Run(PtxTest.Text("ld.global.u32 %r10, [%rd4];"), b);
        EmulatorFault fault = Assert.Throws<EmulatorFault>(() => test.Run(PtxTest.Text("ld.global.u32 %r10, [%rd4+128];"), b));
        Assert.Equal((FaultKind.UninitializedMemory, b + 128), (fault.Kind, fault.Address!.Value));
        Assert.Equal(0x1111_1111u, test.Download<uint>(b, 1)[0]);
    }

    [Fact]
    public void What_one_launch_wrote_the_next_may_read_from_any_block()
    {
        using var test = new PtxTest { Grid = new Dim3(4) };
        ulong a = test.Gpu.Allocate(512, "a");
        test.Run(PtxTest.Text("st.global.u32 [%rd4], %r3;"), a);
        test.Run(PtxTest.Text(
            "xor.b32 %r10, %r3, 96;\n mad.wide.u32 %rd10, %r10, 4, %rd1;\n ld.global.u32 %r11, [%rd10];\n st.global.u32 [%rd6], %r11;"),
            a, 0, test.Gpu.Allocate(512, "c"));
    }

    public static TheoryData<string, PtxTestShape, string> Refused { get; } = new()
    {
        { "", new(1, 1025), "1024 threads in all" },
        { "", new(0, 32), "a grid of (0,1,1)" },
        { ".maxntid 64, 1, 1", new(1, 65), "at most 64 threads a block (.maxntid)" },
        { ".reqntid 64", new(1, 32), "needs blocks of (64,1,1)" },
        { "", new(1, 32, Dynamic: 50_000), "opted into 49152" },
        { "", new(1, 32, Dynamic: 240_000, OptIn: 240_000), "at most 232448" },
        { "", new(1, 32, ParameterBytes: 24), "28 bytes of parameters and 24 are given" },
    };

    public sealed record PtxTestShape(int Grid, int Block, int Dynamic = 0, int OptIn = 49152, int ParameterBytes = 28);

    [Theory]
    [MemberData(nameof(Refused))]
    public void Launch_outside_its_contract_is_refused(string directives, PtxTestShape shape, string problem)
    {
        using var gpu = new EmulatedGpu(new EmulatedGpuOptions { MemoryBytes = 1 << 20 });
        PtxKernel kernel = PtxModule.Parse(PtxTest.Text(Nothing, directives: directives), "t.ptx").Kernels[0];
        EmulatorFault fault =
            Assert.Throws<EmulatorFault>(() => gpu.Launch(kernel, new Dim3(shape.Grid), new Dim3(shape.Block), shape.Dynamic,
            new byte[shape.ParameterBytes], new LaunchOptions { MaxDynamicSharedBytes = shape.OptIn }));
        Assert.Equal(FaultKind.LaunchContract, fault.Kind);
        Assert.Equal(kernel.Line, fault.Line);
        Assert.Contains(problem, fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Launch_that_opted_in_gets_the_shared_memory_it_asked_for()
    {
        using var test = new PtxTest { DynamicShared = 200 * 1024, Options = new LaunchOptions { MaxDynamicSharedBytes = 200 * 1024 } };
        string text = PtxTest.Text("""
                mov.u32 %r10, %dynamic_smem_size;
                mov.u32 %r11, dyn;
                shl.b32 %r12, %r2, 2;
                add.u32 %r13, %r11, %r10;
                sub.u32 %r13, %r13, %r12;
                st.shared.u32 [%r13+-4], %r10;
            """, moduleLevel: ".extern .shared .align 16 .b8 dyn[];");
        test.Run(text);
        EmulatorFault fault = Assert.Throws<EmulatorFault>(() => test.Run(text.Replace("[%r13+-4]", "[%r13]", StringComparison.Ordinal)));
        Assert.Equal(FaultKind.OutOfBounds, fault.Kind);
    }

    [Fact]
    public void Module_for_a_newer_device_is_refused()
    {
        using var gpu = new EmulatedGpu(new EmulatedGpuOptions { MemoryBytes = 1 << 20, ComputeCapability = 75 });
        PtxKernel kernel = PtxModule.Parse(PtxTest.Text(Nothing), "t.ptx").Kernels[0];
        EmulatorFault fault = Assert.Throws<EmulatorFault>(() => gpu.Launch(kernel, new Dim3(1), new Dim3(32), 0, new byte[28]));
        Assert.Contains("for sm_80 and the device is sm_75", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Disposed_device_refuses_work()
    {
        var gpu = new EmulatedGpu(new EmulatedGpuOptions { MemoryBytes = 1 << 20 });
        gpu.Dispose();
        gpu.Dispose();
        Assert.Throws<ObjectDisposedException>(() => gpu.Allocate(1, "a"));
    }
}
