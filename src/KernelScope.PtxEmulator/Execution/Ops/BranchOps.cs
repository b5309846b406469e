using System.Numerics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>bra. A target that only returns ends the lanes at once, as the predicated exit does that compilers make of it.</summary>
internal sealed class Branch(bool uniform) : Op
{
    /// <summary>Index of the target, set when all instructions are known.</summary>
    public int Target { get; set; }

    /// <summary>Index where both sides meet again, -1 for nowhere.</summary>
    public int Meet { get; set; } = -1;

    public bool TargetExits { get; set; }

    public bool NextExits { get; set; }

    public override void Execute(Warp warp, uint mask)
    {
        uint others = warp.Active & ~mask;
        if (others != 0)
        {
            if (uniform)
                throw warp.Fault(FaultKind.DivergentUniformBranch,
                    this, others, null, "does not take a branch marked .uni that other lanes of its warp take");
            warp.Block.Counters[Index].Divergences++;
        }
        if (TargetExits)
        {
            warp.Exit(mask);
        }
        else if (others == 0)
        {
            warp.Pc = Target;
        }
        else if (NextExits)
        {
            warp.Exit(others);
            warp.Pc = Target;
        }
        else
        {
            warp.Split(mask, Target, Meet);
        }
    }
}

/// <summary>brx.idx.</summary>
internal sealed unsafe class IndexedBranch(Slot index, bool uniform) : Op
{
    public int[] Targets { get; set; } = [];

    public int Meet { get; set; } = -1;

    public override void Execute(Warp warp, uint mask)
    {
        uint* indices = (uint*)warp.At(index);
        if (mask != warp.Active)
            throw warp.Fault(FaultKind.Trap, this, mask, null, "executes a guarded brx.idx with some of its lanes, which is not supported");
        int lane = BitOperations.TrailingZeroCount(mask);
        uint choice = indices[lane];
        if (choice >= Targets.Length)
            throw warp.Fault(FaultKind.Trap, this, 1u << lane, null, $"branches to entry {choice} of a list of {Targets.Length}");
        uint same = 0;
        for (uint others = mask; others != 0; others &= others - 1)
            if (indices[BitOperations.TrailingZeroCount(others)] == choice)
                same |= 1u << BitOperations.TrailingZeroCount(others);
        if (same == mask)
        {
            warp.Pc = Targets[choice];
            return;
        }
        if (uniform)
            throw warp.Fault(FaultKind.DivergentUniformBranch,
                this, mask & ~same, null, "takes another entry of a brx.idx marked .uni than other lanes of its warp");
        warp.Block.Counters[Index].Divergences++;
        // The lanes left behind come back to this instruction and branch in their turn.
        warp.Pc = Index;
        warp.Split(same, Targets[choice], Meet);
    }
}

/// <summary>ret of the kernel, and exit.</summary>
internal sealed class ExitOp : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        uint early = mask & ~warp.GridWaited;
        if (early != 0 && warp.Block.Launch.Options.Programmatic)
            throw warp.Fault(FaultKind.MissingGridWait, this, early, null, "ends without griddepcontrol.wait");
        warp.Exit(mask);
    }
}

/// <summary>griddepcontrol.wait: the launches before have ended already.</summary>
internal sealed class GridWait : Op
{
    public override void Execute(Warp warp, uint mask) => warp.GridWaited |= mask;
}

/// <summary>prefetch: the address must lie in a buffer.</summary>
internal sealed unsafe class Prefetch(Address address) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        ulong* addresses = stackalloc ulong[32];
        address.Compute(warp, mask, addresses);
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            if (warp.Block.Launch.Global.Find(addresses[lane], addresses[lane] + 1) is null)
                throw warp.Fault(FaultKind.OutOfBounds, this, 1u << lane, addresses[lane],
                    $"asks for 0x{addresses[lane]:X}, {warp.Block.Launch.Global.Describe(addresses[lane])}");
        }
    }
}

/// <summary>trap and brkpt.</summary>
internal sealed class TrapOp(string what) : Op
{
    public override void Execute(Warp warp, uint mask) => throw warp.Fault(FaultKind.Trap, this, mask, null, $"executes {what}");
}

/// <summary>Fences and hints: nothing to do here, since accesses take effect in order.</summary>
internal sealed class NoOp : Op
{
    public override void Execute(Warp warp, uint mask)
    {
    }
}
