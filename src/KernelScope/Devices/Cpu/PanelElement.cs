using System.Runtime.CompilerServices;
using KernelScope.Files;

namespace KernelScope.Devices.Cpu;

/// <summary>A type of packed values (<see cref="PanelLayout"/>): how the weights of two inputs, for a vector of outputs, are widened to float32.</summary>
internal unsafe interface IPanelElement
{
    /// <summary>Bytes of a panel for two inputs.</summary>
    static abstract int PairBytes { get; }

    /// <summary>Whether the panel is float32 already and can be used where it lies.</summary>
    static abstract bool IsWide { get; }

    /// <summary>The weights of an input and of the next one.</summary>
    static abstract void Pair<S, V>(byte* source, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct;

    /// <summary>The weights of an input alone: the last of an odd number.</summary>
    static abstract V Single<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct;
}

/// <summary>float32: one input follows the other.</summary>
internal readonly unsafe struct PanelF32 : IPanelElement
{
    public static int PairBytes => 2 * PanelLayout.StepBytes;

    public static bool IsWide => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* source, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct
    {
        even = S.Load((float*)source);
        odd = S.Load((float*)(source + PanelLayout.StepBytes));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct => S.Load((float*)source);
}

/// <summary>bfloat16 pairs: a shift and a mask.</summary>
internal readonly unsafe struct PanelBf16 : IPanelElement
{
    public static int PairBytes => PanelLayout.StepBytes;

    public static bool IsWide => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* source, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct => S.LoadBf16Pairs(source, out even, out odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct
    {
        S.LoadBf16Pairs(source, out V even, out _);
        return even;
    }
}

/// <summary>IEEE float16 pairs.</summary>
internal readonly unsafe struct PanelF16 : IPanelElement
{
    public static int PairBytes => PanelLayout.StepBytes;

    public static bool IsWide => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* source, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct => S.LoadF16Pairs(source, out even, out odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct
    {
        S.LoadF16Pairs(source, out V even, out _);
        return even;
    }
}

/// <summary>A type of packed values that are rounded to bfloat16 as they are read: weights of <see cref="Precision.Fast"/>.</summary>
internal readonly unsafe struct RoundedPanel<E> : IPanelElement
    where E : struct, IPanelElement
{
    public static int PairBytes => E.PairBytes;

    public static bool IsWide => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* source, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct
    {
        E.Pair<S, V>(source, out even, out odd);
        even = S.RoundBf16(even);
        odd = S.RoundBf16(odd);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct => S.RoundBf16(E.Single<S, V>(source));
}
