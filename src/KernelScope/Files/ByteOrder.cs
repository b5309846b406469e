using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace KernelScope.Files;

/// <summary>Turns big-endian elements into little-endian ones.</summary>
internal static class ByteOrder
{
    /// <summary>Turns whole elements round, in place. A complex number is two numbers.</summary>
    public static void Reverse(Span<byte> elements, DType type)
    {
        switch (type is DType.C64 or DType.C128 ? type.ByteSize() / 2 : type.ByteSize())
        {
            case sizeof(ushort):
                Span<ushort> narrow = MemoryMarshal.Cast<byte, ushort>(elements);
                BinaryPrimitives.ReverseEndianness(narrow, narrow);
                break;
            case sizeof(uint):
                Span<uint> single = MemoryMarshal.Cast<byte, uint>(elements);
                BinaryPrimitives.ReverseEndianness(single, single);
                break;
            case sizeof(ulong):
                Span<ulong> wide = MemoryMarshal.Cast<byte, ulong>(elements);
                BinaryPrimitives.ReverseEndianness(wide, wide);
                break;
        }
    }
}
