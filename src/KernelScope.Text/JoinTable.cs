namespace KernelScope.Text;

/// <summary>
/// Which characters stand side by side inside some piece. Where two neighbours of a text do in none, no merge can ever cross between
/// them, so the text may be cut there and each part merged alone: for ordinary text the parts are words. Characters are told apart by the
/// last byte of the left one and the first byte of the right one, which joins more than need be, never less.
/// </summary>
internal sealed class JoinTable
{
    private readonly ulong[] _joined = new ulong[256 * 256 / 64];

    public JoinTable(PieceTable pieces)
    {
        for (int id = 0; id < pieces.Count; id++)
        {
            if (!pieces[id].IsMergeable)
                continue;
            ReadOnlySpan<byte> text = pieces.Utf8(id);
            for (int at = SizeOf(text[0]); at < text.Length; at += SizeOf(text[at]))
                _joined[Index(text[at - 1], text[at]) >> 6] |= 1ul << (text[at] & 63);
        }
    }

    /// <summary>How many bytes the character takes that begins with <paramref name="lead"/>, in valid UTF-8.</summary>
    public static int SizeOf(byte lead) => lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;

    /// <summary>Whether some piece might hold a character that ends with <paramref name="left"/> before one that begins with <paramref name="right"/>.</summary>
    public bool MayJoin(byte left, byte right) => (_joined[Index(left, right) >> 6] >> (right & 63) & 1) != 0;

    private static int Index(byte left, byte right) => (left << 8) | right;
}
