namespace KernelScope.Cpu;

/// <summary>y += c·w for stored rows w: what attention's mix and the sparse decoder are made of. One multiply-add per row, in the order of the rows.</summary>
internal static unsafe class RowSum<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
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
