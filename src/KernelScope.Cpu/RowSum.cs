using System.Runtime.CompilerServices;

namespace KernelScope.Cpu;

/// <summary>y += c·w for stored rows w: what attention's mix and the sparse decoder are made of. One multiply-add per row, in the order of the rows.</summary>
internal static unsafe class RowSum<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>Four rows, so that y is read and written once for all of them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddFour<E>(byte* w0, byte* w1, byte* w2, byte* w3, float* c, float* y, int count)
        where E : struct, IElement
    {
        V c0 = S.All(c[0]), c1 = S.All(c[1]), c2 = S.All(c[2]), c3 = S.All(c[3]);
        int j = 0;
        for (; j + S.Lanes <= count; j += S.Lanes)
        {
            long at = (long)j * E.Size;
            V sum = S.MultiplyAdd(c0, E.Load<S, V>(w0 + at), S.Load(y + j));
            sum = S.MultiplyAdd(c1, E.Load<S, V>(w1 + at), sum);
            sum = S.MultiplyAdd(c2, E.Load<S, V>(w2 + at), sum);
            S.Store(S.MultiplyAdd(c3, E.Load<S, V>(w3 + at), sum), y + j);
        }

        if (j < count)
        {
            long at = (long)j * E.Size;
            AddTail<E>(w0 + at, c[0], y + j, count - j);
            AddTail<E>(w1 + at, c[1], y + j, count - j);
            AddTail<E>(w2 + at, c[2], y + j, count - j);
            AddTail<E>(w3 + at, c[3], y + j, count - j);
        }
    }

    /// <summary>One row.</summary>
    public static void AddOne<E>(byte* w, float c, float* y, int count)
        where E : struct, IElement
    {
        int j = 0;
        for (; j + S.Lanes <= count; j += S.Lanes)
            S.Store(S.MultiplyAdd(S.All(c), E.Load<S, V>(w + ((long)j * E.Size)), S.Load(y + j)), y + j);
        if (j < count)
            AddTail<E>(w + ((long)j * E.Size), c, y + j, count - j);
    }

    /// <summary>The last values of a row, fewer than a vector.</summary>
    public static void AddTail<E>(byte* w, float c, float* y, int count)
        where E : struct, IElement
    {
        V sum = S.MultiplyAdd(S.All(c), Partial.Load<S, V, E>(w, count), Partial.Load<S, V, ElementF32>((byte*)y, count));
        Partial.Store<S, V>(sum, y, count);
    }
}
