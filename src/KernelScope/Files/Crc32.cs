using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KernelScope.Files;

/// <summary>The CRC-32 of zip: polynomial 0x04C11DB7, reflected (0xEDB88320), complemented before and after. Sixteen bytes a step by tables.</summary>
internal static class Crc32
{
    private const int Slices = 16;
    private static readonly uint[] Tables = BuildTables();

    /// <summary>Continues a checksum; start with 0.</summary>
    public static uint Append(uint crc, ReadOnlySpan<byte> data)
    {
        ref uint table = ref MemoryMarshal.GetArrayDataReference(Tables);
        crc = ~crc;
        while (data.Length >= Slices)
        {
            uint a = BinaryPrimitives.ReadUInt32LittleEndian(data) ^ crc;
            uint b = BinaryPrimitives.ReadUInt32LittleEndian(data[4..]);
            uint c = BinaryPrimitives.ReadUInt32LittleEndian(data[8..]);
            uint d = BinaryPrimitives.ReadUInt32LittleEndian(data[12..]);
            crc = Four(ref table, 12, a) ^ Four(ref table, 8, b) ^ Four(ref table, 4, c) ^ Four(ref table, 0, d);
            data = data[Slices..];
        }
        foreach (byte x in data)
            crc = Tables[(byte)(crc ^ x)] ^ (crc >> 8);
        return ~crc;
    }

    // Slice s advances a byte over s more bytes; the first byte of a word has the longest way to go.
    private static uint Four(ref uint table, int slice, uint word) =>
        Unsafe.Add(ref table, ((slice + 3) << 8) + (byte)word)
        ^ Unsafe.Add(ref table, ((slice + 2) << 8) + (byte)(word >> 8))
        ^ Unsafe.Add(ref table, ((slice + 1) << 8) + (byte)(word >> 16))
        ^ Unsafe.Add(ref table, (slice << 8) + (int)(word >> 24));

    private static uint[] BuildTables()
    {
        var tables = new uint[Slices * 256];
        for (uint i = 0; i < 256; i++)
        {
            uint crc = i;
            for (int bit = 0; bit < 8; bit++)
                crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xEDB88320 : crc >> 1;
            tables[i] = crc;
        }
        for (int i = 256; i < tables.Length; i++)
            tables[i] = (tables[i - 256] >> 8) ^ tables[(byte)tables[i - 256]];
        return tables;
    }
}
