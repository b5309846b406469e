namespace KernelScope.Text;

/// <summary>
/// Which characters stand side by side inside some piece. Where two neighbours of a text do in none, no merge can ever cross between
/// them, so the text may be cut there and each part merged alone: for ordinary text the parts are words. Characters are told apart by
/// their last byte (on the left) and first byte (on the right), U+2581 as if it were the space that it stands for; that joins more than need be, never less.
/// </summary>
internal sealed class JoinTable
{
    private const byte Space = 0x20;
    private readonly ulong[] _joined = new ulong[256 * 256 / 64];

    public JoinTable(PieceTable pieces)
    {
        for (int id = 0; id < pieces.Count; id++)
        {
            if (pieces[id].IsMergeable)
                AddPiece(pieces.Utf8(id));
        }
    }

    /// <summary>How many bytes the character takes that begins with <paramref name="lead"/>, in valid UTF-8.</summary>
    public static int SizeOf(byte lead) => lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;

    /// <summary>What a character is to its right neighbour.</summary>
    public static byte LeftOf(ReadOnlySpan<byte> character) => IsSpace(character) ? Space : character[^1];

    /// <summary>What a character is to its left neighbour.</summary>
    public static byte RightOf(ReadOnlySpan<byte> character) => IsSpace(character) ? Space : character[0];

    /// <summary>Whether some piece might hold such two characters side by side.</summary>
    public bool MayJoin(byte left, byte right) => (_joined[((left << 8) | right) >> 6] >> (right & 63) & 1) != 0;

    private static bool IsSpace(ReadOnlySpan<byte> character) =>
        character.Length == 3 && character[0] == 0xE2 && character[1] == 0x96 && character[2] == 0x81;

    private void AddPiece(ReadOnlySpan<byte> text)
    {
        int at = SizeOf(text[0]);
        byte left = LeftOf(text[..at]);
        while (at < text.Length)
        {
            ReadOnlySpan<byte> character = text.Slice(at, SizeOf(text[at]));
            byte right = RightOf(character);
            _joined[((left << 8) | right) >> 6] |= 1ul << (right & 63);
            left = LeftOf(character);
            at += character.Length;
        }
    }
}
