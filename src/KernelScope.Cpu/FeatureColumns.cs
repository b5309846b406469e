using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace KernelScope.Cpu;

/// <summary>y += Σ value_n·w_n over float32 rows of active features, which lie anywhere in memory, for blocks of outputs that registers hold.</summary>
/// <remarks>
/// One multiply-add per feature for every output, in the order of the list: the bits of <see cref="FeatureSum{S, V}"/>. A row gives 24 lines at a time while a third of the fifth row after it is prefetched:
/// the processor's own prefetchers then bring the lines between, and prefetching all took 8 % more time. It took 15 % less than whole rows, whatever the alignment; for bfloat16 10 % more, since the instructions
/// that widen leave the processor no room to run ahead.
/// </remarks>
internal static unsafe class FeatureColumns<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    // With the value, what 32 registers hold.
    private const int Vectors = 24;
    private const int Line = 64;

    // Features from the one that is summed to the one that is prefetched; measured best of 1 to 24.
    private const int Ahead = 5;

    /// <summary>Adds <paramref name="count"/> features to the outputs that make whole blocks, none where the registers are too few or too short.</summary>
    /// <param name="w">The first output's weight of feature 0.</param>
    /// <param name="rowBytes">Distance of the features' rows.</param>
    /// <param name="feature">The features.</param>
    /// <param name="value">Their values.</param>
    /// <param name="count">How many there are.</param>
    /// <param name="next">The features of the next row of codes, which are prefetched.</param>
    /// <param name="nextCount">How many there are.</param>
    /// <param name="y">What is added to.</param>
    /// <param name="outputs">Number of outputs.</param>
    /// <returns>Number of outputs that were added to, from the first on.</returns>
    public static int Add(byte* w, long rowBytes, int* feature, float* value, int count, int* next, int nextCount, float* y, int outputs)
    {
        int block = Vectors * S.Lanes, j = 0;
        if (S.Lanes * sizeof(float) != Line)
            return 0;
        for (; j + block <= outputs; j += block)
        {
            // After the last block come the next features, from their first outputs on.
            bool last = j + (2 * block) > outputs;
            byte* here = w + ((long)j * sizeof(float));
            AddBlock(here, rowBytes, feature, value, count, last ? w : here + (block * sizeof(float)), last ? next : feature,
                last ? nextCount : count, y + j);
        }

        return j;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void AddBlock(byte* w, long rowBytes, int* feature, float* value, int count, byte* then, int* thenFeature,
        int thenCount, float* y)
    {
        V s0 = S.Load(y), s1 = S.Load(y + S.Lanes), s2 = S.Load(y + (2 * S.Lanes)), s3 = S.Load(y + (3 * S.Lanes)),
            s4 = S.Load(y + (4 * S.Lanes)), s5 = S.Load(y + (5 * S.Lanes)),
            s6 = S.Load(y + (6 * S.Lanes)), s7 = S.Load(y + (7 * S.Lanes)), s8 = S.Load(y + (8 * S.Lanes)), s9 = S.Load(y + (9 * S.Lanes)),
                s10 = S.Load(y + (10 * S.Lanes)), s11 = S.Load(y + (11 * S.Lanes)),
            s12 = S.Load(y + (12 * S.Lanes)), s13 = S.Load(y + (13 * S.Lanes)), s14 = S.Load(y + (14 * S.Lanes)),
                s15 = S.Load(y + (15 * S.Lanes)), s16 = S.Load(y + (16 * S.Lanes)), s17 = S.Load(y + (17 * S.Lanes)),
            s18 = S.Load(y + (18 * S.Lanes)), s19 = S.Load(y + (19 * S.Lanes)), s20 = S.Load(y + (20 * S.Lanes)),
                s21 = S.Load(y + (21 * S.Lanes)), s22 = S.Load(y + (22 * S.Lanes)), s23 = S.Load(y + (23 * S.Lanes));
        for (int n = 0; n < count; n++)
        {
            byte* row = w + (feature[n] * rowBytes), ahead = row;
            int next = n + Ahead - count;
            if (next < 0)
                ahead = w + (feature[n + Ahead] * rowBytes);
            else if (next < thenCount)
                ahead = then + (thenFeature[next] * rowBytes);
            V c = S.All(value[n]);
            s0 = AddPrefetching(c, row, ahead, s0);
            s1 = Add(c, row + Line, s1);
            s2 = Add(c, row + (2 * Line), s2);
            s3 = AddPrefetching(c, row + (3 * Line), ahead + (3 * Line), s3);
            s4 = Add(c, row + (4 * Line), s4);
            s5 = Add(c, row + (5 * Line), s5);
            s6 = AddPrefetching(c, row + (6 * Line), ahead + (6 * Line), s6);
            s7 = Add(c, row + (7 * Line), s7);
            s8 = Add(c, row + (8 * Line), s8);
            s9 = AddPrefetching(c, row + (9 * Line), ahead + (9 * Line), s9);
            s10 = Add(c, row + (10 * Line), s10);
            s11 = Add(c, row + (11 * Line), s11);
            s12 = AddPrefetching(c, row + (12 * Line), ahead + (12 * Line), s12);
            s13 = Add(c, row + (13 * Line), s13);
            s14 = Add(c, row + (14 * Line), s14);
            s15 = AddPrefetching(c, row + (15 * Line), ahead + (15 * Line), s15);
            s16 = Add(c, row + (16 * Line), s16);
            s17 = Add(c, row + (17 * Line), s17);
            s18 = AddPrefetching(c, row + (18 * Line), ahead + (18 * Line), s18);
            s19 = Add(c, row + (19 * Line), s19);
            s20 = Add(c, row + (20 * Line), s20);
            s21 = AddPrefetching(c, row + (21 * Line), ahead + (21 * Line), s21);
            s22 = Add(c, row + (22 * Line), s22);
            s23 = Add(c, row + (23 * Line), s23);
        }

        S.Store(s0, y);
        S.Store(s1, y + S.Lanes);
        S.Store(s2, y + (2 * S.Lanes));
        S.Store(s3, y + (3 * S.Lanes));
        S.Store(s4, y + (4 * S.Lanes));
        S.Store(s5, y + (5 * S.Lanes));
        S.Store(s6, y + (6 * S.Lanes));
        S.Store(s7, y + (7 * S.Lanes));
        S.Store(s8, y + (8 * S.Lanes));
        S.Store(s9, y + (9 * S.Lanes));
        S.Store(s10, y + (10 * S.Lanes));
        S.Store(s11, y + (11 * S.Lanes));
        S.Store(s12, y + (12 * S.Lanes));
        S.Store(s13, y + (13 * S.Lanes));
        S.Store(s14, y + (14 * S.Lanes));
        S.Store(s15, y + (15 * S.Lanes));
        S.Store(s16, y + (16 * S.Lanes));
        S.Store(s17, y + (17 * S.Lanes));
        S.Store(s18, y + (18 * S.Lanes));
        S.Store(s19, y + (19 * S.Lanes));
        S.Store(s20, y + (20 * S.Lanes));
        S.Store(s21, y + (21 * S.Lanes));
        S.Store(s22, y + (22 * S.Lanes));
        S.Store(s23, y + (23 * S.Lanes));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V AddPrefetching(V c, byte* w, byte* ahead, V sum)
    {
        if (Sse.IsSupported)
            Sse.Prefetch0(ahead);
        return Add(c, w, sum);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V Add(V c, byte* w, V sum) => S.MultiplyAdd(c, S.Load((float*)w), sum);
}
