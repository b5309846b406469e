using System.Buffers;
using System.Text;

namespace KernelScope.Text;

/// <summary>
/// UTF-8 as sentencepiece reads it: every byte that does not begin a whole valid sequence is one U+FFFD. (.NET's decoders, and WHATWG's
/// rule, give one for each maximal subpart: E4 BD is two here and one there.)
/// </summary>
internal static class Utf8Repair
{
    private static ReadOnlySpan<byte> Replacement => "\uFFFD"u8;

    /// <summary>Writes <paramref name="bytes"/> as valid UTF-8.</summary>
    /// <param name="bytes">Any bytes.</param>
    /// <param name="complete">Whether nothing follows. If false, up to three bytes that may yet become a character are left.</param>
    /// <param name="destination">Where the valid text goes.</param>
    /// <returns>How many bytes were used.</returns>
    public static int Write(ReadOnlySpan<byte> bytes, bool complete, IBufferWriter<byte> destination)
    {
        int at = 0;
        while (at < bytes.Length)
        {
            OperationStatus status = Rune.DecodeFromUtf8(bytes[at..], out _, out int used);
            if (status == OperationStatus.NeedMoreData && !complete)
                break;
            bool valid = status == OperationStatus.Done;
            int size = valid ? used : 1;
            destination.Write(valid ? bytes.Slice(at, size) : Replacement);
            at += size;
        }

        return at;
    }
}
