using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>Divergence, shuffles, votes and the other exchanges within a warp.</summary>
public class WarpTests
{
    [Theory]
    [InlineData("shfl.sync.up.b32 %r10, %r2, 3, 0, 0xffffffff;", 0)]
    [InlineData("shfl.sync.down.b32 %r10, %r2, 3, 31, 0xffffffff;", 1)]
    [InlineData("shfl.sync.bfly.b32 %r10, %r2, 5, 31, 0xffffffff;", 2)]
    [InlineData("shfl.sync.idx.b32 %r10, %r2, 9, 31, 0xffffffff;", 3)]
    [InlineData("shfl.sync.down.b32 %r10, %r2, 3, 0x181f, 0xffffffff;", 4)]
    [InlineData("shfl.sync.idx.b32 %r10, %r2, 5, 0x181f, 0xffffffff;", 5)]
    public void Shuffle_reads_the_documented_lane(string instruction, int mode)
    {
        uint[] values = Lanes(instruction);
        for (int lane = 0; lane < 32; lane++)
        {
            int expected = mode switch
            {
                0 => lane < 3 ? lane : lane - 3,
                1 => lane > 28 ? lane : lane + 3,
                2 => lane ^ 5,
                3 => 9,
                4 => lane % 8 > 4 ? lane : lane + 3,
                _ => lane / 8 * 8 + 5,
            };
            Assert.Equal(expected, (int)values[lane]);
        }
    }

    [Fact]
    public void Shuffle_predicate_says_whether_the_source_is_in_range()
    {
        uint[] values = Lanes("shfl.sync.down.b32 %r11|%p1, %r2, 4, 31, 0xffffffff;\n selp.u32 %r10, 1, 0, %p1;");
        Assert.Equal(Enumerable.Range(0, 32).Select(l => l < 28 ? 1u : 0), values);
    }

    [Theory]
    [InlineData("vote.sync.ballot.b32 %r10, %p1, 0xffffffff;", 0x0000_007Fu)]
    [InlineData("vote.sync.ballot.b32 %r10, !%p1, 0xffffffff;", 0xFFFF_FF80u)]
    [InlineData("vote.sync.any.pred %p2, %p1, 0xffffffff;\n selp.u32 %r10, 1, 0, %p2;", 1u)]
    [InlineData("vote.sync.all.pred %p2, %p1, 0xffffffff;\n selp.u32 %r10, 1, 0, %p2;", 0u)]
    [InlineData("vote.sync.uni.pred %p2, %p1, 0xffffffff;\n selp.u32 %r10, 1, 0, %p2;", 0u)]
    [InlineData("activemask.b32 %r10;", 0xFFFF_FFFFu)]
    [InlineData("redux.sync.add.u32 %r10, %r2, 0xffffffff;", 496u)]
    [InlineData("redux.sync.max.s32 %r10, %r2, 0xffffffff;", 31u)]
    [InlineData("mov.u32 %r11, 7;\n match.all.sync.b32 %r10|%p2, %r11, 0xffffffff;", 0xFFFF_FFFFu)]
    public void Vote_gives_every_lane_the_result(string instruction, uint expected) =>
        Assert.All(Lanes("setp.lt.u32 %p1, %r2, 7;\n " + instruction), v => Assert.Equal(expected, v));

    [Fact]
    public void Match_any_finds_lanes_with_the_same_value() =>
        Assert.Equal(Enumerable.Range(0, 32).Select(l => 0x1111_1111u << (l % 4)),
            Lanes("and.b32 %r11, %r2, 3;\n match.any.sync.b32 %r10, %r11, 0xffffffff;"));

    [Fact]
    public void Nested_branches_take_every_lane_through_its_own_path()
    {
        uint[] values = Lanes("""
                mov.u32 %r10, 0;
                and.b32 %r11, %r2, 1;
                setp.eq.u32 %p1, %r11, 0;
                @%p1 bra EVEN;
                add.u32 %r10, %r10, 1;
                setp.lt.u32 %p2, %r2, 16;
                @!%p2 bra HIGH;
                add.u32 %r10, %r10, 10;
                bra MEET;
                HIGH:
                add.u32 %r10, %r10, 100;
                MEET:
                activemask.b32 %r12;
                popc.b32 %r12, %r12;
                mad.lo.u32 %r10, %r12, 10000, %r10;
                bra END;
                EVEN:
                add.u32 %r10, %r10, 1000;
                END:
                activemask.b32 %r12;
                popc.b32 %r12, %r12;
                mad.lo.u32 %r10, %r12, 1000000, %r10;
            """);
        for (int lane = 0; lane < 32; lane++)
            Assert.Equal(32_000_000 + (lane % 2 == 0 ? 1000 : 160_000 + (lane < 16 ? 11 : 101)), (int)values[lane]);
    }

    [Fact]
    public void Loop_runs_each_lane_its_own_number_of_times_and_meets_again()
    {
        uint[] values = Lanes("""
                mov.u32 %r10, 0;
                mov.u32 %r11, 0;
                LOOP:
                setp.ge.u32 %p1, %r11, %r2;
                @%p1 bra END;
                add.u32 %r10, %r10, %r11;
                add.u32 %r11, %r11, 1;
                setp.eq.u32 %p2, %r11, 5;
                @%p2 bra LOOP;
                add.u32 %r10, %r10, 100;
                bra LOOP;
                END:
                shfl.sync.idx.b32 %r12, %r10, 31, 31, 0xffffffff;
                sub.u32 %r10, %r12, %r10;
            """);
        uint Value(uint n) => n * (n - 1) / 2 + 100 * (n >= 5 ? n - 1 : n);
        for (uint lane = 0; lane < 32; lane++)
            Assert.Equal(Value(31) - (lane == 0 ? 0 : Value(lane)), values[lane]);
    }

    [Fact]
    public void Indexed_branch_sends_lanes_to_their_targets()
    {
        uint[] values = Lanes("""
                and.b32 %r11, %r2, 3;
                mov.u32 %r10, 0;
                LIST: .branchtargets T0, T1, T2, T1;
                brx.idx %r11, LIST;
                T0:
                mov.u32 %r10, 5;
                bra END;
                T1:
                mov.u32 %r10, 6;
                bra END;
                T2:
                mov.u32 %r10, 7;
                END:
                activemask.b32 %r12;
                popc.b32 %r12, %r12;
                mad.lo.u32 %r10, %r12, 100, %r10;
            """);
        Assert.Equal(Enumerable.Range(0, 32).Select(l => 3200u + new uint[] { 5, 6, 7, 6 }[l % 4]), values);
    }

    [Fact]
    public void Function_calls_pass_parameters_and_diverge_inside()
    {
        const string Function = """
            .func (.param .b32 result) steps(.param .b32 start)
            {
                .reg .pred %p<3>;
                .reg .b32 %r<5>;
                ld.param.b32 %r1, [start];
                mov.u32 %r2, 0;
                LOOP:
                setp.le.u32 %p1, %r1, 1;
                @%p1 bra DONE;
                and.b32 %r3, %r1, 1;
                setp.eq.u32 %p2, %r3, 0;
                @%p2 shr.u32 %r1, %r1, 1;
                @!%p2 mad.lo.u32 %r1, %r1, 3, 1;
                add.u32 %r2, %r2, 1;
                bra LOOP;
                DONE:
                st.param.b32 [result], %r2;
                ret;
            }
            """;
        const string Body = """
                {
                .param .b32 p0;
                .param .b32 r0;
                st.param.b32 [p0], %r2;
                call.uni (r0), steps, (p0);
                ld.param.b32 %r10, [r0];
                }
                {
                .param .b32 r0;
                call.uni (r0), steps, (%r10);
                ld.param.b32 %r11, [r0];
                }
                mad.lo.u32 %r10, %r11, 1000, %r10;
            """;
        static uint Steps(uint n)
        {
            uint count = 0;
            for (; n > 1; count++)
                n = n % 2 == 0 ? n / 2 : 3 * n + 1;
            return count;
        }
        uint[] values = Lanes(Body, moduleLevel: Function);
        for (uint lane = 0; lane < 32; lane++)
            Assert.Equal(Steps(Steps(lane)) * 1000 + Steps(lane), values[lane]);
    }

    [Fact]
    public void Barrier_reductions_cover_the_block()
    {
        using var test = new PtxTest { Block = new Dim3(96) };
        ulong output = test.Gpu.Allocate(384, "c");
        test.Run(PtxTest.Text("""
                setp.lt.u32 %p1, %r2, 40;
                bar.red.popc.u32 %r10, 0, %p1;
                bar.red.and.pred %p2, 0, %p1;
                bar.red.or.pred %p3, 0, !%p1;
                selp.u32 %r11, 100, 0, %p2;
                selp.u32 %r12, 1000, 0, %p3;
                add.u32 %r10, %r10, %r11;
                add.u32 %r10, %r10, %r12;
                st.global.u32 [%rd6], %r10;
            """), 0, 0, output);
        Assert.All(test.Download<uint>(output, 96), v => Assert.Equal(1040u, v));
    }

    [Fact]
    public void Generic_addresses_reach_every_window()
    {
        uint[] values = Lanes("""
                mov.u32 %r20, tile;
                cvt.u64.u32 %rd10, %r20;
                cvta.shared.u64 %rd10, %rd10;
                add.u64 %rd10, %rd10, %rd7;
                st.u32 [%rd10], %r2;
                mov.u64 %rd11, depot;
                cvta.local.u64 %rd11, %rd11;
                st.u32 [%rd11], 40;
                ld.u32 %r10, [%rd10];
                ld.local.u32 %r11, [depot];
                add.u32 %r10, %r10, %r11;
                isspacep.shared %p1, %rd10;
                isspacep.local %p2, %rd11;
                isspacep.global %p3, %rd3;
                isspacep.shared %p4, %rd3;
                and.pred %p1, %p1, %p2;
                and.pred %p1, %p1, %p3;
                @%p1 add.u32 %r10, %r10, 1000;
                @%p4 add.u32 %r10, %r10, 5000;
                cvta.to.shared.u64 %rd12, %rd10;
                ld.shared.u32 %r12, [%rd12];
                mad.lo.u32 %r10, %r12, 10000, %r10;
            """, ".shared .align 4 .b8 tile[128]; .local .align 4 .b8 depot[4];");
        for (uint lane = 0; lane < 32; lane++)
            Assert.Equal(lane * 10001 + 1040, values[lane]);
    }

    [Theory]
    [InlineData("atom.global.add.u32 %r11, [%rd1], %r2;", 496u + 5)]
    [InlineData("red.global.max.s32 [%rd1], %r2;", 31u)]
    [InlineData("red.global.xor.b32 [%rd1], %r2;", 5u)]
    [InlineData("atom.global.inc.u32 %r11, [%rd1], 20;", 16u)]
    [InlineData("atom.global.cas.b32 %r11, [%rd1], 5, 77;", 77u)]
    [InlineData("atom.global.exch.b32 %r11, [%rd1], %r2;", 31u)]
    [InlineData("red.relaxed.gpu.global.and.b32 [%rd1], 4;", 4u)]
    public void Integer_atomics_update_memory(string instruction, uint expected)
    {
        using var test = new PtxTest();
        ulong place = test.Upload(new uint[] { 5 }, "a");
        test.Run(PtxTest.Text(instruction), place);
        Assert.Equal(expected, test.Download<uint>(place, 1)[0]);
    }

    /// <summary>Runs a body in one warp and returns %r10 of every lane.</summary>
    private static uint[] Lanes(string body, string declarations = "", string moduleLevel = "")
    {
        using var test = new PtxTest();
        ulong output = test.Gpu.Allocate(128, "c");
        test.Run(PtxTest.Text(body + "\n st.global.u32 [%rd6], %r10;", declarations, moduleLevel: moduleLevel), 0, 0, output);
        return test.Download<uint>(output, 32);
    }
}
