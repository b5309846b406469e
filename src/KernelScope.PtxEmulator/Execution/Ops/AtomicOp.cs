using System.Numerics;
using System.Runtime.CompilerServices;
using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Execution.Ops;

internal enum AtomicFunction
{
    Add,
    Minimum,
    Maximum,
    And,
    Or,
    Xor,
    Exchange,
    CompareExchange,
    Increment,
    Decrement,
}

/// <summary>atom and red on integers; lanes take their turn in order.</summary>
internal sealed unsafe class Atomic<T>(StateSpace space, Address address, AtomicFunction function, Slot target, Slot operand, Slot second)
    : Op
    where T : unmanaged, IBinaryInteger<T>
{
    public override void Execute(Warp warp, uint mask)
    {
        ulong* addresses = stackalloc ulong[32];
        byte** hosts = stackalloc byte*[32];
        address.Compute(warp, mask, addresses);
        MemoryAccess.Resolve(space, this, warp, addresses, mask, sizeof(T), AccessMode.Atomic, hosts);
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            T value = Lane.Get<T>(warp.At(operand), lane);
            T other = second.IsNone ? T.Zero : Lane.Get<T>(warp.At(second), lane);
            T old = Update((T*)hosts[lane], value, other);
            if (!target.IsNone)
                Lane.Set(warp.At(target), lane, old);
        }
    }

    private T Update(T* place, T value, T other)
    {
        while (true)
        {
            T old = *place;
            T next = function switch
            {
                AtomicFunction.Add => unchecked(old + value),
                AtomicFunction.Minimum => T.Min(old, value),
                AtomicFunction.Maximum => T.Max(old, value),
                AtomicFunction.And => old & value,
                AtomicFunction.Or => old | value,
                AtomicFunction.Xor => old ^ value,
                AtomicFunction.Exchange => value,
                AtomicFunction.CompareExchange => old == value ? other : old,
                AtomicFunction.Increment => old >= value ? T.Zero : old + T.One,
                _ => old == T.Zero || old > value ? value : old - T.One,
            };
            if (Swap(place, old, next))
                return old;
        }
    }

    private static bool Swap(T* place, T old, T next)
    {
        if (sizeof(T) == 8)
            return Interlocked.CompareExchange(ref *(long*)place, Unsafe.BitCast<T, long>(next), Unsafe.BitCast<T, long>(old))
                == Unsafe.BitCast<T, long>(old);
        return Interlocked.CompareExchange(ref *(int*)place, Unsafe.BitCast<T, int>(next), Unsafe.BitCast<T, int>(old))
            == Unsafe.BitCast<T, int>(old);
    }
}
