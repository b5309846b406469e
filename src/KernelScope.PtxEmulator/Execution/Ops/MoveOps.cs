using System.Numerics;
using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution.Ops;

internal struct Copy<T> : IVectorUnary<T>
    where T : unmanaged
{
    public static Vector512<T> Of(Vector512<T> a) => a;
}

/// <summary>mov d, {a, b, …}: packs equal parts, lowest first.</summary>
internal sealed unsafe class Pack(Slot d, Slot[] parts, int partBits) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            ulong value = 0;
            for (int i = 0; i < parts.Length; i++)
                value |= (ulong)Lane.Get<uint>(warp.At(parts[i]), lane) << (i * partBits);
            if (d.Bits == 64)
                Lane.Set(warp.At(d), lane, value);
            else
                Lane.Set(warp.At(d), lane, (uint)value);
        }
    }
}

/// <summary>mov {a, b, …}, d: unpacks equal parts, lowest first.</summary>
internal sealed unsafe class Unpack(Slot[] parts, Slot a, int partBits) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        ulong part = (1UL << partBits) - 1;
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            ulong value = a.Bits == 64 ? Lane.Get<ulong>(warp.At(a), lane) : Lane.Get<uint>(warp.At(a), lane);
            for (int i = 0; i < parts.Length; i++)
                if (!parts[i].IsNone)
                    Lane.Set(warp.At(parts[i]), lane, (uint)(value >> (i * partBits) & part));
        }
    }
}

/// <summary>Reads of %clock, %clock64 and %globaltimer: instructions the warp has executed.</summary>
internal sealed unsafe class ReadClock(Slot d, bool upper) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        ulong now = (ulong)warp.Executed;
        for (; mask != 0; mask &= mask - 1)
        {
            int lane = BitOperations.TrailingZeroCount(mask);
            if (d.Bits == 64)
                Lane.Set(warp.At(d), lane, now);
            else
                Lane.Set(warp.At(d), lane, (uint)(upper ? now >> 32 : now));
        }
    }
}

/// <summary>A fixed 64-bit amount added: address conversions.</summary>
internal struct AddWide : IVectorBinary<ulong>
{
    public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => a + b;
}

/// <summary>add.cc, addc, sub.cc, subc: the carry lives in a predicate of its own.</summary>
internal sealed unsafe class CarryOp(Slot d, Slot a, Slot b, Slot carry, bool subtract, bool takes, bool gives) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        uint flags = warp.Predicates[carry.Offset];
        uint next = flags;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            ulong incoming = takes ? flags >> lane & 1 : 0;
            bool carried = d.Bits == 64 ? Wide(warp, lane, incoming) : Narrow(warp, lane, incoming);
            next = carried ? next | 1u << lane : next & ~(1u << lane);
        }
        if (gives)
            warp.Predicates[carry.Offset] = next;
    }

    private bool Narrow(Warp warp, int lane, ulong incoming)
    {
        ulong x = Lane.Get<uint>(warp.At(a), lane);
        ulong y = Lane.Get<uint>(warp.At(b), lane);
        ulong result = subtract ? x - y - incoming : x + y + incoming;
        Lane.Set(warp.At(d), lane, (uint)result);
        return (result >> 32 & 1) != 0;
    }

    private bool Wide(Warp warp, int lane, ulong incoming)
    {
        UInt128 x = Lane.Get<ulong>(warp.At(a), lane);
        UInt128 y = Lane.Get<ulong>(warp.At(b), lane);
        UInt128 result = subtract ? x - y - incoming : x + y + incoming;
        Lane.Set(warp.At(d), lane, (ulong)result);
        return (result >> 64 & 1) != UInt128.Zero;
    }
}

/// <summary>isspacep.</summary>
internal sealed unsafe class SpaceTest(Slot p, Slot a, Syntax.StateSpace space) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        uint result = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            ulong address = Lane.Get<ulong>(warp.At(a), lane);
            bool inside = space switch
            {
                Syntax.StateSpace.Shared => AddressSpace.IsShared(address),
                Syntax.StateSpace.Local => AddressSpace.IsLocal(address),
                Syntax.StateSpace.Param => AddressSpace.IsParam(address),
                _ => address >= AddressSpace.GlobalBase,
            };
            if (inside)
                result |= 1u << lane;
        }
        SetPredicate.Put(warp, p, result, mask);
    }
}
