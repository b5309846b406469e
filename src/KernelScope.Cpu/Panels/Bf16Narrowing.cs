using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>Takes values of wider types to bfloat16, and counts those that are changed by that.</summary>
/// <remarks>Any number of threads may call it.</remarks>
internal static unsafe class Bf16Narrowing
{
    private const int PieceValues = 1 << 16;

    /// <summary>Rounds to nearest, ties to even, several pieces at a time. A value that is a bfloat16 keeps every bit, also of a NaN; another NaN stays one.</summary>
    /// <param name="type">F32 or F16.</param>
    /// <param name="values">The values; need not be aligned.</param>
    /// <param name="count">How many.</param>
    /// <param name="narrow">Receives them.</param>
    /// <returns>How many are not bfloat16, so that they were changed.</returns>
    public static long Narrow(DType type, byte* values, long count, ushort* narrow)
    {
        long changed = 0;
        Parallel.For(
            0, (count + PieceValues - 1) / PieceValues, () => 0L, (piece, _, sum) =>
            {
                long first = piece * PieceValues;
                int length = (int)Math.Min(PieceValues, count - first);
                byte* from = values + (first * type.ByteSize());
                return sum + (type == DType.F32 ? NarrowSingles(from, length, narrow + first) : NarrowHalves(from, length, narrow + first));
            },
            sum => Interlocked.Add(ref changed, sum));
        return changed;
    }

    /// <summary>The bits of one float32 rounded in the same way.</summary>
    public static ushort Round(uint bits)
    {
        bool isWideNaN = (bits & 0x7FFF_FFFF) > 0x7F80_0000 && (bits & 0xFFFF) != 0;
        return (ushort)(isWideNaN ? (bits >> 16) | 0x40 : (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    private static long NarrowSingles(byte* values, int count, ushort* narrow)
    {
        var lower = Vector256.Create(0xFFFFu);
        long same = 0;
        int n = 0;
        for (; n + 16 <= count; n += 16)
        {
            Vector256<uint> a = Vector256.Load((uint*)(values + (4L * n))), b = Vector256.Load((uint*)(values + (4L * (n + 8))));
            Vector256.Narrow(Round(a), Round(b)).Store(narrow + n);
            same += Vector256.Count(a & lower, 0u) + Vector256.Count(b & lower, 0u);
        }

        long changed = n - same;
        for (; n < count; n++)
            changed += NarrowOne(Unsafe.ReadUnaligned<uint>(values + (4L * n)), narrow + n);
        return changed;
    }

    private static long NarrowHalves(byte* values, int count, ushort* narrow)
    {
        long changed = 0;
        for (int n = 0; n < count; n++)
            changed += NarrowOne(BitConverter.SingleToUInt32Bits((float)Unsafe.ReadUnaligned<Half>(values + (2L * n))), narrow + n);
        return changed;
    }

    private static int NarrowOne(uint bits, ushort* narrow)
    {
        *narrow = Round(bits);
        return (bits & 0xFFFF) == 0 ? 0 : 1;
    }

    // Where the lower half is 0 nothing is added that could reach the upper one.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> Round(Vector256<uint> bits)
    {
        Vector256<uint> upper = bits >>> 16, nearest = (bits + Vector256.Create(0x7FFFu) + (upper & Vector256<uint>.One)) >>> 16;
        // A NaN's fraction may lie wholly in the lower half; the quiet bit keeps it a NaN.
        Vector256<uint> isNaN = Vector256.GreaterThan(bits & Vector256.Create(0x7FFF_FFFFu), Vector256.Create(0x7F80_0000u));
        Vector256<uint> isWide = Vector256.GreaterThan(bits & Vector256.Create(0xFFFFu), Vector256<uint>.Zero);
        return Vector256.ConditionalSelect(isNaN & isWide, upper | Vector256.Create(0x40u), nearest);
    }
}
