using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace KernelScope.Tests.Files;

/// <summary>Spoils a valid file at random: bits, bytes, numbers of the sizes that formats use, lengths, and numbers and words inside texts.</summary>
internal static class Mutation
{
    private static readonly ulong[] Numbers =
    [
        0, 1, 2, 7, 8, 9, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000,
        0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFF8, 0xFFFFFFFFFFFFFFFF,
    ];

    private static readonly string[] Words =
    [
        "0", "-1", "-0", "1", "2", "3", "1e3", "1.0", "8.5", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808",
            "18446744073709551615", "1e400", "null", "true", "{}", "[]", "[[", "\"\"", "\"\\ud800\"",
        "\"F32\"", "\"F64\"", "\"BOOL\"", "NaN", "\"default\"", "\"none\"", "(", ")", ",", "{", "}", "'", "\"", "True",
            "<f8", "|O", "\u001b[2J", "\u2028", "é",
    ];

    /// <summary>One to four changes.</summary>
    public static byte[] Of(byte[] valid, Random random)
    {
        var bytes = new List<byte>(valid);
        int changes = random.Next(1, 5);
        for (int n = 0; n < changes; n++)
            Change(bytes, random);
        return [.. bytes];
    }

    private static void Change(List<byte> bytes, Random random)
    {
        if (bytes.Count == 0)
        {
            bytes.Add((byte)random.Next(256));
            return;
        }
        // Heads and tails hold what readers believe: half of the changes go there.
        int reach = random.Next(4) switch { 0 => Math.Min(bytes.Count, 64), 1 => Math.Min(bytes.Count, 700), _ => bytes.Count };
        int at = random.Next(reach);
        if (random.Next(4) == 0)
            at = bytes.Count - 1 - at;
        switch (random.Next(9))
        {
            case 0: bytes[at] ^= (byte)(1 << random.Next(8)); break;
            case 1: bytes[at] = (byte)random.Next(256); break;
            case 2: Overwrite(bytes, at, Numbers[random.Next(Numbers.Length)], 1 << random.Next(4)); break;
            case 3: bytes.RemoveRange(at, Math.Min(bytes.Count - at, 1 + random.Next(20))); break;
            case 4: bytes.InsertRange(at, bytes.GetRange(at, Math.Min(bytes.Count - at, 1 + random.Next(60)))); break;
            case 5: bytes.RemoveRange(at, bytes.Count - at); break;
            case 6: bytes.InsertRange(at, Encoding.UTF8.GetBytes(Words[random.Next(Words.Length)])); break;
            default: ReplaceWord(bytes, at, random); break;
        }
    }

    private static void Overwrite(List<byte> bytes, int at, ulong number, int size)
    {
        Span<byte> little = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(little, number);
        for (int i = 0; i < size && at + i < bytes.Count; i++)
            bytes[at + i] = little[i];
    }

    // The number or quoted text at or after the place becomes another.
    private static void ReplaceWord(List<byte> bytes, int at, Random random)
    {
        int start = at;
        while (start < bytes.Count && !char.IsAsciiDigit((char)bytes[start]) && bytes[start] != '"')
            start++;
        int end = start;
        if (start < bytes.Count && bytes[start] == '"')
        {
            end++;
            while (end < bytes.Count && bytes[end] != '"')
                end++;
            end = Math.Min(end + 1, bytes.Count);
        }
        else
        {
            while (end < bytes.Count && char.IsAsciiDigit((char)bytes[end]))
                end++;
        }
        string word = random.Next(3) == 0 ? random.Next(1000).ToString(CultureInfo.InvariantCulture) : Words[random.Next(Words.Length)];
        bytes.RemoveRange(start, end - start);
        bytes.InsertRange(start, Encoding.UTF8.GetBytes(word));
    }
}
