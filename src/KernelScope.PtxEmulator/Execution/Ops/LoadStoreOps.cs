using System.Numerics;
using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>An address operand: register or literal, plus a constant.</summary>
internal readonly record struct Address(Slot Base, long Offset)
{
    public unsafe void Compute(Warp warp, uint mask, ulong* addresses)
    {
        byte* slot = warp.At(Base);
        ulong offset = (ulong)Offset;
        if (Base.Bits == 64)
            for (; mask != 0; mask &= mask - 1)
            {
                int lane = BitOperations.TrailingZeroCount(mask);
                addresses[lane] = ((ulong*)slot)[lane] + offset;
            }
        else
            for (; mask != 0; mask &= mask - 1)
            {
                int lane = BitOperations.TrailingZeroCount(mask);
                addresses[lane] = (uint)(((uint*)slot)[lane] + offset);
            }
    }
}

/// <summary>ld, of one to four elements. Elements narrower than their register are extended.</summary>
internal sealed unsafe class Load(StateSpace space, Address address, Slot[] targets, int elementBytes, bool signed, AccessMode mode) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        ulong* addresses = stackalloc ulong[32];
        byte** hosts = stackalloc byte*[32];
        address.Compute(warp, mask, addresses);
        MemoryAccess.Resolve(space, this, warp, addresses, mask, elementBytes * targets.Length, mode, hosts);
        for (int i = 0; i < targets.Length; i++)
        {
            Slot target = targets[i];
            if (target.IsNone)
                continue;
            byte* slot = warp.At(target);
            int at = i * elementBytes;
            if (elementBytes == 4 && target.Bits == 32)
                for (uint rest = mask; rest != 0; rest &= rest - 1)
                {
                    int lane = BitOperations.TrailingZeroCount(rest);
                    ((uint*)slot)[lane] = *(uint*)(hosts[lane] + at);
                }
            else
                for (uint rest = mask; rest != 0; rest &= rest - 1)
                {
                    int lane = BitOperations.TrailingZeroCount(rest);
                    SetExtended(slot, target.Bits, lane, Element(hosts[lane] + at));
                }
        }
    }

    private ulong Element(byte* host) => elementBytes switch
    {
        1 => signed ? (ulong)*(sbyte*)host : *host,
        2 => signed ? (ulong)*(short*)host : *(ushort*)host,
        4 => signed ? (ulong)*(int*)host : *(uint*)host,
        _ => *(ulong*)host,
    };

    private static void SetExtended(byte* slot, int bits, int lane, ulong value)
    {
        if (bits == 64)
            Lane.Set(slot, lane, value);
        else if (bits == 32)
            Lane.Set(slot, lane, (uint)value);
        else
            Lane.Set(slot, lane, (ushort)value);
    }
}

/// <summary>st, of one to four elements.</summary>
internal sealed unsafe class Store(StateSpace space, Address address, Slot[] sources, int elementBytes, AccessMode mode) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        ulong* addresses = stackalloc ulong[32];
        byte** hosts = stackalloc byte*[32];
        address.Compute(warp, mask, addresses);
        MemoryAccess.Resolve(space, this, warp, addresses, mask, elementBytes * sources.Length, mode, hosts);
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            byte* host = hosts[lane];
            foreach (Slot source in sources)
            {
                byte* slot = warp.At(source);
                switch (elementBytes)
                {
                    case 1:
                        *host = Lane.Get<byte>(slot, lane);
                        break;
                    case 2:
                        *(ushort*)host = Lane.Get<ushort>(slot, lane);
                        break;
                    case 4:
                        *(uint*)host = source.Bits == 64 ? (uint)Lane.Get<ulong>(slot, lane) : Lane.Get<uint>(slot, lane);
                        break;
                    default:
                        *(ulong*)host = Lane.Get<ulong>(slot, lane);
                        break;
                }
                host += elementBytes;
            }
        }
    }
}

/// <summary>ld.local of words at an offset known at translation, checked there: as inline assembly leaves them by the hundred.</summary>
internal sealed unsafe class LocalWordLoad(int offset, Slot[] targets) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        BlockRunner block = warp.Block;
        MemoryAccess.LocalWritten(this, warp, mask, offset, 4 * targets.Length, AccessMode.Read);
        byte* frames = block.Local + (long)warp.Number * 32 * block.LocalBytes + offset;
        for (int i = 0; i < targets.Length; i++, frames += 4)
        {
            uint* slot = (uint*)warp.At(targets[i]);
            for (uint rest = mask; rest != 0; rest &= rest - 1)
            {
                int lane = BitOperations.TrailingZeroCount(rest);
                slot[lane] = *(uint*)(frames + (long)lane * block.LocalBytes);
            }
        }
    }
}

/// <summary>st.local, likewise.</summary>
internal sealed unsafe class LocalWordStore(int offset, Slot[] sources) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        BlockRunner block = warp.Block;
        MemoryAccess.LocalWritten(this, warp, mask, offset, 4 * sources.Length, AccessMode.Write);
        byte* frames = block.Local + (long)warp.Number * 32 * block.LocalBytes + offset;
        for (int i = 0; i < sources.Length; i++, frames += 4)
        {
            uint* slot = (uint*)warp.At(sources[i]);
            for (uint rest = mask; rest != 0; rest &= rest - 1)
            {
                int lane = BitOperations.TrailingZeroCount(rest);
                *(uint*)(frames + (long)lane * block.LocalBytes) = slot[lane];
            }
        }
    }
}
