using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Emulator;

public class ParserTests
{
    [Theory]
    [InlineData("frobnicate.u32 %r10, %r2;", "frobnicate is not known")]
    [InlineData("add.rz.u32 %r10, %r2, 1;", ".rz of add is not known")]
    [InlineData("tanh.approx.ftz.f32 %f1, %f2;", ".ftz of tanh is not known")]
    [InlineData("sin.rn.f32 %f1, %f2;", "only an .approx form")]
    [InlineData("atom.global.add.f32 %f1, [%rd1], %f2;", "float atomics are refused")]
    [InlineData("red.global.add.f32 [%rd1], %f2;", "float atomics are refused")]
    [InlineData("mov.u32 %r10, %r99;", "%r99")]
    [InlineData("add.u32 %rd10, %r2, 1;", "does not fit .u32")]
    [InlineData("ld.global.u32 %r10, %rd1;", "must be an address in brackets")]
    [InlineData("ld.global.v4.f64 {%fd1, %fd2, %fd3, %fd4}, [%rd1];", "does not exist")]
    [InlineData("ld.global.v2.u32 {%r10, %r11, %r12}, [%rd1];", "2 registers are needed")]
    [InlineData("bra NOWHERE;", "label is not defined")]
    [InlineData("call.uni nothing;", "nothing is not defined")]
    [InlineData("add.u32 %r10, %r2;", "3 operands are needed")]
    [InlineData("cvt.s32.f32 %r10, %f1;", "integer rounding")]
    [InlineData("cvt.f32.s32 %f1, %r2;", "needs a rounding")]
    [InlineData("setp.lo.s32 %p1, %r2, 1;", ".lo does not fit .s32")]
    [InlineData("mma.sync.aligned.m16n8k16.row.row.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r1,%r2}, {%f1,%f2,%f3,%f4};",
        "row")]
    [InlineData("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r1,%r2}, {%f1,%f2,%f3,%f4};",
        "a fragment of 2 registers")]
    [InlineData("cp.async.cg.shared.global [%r10], [%rd1], 8;", "cp.async.cg copies 16")]
    [InlineData("add.u32 %r10, _, 1;", "not of a kind")]
    [InlineData("add.u32 _, %r2, 1;", "must go to a register")]
    [InlineData(".reg .f99 %x;", "type was expected")]
    public void Unknown_or_wrong_text_is_refused_with_its_line(string statement, string problem)
    {
        string text = PtxTest.Text("mov.u32 %r20, 1; // !\n" + statement);
        PtxSyntaxException error = Assert.Throws<PtxSyntaxException>(() => PtxModule.Parse(text, "some.ptx"));
        Assert.Equal("some.ptx", error.File);
        int first = PtxTest.MarkedLine(text) + 1;
        Assert.InRange(error.Line, first, first + 1);
        Assert.Contains(problem, error.Message, StringComparison.Ordinal);
        Assert.StartsWith($"some.ptx line {error.Line}: ", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "no .version")]
    [InlineData(".version 7.0\n.target sm_80\n.address_size 32", "64-bit")]
    [InlineData(".version 7.0\n.target sm_80\n.visible .entry k() { ret;", "does not end")]
    [InlineData(".version 7.0\n.target sm_80\n/* never", "comment does not end")]
    [InlineData(".version 7.0\n.target sm_80\n.extern .global .u32 x;", "may be extern")]
    [InlineData(".version 7.0\n.target sm_80\n.global .u32 x; .global .u32 x;", "declared twice")]
    [InlineData(".version 7.0\n.target sm_80\n.entry k() { .reg .u32 %r1; mov.u32 %r1, 1 ret; }", "';' was expected")]
    public void Malformed_module_is_refused(string text, string problem)
    {
        PtxSyntaxException error = Assert.Throws<PtxSyntaxException>(() => PtxModule.Parse(text, "some.ptx"));
        Assert.Contains(problem, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Kernel_description_gives_layout_and_bounds()
    {
        const string Text = """
            .version 7.8
            .target sm_80, debug
            .address_size 64
            .file 1 "a/path/with spaces.cu"
            .extern .shared .align 128 .b8 dyn[];
            .visible .entry first(
                .param .u8 a,
                .param .align 8 .b8 view[16],
                .param .u32 n,
                .param .u64 .ptr .global .align 16 p
            )
            .maxntid 256, 2
            .minnctapersm 3
            {
                .reg .pred %p<3>;
                .reg .b16 %rs<4>;
                .reg .b32 %r<5>, x;
                .reg .f64 %fd<2>;
                .shared .align 4 .b8 tile[100];
                .local .align 8 .b8 depot[24];
                .loc 1 17 4
                { .reg .pred p; .pragma "nounroll"; }
                mov.u32 x, dyn;
                mov.u64 %fd1, depot;
                ret;
            }
            .entry second() .reqntid 32 { ret; }
            .section .debug_str { .b8 1, 2, 3 }
            """;
        PtxModule module = PtxModule.Parse(Text, "two.ptx");
        Assert.Equal(("7.8", "sm_80"), (module.Version, module.Target));
        Assert.Equal(["first", "second"], module.Kernels.Select(k => k.Name));
        PtxKernel first = module.Kernel("first");
        Assert.Equal([new("a", 0, 1, 1), new("view", 8, 16, 8), new("n", 24, 4, 4), new("p", 32, 8, 8)], first.Parameters);
        Assert.Equal(40, first.ParameterBytes);
        Assert.Equal(new Dim3(256, 2, 1), first.MaxThreads);
        Assert.Equal(3, first.MinBlocksPerMultiprocessor);
        Assert.Equal(100, first.StaticSharedBytes);
        Assert.True(first.UsesDynamicShared);
        Assert.Equal(24, first.LocalBytes);
        Assert.Equal(new RegisterCounts(4, 4, 6, 2), first.Registers);
        Assert.Equal(new Dim3(32, 1, 1), module.Kernel("second").RequiredThreads);
        ArgumentException missing = Assert.Throws<ArgumentException>(() => module.Kernel("third"));
        Assert.Contains("first, second", missing.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("0x10", 16u)]
    [InlineData("0b101", 5u)]
    [InlineData("017", 15u)]
    [InlineData("4294967295U", uint.MaxValue)]
    [InlineData("-1", uint.MaxValue)]
    [InlineData("0f3F800000", 0x3F80_0000u)]
    [InlineData("1.5", 0x3FC0_0000u)]
    [InlineData("-2.5e-1", 0xBE80_0000u)]
    [InlineData("WARP_SZ", 32u)]
    public void Literals_of_every_form_are_read(string literal, uint expected) =>
        Assert.Equal(expected, PtxTest.Map32($"mov.b32 %r13, {literal};", [0])[0]);

    [Fact]
    public void Module_variables_hold_their_initialisers()
    {
        const string Variables = """
            .global .align 4 .u32 table[4] = {10, 20, 0x1E};
            .const .f32 half = 0f3F000000;
            .global .align 8 .f64 pair[2] = {1.5, -2.0};
            """;
        string text = PtxTest.Text("""
                mov.u64 %rd10, table;
                and.b32 %r10, %r2, 3;
                mad.wide.u32 %rd10, %r10, 4, %rd10;
                ld.global.u32 %r11, [%rd10];
                ld.const.f32 %f1, [half];
                ld.global.f64 %fd1, [pair+8];
                cvt.rn.f32.u32 %f2, %r11;
                cvt.rn.f32.f64 %f3, %fd1;
                fma.rn.f32 %f1, %f2, %f1, %f3;
                st.global.f32 [%rd6], %f1;
                st.global.u32 [table+12], 5;
            """, moduleLevel: Variables);
        using var test = new PtxTest();
        ulong output = test.Gpu.Allocate(128, "c");
        PtxModule module = PtxModule.Parse(text, "t");
        var parameters = new byte[28];
        BitConverter.TryWriteBytes(parameters.AsSpan(16), output);
        test.Gpu.Launch(module.Kernel("k"), new Dim3(1), new Dim3(4), 0, parameters);
        Assert.Equal([3f, 8f, 13f, -2f], test.Download<float>(output, 4));
        Assert.Equal(5u, test.Download<uint>(test.Gpu.GlobalAddress(module, "table") + 12, 1)[0]);
    }
}
