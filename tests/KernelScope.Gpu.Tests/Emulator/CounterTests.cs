using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>Counters for patterns whose cost is known.</summary>
public class CounterTests
{
    [Theory]
    [InlineData(4, 0, 1, 4, 128)] // coalesced words
    [InlineData(4, 4, 1, 5, 128)] // the same, shifted by a word
    [InlineData(8, 0, 1, 8, 128)] // every other word
    [InlineData(32, 0, 1, 32, 128)] // a sector a lane
    [InlineData(256, 0, 1, 32, 128)] // far apart
    [InlineData(0, 0, 1, 1, 4)] // one word for all
    [InlineData(16, 0, 4, 16, 512)] // 16 bytes a lane
    [InlineData(8, 0, 2, 8, 256)] // 8 bytes a lane
    public void Global_load_counts_sectors_and_useful_bytes(int stride, int offset, int words, long sectors, long bytes)
    {
        string list = string.Join(", ", Enumerable.Range(20, words).Select(i => $"%r{i}"));
        string load = words == 1 ? $"ld.global.b32 %r20, [%rd21+{offset}];" : $"ld.global.v{words}.b32 {{{list}}}, [%rd21+{offset}];";
        LaunchResult result = Run($"mul.wide.u32 %rd20, %r2, {stride};\n add.u64 %rd21, %rd1, %rd20;\n {load}");
        Assert.Equal(new GlobalTraffic(1, sectors, bytes), result.GlobalLoads);
        Assert.Equal(32 * sectors, result.GlobalLoads.MovedBytes);
    }

    [Fact]
    public void Overlapping_and_unordered_lanes_are_counted_once()
    {
        // Lane l reads word (l·7) mod 8 of one sector, in no order.
        LaunchResult result =
            Run("mul.lo.u32 %r20, %r2, 7;\n and.b32 %r20, %r20, 7;\n mul.wide.u32 %rd20, %r20, 4;\n add.u64 %rd21, %rd1, %rd20;\n "
                + "ld.global.b32 %r21, [%rd21];");
        Assert.Equal(new GlobalTraffic(1, 1, 32), result.GlobalLoads);
    }

    [Fact]
    public void Half_a_warp_of_stores_is_half_the_sectors()
    {
        LaunchResult result = Run("setp.lt.u32 %p1, %r2, 16;\n @%p1 st.global.u32 [%rd4], %r2;");
        Assert.Equal(new GlobalTraffic(1, 2, 64), result.GlobalStores);
        Assert.Equal(16, result.Threads(InstructionClass.GlobalStore));
    }

    [Theory]
    [InlineData(4, 4, 1, 0)] // consecutive words
    [InlineData(8, 4, 2, 1)] // stride 2
    [InlineData(16, 4, 4, 3)]
    [InlineData(128, 4, 32, 31)] // one bank
    [InlineData(132, 4, 1, 0)] // padded column
    [InlineData(0, 4, 1, 0)] // broadcast
    [InlineData(8, 8, 2, 0)] // 8 bytes a lane, two half warps
    [InlineData(16, 16, 4, 0)] // 16 bytes a lane, four quarter warps
    [InlineData(128, 16, 32, 28)] // rows of 128 bytes without a swizzle
    [InlineData(144, 16, 4, 0)] // padded rows
    public void Shared_load_counts_bank_conflicts(int stride, int width, long wavefronts, long extra)
    {
        int words = width / 4;
        string list = string.Join(", ", Enumerable.Range(20, words).Select(i => $"%r{i}"));
        string vector = words == 1 ? "" : $".v{words}";
        string operand = words == 1 ? list : $"{{{list}}}";
        using var test = new PtxTest { Options = new LaunchOptions { Checked = false } };
        LaunchResult result = test.Run(PtxTest.Text($"""
                mov.u32 %r10, tile;
                mad.lo.u32 %r10, %r2, {stride}, %r10;
                ld.shared{vector}.b32 {operand}, [%r10];
            """, ".shared .align 16 .b8 tile[8192];"));
        Assert.Equal(new SharedTraffic(1, wavefronts, extra), result.SharedLoads);
    }

    [Fact]
    public void Half_words_in_one_word_do_not_conflict()
    {
        using var test = new PtxTest();
        LaunchResult result = test.Run(PtxTest.Text("""
                mov.u32 %r10, tile;
                mad.lo.u32 %r10, %r2, 2, %r10;
                mov.b16 %rs1, 3;
                st.shared.b16 [%r10], %rs1;
            """, ".shared .align 16 .b8 tile[64];"));
        Assert.Equal(new SharedTraffic(1, 1, 0), result.SharedStores);
    }

    [Fact]
    public void Instructions_are_counted_by_class_line_and_lane()
    {
        string text = PtxTest.Text("""
                setp.lt.u32 %p1, %r2, 5;
                @%p1 bra A; // !
                mov.f32 %f1, 0f3F800000;
                fma.rn.f32 %f2, %f1, %f1, %f1;
                ex2.approx.f32 %f3, %f2;
                A:
                bar.sync 0;
            """);
        using var test = new PtxTest { Block = new Dim3(64) };
        LaunchResult result = test.Run(text);
        Assert.Equal(1, result.DivergentBranches);
        InstructionCount branch = result.Instructions.Single(i => i.Line == PtxTest.MarkedLine(text));
        Assert.Equal((2, 5, 1), (branch.WarpExecutions, branch.ThreadExecutions, branch.Divergences));
        Assert.Equal(59, result.Threads(InstructionClass.Float32));
        Assert.Equal(59, result.Threads(InstructionClass.Special));
        Assert.Equal(64, result.Threads(InstructionClass.Barrier));
        Assert.Equal(2, result.WarpBarriers);
        Assert.Equal(4 * 64, result.Threads(InstructionClass.Parameter));
        Assert.Equal(result.ThreadInstructions, Enum.GetValues<InstructionClass>().Sum(result.Threads));
    }

    [Fact]
    public void Local_depots_at_constant_offsets_are_told_from_indexed_ones()
    {
        string text = PtxTest.Text("""
                mov.u64 %rd10, depot;
                st.local.u32 [%rd10], %r2;
                st.local.u32 [%rd10+4], %r2;
                add.u64 %rd11, %rd10, 8;
                st.local.u32 [%rd11], %r2;
                mul.wide.u32 %rd12, 3, 4;
                add.u64 %rd12, %rd10, %rd12;
                st.local.u32 [%rd12], %r2;
                and.b32 %r10, %r2, 3;
                mul.wide.u32 %rd13, %r10, 4;
                add.u64 %rd13, %rd10, %rd13;
                ld.local.u32 %r11, [%rd13]; // !
            """, ".local .align 4 .b8 depot[16];");
        using var test = new PtxTest();
        LaunchResult result = test.Run(text);
        Assert.Equal(4 * 32, result.Threads(InstructionClass.LocalConstant));
        Assert.Equal(32, result.Threads(InstructionClass.LocalDynamic));
        Assert.Equal([PtxTest.MarkedLine(text)], PtxModule.Parse(text, "t").Kernels[0].DynamicLocalLines);
    }

    [Fact]
    public void Cp_async_counts_as_a_global_read_and_a_shared_write()
    {
        LaunchResult result = Run("""
                mov.u32 %r20, tile;
                mad.lo.u32 %r20, %r2, 16, %r20;
                mul.wide.u32 %rd20, %r2, 16;
                add.u64 %rd21, %rd1, %rd20;
                cp.async.cg.shared.global [%r20], [%rd21], 16;
                cp.async.wait_all;
            """, ".shared .align 16 .b8 tile[512];");
        Assert.Equal(new GlobalTraffic(1, 16, 512), result.GlobalLoads);
        Assert.Equal(new SharedTraffic(1, 4, 0), result.SharedStores);
    }

    [Fact]
    public void A_footprint_counts_a_sector_once_however_often_it_is_touched()
    {
        using var test = new PtxTest { Grid = new Dim3(2), Options = new LaunchOptions { CountFootprint = true } };
        ulong a = test.Upload(new uint[64], "a"), c = test.Gpu.Allocate(256, "c");
        string text = PtxTest.Text("""
                ld.global.b32 %r20, [%rd4];
                ld.global.b32 %r21, [%rd4];
                ld.global.b32 %r22, [%rd1];
                st.global.b32 [%rd6], %r20;
                st.global.b32 [%rd6], %r21;
            """);
        LaunchResult result = test.Run(text, a, 0, c);
        Assert.Equal((256, 256), (result.ReadFootprint, result.WriteFootprint));
        Assert.Equal((2 * (128 + 128 + 32), 2 * 256), (result.GlobalLoads.MovedBytes, result.GlobalStores.MovedBytes));
    }

    private static LaunchResult Run(string body, string declarations = "")
    {
        using var test = new PtxTest();
        return test.Run(PtxTest.Text(body, declarations), test.Upload(new uint[4096], "a"));
    }
}
