using System.Numerics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>bar.sync, bar.arrive, bar.red and their barrier.cta forms.</summary>
internal sealed unsafe class BarrierOp(Slot number, Slot threads, bool waits, BarrierReduction reduction, Slot d, Slot p, bool negated) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        uint missing = warp.Live & ~mask;
        if (missing != 0)
        {
            if (mask == warp.Active && warp.TryYield(Index))
            {
                warp.Block.Counters[Index].Warps--;
                warp.Block.Counters[Index].Threads -= BitOperations.PopCount(mask);
                return;
            }
            throw warp.Fault(FaultKind.DivergentBarrier, this, missing, null, "does not reach this barrier with the rest of its warp");
        }
        uint id = Same(warp, mask, number, "number");
        if (id >= BlockBarriers.Count)
            throw warp.Fault(FaultKind.Trap, this, mask, null, $"barrier {id} does not exist: there are {BlockBarriers.Count}");
        uint count = threads.IsNone ? 0 : Same(warp, mask, threads, "thread count");
        if (!threads.IsNone && (count == 0 || count % 32 != 0))
            throw warp.Fault(FaultKind.Trap, this, mask, null, $"a barrier's thread count must be a multiple of 32, not {count}");
        int yes = 0;
        int no = 0;
        if (reduction != BarrierReduction.None)
        {
            uint votes = negated ? ~warp.Predicates[p.Offset] : warp.Predicates[p.Offset];
            yes = BitOperations.PopCount(votes & mask);
            no = BitOperations.PopCount(~votes & mask);
        }
        warp.Block.Barriers.Arrive(warp, this, (int)id, (int)count, waits, yes, no);
    }

    /// <summary>Gives a waiting warp the result of the reduction.</summary>
    public void Release(Warp warp, int yes, int no)
    {
        uint mask = warp.Live;
        if (reduction == BarrierReduction.Count)
        {
            for (uint rest = mask; rest != 0; rest &= rest - 1)
                ((uint*)warp.At(d))[BitOperations.TrailingZeroCount(rest)] = (uint)yes;
        }
        else if (reduction != BarrierReduction.None)
        {
            bool result = reduction == BarrierReduction.And ? no == 0 : yes > 0;
            SetPredicate.Put(warp, d, result ? FullMask : 0, mask);
        }
    }

    private uint Same(Warp warp, uint mask, Slot slot, string what)
    {
        uint* lanes = (uint*)warp.At(slot);
        uint first = lanes[BitOperations.TrailingZeroCount(mask)];
        for (uint rest = mask; rest != 0; rest &= rest - 1)
            if (lanes[BitOperations.TrailingZeroCount(rest)] != first)
                throw warp.Fault(FaultKind.DivergentBarrier,
                    this, rest, null, $"its barrier {what} differs from that of other lanes of its warp");
        return first;
    }
}
