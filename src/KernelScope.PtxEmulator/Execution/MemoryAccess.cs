using System.Numerics;
using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>Checks a warp's access to any state space and finds the bytes.</summary>
internal static unsafe class MemoryAccess
{
    /// <summary>For each active lane, checks <paramref name="bytes"/> at its address, counts, and gives their place on the host.</summary>
    public static void Resolve(StateSpace space, Op op, Warp warp, ulong* addresses, uint mask, int bytes, AccessMode mode, byte** hosts)
    {
        switch (space)
        {
            case StateSpace.Global or StateSpace.Const:
                GlobalAccess.Check(op, warp, addresses, mask, bytes, mode);
                byte* data = warp.Block.Launch.Global.Data;
                for (; mask != 0; mask &= mask - 1)
                {
                    int lane = BitOperations.TrailingZeroCount(mask);
                    hosts[lane] = data + (addresses[lane] - AddressSpace.GlobalBase);
                }
                break;
            case StateSpace.Shared:
                Shared(op, warp, addresses, mask, bytes, mode, hosts);
                break;
            case StateSpace.Local:
                Local(op, warp, addresses, mask, bytes, mode, hosts);
                break;
            case StateSpace.Param:
                Param(op, warp, addresses, mask, bytes, hosts);
                break;
            default:
                Generic(op, warp, addresses, mask, bytes, mode, hosts);
                break;
        }
    }

    private static void Shared(Op op, Warp warp, ulong* addresses, uint mask, int bytes, AccessMode mode, byte** hosts)
    {
        SharedMemory shared = warp.Block.Shared;
        int* offsets = stackalloc int[32];
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            int offset = shared.Range(op, warp, lane, addresses[lane], bytes);
            offsets[lane] = offset;
            hosts[lane] = shared.Data + offset;
            if (!shared.Checked)
                continue;
            if (mode == AccessMode.Atomic)
                shared.Atomic(op, warp, lane, offset, bytes);
            else if ((mode & AccessMode.Write) != 0)
                shared.Write(op, warp, lane, offset, bytes);
            else
                shared.Read(op, warp, lane, offset, bytes);
        }
        CountShared(ref warp.Block.Counters[op.Index], offsets, mask, bytes, (mode & AccessMode.Write) != 0);
    }

    public static void CountShared(ref Counter counter, int* offsets, uint mask, int bytes, bool writes)
    {
        (int wavefronts, int least) = BankConflicts.Count(offsets, mask, bytes);
        if (writes)
        {
            counter.SharedStores++;
            counter.SharedStoreWavefronts += wavefronts;
            counter.SharedStoreExtra += wavefronts - least;
        }
        else
        {
            counter.SharedLoads++;
            counter.SharedLoadWavefronts += wavefronts;
            counter.SharedLoadExtra += wavefronts - least;
        }
    }

    private static void Local(Op op, Warp warp, ulong* addresses, uint mask, int bytes, AccessMode mode, byte** hosts)
    {
        BlockRunner block = warp.Block;
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            ulong address = addresses[lane];
            ulong offset = address - AddressSpace.LocalBase;
            if (offset > (ulong)block.LocalBytes || offset + (ulong)bytes > (ulong)block.LocalBytes)
                throw warp.Fault(FaultKind.OutOfBounds, op, 1u << lane, address,
                    $"touches {bytes} bytes at local address 0x{address:X}; the thread has 0x{AddressSpace.LocalBase:X} to "
                        + $"0x{AddressSpace.LocalBase + block.LocalBytes:X} ({block.LocalBytes} bytes)");
            if ((address & (ulong)(bytes - 1)) != 0)
                throw warp.Fault(FaultKind.Misaligned, op, 1u << lane,
                    address, $"local address 0x{address:X} is not a multiple of {bytes}");
            LocalWritten(op, warp, 1u << lane, (int)offset, bytes, mode);
            hosts[lane] = block.Local + (long)(warp.Number * 32 + lane) * block.LocalBytes + (long)offset;
        }
    }

    /// <summary>Notes or checks that lanes have written bytes of their frames.</summary>
    public static void LocalWritten(Op op, Warp warp, uint lanes, int offset, int bytes, AccessMode mode)
    {
        BlockRunner block = warp.Block;
        uint* written = block.LocalWritten + (long)warp.Number * block.LocalBytes + offset;
        for (int i = 0; i < bytes; i++)
        {
            if ((mode & AccessMode.Write) != 0)
                written[i] |= lanes;
            else if (block.Launch.Options.Checked && (lanes & ~written[i]) != 0)
                throw warp.Fault(FaultKind.UninitializedMemory, op, lanes & ~written[i], (ulong)(offset + i + AddressSpace.LocalBase),
                    $"reads the local byte at 0x{offset + i + AddressSpace.LocalBase:X}, which this thread has not written");
        }
    }

    private static void Param(Op op, Warp warp, ulong* addresses, uint mask, int bytes, byte** hosts)
    {
        BlockRunner block = warp.Block;
        int length = block.Launch.Parameters.Length;
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            ulong address = addresses[lane];
            if (address > (ulong)length || address + (ulong)bytes > (ulong)length)
                throw warp.Fault(FaultKind.OutOfBounds, op,
                    1u << lane, address, $"reads {bytes} bytes at parameter offset {address} of {length}");
            if ((address & (ulong)(bytes - 1)) != 0)
                throw warp.Fault(FaultKind.Misaligned, op, 1u << lane, address, $"parameter offset {address} is not a multiple of {bytes}");
            hosts[lane] = block.Parameters + address;
        }
    }

    private static void Generic(Op op, Warp warp, ulong* addresses, uint mask, int bytes, AccessMode mode, byte** hosts)
    {
        uint shared = 0;
        uint local = 0;
        uint param = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            ulong address = addresses[lane];
            if (AddressSpace.IsShared(address))
            {
                shared |= 1u << lane;
                addresses[lane] = address - AddressSpace.SharedWindow;
            }
            else if (AddressSpace.IsLocal(address))
            {
                local |= 1u << lane;
                addresses[lane] = address - AddressSpace.LocalWindow;
            }
            else if (AddressSpace.IsParam(address) && (mode & AccessMode.Write) == 0)
            {
                param |= 1u << lane;
                addresses[lane] = address - AddressSpace.ParamWindow;
            }
        }
        if (shared != 0)
            Shared(op, warp, addresses, shared, bytes, mode, hosts);
        if (local != 0)
            Local(op, warp, addresses, local, bytes, mode, hosts);
        if (param != 0)
            Param(op, warp, addresses, param, bytes, hosts);
        uint global = mask & ~(shared | local | param);
        if (global != 0)
            Resolve(StateSpace.Global, op, warp, addresses, global, bytes, mode, hosts);
    }
}
