using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Training.Runs;

/// <summary>Values of rows as they are stored, in f32, bf16 or f16.</summary>
internal static class RowValues
{
    /// <summary>Index of the first value that is infinite or not a number; −1 if there is none.</summary>
    public static int FirstNotFinite(DType type, ReadOnlySpan<byte> stored)
    {
        bool areFinite = type == DType.F32 ? AreFinite(MemoryMarshal.Cast<byte, int>(stored), 0x7F80_0000)
            : AreFinite(MemoryMarshal.Cast<byte, short>(stored), (short)(type == DType.BF16 ? 0x7F80 : 0x7C00));
        if (areFinite)
            return -1;
        // As signed integers the others are two ranges: from infinity on, with either sign.
        (int positive, int negative) = type switch
        {
            DType.F32 => InRanges(MemoryMarshal.Cast<byte, int>(stored), 0x7F80_0000, int.MaxValue, -0x0080_0000, -1),
            DType.BF16 => InRanges<short>(MemoryMarshal.Cast<byte, short>(stored), 0x7F80, short.MaxValue, -0x0080, -1),
            DType.F16 => InRanges<short>(MemoryMarshal.Cast<byte, short>(stored), 0x7C00, short.MaxValue, -0x0400, -1),
            _ => throw new ArgumentOutOfRangeException(nameof(type)),
        };
        return positive < 0 || negative < 0 ? Math.Max(positive, negative) : Math.Min(positive, negative);
    }

    /// <summary>Gives finite values as float32, exactly.</summary>
    public static void Widen(DType type, ReadOnlySpan<byte> stored, Span<float> destination)
    {
        switch (type)
        {
            case DType.F32:
                stored.CopyTo(MemoryMarshal.AsBytes(destination));
                break;
            case DType.BF16:
                BFloat16.Widen(MemoryMarshal.Cast<byte, BFloat16>(stored), destination);
                break;
            case DType.F16:
                WidenHalf(MemoryMarshal.Cast<byte, ushort>(stored), destination);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(type));
        }
    }

    /// <summary>Whether no value has all bits of the exponent; false, too, of values fewer than a vector has. Optimised at the first call:
    /// a run is read in few calls at first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool AreFinite<T>(ReadOnlySpan<T> bits, T infinity) where T : unmanaged
    {
        int width = Vector<T>.Count, last = bits.Length - width;
        if (last < 0)
            return false;
        ref T first = ref MemoryMarshal.GetReference(bits);
        var exponent = new Vector<T>(infinity);
        // The last ones first; some of them are seen twice.
        Vector<T> found = Vector.Equals(Vector.LoadUnsafe(ref first, (nuint)last) & exponent, exponent);
        for (int i = 0; i <= last; i += width)
            found |= Vector.Equals(Vector.LoadUnsafe(ref first, (nuint)i) & exponent, exponent);
        return found == Vector<T>.Zero;
    }

    private static (int Positive, int Negative) InRanges<T>(ReadOnlySpan<T> bits, T low, T high, T negativeLow, T negativeHigh)
        where T : IComparable<T> => (bits.IndexOfAnyInRange(low, high), bits.IndexOfAnyInRange(negativeLow, negativeHigh));

    /// <summary>Exponent and fraction move to where float32 has them, and the bias of the exponent is made good by a factor of 2¹¹²:
    /// exact, for subnormal values too.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenHalf(ReadOnlySpan<ushort> bits, Span<float> destination)
    {
        const float Bias = 5192296858534827628530496329220096f;
        int i = 0;
        for (; i <= bits.Length - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
        {
            (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.Create(bits[i..]));
            Widened(low).CopyTo(destination[i..]);
            Widened(high).CopyTo(destination[(i + Vector256<uint>.Count)..]);
        }

        for (; i < bits.Length; i++)
            destination[i] = (float)BitConverter.UInt16BitsToHalf(bits[i]);

        static Vector256<float> Widened(Vector256<uint> half) =>
            (((half & Vector256.Create(0x7FFFu)) << 13).AsSingle() * Bias) | ((half & Vector256.Create(0x8000u)) << 16).AsSingle();
    }
}
