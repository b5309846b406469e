using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace KernelScope.Cpu;

/// <summary>y += Σ value_n·w_n over the stored rows of active features, which lie anywhere in memory: the sparse decoder's inner loop.</summary>
/// <remarks>
/// One multiply-add per feature for every output, in the order of the list. Rows go in eights, each read from end to end, so that y is read and written once for each eight. Lines ahead are prefetched, where
/// rows end in the next eight, those of the next row of codes too: no processor guesses where they are, and eight whole rows would not stay in the first-level cache.
/// </remarks>
internal static unsafe class FeatureSum<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    private const int Group = 8;
    private const int Line = 64;

    // Bytes in each row from what is summed to what is prefetched; measured best of 0.5 to 4 kB.
    private const int Ahead = 1024;

    // Bytes by which each row is ahead of the one before: requests for the same place in all rows meet in few of the memory's banks. 4 to 8 % less time where many rows come from the last cache; more bytes
    // helped there, but cost as much where all come from memory.
    private const int Apart = 64;

    /// <summary>Adds <paramref name="count"/> features.</summary>
    /// <param name="w">The first output's weight of feature 0.</param>
    /// <param name="rowBytes">Distance of the features' rows.</param>
    /// <param name="feature">The features.</param>
    /// <param name="value">Their values.</param>
    /// <param name="count">How many there are.</param>
    /// <param name="next">The features of the next row of codes, which are prefetched.</param>
    /// <param name="nextCount">How many there are.</param>
    /// <param name="y">What is added to.</param>
    /// <param name="outputs">Number of outputs.</param>
    public static void Add<E>(byte* w, long rowBytes, int* feature, float* value, int count, int* next, int nextCount, float* y,
        int outputs)
        where E : struct, IElement
    {
        byte** rows = stackalloc byte*[2 * Group];
        for (int n = 0; n < count; n += Group)
        {
            int now = Math.Min(Group, count - n);
            for (int k = 0; k < now + Group; k++)
                rows[k] = w + (FeatureAt(n + k, feature, count, next, nextCount) * rowBytes);
            AddGroup<E>(now, rows, rows + now, value + n, y, outputs);
        }
    }

    /// <summary>The feature at a place of the list with the next row's behind it; the last one at places behind both.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int FeatureAt(int n, int* feature, int count, int* next, int nextCount) =>
        n < count ? feature[n] : nextCount > 0 ? next[Math.Min(n - count, nextCount - 1)] : feature[count - 1];

    private static void AddGroup<E>(int count, byte** rows, byte** next, float* value, float* y, int outputs)
        where E : struct, IElement
    {
        switch (count)
        {
            case 1:
                AddGroup<E, OneRow>(rows, next, value, y, outputs);
                break;
            case 2:
                AddGroup<E, TwoRows>(rows, next, value, y, outputs);
                break;
            case 3:
                AddGroup<E, ThreeRows>(rows, next, value, y, outputs);
                break;
            case 4:
                AddGroup<E, FourRows>(rows, next, value, y, outputs);
                break;
            case 5:
                AddGroup<E, FiveRows>(rows, next, value, y, outputs);
                break;
            case 6:
                AddGroup<E, SixRows>(rows, next, value, y, outputs);
                break;
            case 7:
                AddGroup<E, SevenRows>(rows, next, value, y, outputs);
                break;
            default:
                AddGroup<E, EightRows>(rows, next, value, y, outputs);
                break;
        }
    }

    // Branches on T.Rows vanish; rows that are missing have a pointer, which is not followed.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void AddGroup<E, T>(byte** rows, byte** next, float* value, float* y, int outputs)
        where E : struct, IElement
        where T : struct, IRowCount
    {
        byte* w0 = rows[0], w1 = rows[1], w2 = rows[2], w3 = rows[3], w4 = rows[4], w5 = rows[5], w6 = rows[6], w7 = rows[7];
        V c0 = S.All(value[0]), c1 = default, c2 = default, c3 = default, c4 = default, c5 = default, c6 = default, c7 = default;
        if (T.Rows > 1)
            c1 = S.All(value[1]);
        if (T.Rows > 2)
            c2 = S.All(value[2]);
        if (T.Rows > 3)
            c3 = S.All(value[3]);
        if (T.Rows > 4)
            c4 = S.All(value[4]);
        if (T.Rows > 5)
            c5 = S.All(value[5]);
        if (T.Rows > 6)
            c6 = S.All(value[6]);
        if (T.Rows > 7)
            c7 = S.All(value[7]);
        long size = (long)outputs * E.Size / Line * Line, distance = Math.Min(Ahead, size);
        int j = 0;
        for (; j + S.Lanes <= outputs; j += S.Lanes)
        {
            long at = (long)j * E.Size;
            if (at % Line == 0)
                Prefetch(rows, next, at + distance, size);
            V sum = S.MultiplyAdd(c0, E.Load<S, V>(w0 + at), S.Load(y + j));
            if (T.Rows > 1)
                sum = S.MultiplyAdd(c1, E.Load<S, V>(w1 + at), sum);
            if (T.Rows > 2)
                sum = S.MultiplyAdd(c2, E.Load<S, V>(w2 + at), sum);
            if (T.Rows > 3)
                sum = S.MultiplyAdd(c3, E.Load<S, V>(w3 + at), sum);
            if (T.Rows > 4)
                sum = S.MultiplyAdd(c4, E.Load<S, V>(w4 + at), sum);
            if (T.Rows > 5)
                sum = S.MultiplyAdd(c5, E.Load<S, V>(w5 + at), sum);
            if (T.Rows > 6)
                sum = S.MultiplyAdd(c6, E.Load<S, V>(w6 + at), sum);
            if (T.Rows > 7)
                sum = S.MultiplyAdd(c7, E.Load<S, V>(w7 + at), sum);
            S.Store(sum, y + j);
        }

        for (int n = 0; n < T.Rows && j < outputs; n++)
            RowSum<S, V>.AddTail<E>(rows[n] + ((long)j * E.Size), value[n], y + j, outputs - j);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte** rows, byte** next, long at, long size)
    {
        if (!Sse.IsSupported)
            return;
        PrefetchRow(rows, next, at, size);
        PrefetchRow(rows + 1, next + 1, at + Apart, size);
        PrefetchRow(rows + 2, next + 2, at + (2 * Apart), size);
        PrefetchRow(rows + 3, next + 3, at + (3 * Apart), size);
        PrefetchRow(rows + 4, next + 4, at + (4 * Apart), size);
        PrefetchRow(rows + 5, next + 5, at + (5 * Apart), size);
        PrefetchRow(rows + 6, next + 6, at + (6 * Apart), size);
        PrefetchRow(rows + 7, next + 7, at + (7 * Apart), size);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PrefetchRow(byte** row, byte** next, long at, long size) =>
        Sse.Prefetch0(at < size ? *row + at : *next + (at - size));
}
