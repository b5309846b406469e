using System.Text;
using KernelScope.PtxEmulator;
using KernelScope.PtxEmulator.Execution;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>The race detectors against models that keep every access and compare them all.</summary>
public class RaceModelTests
{
    private readonly record struct Access(int Thread, int First, int Last, bool Writes, int Barriers, int WarpSyncs);

    /// <summary>
    /// Random straight programs of 64 threads that read and write a few bytes between barriers of the block and of their warp: the emulator must fault
    /// exactly if two accesses touch a byte, one writing, from two threads with no barrier that both passed between.
    /// </summary>
    [Fact]
    public void Shared_races_are_found_exactly()
    {
        var random = new Random(11);
        int races = 0;
        using var test = new PtxTest { Block = new Dim3(64) };
        for (int round = 0; round < 250; round++)
        {
            (string text, bool racy) = RandomProgram(random);
            Exception? fault = Record.Exception(() => test.Run(text));
            Assert.True(racy == fault is EmulatorFault { Kind: FaultKind.SharedRace },
                $"round {round}, racy {racy}: {fault?.Message}\n{text}");
            races += racy ? 1 : 0;
        }
        Assert.InRange(races, 60, 190);
    }

    private static (string Text, bool Racy) RandomProgram(Random random)
    {
        var body = new StringBuilder(
            "mov.u32 %r20, tile;\n setp.eq.u32 %p1, %r2, 0;\n @%p1 st.shared.v4.u32 [%r20], {%r2, %r2, %r2, %r2};\n bar.sync 0;\n "
                + "mov.b16 %rs1, 1;\n");
        var accesses = new List<Access>();
        int barriers = 0;
        var warpSyncs = new int[2];
        for (int step = 0; step < 25; step++)
        {
            int kind = random.Next(10);
            if (kind < 3)
            {
                barriers++;
                body.Append(" bar.sync 0;\n");
            }
            else if (kind < 5)
            {
                int warp = random.Next(2);
                warpSyncs[warp]++;
                body.Append($" shr.u32 %r21, %r2, 5;\n setp.eq.u32 %p1, %r21, {warp};\n @%p1 bar.warp.sync 0xffffffff;\n");
            }
            else
            {
                int thread = random.Next(2) * 32 + random.Next(3);
                int bytes = 1 << random.Next(3);
                int first = random.Next(16 / bytes) * bytes;
                bool writes = random.Next(3) == 0;
                accesses.Add(new Access(thread, first, first + bytes - 1, writes, barriers, warpSyncs[thread / 32]));
                string type = bytes switch { 1 => "u8", 2 => "u16", _ => "u32" };
                body.Append($" setp.eq.u32 %p1, %r2, {thread};\n @%p1 "
                    + $"{(writes ? $"st.shared.{type} [%r20+{first}], %r2" : $"ld.shared.{type} %r22, [%r20+{first}]")};\n");
            }
        }
        bool racy = accesses.SelectMany((a, i) => accesses.Skip(i + 1).Select(b => (a, b))).Any(p => Conflict(p.a, p.b));
        return (PtxTest.Text(body.ToString(), ".shared .align 16 .b8 tile[16];"), racy);
    }

    private static bool Conflict(Access a, Access b) =>
        a.Thread != b.Thread && (a.Writes || b.Writes) && a.First <= b.Last && b.First <= a.Last && a.Barriers == b.Barriers
        && (a.Thread / 32 != b.Thread / 32 || a.WarpSyncs == b.WarpSyncs);

    [Fact]
    public void Global_races_are_found_exactly()
    {
        using var memory = new GlobalMemory(1 << 16);
        var races = new GlobalRaces(memory);
        var random = new Random(5);
        int found = 0;
        for (int round = 0; round < 20_000; round++)
        {
            var past = new List<(long First, long Last, AccessKind Kind, uint Block)>();
            races.Clear();
            for (int step = 0; step < 12; step++)
            {
                long first = random.Next(20);
                long last = first + random.Next(1, 9);
                var kind = (AccessKind)random.Next(3);
                if (random.Next(3) > 0)
                    kind = AccessKind.Read;
                uint block = (uint)random.Next(3);
                long clash = races.Touch(first, last + 1, kind, block);
                long expected = Enumerable.Range((int)first, (int)(last - first + 1))
                    .Where(at =>
                        past.Any(p => p.Block != block && at >= p.First && at <= p.Last && (kind != p.Kind || kind == AccessKind.Write)))
                    .Select(at => (long)at)
                    .DefaultIfEmpty(-1).First();
                // A clash is reported where the word begins, or the access if that is later.
                Assert.True(expected < 0 ? clash < 0 : clash / 4 == expected / 4,
                    $"round {round} step {step}: {clash}, expected {expected}");
                if (expected >= 0)
                {
                    found++;
                    break;
                }
                past.Add((first, last, kind, block));
            }
        }
        Assert.InRange(found, 1_000, 19_900);
    }

    [Fact]
    public void Global_race_is_found_whichever_host_thread_comes_first()
    {
        using var memory = new GlobalMemory(1 << 16);
        var races = new GlobalRaces(memory);
        var clashes = new long[2];
        using var start = new Barrier(2);
        void Run(int block)
        {
            for (int round = 0; round < 1_000; round++)
            {
                start.SignalAndWait();
                clashes[block] = races.Touch(4 * round, 4 * round + 4, block == 0 ? AccessKind.Write : AccessKind.Read, (uint)block);
                start.SignalAndWait();
                if (block == 0)
                    Assert.True(clashes[0] >= 0 || clashes[1] >= 0, $"round {round}: nobody noticed");
            }
        }
        var other = new Thread(() => Run(1)) { IsBackground = true };
        other.Start();
        Run(0);
        other.Join();
    }

    [Fact]
    public void Shared_checks_survive_more_barriers_than_a_stamp_can_count()
    {
        const string Body = """
                mov.u32 %r20, tile;
                shl.b32 %r21, %r2, 2;
                xor.b32 %r22, %r21, 128;
                add.u32 %r21, %r20, %r21;
                add.u32 %r22, %r20, %r22;
                mov.u32 %r10, 0;
                LOOP:
                st.shared.u32 [%r21], %r10;
                bar.sync 0;
                ld.shared.u32 %r11, [%r22];
                bar.sync 0;
                add.u32 %r10, %r10, 1;
                setp.lt.u32 %p1, %r10, 300000;
                @%p1 bra LOOP;
            """;
        using var test = new PtxTest { Block = new Dim3(64) };
        string broken =
            PtxTest.Text(Body + "\n setp.lt.u32 %p2, %r2, 32;\n @%p2 st.shared.u32 [%r21], %r10;\n @!%p2 ld.shared.u32 %r11, [%r22]; // !",
                ".shared .align 4 .b8 tile[256];");
        EmulatorFault fault = Assert.Throws<EmulatorFault>(() => test.Run(broken));
        Assert.Equal(FaultKind.SharedRace, fault.Kind);
        Assert.InRange(fault.Line, PtxTest.MarkedLine(broken) - 1, PtxTest.MarkedLine(broken));
    }
}
