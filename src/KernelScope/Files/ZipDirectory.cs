using System.Text;
using static KernelScope.Files.ZipEnd;

namespace KernelScope.Files;

/// <summary>An entry of a zip whose every claim was checked against the file.</summary>
/// <param name="Name">The name, as stored.</param>
/// <param name="Deflated">Whether the data is a DEFLATE stream; else it is stored.</param>
/// <param name="Crc">CRC-32 of the plain data, as claimed.</param>
/// <param name="DataOffset">Where the data begins in the file.</param>
/// <param name="StoredLength">Bytes in the file.</param>
/// <param name="Length">Bytes of the plain data, as claimed.</param>
internal sealed record ZipEntry(string Name, bool Deflated, uint Crc, long DataOffset, long StoredLength, long Length);

/// <summary>
/// The directory of a zip file, for reading arrays in place. The directory decides, and everything else must agree with it:
/// local headers, data descriptors, counts. Entries may not share bytes. What two readers could read differently is refused.
/// </summary>
internal static class ZipDirectory
{
    private const int CentralLength = 46;
    private const int LocalLength = 30;
    private const int MethodStored = 0;
    private const int MethodDeflate = 8;
    private const int FlagDescriptor = 1 << 3;
    private const int FlagUtf8 = 1 << 11;
    // Encryption (0, 6, 13) and patches (5): the bytes are not the data.
    private const int FlagsRefused = 1 | (1 << 5) | (1 << 6) | (1 << 13);
    // DEFLATE's best: 258 bytes for 2 bits.
    private const int MaxExpansion = 1032;
    // A directory is held in memory as a whole; 16 MB are 65,535 entries of 256 bytes.
    private const int MaxLength = 1 << 24;

    /// <summary>Reads and checks the whole directory. Entries come in its order.</summary>
    public static List<ZipEntry> Read(RawFile file)
    {
        ZipEnd end = ZipEnd.Read(file);
        if (end.DirectoryLength > MaxLength)
            throw BadFile.At(file.Path, $"the zip directory has {end.DirectoryLength} bytes, over the limit of {MaxLength}.");
        byte[] directory = new byte[end.DirectoryLength];
        file.Read(end.DirectoryOffset, directory);

        var entries = new List<ZipEntry>();
        var ranges = new List<(long Begin, long End, string Name)>();
        int at = 0;
        while (at < directory.Length)
        {
            if (entries.Count == end.Count)
                throw BadFile.At(file.Path, $"the zip's end record counts {end.Count} entries, but the directory holds more.");
            ReadOnlySpan<byte> record = Next(file, directory, ref at);
            CentralFields fields = ParseCentral(file, record);
            (ZipEntry entry, long endOfEntry) = CheckLocal(file, fields, end.DirectoryOffset);
            entries.Add(entry);
            ranges.Add((fields.LocalOffset, endOfEntry, entry.Name));
        }
        if (entries.Count != end.Count)
            throw BadFile.At(file.Path, $"the zip's end record counts {end.Count} entries, but the directory holds {entries.Count}.");
        CheckOverlaps(file, ranges);
        return entries;
    }

    private readonly record struct CentralFields(string Name, byte[] RawName, int Flags, int Method, uint Crc, long StoredLength,
        long Length, long LocalOffset);

    private static ReadOnlySpan<byte> Next(RawFile file, ReadOnlySpan<byte> directory, ref int at)
    {
        ReadOnlySpan<byte> rest = directory[at..];
        if (rest.Length < CentralLength || !rest.StartsWith("PK\x01\x02"u8))
            throw BadFile.At(file.Path, $"there is no zip directory entry at byte {at} of the directory.");
        int length = CentralLength + U16(rest, 28) + U16(rest, 30) + U16(rest, 32);
        if (length > rest.Length)
            throw BadFile.At(file.Path, $"the zip directory entry at byte {at} of the directory is cut.");
        at += length;
        return rest[..length];
    }

    private static CentralFields ParseCentral(RawFile file, ReadOnlySpan<byte> record)
    {
        int flags = U16(record, 8), method = U16(record, 10), nameLength = U16(record, 28), extraLength = U16(record, 30);
        byte[] rawName = record.Slice(CentralLength, nameLength).ToArray();
        string name = DecodeName(file, rawName, flags);
        if ((flags & FlagsRefused) != 0)
            throw Bad(file, name, "is encrypted or patched");
        if (method is not (MethodStored or MethodDeflate))
            throw Bad(file, name, $"is compressed by method {method}; only stored and deflated (0 and 8) are known");
        if (U16(record, 34) is not (0 or ushort.MaxValue))
            throw Bad(file, name, "lies on another disk");

        uint stored = U32(record, 20), plain = U32(record, 24), offset = U32(record, 42);
        Span<ulong> wide = [plain, stored, offset];
        Zip64Extra(file, name, record.Slice(CentralLength + nameLength, extraLength), wide,
            [plain == uint.MaxValue, stored == uint.MaxValue, offset == uint.MaxValue]);
        if (wide[0] > long.MaxValue || wide[1] > long.MaxValue || wide[2] > long.MaxValue)
            throw Bad(file, name, "has sizes or an offset over 2^63");
        long storedLength = (long)wide[1], length = (long)wide[0];
        if (method == MethodStored && storedLength != length)
            throw Bad(file, name, $"is stored, yet {storedLength} bytes are said to hold {length}");
        if (method == MethodDeflate && length / MaxExpansion > storedLength)
            throw Bad(file, name, $"is said to expand from {storedLength} bytes to {length}; DEFLATE expands at most {MaxExpansion} times");
        return new CentralFields(name, rawName, flags, method, U32(record, 16), storedLength, length, (long)wide[2]);
    }

    /// <summary>Replaces the values that are marked wide by those of the ZIP64 extra field, in its fixed order. A cut or missing field is refused.</summary>
    private static void Zip64Extra(RawFile file, string name, ReadOnlySpan<byte> extra, Span<ulong> values, ReadOnlySpan<bool> wide)
    {
        bool found = false;
        while (extra.Length > 0)
        {
            if (extra.Length < 4 || 4 + U16(extra, 2) > extra.Length)
                throw Bad(file, name, "has an extra field that does not fit the extra area");
            ReadOnlySpan<byte> body = extra.Slice(4, U16(extra, 2));
            if (U16(extra, 0) == 1)
            {
                if (found)
                    throw Bad(file, name, "has two ZIP64 fields");
                found = true;
                for (int i = 0; i < values.Length; i++)
                {
                    if (!wide[i])
                        continue;
                    if (body.Length < 8)
                        throw Bad(file, name, "has a ZIP64 field that is cut");
                    values[i] = U64(body, 0);
                    body = body[8..];
                }
            }
            extra = extra[(4 + U16(extra, 2))..];
        }
        if (!found && wide.Contains(true))
            throw Bad(file, name, "has sizes or an offset of 4 GB - 1 and no ZIP64 field");
    }

    // The local header before the data must say what the directory says.
    private static (ZipEntry Entry, long End) CheckLocal(RawFile file, CentralFields central, long limit)
    {
        string name = central.Name;
        if (central.LocalOffset > limit - LocalLength)
            throw Bad(file, name, $"is said to begin at byte {central.LocalOffset}, behind the data of the zip");
        Span<byte> header = stackalloc byte[LocalLength];
        file.Read(central.LocalOffset, header);
        if (!header.StartsWith("PK\x03\x04"u8))
            throw Bad(file, name, $"has no local header at byte {central.LocalOffset}");
        int nameLength = U16(header, 26), extraLength = U16(header, 28), flags = U16(header, 6);
        long dataOffset = central.LocalOffset + LocalLength + nameLength + extraLength;
        if (dataOffset > limit || central.StoredLength > limit - dataOffset)
            throw Bad(file, name, $"claims {central.StoredLength} bytes at {dataOffset}, but the data of the zip ends at {limit}");

        byte[] variable = new byte[nameLength + extraLength];
        file.Read(central.LocalOffset + LocalLength, variable);
        if (!variable.AsSpan(0, nameLength).SequenceEqual(central.RawName))
            throw Bad(file, name, "has another name in its local header");
        if (U16(header, 8) != central.Method || ((flags ^ central.Flags) & (FlagDescriptor | FlagUtf8 | FlagsRefused)) != 0)
            throw Bad(file, name, "has another method or other flags in its local header");

        uint stored = U32(header, 18), plain = U32(header, 22);
        Span<ulong> sizes = [plain, stored];
        Zip64Extra(file, name, variable.AsSpan(nameLength), sizes, [plain == uint.MaxValue, stored == uint.MaxValue]);
        bool described = (flags & FlagDescriptor) != 0;
        bool agrees = U32(header, 14) == central.Crc && sizes[0] == (ulong)central.Length && sizes[1] == (ulong)central.StoredLength;
        bool blank = U32(header, 14) == 0 && sizes[0] == 0 && sizes[1] == 0;
        if (!agrees && !(described && blank))
            throw Bad(file, name, "has other sizes or another checksum in its local header");

        long end = dataOffset + central.StoredLength;
        if (described)
            end += DescriptorLength(file, central, end, limit);
        return (new ZipEntry(name, central.Method == MethodDeflate, central.Crc, dataOffset, central.StoredLength, central.Length), end);
    }

    // Four forms are in use: with and without a mark, with sizes of 4 and of 8 bytes.
    private static int DescriptorLength(RawFile file, CentralFields central, long at, long limit)
    {
        Span<byte> bytes = stackalloc byte[24];
        int present = (int)Math.Min(bytes.Length, limit - at);
        file.Read(at, bytes[..present]);
        foreach (int mark in (ReadOnlySpan<int>)[4, 0])
        {
            if (mark > 0 && !bytes.StartsWith("PK\x07\x08"u8))
                continue;
            bool crc = present >= mark + 4 && U32(bytes, mark) == central.Crc;
            if (crc && present >= mark + 12 && U32(bytes, mark + 4) == central.StoredLength && U32(bytes, mark + 8) == central.Length)
                return mark + 12;
            if (crc && present >= mark + 20 && U64(bytes, mark + 4) == (ulong)central.StoredLength
                && U64(bytes, mark + 12) == (ulong)central.Length)
                return mark + 20;
        }
        throw Bad(file, central.Name, "has no data descriptor behind its data, or one that contradicts the directory");
    }

    private static void CheckOverlaps(RawFile file, List<(long Begin, long End, string Name)> ranges)
    {
        ranges.Sort((a, b) => a.Begin.CompareTo(b.Begin));
        for (int i = 1; i < ranges.Count; i++)
            if (ranges[i].Begin < ranges[i - 1].End)
                throw Bad(file, ranges[i].Name, $"shares bytes with {BadFile.Quote(ranges[i - 1].Name)}");
    }

    private static string DecodeName(RawFile file, byte[] name, int flags)
    {
        if ((flags & FlagUtf8) == 0 && !Ascii.IsValid(name))
            throw BadFile.At(file.Path, $"the zip entry {BadFile.Quote(Encoding.Latin1.GetString(name))} has a name that is neither " +
                "ASCII nor marked as UTF-8.");
        if (!System.Text.Unicode.Utf8.IsValid(name))
            throw BadFile.At(file.Path, $"the zip entry {BadFile.Quote(Encoding.Latin1.GetString(name))} has a name that is not " +
                "valid UTF-8.");
        return Encoding.UTF8.GetString(name);
    }

    private static InvalidDataException Bad(RawFile file, string name, string what) =>
        BadFile.At(file.Path, $"the zip entry {BadFile.Quote(name)} {what}.");
}
