using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KernelScope.Cpu;

/// <summary>A stored element type: how a vector of them is widened to float32.</summary>
internal unsafe interface IElement
{
    /// <summary>Bytes of one element.</summary>
    static abstract int Size { get; }

    /// <summary>A vector of elements, at any address.</summary>
    static abstract V Load<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct;
}

/// <summary>IEEE float32.</summary>
internal readonly unsafe struct ElementF32 : IElement
{
    public static int Size => sizeof(float);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Load<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct => S.Load((float*)source);
}

/// <summary>bfloat16, widened by a shift.</summary>
internal readonly unsafe struct ElementBf16 : IElement
{
    public static int Size => sizeof(ushort);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Load<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct => S.LoadBf16(source);
}

/// <summary>IEEE float16. .NET has no vector conversion for it, so it is done on the bits.</summary>
internal readonly unsafe struct ElementF16 : IElement
{
    public static int Size => sizeof(ushort);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Load<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct => S.LoadF16(source);
}

/// <summary>IEEE float64, rounded to float32 as it is read.</summary>
internal readonly unsafe struct ElementF64 : IElement
{
    public static int Size => sizeof(double);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Load<S, V>(byte* source)
        where S : struct, ISimd<V>
        where V : struct => S.LoadF64(source);
}

/// <summary>Vectors at the end of a row, where a whole one would reach past it (and perhaps past the file).</summary>
internal static unsafe class Partial
{
    /// <summary>The first <paramref name="count"/> elements, then zeros.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static V Load<S, V, E>(byte* source, int count)
        where S : struct, ISimd<V>
        where V : struct
        where E : struct, IElement
    {
        byte* padded = stackalloc byte[16 * sizeof(double)];
        NativeMemory.Clear(padded, 16 * sizeof(double));
        NativeMemory.Copy(source, padded, (nuint)(count * E.Size));
        return E.Load<S, V>(padded);
    }

    /// <summary>Stores the first <paramref name="count"/> values.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static void Store<S, V>(V value, float* destination, int count)
        where S : struct, ISimd<V>
        where V : struct
    {
        float* whole = stackalloc float[16];
        S.Store(value, whole);
        NativeMemory.Copy(whole, destination, (nuint)(count * sizeof(float)));
    }
}
