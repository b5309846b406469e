using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary><c>griddepcontrol</c>: what a kernel may do before its wait when it may begin before those before it have ended.</summary>
public sealed class GridDependencyTests
{
    private const string Early = " byte 0 of buffer 'a' (128 bytes), which kernels write, before griddepcontrol.wait";
    private static readonly EmulatedGpuOptions Hopper = new() { MemoryBytes = 1 << 24, ComputeCapability = 90 };

    [Fact]
    public void What_no_kernel_writes_may_be_read_before_the_wait()
    {
        using var test = new PtxTest(Hopper) { Options = new LaunchOptions { Programmatic = true } };
        ulong a = test.Upload<float>([.. Enumerable.Range(0, 32).Select(n => (float)n)], "a"), c = test.Gpu.Allocate(128, "c");
        test.Run(Text("""
                prefetch.global.L2 [%rd4];
                ld.global.f32 %f1, [%rd4];
                griddepcontrol.wait;
                griddepcontrol.launch_dependents;
                st.global.f32 [%rd6], %f1;
            """), a, a, c);
        Assert.Equal(31f, test.Download<float>(c, 32)[31]);
    }

    [Theory]
    [InlineData("st.global.f32 [%rd4], 0f00000000; // !", "writes" + Early)]
    [InlineData("ld.global.f32 %f1, [%rd4]; // !", "reads" + Early)]
    [InlineData("red.global.add.u32 [%rd1], 1; // !", "updates" + Early)]
    [InlineData("setp.eq.u32 %p1, %r2, 3; @%p1 exit; // !", "ends without griddepcontrol.wait")]
    public void What_would_show_that_it_began_early_is_a_fault(string instruction, string problem)
    {
        string text = Text($"""
                {instruction}
                griddepcontrol.wait;
            """);
        using var plain = new PtxTest(Hopper);
        ulong a = plain.Upload(new float[32], "a");
        // The launch before has written it.
        plain.Run(Text("st.global.f32 [%rd4], 0f00000000;"), a);
        plain.Run(text, a);
        using var test = new PtxTest(Hopper) { Options = new LaunchOptions { Programmatic = true } };
        a = test.Upload(new float[32], "a");
        test.Run(Text("griddepcontrol.wait; st.global.f32 [%rd4], 0f00000000;"), a);
        var fault = Assert.Throws<EmulatorFault>(() => test.Run(text, a));
        Assert.Equal(FaultKind.MissingGridWait, fault.Kind);
        Assert.Contains(problem, fault.Message, StringComparison.Ordinal);
        Assert.Equal(PtxTest.MarkedLine(text), fault.Line);
    }

    [Theory]
    [InlineData(".target sm_80", ".version 7.8")]
    [InlineData(".target sm_90", ".version 7.7")]
    public void A_module_for_less_does_not_have_it(string target, string version)
    {
        string text = PtxTest.Text("griddepcontrol.wait;").Replace(".target sm_80", target, StringComparison.Ordinal)
            .Replace(".version 7.8", version, StringComparison.Ordinal);
        var error = Assert.Throws<PtxSyntaxException>(() => PtxModule.Parse(text, "test.ptx"));
        Assert.Contains("griddepcontrol needs .version 7.8 and .target sm_90", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_prefetch_outside_of_all_buffers_is_a_fault()
    {
        using var test = new PtxTest(Hopper);
        ulong a = test.Upload(new float[32], "a");
        var fault = Assert.Throws<EmulatorFault>(() => test.Run(Text("prefetch.global.L2 [%rd1+128];"), a));
        Assert.Equal(FaultKind.OutOfBounds, fault.Kind);
    }

    private static string Text(string body) => PtxTest.Text(body).Replace(".target sm_80", ".target sm_90", StringComparison.Ordinal);
}
