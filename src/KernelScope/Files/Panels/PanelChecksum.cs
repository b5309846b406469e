using System.Buffers.Binary;
using System.Numerics;

namespace KernelScope.Files;

/// <summary>The checksum of a panel or of a table: CRC-32C of four interleaved streams of 64-bit words, then of the four results. Four do not wait for each other, so that reading them is what takes the time.</summary>
internal static class PanelChecksum
{
    private const int StepBytes = 4 * sizeof(ulong);

    /// <summary>The checksum of bytes whose number is a multiple of 32, as those of panels and tables are.</summary>
    public static uint Of(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length % StepBytes != 0) throw new ArgumentException($"{bytes.Length} bytes are no whole steps of {StepBytes}.", nameof(bytes));
        uint a = uint.MaxValue, b = uint.MaxValue, c = uint.MaxValue, d = uint.MaxValue;
        for (; bytes.Length >= StepBytes; bytes = bytes[StepBytes..])
        {
            a = BitOperations.Crc32C(a, BinaryPrimitives.ReadUInt64LittleEndian(bytes));
            b = BitOperations.Crc32C(b, BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]));
            c = BitOperations.Crc32C(c, BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]));
            d = BitOperations.Crc32C(d, BinaryPrimitives.ReadUInt64LittleEndian(bytes[24..]));
        }

        return BitOperations.Crc32C(BitOperations.Crc32C(BitOperations.Crc32C(BitOperations.Crc32C(uint.MaxValue, a), b), c), d);
    }
}
