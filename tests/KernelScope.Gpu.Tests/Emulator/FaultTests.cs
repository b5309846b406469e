using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>For each rule a kernel that breaks it, at the marked line, and its corrected twin.</summary>
public class FaultTests
{
    private const string SharedTile = ".shared .align 16 .b8 tile[4096];";

    /// <summary>Address of this thread's word of the tile, and of its neighbour's, in %r20 and %r21; %r24 is the neighbour in the other half.</summary>
    private const string TileAddresses = """
            mov.u32 %r20, tile;
            shl.b32 %r22, %r2, 2;
            add.u32 %r20, %r20, %r22;
            xor.b32 %r23, %r22, 4;
            mov.u32 %r21, tile;
            add.u32 %r24, %r21, %r22;
            add.u32 %r21, %r21, %r23;
            xor.b32 %r25, %r22, 128;
            mov.u32 %r26, tile;
            add.u32 %r24, %r26, %r25;

        """;

    /// <summary>%p1 in the first warp, %p2 in the second. Behind a barrier the second warp, which came last, runs first.</summary>
    private const string Roles = "setp.lt.u32 %p1, %r2, 32;\n not.pred %p2, %p1;\n ";

    public static TheoryData<string, FaultKind, string, string, string> Cases { get; } = new()
    {
        { "a store behind the end", FaultKind.OutOfBounds, "st.global.u32 [%rd4+4], %r2; // !", "st.global.u32 [%rd4], %r2;", "" },
        { "a load before the start", FaultKind.OutOfBounds, "ld.global.u32 %r10, [%rd4-4]; // !", "ld.global.u32 %r10, [%rd4];", "" },
        { "a null pointer", FaultKind.OutOfBounds, "mov.u64 %rd10, 0;\n ld.global.u32 %r10, [%rd10]; // !",
            "mov.u64 %rd10, %rd1;\n ld.global.u32 %r10, [%rd10];", "" },
        { "a vector load that ends outside", FaultKind.OutOfBounds, "ld.global.v4.u32 {%r10, %r11, %r12, %r13}, [%rd1+256]; // !",
            "ld.global.v4.u32 {%r10, %r11, %r12, %r13}, [%rd1+240];", "" },
        { "shared memory behind its end", FaultKind.OutOfBounds, "mov.u32 %r10, tile;\n st.shared.u32 [%r10+4096], %r2; // !",
            "mov.u32 %r10, tile;\n setp.eq.u32 %p1, %r2, 0;\n @%p1 st.shared.u32 [%r10+4092], %r2;", SharedTile },
        { "shared address zero", FaultKind.OutOfBounds, "mov.u32 %r10, 0;\n ld.shared.u32 %r11, [%r10]; // !", "mov.u32 %r10, 0;",
            SharedTile },
        { "a local array behind its end", FaultKind.OutOfBounds, "mov.u64 %rd10, depot;\n st.local.u32 [%rd10+16], %r2; // !",
            "mov.u64 %rd10, depot;\n st.local.u32 [%rd10+12], %r2;", ".local .align 4 .b8 depot[16];" },
        { "a misaligned word", FaultKind.Misaligned, "ld.global.u32 %r10, [%rd1+2]; // !", "ld.global.u32 %r10, [%rd1+4];", "" },
        { "a misaligned vector", FaultKind.Misaligned, "ld.global.v2.u32 {%r10, %r11}, [%rd1+4]; // !",
            "ld.global.v2.u32 {%r10, %r11}, [%rd1+8];", "" },
        { "a misaligned shared word", FaultKind.Misaligned, "mov.u32 %r10, tile;\n st.shared.u32 [%r10+1], %r2; // !",
            "mov.u32 %r10, tile;", SharedTile },
        { "a misaligned local word", FaultKind.Misaligned, "mov.u64 %rd10, depot;\n st.local.u32 [%rd10+2], %r2; // !",
            "mov.u64 %rd10, depot;\n st.local.u16 [%rd10+2], %rs1;", ".local .align 4 .b8 depot[16]; mov.b16 %rs1, 7;" },
        { "global bytes nothing wrote", FaultKind.UninitializedMemory, "ld.global.u32 %r10, [%rd6]; // !",
            "st.global.u32 [%rd6], %r2;\n ld.global.u32 %r10, [%rd6];", "" },
        { "half a word nothing wrote", FaultKind.UninitializedMemory,
            "mov.b16 %rs1, 1;\n st.global.u16 [%rd6], %rs1;\n ld.global.u32 %r10, [%rd6]; // !",
            "mov.b16 %rs1, 1;\n st.global.u16 [%rd6], %rs1;\n ld.global.u16 %rs2, [%rd6];", "" },
        { "shared bytes nothing wrote", FaultKind.UninitializedMemory, TileAddresses + "ld.shared.u32 %r10, [%r20]; // !",
            TileAddresses + "st.shared.u32 [%r20], %r2;\n ld.shared.u32 %r10, [%r20];", SharedTile },
        { "local bytes nothing wrote", FaultKind.UninitializedMemory, "mov.u64 %rd10, depot;\n ld.local.u32 %r10, [%rd10]; // !",
            "mov.u64 %rd10, depot;\n st.local.u32 [%rd10], %r2;\n ld.local.u32 %r10, [%rd10];", ".local .align 4 .b8 depot[16];" },
        { "a register nothing wrote", FaultKind.UninitializedRegister, "add.u32 %r10, %r11, 1; // !",
            "mov.u32 %r11, 1;\n add.u32 %r10, %r11, 1;", "" },
        { "a register written in some lanes", FaultKind.UninitializedRegister,
            "setp.lt.u32 %p1, %r2, 7;\n @%p1 mov.u32 %r11, 1;\n add.u32 %r10, %r11, 1; // !",
            "setp.lt.u32 %p1, %r2, 7;\n mov.u32 %r11, 0;\n @%p1 mov.u32 %r11, 1;\n add.u32 %r10, %r11, 1;", "" },
        { "a guard nothing wrote", FaultKind.UninitializedRegister, "@%p3 mov.u32 %r10, 1; // !",
            "setp.eq.u32 %p3, %r2, 0;\n @%p3 mov.u32 %r10, 1;", "" },
        { "another warp's word without a barrier", FaultKind.SharedRace,
            TileAddresses + Roles + "@%p1 st.shared.u32 [%r20], %r2;\n @%p2 ld.shared.u32 %r10, [%r24]; // !",
            TileAddresses + Roles + "@%p1 st.shared.u32 [%r20], %r2;\n bar.sync 0;\n @%p2 ld.shared.u32 %r10, [%r24];", SharedTile },
        { "a lane's word without a warp barrier", FaultKind.SharedRace,
            TileAddresses + "st.shared.u32 [%r20], %r2;\n ld.shared.u32 %r10, [%r21]; // !",
            TileAddresses + "st.shared.u32 [%r20], %r2;\n bar.warp.sync 0xffffffff;\n ld.shared.u32 %r10, [%r21];", SharedTile },
        { "a write after another warp's read", FaultKind.SharedRace,
            TileAddresses + Roles
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n @%p2 ld.shared.u32 %r10, [%r24];\n @%p1 st.shared.u32 [%r20], %r2; // !",
            TileAddresses + Roles
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n @%p2 ld.shared.u32 %r10, [%r24];\n bar.sync 0;\n @%p1 st.shared.u32 [%r20], %r2;",
            SharedTile },
        { "two threads that write the same word", FaultKind.SharedRace, "mov.u32 %r10, tile;\n st.shared.u32 [%r10], %r2; // !",
            "mov.u32 %r10, tile;\n setp.eq.u32 %p1, %r2, 0;\n @%p1 st.shared.u32 [%r10], %r2;", SharedTile },
        { "a write after a broadcast read", FaultKind.SharedRace,
            TileAddresses
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n ld.shared.u32 %r10, [%r26];\n setp.eq.u32 %p1, %r2, 0;\n @%p1 st.shared.u32 "
            + "[%r26], %r10; // !",
            TileAddresses
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n ld.shared.u32 %r10, [%r26];\n bar.sync 0;\n setp.eq.u32 %p1, %r2, 0;\n @%p1 "
            + "st.shared.u32 [%r26], %r10;", SharedTile },
        { "an atomic against a plain read", FaultKind.SharedRace,
            TileAddresses + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n red.shared.add.u32 [%r26], 1;\n ld.shared.u32 %r10, [%r26]; // !",
            TileAddresses
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n red.shared.add.u32 [%r26], 1;\n bar.sync 0;\n ld.shared.u32 %r10, [%r26];",
            SharedTile },
        { "half of a warp at a barrier", FaultKind.DivergentBarrier,
            "setp.lt.u32 %p1, %r2, 16;\n @%p1 bra A;\n bar.sync 0; // !\n A:\n mov.u32 %r10, 0;",
            "setp.lt.u32 %p1, %r2, 16;\n @%p1 bra A;\n mov.u32 %r10, 1;\n A:\n bar.sync 0;\n mov.u32 %r10, 0;", "" },
        { "warps at different barriers", FaultKind.DivergentBarrier,
            "setp.lt.u32 %p1, %r2, 32;\n @%p1 bra A;\n bar.sync 0; // !\n bra B;\n A:\n bar.sync 0;\n B:\n mov.u32 %r10, 0;",
            "setp.lt.u32 %p1, %r2, 32;\n @%p1 bra A;\n mov.u32 %r11, 0;\n A:\n bar.sync 0;\n mov.u32 %r10, 0;", "" },
        { "a barrier for more threads than come", FaultKind.DivergentBarrier, "bar.sync 1, 96; // !", "bar.sync 1, 64;", "" },
        { "a guarded barrier", FaultKind.DivergentBarrier, "setp.lt.u32 %p1, %r2, 5;\n @%p1 bar.sync 0; // !",
            "setp.lt.u32 %p1, %r2, 32;\n bar.sync 0;", "" },
        { "barrier 16", FaultKind.Trap, "bar.sync 16; // !", "bar.sync 15;", "" },
        { "a thread count that is not a multiple of 32", FaultKind.Trap, "bar.sync 1, 40; // !", "bar.sync 1, 64;", "" },
        { "a copy read before it is waited for", FaultKind.MissingAsyncWait,
            TileAddresses + "cp.async.ca.shared.global [%r20], [%rd1], 4;\n cp.async.commit_group;\n ld.shared.u32 %r10, [%r20]; // !",
            TileAddresses
            + "cp.async.ca.shared.global [%r20], [%rd1], 4;\n cp.async.commit_group;\n cp.async.wait_group 0;\n "
                + "ld.shared.u32 %r10, [%r20];", SharedTile },
        { "a copy waited for by one group too few", FaultKind.MissingAsyncWait,
            TileAddresses
            + "cp.async.ca.shared.global [%r20], [%rd1], 4;\n cp.async.commit_group;\n cp.async.wait_group 1;\n ld.shared.u32 %r10, "
            + "[%r20]; // !",
            TileAddresses
            + "cp.async.ca.shared.global [%r20], [%rd1], 4;\n cp.async.commit_group;\n cp.async.commit_group;\n cp.async.wait_group "
            + "1;\n ld.shared.u32 %r10, [%r20];", SharedTile },
        { "a barrier without the wait", FaultKind.MissingAsyncWait,
            TileAddresses
            + "cp.async.ca.shared.global [%r20], [%rd1], 4;\n cp.async.commit_group;\n bar.sync 0;\n ld.shared.u32 %r10, [%r24]; // !",
            TileAddresses + "cp.async.ca.shared.global [%r20], [%rd1], 4;\n cp.async.wait_all;\n bar.sync 0;\n ld.shared.u32 %r10, [%r24];",
            SharedTile },
        { "the wait without a barrier", FaultKind.SharedRace,
            TileAddresses + "cp.async.ca.shared.global [%r20], [%rd1], 4;\n cp.async.wait_all;\n ld.shared.u32 %r10, [%r21]; // !",
            TileAddresses + "cp.async.ca.shared.global [%r20], [%rd1], 4;\n cp.async.wait_all;\n bar.sync 0;\n ld.shared.u32 %r10, [%r21];",
            SharedTile },
        { "a copy over bytes still being read", FaultKind.SharedRace,
            TileAddresses + Roles
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n @%p2 ld.shared.u32 %r10, [%r24];\n @%p1 cp.async.ca.shared.global [%r20], "
            + "[%rd1], 4; // !", TileAddresses + Roles
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n @%p2 ld.shared.u32 %r10, [%r24];\n bar.sync 0;\n @%p1 "
            + "cp.async.ca.shared.global [%r20], [%rd1], 4;", SharedTile },
        { "a copy from outside", FaultKind.OutOfBounds, TileAddresses + "cp.async.ca.shared.global [%r20], [%rd1+256], 4; // !",
            TileAddresses + "mov.u32 %r30, 0;\n cp.async.ca.shared.global [%r20], [%rd1+256], 4, %r30;", SharedTile },
        { "a shuffle by half a warp", FaultKind.InactiveLane,
            "setp.lt.u32 %p1, %r2, 16;\n @%p1 bra A;\n shfl.sync.bfly.b32 %r10, %r2, 1, 31, 0xffffffff; // !\n A:\n mov.u32 %r10, 0;",
            "setp.lt.u32 %p1, %r2, 16;\n @%p1 bra A;\n mov.u32 %r11, 1;\n A:\n shfl.sync.bfly.b32 %r10, %r2, 1, 31, 0xffffffff;", "" },
        { "a shuffle from a lane that is not named", FaultKind.InactiveLane,
            "setp.lt.u32 %p1, %r2, 16;\n @%p1 shfl.sync.bfly.b32 %r10, %r2, 16, 31, 0xffff; // !",
            "setp.lt.u32 %p1, %r2, 16;\n @%p1 shfl.sync.bfly.b32 %r10, %r2, 8, 31, 0xffff;", "" },
        { "a mask without the lane itself", FaultKind.InactiveLane, "vote.sync.ballot.b32 %r10, %p1, 0x7fffffff; // !",
            "vote.sync.ballot.b32 %r10, %p1, 0xffffffff;", "setp.eq.u32 %p1, 0, 0;" },
        { "lanes with different masks", FaultKind.InactiveLane,
            "setp.lt.u32 %p1, %r2, 16;\n selp.b32 %r20, 0xffffffff, 0xffff0000, %p1;\n shfl.sync.bfly.b32 %r10, %r2, 1, 31, %r20; // !",
            "and.b32 %r21, %r2, 16;\n setp.eq.u32 %p1, %r21, 0;\n selp.b32 %r20, 0xffff, 0xffff0000, %p1;\n shfl.sync.bfly.b32 %r10, "
                + "%r2, 1, 31, %r20;", "" },
        { "a warp barrier by some of its lanes", FaultKind.InactiveLane, "setp.lt.u32 %p1, %r2, 16;\n @%p1 bar.warp.sync 0xffffffff; // !",
            "bar.warp.sync 0xffffffff;", "" },
        { "an mma by half a warp", FaultKind.InactiveLane,
            "mov.u32 %r10, 0;\n mov.f32 %f1, 0f00000000;\n setp.lt.u32 %p1, %r2, 16;\n @%p1 "
                + "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, %f5}, {%r10, %r10}, {%r10}, {%f1, %f1, %f1, "
                + "%f1}; // !",
                "mov.u32 %r10, 0;\n mov.f32 %f1, 0f00000000;\n mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, "
                    + "%f5}, {%r10, %r10}, {%r10}, {%f1, %f1, %f1, %f1};", "" },
        { "an ldmatrix by half a warp", FaultKind.InactiveLane,
            TileAddresses
            + "setp.lt.u32 %p1, %r2, 16;\n mov.u32 %r30, tile;\n @%p1 ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r31}, [%r30]; // !",
            TileAddresses
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n mov.u32 %r30, tile;\n ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r31}, [%r30];",
            SharedTile },
        { "an ldmatrix of bytes nothing wrote", FaultKind.UninitializedMemory,
            "mov.u32 %r30, tile;\n ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r31}, [%r30]; // !",
            TileAddresses
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n mov.u32 %r30, tile;\n ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r31}, [%r30];",
            SharedTile },
        { "an ldmatrix before the barrier", FaultKind.SharedRace,
            TileAddresses
            + "st.shared.u32 [%r20], %r2;\n mov.u32 %r30, tile;\n ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r31}, [%r30]; // !",
            TileAddresses
            + "st.shared.u32 [%r20], %r2;\n bar.sync 0;\n mov.u32 %r30, tile;\n ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r31}, [%r30];",
            SharedTile },
        { "a divergent branch marked uniform", FaultKind.DivergentUniformBranch,
            "setp.lt.u32 %p1, %r2, 3;\n @%p1 bra.uni A; // !\n mov.u32 %r10, 1;\n A:\n mov.u32 %r10, 2;",
            "setp.lt.u32 %p1, %r2, 3;\n @%p1 bra A;\n mov.u32 %r10, 1;\n A:\n mov.u32 %r10, 2;", "" },
        { "a loop that does not end", FaultKind.InstructionBudget,
            "A:\n bra A; // !", "mov.u32 %r10, 0;\n A:\n add.u32 %r10, %r10, 1;\n setp.lt.u32 %p1, %r10, 100;\n @%p1 bra A;", "" },
        { "a trap", FaultKind.Trap, "trap; // !", "mov.u32 %r10, 0;", "" },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Kernel_that_breaks_a_rule_faults_there_and_its_twin_does_not(
        string what, FaultKind kind, string bad, string good, string declarations)
    {
        string broken = PtxTest.Text(bad, declarations);
        EmulatorFault fault = Assert.Throws<EmulatorFault>(() => Run(broken));
        Assert.True(kind == fault.Kind, $"{what}: {fault.Message}");
        Assert.True(PtxTest.MarkedLine(broken) == fault.Line, $"{what}: {fault.Message}");
        Assert.Equal("k", fault.Kernel);
        Assert.NotNull(fault.Block);
        Assert.NotNull(fault.Thread);
        Assert.Contains("test.ptx line " + fault.Line, fault.Message, StringComparison.Ordinal);

        Exception? twin = Record.Exception(() => Run(PtxTest.Text(good, declarations)));
        Assert.True(twin is null, $"{what}, corrected: {twin?.Message}");
    }

    [Fact]
    public void Fault_names_block_thread_and_address()
    {
        using var test = new PtxTest { Grid = new Dim3(3), Block = new Dim3(16, 4) };
        ulong buffer = test.Upload(new uint[64], "weights");
        string text = PtxTest.Text("""
                mov.u32 %r20, %tid.y;
                setp.eq.u32 %p1, %r4, 2;
                setp.eq.and.u32 %p1, %r20, 3, %p1;
                setp.eq.and.u32 %p1, %r2, 5, %p1;
                @%p1 ld.global.u32 %r21, [%rd1+260]; // !
            """);
        EmulatorFault fault = Assert.Throws<EmulatorFault>(() => test.Run(text, buffer));
        Assert.Equal(FaultKind.OutOfBounds, fault.Kind);
        Assert.Equal(new Dim3(2, 0, 0), fault.Block);
        Assert.Equal(new Dim3(5, 3, 0), fault.Thread);
        Assert.Equal(buffer + 260, fault.Address);
        Assert.Contains("'weights' (256 bytes)", fault.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', fault.Message);
    }

    [Fact]
    public void Freed_buffer_faults_as_use_after_free()
    {
        using var test = new PtxTest();
        ulong buffer = test.Upload(new uint[64], "scratch");
        string text = PtxTest.Text("ld.global.u32 %r10, [%rd4]; // !");
        test.Run(text, buffer);
        test.Gpu.Free(buffer);
        EmulatorFault fault = Assert.Throws<EmulatorFault>(() => test.Run(text, buffer));
        Assert.Equal(FaultKind.UseAfterFree, fault.Kind);
        Assert.Contains("'scratch'", fault.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("st.global.u32 [%rd1], %r2; // !", "st.global.u32 [%rd4], %r2;")]
    [InlineData("st.global.u32 [%rd4], %r2;\n ld.global.u32 %r10, [%rd1]; // !",
        "st.global.u32 [%rd4], %r2;\n ld.global.u32 %r10, [%rd4];")]
    [InlineData("ld.global.u32 %r10, [%rd1];\n setp.eq.u32 %p1, %r4, 1;\n @%p1 st.global.u32 [%rd1], %r2; // !",
        "ld.global.u32 %r10, [%rd1];\n setp.eq.u32 %p1, %r4, 1;\n @%p1 st.global.u32 [%rd4+0], %r2;")]
    [InlineData("red.global.add.u32 [%rd1], 1; // !\n ld.global.u32 %r10, [%rd1];", "red.global.add.u32 [%rd1], 1;")]
    [InlineData("mov.b16 %rs1, 1;\n shl.b32 %r10, %r4, 0;\n mul.wide.u32 %rd10, %r10, 1;\n add.u64 %rd10, %rd1, %rd10;\n mov.b32 %r11, "
        + "0;\n st.global.u8 [%rd1+1], %r11; // !",
        "mov.b16 %rs1, 1;\n mul.wide.u32 %rd10, %r4, 2;\n add.u64 %rd10, %rd1, %rd10;\n st.global.u16 [%rd10], %rs1;")]
    public void Blocks_that_touch_the_same_byte_race(string bad, string good)
    {
        foreach (int threads in new[] { 1, 2 })
        {
            string broken = PtxTest.Text(bad);
            EmulatorFault fault = Assert.Throws<EmulatorFault>(() => RunBlocks(broken, threads));
            Assert.Equal(FaultKind.GlobalRace, fault.Kind);
            if (threads == 1)
                Assert.Equal(PtxTest.MarkedLine(broken), fault.Line);
            RunBlocks(PtxTest.Text(good), threads);
        }
    }

    [Fact]
    public void Unchecked_launch_does_not_look_for_races_or_unwritten_bytes()
    {
        using var test = new PtxTest { Grid = new Dim3(4), Options = new LaunchOptions { Checked = false } };
        ulong buffer = test.Gpu.Allocate(4096, "a");
        test.Run(PtxTest.Text("st.global.u32 [%rd1], %r2;\n ld.global.u32 %r10, [%rd4+4];\n add.u32 %r11, %r50, 1;"), buffer);
        Assert.Throws<EmulatorFault>(() => test.Run(PtxTest.Text("st.global.u32 [%rd1+4096], %r2;"), buffer));
    }

    [Fact]
    public void Named_barriers_of_some_warps_order_only_those()
    {
        // Warps 0 and 1 meet at barrier 1; warp 2 does not, so what it reads of them is a race.
        const string Body = """
                mov.u32 %r20, tile;
                shl.b32 %r21, %r2, 2;
                add.u32 %r22, %r20, %r21;
                st.shared.u32 [%r22], %r2;
                setp.ge.u32 %p1, %r2, 64;
                @%p1 bra A;
                bar.sync 1, 64;
                xor.b32 %r23, %r21, 128;
                add.u32 %r23, %r20, %r23;
                ld.shared.u32 %r24, [%r23];
                A:
                mov.u32 %r25, 0;
            """;
        const string Racing = Body + """

                setp.lt.u32 %p2, %r2, 64;
                @%p2 bra B;
                ld.shared.u32 %r26, [%r20]; // !
                B:
                mov.u32 %r25, 1;
            """;
        using var test = new PtxTest { Block = new Dim3(96) };
        test.Run(PtxTest.Text(Body, SharedTile));
        string text = PtxTest.Text(Racing, SharedTile);
        EmulatorFault fault = Assert.Throws<EmulatorFault>(() => test.Run(text));
        Assert.Equal(FaultKind.SharedRace, fault.Kind);
        Assert.Equal(PtxTest.MarkedLine(text), fault.Line);
    }

    [Fact]
    public void Threads_that_exit_early_do_not_hold_up_barriers_and_shuffles()
    {
        using var test = new PtxTest { Block = new Dim3(64) };
        ulong output = test.Gpu.Allocate(256, "c");
        test.Run(PtxTest.Text("""
                setp.ge.u32 %p1, %r2, 48;
                @%p1 bra OUT;
                setp.lt.u32 %p2, %r2, 8;
                @%p2 bra WORK;
                st.global.u32 [%rd6], %r2;
                ret;
                WORK:
                bar.sync 0;
                shfl.sync.idx.b32 %r10, %r2, 7, 31, 0xffffffff;
                st.global.u32 [%rd6], %r10;
                OUT:
            """), 0, 0, output);
        uint[] values = test.Download<uint>(output, 48);
        Assert.Equal([7, 7, 7, 7, 7, 7, 7, 7, 8, 9], values[..10]);
    }

    private static void Run(string text)
    {
        using var test = new PtxTest { Block = new Dim3(64), Options = new LaunchOptions { WarpInstructionBudget = 10_000 } };
        ulong exact = test.Upload(new uint[64], "a");
        ulong unwritten = test.Gpu.Allocate(4096, "c");
        test.Run(text, exact, 0, unwritten);
    }

    private static void RunBlocks(string text, int threads)
    {
        using var test = new PtxTest { Grid = new Dim3(4), Block = new Dim3(1), Options = new LaunchOptions { HostThreads = threads } };
        ulong buffer = test.Upload(new uint[64], "a");
        test.Run(text, buffer);
    }
}
