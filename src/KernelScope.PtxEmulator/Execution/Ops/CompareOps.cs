using System.Numerics;
using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>Comparison operators of setp and set.</summary>
internal enum Comparison
{
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,

    /// <summary>Both operands are numbers.</summary>
    Numbers,

    /// <summary>At least one is NaN.</summary>
    NotNumbers,
}

/// <summary>Compares two slots into a lane mask.</summary>
internal abstract unsafe class Comparer
{
    public abstract uint Compare(Warp warp);
}

/// <summary>Comparison in vector form, for types of 4 and 8 bytes.</summary>
internal sealed unsafe class VectorComparer<T>(Slot a, Slot b, Comparison comparison, bool unordered, bool flush = false) : Comparer
    where T : unmanaged
{
    public override uint Compare(Warp warp)
    {
        T* x = (T*)warp.At(a);
        T* y = (T*)warp.At(b);
        ulong result = 0;
        for (int lane = 0; lane < 32; lane += Vector512<T>.Count)
        {
            Vector512<T> p = Vector512.Load(x + lane);
            Vector512<T> q = Vector512.Load(y + lane);
            if (flush)
            {
                p = Single32.Flush(p.AsSingle()).As<float, T>();
                q = Single32.Flush(q.AsSingle()).As<float, T>();
            }
            result |= Of(p, q).ExtractMostSignificantBits() << lane;
        }
        return (uint)result;
    }

    private Vector512<T> Of(Vector512<T> p, Vector512<T> q)
    {
        Vector512<T> ordered = comparison switch
        {
            Comparison.Equal => Vector512.Equals(p, q),
            Comparison.NotEqual => ~Vector512.Equals(p, q) & Numbers(p, q),
            Comparison.Less => Vector512.LessThan(p, q),
            Comparison.LessEqual => Vector512.LessThanOrEqual(p, q),
            Comparison.Greater => Vector512.GreaterThan(p, q),
            Comparison.GreaterEqual => Vector512.GreaterThanOrEqual(p, q),
            Comparison.Numbers => Numbers(p, q),
            _ => ~Numbers(p, q),
        };
        return unordered ? ordered | ~Numbers(p, q) : ordered;
    }

    private static Vector512<T> Numbers(Vector512<T> p, Vector512<T> q) => Vector512.Equals(p, p) & Vector512.Equals(q, q);
}

/// <summary>Comparison of 16-bit values.</summary>
internal sealed unsafe class NarrowComparer<T>(Slot a, Slot b, Comparison comparison, bool unordered) : Comparer
    where T : unmanaged, INumber<T>
{
    public override uint Compare(Warp warp)
    {
        uint result = 0;
        for (int lane = 0; lane < 32; lane++)
            if (Of(Lane.Get<T>(warp.At(a), lane), Lane.Get<T>(warp.At(b), lane), comparison, unordered))
                result |= 1u << lane;
        return result;
    }

    public static bool Of(T x, T y, Comparison comparison, bool unordered)
    {
        bool nan = T.IsNaN(x) || T.IsNaN(y);
        if (nan)
            return unordered || comparison == Comparison.NotNumbers;
        return comparison switch
        {
            Comparison.Equal => x == y,
            Comparison.NotEqual => x != y,
            Comparison.Less => x < y,
            Comparison.LessEqual => x <= y,
            Comparison.Greater => x > y,
            Comparison.GreaterEqual => x >= y,
            Comparison.Numbers => true,
            _ => false,
        };
    }
}

/// <summary>bfloat16 operands compared as singles.</summary>
internal sealed unsafe class BrainComparer(Slot a, Slot b, Comparison comparison, bool unordered) : Comparer
{
    public override uint Compare(Warp warp)
    {
        uint result = 0;
        for (int lane = 0; lane < 32; lane++)
        {
            float x = BitConverter.UInt32BitsToSingle(Lane.Get<uint>(warp.At(a), lane) << 16);
            float y = BitConverter.UInt32BitsToSingle(Lane.Get<uint>(warp.At(b), lane) << 16);
            if (NarrowComparer<float>.Of(x, y, comparison, unordered))
                result |= 1u << lane;
        }
        return result;
    }
}

internal enum BooleanJoin
{
    None,
    And,
    Or,
    Xor,
}

/// <summary>setp: p = compare ⊕ c, q = !compare ⊕ c.</summary>
internal sealed class SetPredicate(Slot p, Slot q, Comparer comparer, BooleanJoin join, Slot other, bool otherNegated) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        uint result = comparer.Compare(warp);
        uint inverse = ~result;
        if (join != BooleanJoin.None)
        {
            uint c = warp.Predicates[other.Offset];
            if (otherNegated)
                c = ~c;
            result = Join(result, c);
            inverse = Join(inverse, c);
        }
        Put(warp, p, result, mask);
        if (!q.IsNone)
            Put(warp, q, inverse, mask);
    }

    public static void Put(Warp warp, Slot p, uint value, uint mask)
    {
        if (!p.IsNone)
            warp.Predicates[p.Offset] = (warp.Predicates[p.Offset] & ~mask) | (value & mask);
    }

    private uint Join(uint a, uint b) => join switch
    {
        BooleanJoin.And => a & b,
        BooleanJoin.Or => a | b,
        _ => a ^ b,
    };
}

/// <summary>set: all ones (or 1.0) where the comparison holds.</summary>
internal sealed unsafe class SetValue(Slot d, Comparer comparer, uint whenTrue) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        uint result = comparer.Compare(warp);
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            Lane.Set(warp.At(d), lane, (result >> lane & 1) != 0 ? whenTrue : 0u);
        }
    }
}

/// <summary>Predicate logic: and, or, xor, not and mov of predicates.</summary>
internal sealed class PredicateLogic(Slot d, Slot a, bool aNegated, Slot b, bool bNegated, Func<uint, uint, uint> function) : Op
{
    public override void Execute(Warp warp, uint mask) =>
        SetPredicate.Put(warp, d, function(Value(warp, a, aNegated), Value(warp, b, bNegated)), mask);

    private static uint Value(Warp warp, Slot slot, bool negated)
    {
        uint value = slot.IsNone ? 0 : warp.Predicates[slot.Offset];
        return negated ? ~value : value;
    }
}

/// <summary>selp.</summary>
internal sealed unsafe class Select<T>(Slot d, Slot a, Slot b, Slot p, bool negated) : Op
    where T : unmanaged
{
    public override void Execute(Warp warp, uint mask)
    {
        uint choice = warp.Predicates[p.Offset];
        if (negated)
            choice = ~choice;
        T* x = (T*)warp.At(a);
        T* y = (T*)warp.At(b);
        T* r = (T*)warp.At(d);
        for (int lane = 0; lane < 32; lane += Vector512<T>.Count)
        {
            Vector512<T> value =
                Vector512.ConditionalSelect(VectorMask.Of<T>(choice, lane), Vector512.Load(x + lane), Vector512.Load(y + lane));
            VectorMask.Store(r, lane, value, mask);
        }
    }
}

/// <summary>testp: a property of a float from its bits.</summary>
internal sealed unsafe class TestFloat(Slot p, Slot a, Func<double, bool> test, bool isDouble) : Op
{
    public override void Execute(Warp warp, uint mask)
    {
        uint result = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int lane = BitOperations.TrailingZeroCount(rest);
            double value = isDouble ? Lane.Get<double>(warp.At(a), lane) : Lane.Get<float>(warp.At(a), lane);
            if (test(value))
                result |= 1u << lane;
        }
        SetPredicate.Put(warp, p, result, mask);
    }
}
