using System.Buffers.Binary;

namespace KernelScope.Files;

/// <summary>The end of a zip file: where its directory lies and how many entries it holds. Classic and ZIP64 records must tell the same story.</summary>
internal readonly record struct ZipEnd(long DirectoryOffset, long DirectoryLength, long Count)
{
    private const int EndLength = 22;
    private const int LocatorLength = 20;
    private const int Zip64Length = 56;
    private static ReadOnlySpan<byte> EndMark => "PK\x05\x06"u8;
    private static ReadOnlySpan<byte> LocatorMark => "PK\x06\x07"u8;
    private static ReadOnlySpan<byte> Zip64Mark => "PK\x06\x06"u8;

    /// <summary>Finds and checks the end record.</summary>
    public static ZipEnd Read(RawFile file)
    {
        long place = Find(file, out byte[] tail, out int at);
        ReadOnlySpan<byte> end = tail.AsSpan(at, EndLength);
        if (U16(end, 4) != 0 || U16(end, 6) != 0)
            throw BadFile.At(file.Path, "this is part of a zip archive over several disks.");
        if (U16(end, 8) != U16(end, 10))
            throw BadFile.At(file.Path, "the end record of the zip counts its entries twice and differently.");
        var classic = new ZipEnd(U32(end, 16), U32(end, 12), U16(end, 10));
        bool promised = classic.Count == ushort.MaxValue || classic.DirectoryOffset == uint.MaxValue
            || classic.DirectoryLength == uint.MaxValue;
        ZipEnd real = ReadZip64(file, place, classic, promised, out long directoryEnd) ?? classic;
        if (real.DirectoryOffset < 0 || real.DirectoryLength < 0 || real.DirectoryOffset > directoryEnd
            || real.DirectoryLength != directoryEnd - real.DirectoryOffset)
            throw BadFile.At(file.Path, $"the zip directory is said to be {real.DirectoryLength} bytes at {real.DirectoryOffset}, which " +
                $"is not where the directory ends ({directoryEnd}).");
        return real;
    }

    // A record counts only if its comment ends where the file ends. Two that count would be two directories.
    private static long Find(RawFile file, out byte[] tail, out int at)
    {
        tail = new byte[Math.Min(file.Length, EndLength + ushort.MaxValue)];
        file.Read(file.Length - tail.Length, tail);
        at = -1;
        for (int i = tail.Length - EndLength; i >= 0; i--)
        {
            if (!tail.AsSpan(i).StartsWith(EndMark) || i + EndLength + U16(tail, i + 20) != tail.Length)
                continue;
            if (at >= 0)
                throw BadFile.At(file.Path, "the zip has two end records, one in the comment of the other.");
            at = i;
        }
        if (at < 0)
            throw BadFile.At(file.Path, "this is not a zip archive, or its end is missing (an incomplete download?).");
        return file.Length - tail.Length + at;
    }

    private static ZipEnd? ReadZip64(RawFile file, long endPlace, ZipEnd classic, bool promised, out long directoryEnd)
    {
        directoryEnd = endPlace;
        Span<byte> locator = stackalloc byte[LocatorLength];
        if (endPlace >= LocatorLength)
            file.Read(endPlace - LocatorLength, locator);
        if (!locator.StartsWith(LocatorMark))
        {
            // 65,535 entries or 4 GB - 1 can be true values, but a directory that says so without a ZIP64 record is far likelier cut.
            return promised ? throw BadFile.At(file.Path, "the zip's end record refers to a ZIP64 record that is not there.") : null;
        }
        // The classic record may be complete by itself; then the bytes before it may be a directory that happens to end like a locator.
        if (!promised && classic.DirectoryOffset + classic.DirectoryLength == endPlace)
            return null;
        ulong place = U64(locator, 8);
        if (place > (ulong)(endPlace - LocatorLength) || endPlace - LocatorLength - (long)place < Zip64Length)
            throw BadFile.At(file.Path, "the ZIP64 locator points to no ZIP64 record.");
        Span<byte> record = stackalloc byte[Zip64Length];
        file.Read((long)place, record);
        if (!record.StartsWith(Zip64Mark) || U64(record, 4) != (ulong)(endPlace - LocatorLength - (long)place - 12))
            throw BadFile.At(file.Path, "the ZIP64 locator points to no ZIP64 record, or to one of another length.");
        if (U32(record, 16) != 0 || U32(record, 20) != 0 || U32(locator, 4) != 0 || U64(record, 24) != U64(record, 32))
            throw BadFile.At(file.Path, "this is part of a zip archive over several disks.");
        directoryEnd = (long)place;
        var real = new ZipEnd((long)U64(record, 48), (long)U64(record, 40), (long)U64(record, 32));
        bool agrees = (classic.Count == ushort.MaxValue || classic.Count == real.Count)
            && (classic.DirectoryLength == uint.MaxValue || classic.DirectoryLength == real.DirectoryLength)
            && (classic.DirectoryOffset == uint.MaxValue || classic.DirectoryOffset == real.DirectoryOffset);
        return agrees ? real : throw BadFile.At(file.Path, "the zip's end record and its ZIP64 record contradict each other.");
    }

    internal static int U16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    internal static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    internal static ulong U64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);
}
