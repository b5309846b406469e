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

/// <summary>A type of packed values whose words (four bytes) hold one or two inputs of an output, as stored rows [out, in] do.</summary>
internal interface IWordElement : IPanelElement
{
    /// <summary>Inputs of a word.</summary>
    static abstract int WordInputs { get; }

    /// <summary>Widens words to float32: their first inputs, and their second where they have two.</summary>
    static abstract void Widen<S, V>(V words, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct;
}

/// <summary>float32: one input follows the other.</summary>
internal readonly unsafe struct PanelF32 : IWordElement
{
    public static int WordInputs => 1;

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
    public static void Widen<S, V>(V words, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct
    {
        even = words;
        odd = default;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* group, int pair)
        where S : struct, ISimd<V>
        where V : struct => S.Load((float*)group);
}

/// <summary>bfloat16 pairs: a shift and a mask.</summary>
internal readonly unsafe struct PanelBf16 : IWordElement
{
    public static int WordInputs => 2;

    public static int GroupInputs => 2;

    public static int GroupBytes => PanelLayout.StepBytes;

    public static bool IsWide => false;

    public static bool HasWindow => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* group, int pair, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct => S.WidenBf16Pairs(S.Load((float*)group), out even, out odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Widen<S, V>(V words, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct => S.WidenBf16Pairs(words, out even, out odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* group, int pair)
        where S : struct, ISimd<V>
        where V : struct
    {
        Pair<S, V>(group, pair, out V even, out _);
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
internal readonly unsafe struct PanelF16 : IWordElement
{
    public static int WordInputs => 2;

    public static int GroupInputs => 2;

    public static int GroupBytes => PanelLayout.StepBytes;

    public static bool IsWide => false;

    public static bool HasWindow => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Pair<S, V>(byte* group, int pair, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct => S.WidenF16Pairs(S.Load((float*)group), out even, out odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Widen<S, V>(V words, out V even, out V odd)
        where S : struct, ISimd<V>
        where V : struct => S.WidenF16Pairs(words, out even, out odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Single<S, V>(byte* group, int pair)
        where S : struct, ISimd<V>
        where V : struct
    {
        Pair<S, V>(group, pair, out V even, out _);
        return even;
    }
}
