using System.Numerics;

namespace KernelScope.PtxEmulator.Execution;

internal enum BarrierReduction
{
    None,
    Count,
    And,
    Or,
}

/// <summary>The 16 barriers of a block.</summary>
internal sealed class BlockBarriers(BlockRunner block)
{
    public const int Count = 16;

    private readonly Barrier[] _barriers = new Barrier[Count];

    private struct Barrier
    {
        /// <summary>Warps that reached it, and those of them that wait.</summary>
        public uint Arrived;
        public uint Waiting;

        /// <summary>Threads it waits for; 0 for all that live.</summary>
        public int Threads;
        public Op? At;
        public int PredicateCount;
        public int PredicateFalse;
    }

    public void Reset() => Array.Clear(_barriers);

    /// <summary>A warp reaches a barrier with all its live lanes; it waits unless this completes the barrier or it only arrives.</summary>
    public void Arrive(Warp warp, Op op, int number, int threads, bool waits, int predicateCount, int predicateFalse)
    {
        ref Barrier barrier = ref _barriers[number];
        uint bit = 1u << warp.Number;
        if (barrier.Arrived == 0)
        {
            barrier.At = op;
            barrier.Threads = threads;
        }
        else if (barrier.Threads != threads)
        {
            throw warp.Fault(FaultKind.DivergentBarrier, op, warp.Active, null,
                $"reaches barrier {number} for {Say(threads)} threads while others wait at it for {Say(barrier.Threads)} (line "
                    + $"{barrier.At!.Line})");
        }
        else if (threads == 0 && barrier.At != op)
        {
            throw warp.Fault(FaultKind.DivergentBarrier, op,
                warp.Active, null, $"reaches this barrier while other threads wait at the one of line {barrier.At!.Line}");
        }
        if ((barrier.Arrived & bit) != 0)
            throw warp.Fault(FaultKind.DivergentBarrier, op, warp.Active, null, $"arrives twice at barrier {number} before it completes");
        barrier.Arrived |= bit;
        barrier.PredicateCount += predicateCount;
        barrier.PredicateFalse += predicateFalse;
        if (waits)
        {
            barrier.Waiting |= bit;
            warp.Status = WarpStatus.Waiting;
            warp.WaitingAt = op;
        }
        CompleteIfFull(number);
    }

    /// <summary>After a warp ended: barriers that wait for all live threads may be complete.</summary>
    public void WarpEnded()
    {
        for (int number = 0; number < Count; number++)
            if (_barriers[number].Arrived != 0 && _barriers[number].Threads == 0)
                CompleteIfFull(number);
    }

    private void CompleteIfFull(int number)
    {
        ref Barrier barrier = ref _barriers[number];
        bool full = barrier.Threads == 0
            ? (block.LiveWarps & ~barrier.Arrived) == 0
            : BitOperations.PopCount(barrier.Arrived) * 32 >= barrier.Threads;
        if (!full)
            return;
        Barrier done = barrier;
        barrier = default;
        block.Shared.Clock.Sync(done.Arrived, done.Waiting);
        for (uint rest = done.Waiting; rest != 0; rest &= rest - 1)
        {
            Warp warp = block.Warps[BitOperations.TrailingZeroCount(rest)];
            (warp.WaitingAt as Ops.BarrierOp)?.Release(warp, done.PredicateCount, done.PredicateFalse);
            warp.WaitingAt = null;
            warp.Status = WarpStatus.Running;
        }
        bool allWaited = done.Waiting != 0 && (block.LiveWarps & ~done.Waiting) == 0;
        if (allWaited && block.Shared.Clock.IsOld)
            block.Shared.Restart();
    }

    private static string Say(int threads) => threads == 0 ? "all" : threads.ToString(System.Globalization.CultureInfo.InvariantCulture);
}
