using System.Numerics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>A function of one value, lane by lane.</summary>
internal interface IUnary<TA, TR>
{
    static abstract TR Of(TA a);
}

/// <summary>A function of two values, lane by lane.</summary>
internal interface IBinary<TA, TB, TR>
{
    static abstract TR Of(TA a, TB b);
}

/// <summary>A function of three values, lane by lane.</summary>
internal interface ITernary<TA, TB, TC, TR>
{
    static abstract TR Of(TA a, TB b, TC c);
}

/// <summary>Applies a scalar function to every active lane.</summary>
internal sealed unsafe class LaneUnary<TA, TR, TF>(Slot d, Slot a) : Op
    where TA : unmanaged
    where TR : unmanaged
    where TF : struct, IUnary<TA, TR>
{
    public override void Execute(Warp warp, uint mask)
    {
        byte* x = warp.At(a);
        byte* r = warp.At(d);
        if (mask == FullMask)
        {
            for (int lane = 0; lane < 32; lane++)
                Lane.Set(r, lane, TF.Of(Lane.Get<TA>(x, lane)));
            return;
        }
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            Lane.Set(r, lane, TF.Of(Lane.Get<TA>(x, lane)));
        }
    }
}

/// <inheritdoc cref="LaneUnary{TA,TR,TF}"/>
internal sealed unsafe class LaneBinary<TA, TB, TR, TF>(Slot d, Slot a, Slot b) : Op
    where TA : unmanaged
    where TB : unmanaged
    where TR : unmanaged
    where TF : struct, IBinary<TA, TB, TR>
{
    public override void Execute(Warp warp, uint mask)
    {
        byte* x = warp.At(a);
        byte* y = warp.At(b);
        byte* r = warp.At(d);
        if (mask == FullMask)
        {
            for (int lane = 0; lane < 32; lane++)
                Lane.Set(r, lane, TF.Of(Lane.Get<TA>(x, lane), Lane.Get<TB>(y, lane)));
            return;
        }
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            Lane.Set(r, lane, TF.Of(Lane.Get<TA>(x, lane), Lane.Get<TB>(y, lane)));
        }
    }
}

/// <inheritdoc cref="LaneUnary{TA,TR,TF}"/>
internal sealed unsafe class LaneTernary<TA, TB, TC, TR, TF>(Slot d, Slot a, Slot b, Slot c) : Op
    where TA : unmanaged
    where TB : unmanaged
    where TC : unmanaged
    where TR : unmanaged
    where TF : struct, ITernary<TA, TB, TC, TR>
{
    public override void Execute(Warp warp, uint mask)
    {
        byte* x = warp.At(a);
        byte* y = warp.At(b);
        byte* z = warp.At(c);
        byte* r = warp.At(d);
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            Lane.Set(r, lane, TF.Of(Lane.Get<TA>(x, lane), Lane.Get<TB>(y, lane), Lane.Get<TC>(z, lane)));
        }
    }
}

/// <summary>A function chosen when the kernel was translated and called lane by lane: for the long tail, where speed does not matter.</summary>
internal sealed unsafe class LaneCall<TR>(Slot d, Slot[] sources, Func<ulong, ulong, ulong, ulong, TR> function) : Op
    where TR : unmanaged
{
    public override void Execute(Warp warp, uint mask)
    {
        byte* r = warp.At(d);
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            Lane.Set(r, lane, function(Raw(warp, 0, lane), Raw(warp, 1, lane), Raw(warp, 2, lane), Raw(warp, 3, lane)));
        }
    }

    private ulong Raw(Warp warp, int index, int lane)
    {
        if (index >= sources.Length)
            return 0;
        Slot slot = sources[index];
        if (slot.Bits == 1)
            return warp.Predicates[slot.Offset] >> lane & 1;
        return slot.Bits == 64 ? Lane.Get<ulong>(warp.At(slot), lane) : Lane.Get<uint>(warp.At(slot), lane);
    }
}
