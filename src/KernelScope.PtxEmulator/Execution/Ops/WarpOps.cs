using System.Numerics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>Rules that the warp-wide instructions share.</summary>
internal static unsafe class WarpSync
{
    /// <summary>
    /// Checks that every lane is named by its own mask and that all live lanes named are here. False when the warp ran another path first: the
    /// instruction will be executed again.
    /// </summary>
    public static bool Gather(Warp warp, Op op, uint mask, Slot members)
    {
        uint named = 0;
        uint* masks = (uint*)warp.At(members);
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            if ((masks[lane] >> lane & 1) == 0)
                throw warp.Fault(FaultKind.InactiveLane, op,
                    1u << lane, null, $"executes a warp instruction whose mask 0x{masks[lane]:X8} does not name it");
            named |= masks[lane];
        }
        CheckAgreement(warp, op, mask, masks);
        return Await(warp, op, mask, named);
    }

    /// <summary>Lanes that a mask names must give the same mask.</summary>
    private static void CheckAgreement(Warp warp, Op op, uint mask, uint* masks)
    {
        uint first = masks[BitOperations.TrailingZeroCount(mask)];
        uint different = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
            if (masks[BitOperations.TrailingZeroCount(rest)] != first)
                different |= 1u << BitOperations.TrailingZeroCount(rest);
        if (different == 0)
            return;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            for (uint others = masks[lane] & mask; others != 0; others &= others - 1)
            {
                int other = BitOperations.TrailingZeroCount(others);
                if (masks[other] != masks[lane])
                    throw warp.Fault(FaultKind.InactiveLane, op, 1u << other, null,
                        $"executes a warp instruction with mask 0x{masks[other]:X8}, and lane {lane}, which names it, with "
                            + $"0x{masks[lane]:X8}");
            }
        }
    }

    private static bool Await(Warp warp, Op op, uint mask, uint named)
    {
        uint missing = named & warp.Live & ~mask;
        if (missing == 0)
            return true;
        if (mask == warp.Active && warp.TryYield(op.Index))
        {
            ref Counter counter = ref warp.Block.Counters[op.Index];
            counter.Warps--;
            counter.Threads -= BitOperations.PopCount(mask);
            return false;
        }
        throw warp.Fault(FaultKind.InactiveLane, op, missing, null,
            $"is named by a warp instruction (mask 0x{named:X8}) that only lanes 0x{mask:X8} execute");
    }
}

internal enum ShuffleMode
{
    Up,
    Down,
    Butterfly,
    Index,
}

/// <summary>shfl.sync.</summary>
internal sealed unsafe class Shuffle(Slot d, Slot p, Slot a, Slot b, Slot c, ShuffleMode mode, Slot members) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        if (!WarpSync.Gather(warp, this, mask, members))
            return;
        uint* source = (uint*)warp.At(a);
        uint* result = stackalloc uint[32];
        uint inRange = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            (int from, bool valid) = Source(lane, Lane.Get<uint>(warp.At(b), lane), Lane.Get<uint>(warp.At(c), lane));
            if (valid)
                inRange |= 1u << lane;
            else
                from = lane;
            if ((mask >> from & 1) == 0)
                throw warp.Fault(FaultKind.InactiveLane, this, 1u << lane, null, $"reads lane {from}, which does not execute this shuffle");
            result[lane] = source[from];
        }
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            ((uint*)warp.At(d))[lane] = result[lane];
        }
        SetPredicate.Put(warp, p, inRange, mask);
    }

    /// <summary>Source lane and whether it lies in the lane's segment; c holds the segment mask in bits 8 to 12 and the clamp in bits 0 to 4.</summary>
    private (int Lane, bool InRange) Source(int lane, uint operand, uint control)
    {
        int value = (int)(operand & 31);
        int clamp = (int)(control & 31);
        int segment = (int)(control >> 8 & 31);
        int most = (lane & segment) | (clamp & ~segment);
        int least = lane & segment;
        int from = mode switch
        {
            ShuffleMode.Up => lane - value,
            ShuffleMode.Down => lane + value,
            ShuffleMode.Butterfly => lane ^ value,
            _ => least | (value & ~segment),
        };
        return (from, mode == ShuffleMode.Up ? from >= most : from <= most);
    }
}

internal enum VoteMode
{
    All,
    Any,
    Uniform,
    Ballot,
}

/// <summary>vote.sync, over the lanes that each lane's mask names.</summary>
internal sealed unsafe class Vote(Slot d, Slot a, bool negated, VoteMode mode, Slot members) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        if (!WarpSync.Gather(warp, this, mask, members))
            return;
        uint votes = warp.Predicates[a.Offset];
        if (negated)
            votes = ~votes;
        uint result = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            uint group = ((uint*)warp.At(members))[lane] & mask;
            uint yes = votes & group;
            if (mode == VoteMode.Ballot)
                ((uint*)warp.At(d))[lane] = yes;
            else if (mode switch { VoteMode.All => yes == group, VoteMode.Any => yes != 0, _ => yes == 0 || yes == group })
                result |= 1u << lane;
        }
        if (mode != VoteMode.Ballot)
            SetPredicate.Put(warp, d, result, mask);
    }
}

/// <summary>activemask.</summary>
internal sealed unsafe class ActiveMask(Slot d) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        for (uint rest = mask; rest != 0; rest &= rest - 1)
            ((uint*)warp.At(d))[BitOperations.TrailingZeroCount(rest)] = mask;
    }
}

/// <summary>match.sync: lanes with the same value (any), or all lanes if they agree (all).</summary>
internal sealed unsafe class Match(Slot d, Slot p, Slot a, bool all, Slot members) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        if (!WarpSync.Gather(warp, this, mask, members))
            return;
        uint agree = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            uint group = ((uint*)warp.At(members))[lane] & mask;
            uint same = 0;
            for (uint others = group; others != 0; others &= others - 1)
            {
                int other = BitOperations.TrailingZeroCount(others);
                if (Value(warp, other) == Value(warp, lane))
                    same |= 1u << other;
            }
            if (same == group)
                agree |= 1u << lane;
            ((uint*)warp.At(d))[lane] = !all ? same : same == group ? group : 0;
        }
        SetPredicate.Put(warp, p, agree, mask);
    }

    private ulong Value(Warp warp, int lane) => a.Bits == 64 ? Lane.Get<ulong>(warp.At(a), lane) : Lane.Get<uint>(warp.At(a), lane);
}

/// <summary>redux.sync on integers.</summary>
internal sealed unsafe class Reduce(Slot d, Slot a, AtomicFunction function, bool signed, Slot members) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        if (!WarpSync.Gather(warp, this, mask, members))
            return;
        uint* source = (uint*)warp.At(a);
        uint* result = stackalloc uint[32];
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            uint group = ((uint*)warp.At(members))[lane] & mask;
            uint value = source[BitOperations.TrailingZeroCount(group)];
            for (uint others = group & (group - 1); others != 0; others &= others - 1)
                value = Join(value, source[BitOperations.TrailingZeroCount(others)]);
            result[lane] = value;
        }
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            ((uint*)warp.At(d))[lane] = result[lane];
        }
    }

    private uint Join(uint x, uint y) => function switch
    {
        AtomicFunction.Add => x + y,
        AtomicFunction.Minimum => signed ? (uint)Math.Min((int)x, (int)y) : Math.Min(x, y),
        AtomicFunction.Maximum => signed ? (uint)Math.Max((int)x, (int)y) : Math.Max(x, y),
        AtomicFunction.And => x & y,
        AtomicFunction.Or => x | y,
        _ => x ^ y,
    };
}

/// <summary>bar.warp.sync: also orders the memory accesses of the lanes.</summary>
internal sealed class WarpBarrier(Slot members) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        if (WarpSync.Gather(warp, this, mask, members))
            warp.Block.Shared.Clock.SyncWarp(warp.Number);
    }
}
