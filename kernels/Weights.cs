using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>One stored value of a weight matrix, in its file's dtype.</summary>
/// <typeparam name="TSelf">The implementing type.</typeparam>
public interface IWeight<TSelf>
    where TSelf : unmanaged, IWeight<TSelf>
{
    /// <summary>The value, exactly.</summary>
    static abstract float Widen(TSelf weight);
}

/// <summary>A weight of two bytes: a 32-bit word holds two of them, the first in the low half.</summary>
/// <typeparam name="TSelf">The implementing type.</typeparam>
public interface IHalfWeight<TSelf> : IWeight<TSelf>
    where TSelf : unmanaged, IHalfWeight<TSelf>
{
    /// <summary>The first value of a word.</summary>
    static abstract float Low(uint pair);

    /// <summary>The second value of a word.</summary>
    static abstract float High(uint pair);
}

/// <summary>bfloat16: the upper half of a float32.</summary>
public struct BF16 : IHalfWeight<BF16>, IKvValue<BF16>
{
    /// <summary>The stored bits.</summary>
    public ushort Bits;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Widen(BF16 weight) => Interop.IntAsFloat((uint)weight.Bits << 16);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Low(uint pair) => Interop.IntAsFloat(pair << 16);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float High(uint pair) => Interop.IntAsFloat(pair & 0xFFFF0000u);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BF16 Narrow(float value)
    {
        uint bits = Interop.FloatAsInt(value);
        uint rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
        // A NaN whose fraction lies in the lower half alone stays one.
        return new BF16 { Bits = (ushort)(float.IsNaN(value) ? (bits >> 16) | 0x40u : rounded) };
    }
}

/// <summary>IEEE float16.</summary>
public struct F16 : IHalfWeight<F16>
{
    /// <summary>The stored bits.</summary>
    public ushort Bits;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Widen(F16 weight) => Interop.IntAsFloat(weight.Bits);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Low(uint pair) => Interop.IntAsFloat((ushort)pair);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float High(uint pair) => Interop.IntAsFloat((ushort)(pair >> 16));
}

/// <summary>float32.</summary>
public struct F32 : IKvValue<F32>
{
    /// <summary>The stored value.</summary>
    public float Value;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Widen(F32 weight) => weight.Value;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32 Narrow(float value) => new() { Value = value };
}
