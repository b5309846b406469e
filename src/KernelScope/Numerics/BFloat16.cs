using System.Numerics;
using System.Runtime.InteropServices;

namespace KernelScope.Numerics;

/// <summary>
/// A bfloat16 number: the upper half of an IEEE float32 (1 sign, 8 exponent and 7 fraction bits).
/// Widening is exact; narrowing rounds to nearest, ties to even, and keeps NaN a NaN.
/// </summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Bits">The 16 bits as they stand in a file.</param>
public readonly record struct BFloat16(ushort Bits)
{
    /// <summary>The exact float32 value.</summary>
    public static explicit operator float(BFloat16 value) => BitConverter.UInt32BitsToSingle((uint)value.Bits << 16);

    /// <summary>The nearest bfloat16; ties go to the even fraction, overflow goes to infinity.</summary>
    public static explicit operator BFloat16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        // A NaN's fraction may lie wholly in the lower half; the quiet bit keeps it a NaN.
        if (float.IsNaN(value))
            return new BFloat16((ushort)((bits >> 16) | 0x40));
        return new BFloat16((ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16));
    }

    /// <summary>Widens every element: destination[i] = source[i], exactly.</summary>
    /// <exception cref="ArgumentException">The spans differ in length.</exception>
    public static void Widen(ReadOnlySpan<BFloat16> source, Span<float> destination)
    {
        if (source.Length != destination.Length)
            throw new ArgumentException($"{source.Length} values do not fill {destination.Length}.", nameof(destination));
        ReadOnlySpan<ushort> bits = MemoryMarshal.Cast<BFloat16, ushort>(source);
        Span<uint> wide = MemoryMarshal.Cast<float, uint>(destination);
        int i = 0;
        for (; i <= bits.Length - Vector<ushort>.Count; i += Vector<ushort>.Count)
        {
            Vector.Widen(new Vector<ushort>(bits[i..]), out Vector<uint> low, out Vector<uint> high);
            (low << 16).CopyTo(wide[i..]);
            (high << 16).CopyTo(wide[(i + Vector<uint>.Count)..]);
        }
        for (; i < bits.Length; i++)
            wide[i] = (uint)bits[i] << 16;
    }

    /// <summary>Rounds every element to the nearest bfloat16.</summary>
    /// <exception cref="ArgumentException">The spans differ in length.</exception>
    public static void Narrow(ReadOnlySpan<float> source, Span<BFloat16> destination)
    {
        if (source.Length != destination.Length)
            throw new ArgumentException($"{source.Length} values do not fill {destination.Length}.", nameof(destination));
        for (int i = 0; i < source.Length; i++)
            destination[i] = (BFloat16)source[i];
    }

    /// <summary>The value as a decimal number.</summary>
    public override string ToString() => ((float)this).ToString(System.Globalization.CultureInfo.InvariantCulture);
}
