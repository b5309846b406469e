using System.Numerics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>
/// cp.async: the bytes are copied at once, and marked so that touching them before their thread has waited is a fault. Fewer source bytes than
/// the copy's size leave zeros behind them.
/// </summary>
internal sealed unsafe class AsyncCopyOp(Address target, Address source, int bytes, Slot sourceBytes, bool genericTarget) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        ulong* to = stackalloc ulong[32];
        ulong* from = stackalloc ulong[32];
        int* offsets = stackalloc int[32];
        target.Compute(warp, mask, to);
        source.Compute(warp, mask, from);
        SharedMemory shared = warp.Block.Shared;
        byte* data = warp.Block.Launch.Global.Data;
        ReadOnlySpan<int> lengths = Lengths(warp, mask, stackalloc int[32]);
        CheckSource(warp, from, mask, lengths);
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            ulong address = genericTarget ? to[lane] - AddressSpace.SharedWindow : to[lane];
            int offset = shared.Range(this, warp, lane, address, bytes);
            offsets[lane] = offset;
            if (shared.Checked)
                shared.WriteLater(this, warp, lane, offset, bytes);
            warp.AsyncCopies[lane].Add(new AsyncCopy(offset, bytes, warp.AsyncGroups[lane]));
            var place = new Span<byte>(shared.Data + offset, bytes);
            place[lengths[lane]..].Clear();
            if (lengths[lane] > 0)
                new ReadOnlySpan<byte>(data + (from[lane] - AddressSpace.GlobalBase), lengths[lane]).CopyTo(place);
        }
        MemoryAccess.CountShared(ref warp.Block.Counters[Index], offsets, mask, bytes, writes: true);
    }

    private Span<int> Lengths(Warp warp, uint mask, Span<int> lengths)
    {
        lengths.Fill(bytes);
        if (sourceBytes.IsNone)
            return lengths;
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            uint length = Lane.Get<uint>(warp.At(sourceBytes), lane);
            if (length > bytes)
                throw warp.Fault(FaultKind.Trap, this, 1u << lane, null, $"cp.async copies {bytes} bytes and is asked to read {length}");
            lengths[lane] = (int)length;
        }
        return lengths;
    }

    /// <summary>Whole copies are checked together; shorter ones by bytes, since their length need not be a power of two.</summary>
    private void CheckSource(Warp warp, ulong* from, uint mask, ReadOnlySpan<int> lengths)
    {
        uint whole = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            if (lengths[lane] == bytes)
                whole |= 1u << lane;
            else if ((from[lane] & (ulong)(bytes - 1)) != 0 && lengths[lane] > 0)
                throw warp.Fault(FaultKind.Misaligned, this,
                    1u << lane, from[lane], $"address 0x{from[lane]:X} is not a multiple of {bytes}");
        }
        if (whole != 0)
            GlobalAccess.Check(this, warp, from, whole, bytes, AccessMode.Read);
        ulong* single = stackalloc ulong[32];
        for (uint rest = mask & ~whole; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            for (int i = 0; i < lengths[lane]; i++)
            {
                single[lane] = from[lane] + (ulong)i;
                GlobalAccess.Check(this, warp, single, 1u << lane, 1, AccessMode.Read);
            }
        }
    }
}

/// <summary>cp.async.commit_group.</summary>
internal sealed class AsyncCommit : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        for (; mask != 0; mask &= mask - 1)
            warp.AsyncGroups[BitOperations.TrailingZeroCount(mask)]++;
    }
}

/// <summary>cp.async.wait_group n: all but the n groups committed last have arrived; wait_all (n = -1): all, committed or not.</summary>
internal sealed class AsyncWait(int pending) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            List<AsyncCopy> copies = warp.AsyncCopies[lane];
            int limit = pending < 0 ? int.MaxValue : warp.AsyncGroups[lane] - pending;
            int arrived = 0;
            while (arrived < copies.Count && copies[arrived].Group < limit)
            {
                warp.Block.Shared.WriteArrived(warp, lane, copies[arrived].Offset, copies[arrived].Bytes);
                arrived++;
            }
            copies.RemoveRange(0, arrived);
        }
    }
}
