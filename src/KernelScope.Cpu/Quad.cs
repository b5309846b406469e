using System.Runtime.CompilerServices;

namespace KernelScope.Cpu;

/// <summary>Four vectors side by side.</summary>
internal static unsafe class Quad<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(float* sums, out V a0, out V a1, out V a2, out V a3)
    {
        a0 = S.Load(sums);
        a1 = S.Load(sums + S.Lanes);
        a2 = S.Load(sums + (2 * S.Lanes));
        a3 = S.Load(sums + (3 * S.Lanes));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Add(V u, V v0, V v1, V v2, V v3, ref V a0, ref V a1, ref V a2, ref V a3)
    {
        a0 = S.MultiplyAdd(u, v0, a0);
        a1 = S.MultiplyAdd(u, v1, a1);
        a2 = S.MultiplyAdd(u, v2, a2);
        a3 = S.MultiplyAdd(u, v3, a3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(V a0, V a1, V a2, V a3, float* sums)
    {
        S.Store(a0, sums);
        S.Store(a1, sums + S.Lanes);
        S.Store(a2, sums + (2 * S.Lanes));
        S.Store(a3, sums + (3 * S.Lanes));
    }
}
