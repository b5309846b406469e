using System.Numerics;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>What an access does to memory.</summary>
[Flags]
internal enum AccessMode
{
    Read = 1,
    Write = 2,

    /// <summary>Volatile, relaxed, acquire, release, or an atomic: ordered against others of the kind.</summary>
    Strong = 4,

    /// <summary>A read-modify-write.</summary>
    Atomic = Read | Write | Strong,
}

/// <summary>Checks and counts a warp's access to global memory.</summary>
internal static unsafe class GlobalAccess
{
    /// <summary>A range that lanes in order touch without a gap.</summary>
    private struct Run
    {
        public ulong Start;
        public ulong End;
    }

    public static void Check(Op op, Warp warp, ulong* addresses, uint mask, int bytes, AccessMode mode)
    {
        ulong all = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
            all |= addresses[BitOperations.TrailingZeroCount(rest)];
        if ((all & (ulong)(bytes - 1)) != 0)
            throw Misaligned(op, warp, addresses, mask, bytes);

        Span<Run> runs = stackalloc Run[32];
        int count = Runs(addresses, mask, bytes, runs);
        for (int i = 0; i < count; i++)
            CheckRun(op, warp, addresses, mask, bytes, mode, runs[i].Start, runs[i].End);
        Count(ref warp.Block.Counters[op.Index], runs[..count], mode);
        if (warp.Block.Launch.Footprint is not { } footprint)
            return;
        foreach (Run run in runs[..count])
            footprint.Touch(run.Start, run.End, mode);
    }

    private static int Runs(ulong* addresses, uint mask, int bytes, Span<Run> runs)
    {
        int count = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            ulong address = addresses[BitOperations.TrailingZeroCount(rest)];
            if (count > 0)
            {
                ref Run last = ref runs[count - 1];
                if (address == last.End)
                {
                    last.End += (ulong)bytes;
                    continue;
                }
                if (address >= last.Start && address + (ulong)bytes <= last.End)
                    continue;
            }
            runs[count++] = new Run { Start = address, End = address + (ulong)bytes };
        }
        return count;
    }

    private static void CheckRun(Op op, Warp warp, ulong* addresses, uint mask, int bytes, AccessMode mode, ulong start, ulong end)
    {
        BlockRunner block = warp.Block;
        GlobalMemory memory = block.Launch.Global;
        Allocation? buffer = block.Cache[op.Index];
        if (buffer is null || start < buffer.Start || end > buffer.End)
        {
            buffer = memory.Find(start, end) ?? throw OutOfBounds(op, warp, addresses, mask, bytes, memory, mode);
            block.Cache[op.Index] = buffer;
        }
        if ((mode & AccessMode.Write) != 0 && !buffer.KernelsWrite)
            buffer.KernelsWrite = true;
        uint early = mask & ~warp.GridWaited;
        if (early != 0 && buffer.KernelsWrite && block.Launch.Options.Programmatic)
            throw warp.Fault(FaultKind.MissingGridWait, op, early, start, $"{Verb(mode)} {memory.Describe(start)["at ".Length..]}, " +
                "which kernels write, before griddepcontrol.wait");
        if (end > buffer.WrittenEnd)
        {
            ulong from = Math.Max(start, buffer.WrittenEnd);
            var written = new Span<byte>(memory.Written + (from - AddressSpace.GlobalBase), (int)(end - from));
            if ((mode & AccessMode.Read) == 0)
                written.Fill(1);
            else if (block.Launch.Options.Checked && written.IndexOf((byte)0) is >= 0 and int unwritten)
                throw Unwritten(op, warp, addresses, mask, bytes, memory, from + (ulong)unwritten);
        }
        if (!block.Launch.ChecksRaces)
            return;
        AccessKind kind = (mode & AccessMode.Strong) != 0 ? AccessKind.Atomic : (mode & AccessMode.Write) != 0 ? AccessKind.Write
            : AccessKind.Read;
        long offset = (long)(start - AddressSpace.GlobalBase);
        long clash = block.Launch.Races.Touch(offset, offset + (long)(end - start), kind, (uint)block.BlockNumber);
        if (clash >= 0)
            throw Race(op, warp, addresses, mask, bytes, mode, clash);
    }

    private static void Count(ref Counter counter, Span<Run> runs, AccessMode mode)
    {
        long sectors = 0;
        long bytes = 0;
        if (runs.Length > 1)
            runs.Sort((a, b) => a.Start.CompareTo(b.Start));
        ulong end = 0;
        ulong lastSector = ulong.MaxValue;
        foreach (Run run in runs)
        {
            ulong from = Math.Max(run.Start, end);
            if (from >= run.End)
                continue;
            bytes += (long)(run.End - from);
            ulong first = from >> 5;
            ulong last = (run.End - 1) >> 5;
            sectors += (long)(last - first + 1) - (first == lastSector ? 1 : 0);
            lastSector = last;
            end = run.End;
        }
        if ((mode & AccessMode.Write) != 0)
        {
            counter.StoreRequests++;
            counter.StoreSectors += sectors;
            counter.StoreBytes += bytes;
        }
        else
        {
            counter.LoadRequests++;
            counter.LoadSectors += sectors;
            counter.LoadBytes += bytes;
        }
    }

    private static uint LaneAt(ulong* addresses, uint mask, int bytes, ulong address)
    {
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            if (address - addresses[lane] < (ulong)bytes)
                return 1u << lane;
        }
        return mask;
    }

    private static string Verb(AccessMode mode) => (mode & AccessMode.Write) == 0 ? "reads" : (mode & AccessMode.Read) == 0 ? "writes"
        : "updates";

    private static EmulatorFault Misaligned(Op op, Warp warp, ulong* addresses, uint mask, int bytes)
    {
        uint rest = mask;
        while ((addresses[BitOperations.TrailingZeroCount(rest)] & (ulong)(bytes - 1)) == 0)
            rest &= rest - 1;
        ulong address = addresses[BitOperations.TrailingZeroCount(rest)];
        return warp.Fault(FaultKind.Misaligned, op, rest, address, $"address 0x{address:X} is not a multiple of {bytes}");
    }

    private static EmulatorFault OutOfBounds(Op op, Warp warp, ulong* addresses, uint mask, int bytes, GlobalMemory memory, AccessMode mode)
    {
        uint rest = mask;
        while ((rest & (rest - 1)) != 0
            && memory.Find(addresses[BitOperations.TrailingZeroCount(rest)],
                addresses[BitOperations.TrailingZeroCount(rest)] + (ulong)bytes) is not null)
            rest &= rest - 1;
        ulong address = addresses[BitOperations.TrailingZeroCount(rest)];
        if (memory.FindFreed(address) is { } freed && memory.Find(address, address + 1) is null)
            return warp.Fault(FaultKind.UseAfterFree, op, rest,
                address, $"{Verb(mode)} {bytes} bytes at 0x{address:X} in buffer '{freed.Name}', which was freed");
        return warp.Fault(FaultKind.OutOfBounds, op, rest, address,
            $"{Verb(mode)} {bytes} bytes at 0x{address:X}, {memory.Describe(address)}");
    }

    private static EmulatorFault Unwritten(Op op, Warp warp, ulong* addresses, uint mask, int bytes, GlobalMemory memory, ulong address) =>
        warp.Fault(FaultKind.UninitializedMemory, op, LaneAt(addresses, mask, bytes, address), address,
            $"reads the byte at 0x{address:X}, {memory.Describe(address)}, which nothing wrote");

    private static EmulatorFault Race(Op op, Warp warp, ulong* addresses, uint mask, int bytes, AccessMode mode, long clash)
    {
        LaunchState launch = warp.Block.Launch;
        ulong address = (ulong)clash + AddressSpace.GlobalBase;
        long other = launch.Races.Other(clash);
        string who = other < 0 ? "several other blocks" : $"block {launch.Grid.At(other)}";
        return warp.Fault(FaultKind.GlobalRace, op, LaneAt(addresses, mask, bytes, address), address,
            $"{Verb(mode)} the byte at 0x{address:X}, {launch.Global.Describe(address)}, which {who} touched in the same launch");
    }
}
