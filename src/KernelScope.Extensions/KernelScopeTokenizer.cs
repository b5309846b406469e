using System.Buffers;
using System.Text;
using KernelScope.Text;
using Microsoft.ML.Tokenizers;

namespace KernelScope.Extensions;

/// <summary>
/// A <see cref="GemmaTokenizer"/> as a <see cref="Tokenizer"/> of Microsoft.ML.Tokenizers: the same ids and texts, and where each token
/// stands.
/// </summary>
/// <remarks>
/// <para>Safe for any number of threads.</para>
/// <para>
/// Nothing is put before or after a text, no BOS either. There is no separate normalisation or pre-tokenization that could be switched off,
/// so those flags change nothing, and the normalised text is null.
/// Offsets count characters (UTF-16) of the text. The byte tokens of a character that the vocabulary lacks all have that character's
/// offset, and no limit on the number of tokens parts them.
/// </para>
/// </remarks>
/// <example>
/// <code>
/// Tokenizer tokenizer = new KernelScopeTokenizer(GemmaTokenizer.Open("weights/tokenizer.model"));
/// int count = tokenizer.CountTokens("Let there be light.");
/// </code>
/// </example>
public sealed class KernelScopeTokenizer : Tokenizer
{
    private readonly GemmaTokenizer _tokenizer;

    /// <summary>Offers a tokenizer of KernelScope as one of Microsoft.ML.Tokenizers.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    public KernelScopeTokenizer(GemmaTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        _tokenizer = tokenizer;
    }

    /// <summary>The text of some ids.</summary>
    /// <param name="ids">The ids.</param>
    /// <returns>The text.</returns>
    /// <exception cref="ArgumentOutOfRangeException">One of the ids does not exist.</exception>
    public override string Decode(IEnumerable<int> ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        return _tokenizer.Decode([.. ids]);
    }

    /// <inheritdoc/>
    public override OperationStatus Decode(IEnumerable<int> ids, Span<char> destination, out int idsConsumed, out int charsWritten)
    {
        ArgumentNullException.ThrowIfNull(ids);
        int[] all = [.. ids];
        idsConsumed = charsWritten = 0;
        while (idsConsumed < all.Length)
        {
            int end = idsConsumed;
            if (!_tokenizer.Contains(all[end]))
                return OperationStatus.InvalidData;
            // A run of bytes decodes as a whole.
            bool isByte = _tokenizer.IsByte(all[end++]);
            while (isByte && end < all.Length && _tokenizer.Contains(all[end]) && _tokenizer.IsByte(all[end]))
                end++;
            string text = _tokenizer.Decode(all.AsSpan(idsConsumed, end - idsConsumed));
            if (!text.TryCopyTo(destination[charsWritten..]))
                return OperationStatus.DestinationTooSmall;
            charsWritten += text.Length;
            idsConsumed = end;
        }

        return OperationStatus.Done;
    }

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">The tokenizer rewrites its text (some tokenizer.json do), so that its tokens have no place
    /// in it.</exception>
    protected override EncodeResults<EncodedToken> EncodeToTokens(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        ReadOnlySpan<char> whole = text ?? textSpan;
        List<EncodedToken> tokens = Placed(whole);
        int count = FirstOf(tokens, settings.MaxTokenCount);
        int consumed = count == tokens.Count ? whole.Length : count == 0 ? 0 : tokens[count - 1].Offset.End.Value;
        tokens.RemoveRange(count, tokens.Count - count);
        return new EncodeResults<EncodedToken> { Tokens = tokens, CharsConsumed = consumed };
    }

    /// <inheritdoc/>
    protected override EncodeResults<int> EncodeToIds(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        ReadOnlySpan<char> whole = text ?? textSpan;
        if (settings.MaxTokenCount == int.MaxValue)
            return new EncodeResults<int> { Tokens = _tokenizer.Encode(whole), CharsConsumed = whole.Length };
        EncodeResults<EncodedToken> results = EncodeToTokens(text, textSpan, settings);
        return new EncodeResults<int> { Tokens = [.. results.Tokens.Select(t => t.Id)], CharsConsumed = results.CharsConsumed };
    }

    /// <inheritdoc/>
    protected override int CountTokens(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings) =>
        EncodeToIds(text, textSpan, settings).Tokens.Count;

    /// <inheritdoc/>
    protected override int GetIndexByTokenCount(
        string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings, bool fromEnd, out string? normalizedText, out int tokenCount)
    {
        normalizedText = null;
        ReadOnlySpan<char> whole = text ?? textSpan;
        List<EncodedToken> tokens = Placed(whole);
        if (fromEnd)
        {
            int start = Math.Max(0, tokens.Count - settings.MaxTokenCount);
            while (start > 0 && start < tokens.Count && Parts(tokens, start))
                start++;
            tokenCount = tokens.Count - start;
            return start == 0 ? 0 : start == tokens.Count ? whole.Length : tokens[start].Offset.Start.Value;
        }

        tokenCount = FirstOf(tokens, settings.MaxTokenCount);
        return tokenCount == tokens.Count ? whole.Length : tokenCount == 0 ? 0 : tokens[tokenCount - 1].Offset.End.Value;
    }

    /// <summary>As many of the first tokens as a limit allows, whole characters only.</summary>
    private static int FirstOf(List<EncodedToken> tokens, int most)
    {
        int count = Math.Min(tokens.Count, most);
        while (count > 0 && count < tokens.Count && Parts(tokens, count))
            count--;
        return count;
    }

    /// <summary>Whether a cut before a token goes through a character.</summary>
    private static bool Parts(List<EncodedToken> tokens, int at) => tokens[at].Offset.Start.Value < tokens[at - 1].Offset.End.Value;

    private List<EncodedToken> Placed(ReadOnlySpan<char> text)
    {
        int[] ids = _tokenizer.Encode(text);
        var tokens = new List<EncodedToken>(ids.Length);
        int at = 0;
        for (int i = 0; i < ids.Length; i++)
        {
            string piece = _tokenizer.Piece(ids[i]);
            int start = at;
            if (_tokenizer.IsByte(ids[i]))
            {
                // All bytes of the character that stands here.
                int bytes = BytesAt(text, at, out int length);
                at += length;
                for (int last = Math.Min(i + bytes, ids.Length) - 1; i <= last; i++)
                    tokens.Add(new EncodedToken(ids[i], _tokenizer.Piece(ids[i]), start..at));
                i--;
                continue;
            }

            // White space that an added token took away stands before it, or after the one before.
            while (!Matches(text, at, piece))
                at += at < text.Length && char.IsWhiteSpace(text[at]) ? 1
                    : throw new NotSupportedException(
                        "This tokenizer rewrites its text, so that its tokens have no place in it; EncodeToIds and Decode work.");
            at += piece.Length;
            tokens.Add(new EncodedToken(ids[i], piece, start..at));
        }

        if (at < text.Length && tokens.Count > 0)
            tokens[^1] = new EncodedToken(tokens[^1].Id, tokens[^1].Value, tokens[^1].Offset.Start..text.Length);
        return tokens;
    }

    private static int BytesAt(ReadOnlySpan<char> text, int at, out int length)
    {
        Rune.DecodeFromUtf16(text[at..], out Rune rune, out length);
        return rune.Utf8SequenceLength;
    }

    /// <summary>Whether a piece stands at a place: U+2581 for a space, U+FFFD for half of a surrogate pair.</summary>
    private static bool Matches(ReadOnlySpan<char> text, int at, string piece)
    {
        if (piece.Length > text.Length - at)
            return false;
        for (int i = 0; i < piece.Length; i++)
        {
            char c = text[at + i];
            if (c != piece[i] && !(piece[i] == '\u2581' && c == ' ') && !(piece[i] == '\uFFFD' && char.IsSurrogate(c)))
                return false;
        }

        return true;
    }
}
