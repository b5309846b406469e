using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>What single tokens say.</summary>
internal static class TokenText
{
    /// <summary>
    /// The text of one token: its piece decoded (<c>▁king</c> is " king"). Pieces that are not text of their own have their names: <c>&lt;bos&gt;</c>, and <c>&lt;0xE4&gt;</c> for a byte that is
    /// part of a character. Null where there is no tokenizer, or the tokenizer has no such id.
    /// </summary>
    public static string? Of(GemmaTokenizer? tokenizer, int id)
    {
        if (tokenizer is null || !tokenizer.Contains(id))
            return null;
        if (tokenizer.IsControl(id) || id == tokenizer.UnknownId)
            return tokenizer.Piece(id);
        string text = tokenizer.Decode([id]);
        return tokenizer.IsByte(id) && text == "\uFFFD" ? tokenizer.Piece(id) : text;
    }

    /// <summary>The sentence that refuses an id.</summary>
    public static string Missing(GemmaTokenizer tokenizer, long id) =>
        $"token id {id} does not exist: this tokenizer has ids 0 " +
        $"to {tokenizer.PieceCount - 1}{(id >= 0 && id < tokenizer.PieceCount ? ", and nothing for that one" : "")}.";
}
