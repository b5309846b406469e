using System.Runtime.CompilerServices;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>A type of packed values (<see cref="PanelLayout"/>): how the weights of two inputs, for a vector of outputs, are widened to float32.</summary>
internal unsafe interface IPanelElement
{
    /// <summary>Inputs that are stored together.</summary>
    static abstract int GroupInputs { get; }

    /// <summary>Bytes of a panel for so many inputs.</summary>
    static abstract int GroupBytes { get; }

    /// <summary>Whether the panel is float32 already and can be used where it lies.</summary>
    static abstract bool IsWide { get; }

    /// <summary>Whether panels have a <see cref="PanelWindow"/>: values are then its <see cref="PanelWindow.Scale"/> too small or large, and some are missing.</summary>
    static abstract bool HasWindow { get; }

    /// <summary>The weights of an input and of the next one: pair <paramref name="pair"/> of a group.</summary>
    static abstract void Pair<S, V>(byte* group, int pair, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct;

    /// <summary>The weights of an input alone: the last of an odd number.</summary>
    static abstract V Single<S, V>(byte* group, int pair)
        where S : struct, ISimd<V>
        where V : struct;
}

/// <summary>float32: one input follows the other.</summary>
internal readonly unsafe struct PanelF32 : IPanelElement
{
    public static int GroupInputs => 2;

    public static int GroupBytes => 2 * PanelLayout.StepBytes;

    public static bool IsWide => true;

    public static bool HasWindow => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* group, int pair, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct
    {
        even = S.Load((float*)group);
        odd = S.Load((float*)(group + PanelLayout.StepBytes));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* group, int pair)
        where S : struct, ISimd<V>
        where V : struct => S.Load((float*)group);
}

/// <summary>bfloat16 pairs: a shift and a mask.</summary>
internal readonly unsafe struct PanelBf16 : IPanelElement
{
    public static int GroupInputs => 2;

    public static int GroupBytes => PanelLayout.StepBytes;

    public static bool IsWide => false;

    public static bool HasWindow => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* group, int pair, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct => S.LoadBf16Pairs(group, out even, out odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* group, int pair)
        where S : struct, ISimd<V>
        where V : struct
    {
        S.LoadBf16Pairs(group, out V even, out _);
        return even;
    }
}

/// <summary>Compact bfloat16.</summary>
internal readonly unsafe struct PanelCompact : IPanelElement
{
    public static int GroupInputs => PanelLayout.CompactInputs;

    public static int GroupBytes => PanelLayout.CompactBytes;

    public static bool IsWide => false;

    public static bool HasWindow => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* group, int pair, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct => S.WidenCompact(S.LoadCompact(group, pair), out even, out odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* group, int pair)
        where S : struct, ISimd<V>
        where V : struct
    {
        Pair<S, V>(group, pair, out V even, out _);
        return even;
    }
}

/// <summary>IEEE float16 pairs.</summary>
internal readonly unsafe struct PanelF16 : IPanelElement
{
    public static int GroupInputs => 2;

    public static int GroupBytes => PanelLayout.StepBytes;

    public static bool IsWide => false;

    public static bool HasWindow => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* group, int pair, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct => S.LoadF16Pairs(group, out even, out odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* group, int pair)
        where S : struct, ISimd<V>
        where V : struct
    {
        S.LoadF16Pairs(group, out V even, out _);
        return even;
    }
}
