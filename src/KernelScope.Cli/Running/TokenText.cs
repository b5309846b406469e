using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>What single tokens say.</summary>
internal static class TokenText
{
    /// <summary>
    /// The text of one token: its piece decoded (<c>▁king</c> is " king"). Pieces that are no text of their own have their names: <c>&lt;bos&gt;</c>, and <c>&lt;0xE4&gt;</c> for a byte that is
    /// part of a character. Null where there is no tokenizer, or the tokenizer has no such id.
    /// </summary>
    public static string? Of(GemmaTokenizer? tokenizer, int id)
    {
        if (tokenizer is null || (uint)id >= (uint)tokenizer.PieceCount)
            return null;
        if (tokenizer.IsControl(id) || id == tokenizer.UnknownId)
            return tokenizer.Piece(id);
        string text = tokenizer.Decode([id]);
        return tokenizer.IsByte(id) && text == "\uFFFD" ? tokenizer.Piece(id) : text;
    }

    /// <summary>The text of some tokens; null where <see cref="Of"/> has none for one of them.</summary>
    public static string? OfAll(GemmaTokenizer? tokenizer, IReadOnlyList<int> ids) =>
        tokenizer is null || ids.Any(id => (uint)id >= (uint)tokenizer.PieceCount) ? null : tokenizer.Decode([.. ids]);
}
