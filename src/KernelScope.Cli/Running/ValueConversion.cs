using System.Runtime.InteropServices;
using KernelScope.Cpu.Panels;
using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>Values from one of F32, BF16 and F16 to another: to nearest, ties to even.</summary>
/// <param name="Changed">Values that the other type does not hold.</param>
/// <param name="Beyond">Of these, finite ones that it has no finite value near: they become infinite.</param>
internal readonly record struct ValueConversion(long Changed, long Beyond)
{
    private const int PieceValues = 1 << 18;

    /// <summary>Whether values of a type can be converted.</summary>
    public static bool Covers(DType type) => type is DType.F32 or DType.BF16 or DType.F16;

    /// <summary>Converts, several pieces at a time.</summary>
    /// <param name="from">The values' type.</param>
    /// <param name="values">The values.</param>
    /// <param name="to">The type wanted.</param>
    /// <param name="destination">Receives as many; empty: they are only counted.</param>
    public static ValueConversion Convert(DType from, Memory<byte> values, DType to, Memory<byte> destination)
    {
        int count = values.Length / from.ByteSize();
        long changed = 0, beyond = 0;
        Parallel.For(0, (count + PieceValues - 1) / PieceValues, piece =>
        {
            int first = piece * PieceValues, end = Math.Min(count, first + PieceValues);
            long ownChanged = 0, ownBeyond = 0;
            Span<byte> source = values.Span, target = destination.Span;
            for (int n = first; n < end; n++)
            {
                uint bits = Widen(from, source, n);
                uint narrow = Narrow(bits, to);
                uint back = Widen(to, narrow);
                ownChanged += back == bits ? 0 : 1;
                ownBeyond += IsFinite(bits) && !IsFinite(back) ? 1 : 0;
                if (!target.IsEmpty)
                    Store(to, target, n, narrow);
            }

            Interlocked.Add(ref changed, ownChanged);
            Interlocked.Add(ref beyond, ownBeyond);
        });
        return new ValueConversion(changed, beyond);
    }

    private static bool IsFinite(uint bits) => float.IsFinite(BitConverter.UInt32BitsToSingle(bits));

    private static uint Widen(DType type, ReadOnlySpan<byte> values, int n) => type == DType.F32
        ? MemoryMarshal.Read<uint>(values[(4 * n)..])
        : Widen(type, MemoryMarshal.Read<ushort>(values[(2 * n)..]));

    private static uint Widen(DType type, uint bits) => type switch
    {
        DType.F32 => bits,
        DType.BF16 => bits << 16,
        _ => BitConverter.SingleToUInt32Bits((float)BitConverter.UInt16BitsToHalf((ushort)bits)),
    };

    private static uint Narrow(uint bits, DType to) => to switch
    {
        DType.F32 => bits,
        DType.BF16 => Bf16Narrowing.Round(bits),
        _ => BitConverter.HalfToUInt16Bits((Half)BitConverter.UInt32BitsToSingle(bits)),
    };

    private static void Store(DType type, Span<byte> destination, int n, uint bits)
    {
        if (type == DType.F32)
            MemoryMarshal.Write(destination[(4 * n)..], bits);
        else
            MemoryMarshal.Write(destination[(2 * n)..], (ushort)bits);
    }
}
