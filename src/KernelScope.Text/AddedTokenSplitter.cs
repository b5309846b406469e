using System.Globalization;
using System.Text;

namespace KernelScope.Text;

/// <summary>A part of a text: an added token's id, or −1 for text between added tokens.</summary>
internal readonly record struct TextPart(int Start, int End, int Id);

/// <summary>
/// Cuts added tokens out of a text, the longest at each place from the left, as Hugging Face's tokenizers library does: a match that
/// <see cref="AddedToken.SingleWord"/> rejects is passed over whole, and white space that two tokens claim goes to the left one.
/// </summary>
internal sealed class AddedTokenSplitter
{
    private readonly AddedToken[] _tokens;
    private readonly byte[][] _texts;
    private readonly SymbolMatcher _matcher;

    private AddedTokenSplitter(AddedToken[] tokens, byte[][] texts)
    {
        _tokens = tokens;
        _texts = texts;
        _matcher = new SymbolMatcher(texts.Select((text, i) => (text, i)));
    }

    /// <summary>A splitter for some tokens; null if there are none.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="normalize">What a token's text becomes before it is looked for.</param>
    public static AddedTokenSplitter? Create(IEnumerable<AddedToken> tokens, Func<byte[], byte[]> normalize)
    {
        (AddedToken Token, byte[] Text)[] kept = [.. tokens.Select(t => (t, normalize(Encoding.UTF8.GetBytes(t.Content))))
            .Where(t => t.Item2.Length > 0)];
        return kept.Length == 0 ? null : new AddedTokenSplitter([.. kept.Select(k => k.Token)], [.. kept.Select(k => k.Text)]);
    }

    /// <summary>The parts of a valid UTF-8 text, in order, without empty ones.</summary>
    public List<TextPart> Split(ReadOnlySpan<byte> text)
    {
        var parts = new List<TextPart>();
        int end = 0;
        for (int at = 0, skip; at < text.Length && (skip = _matcher.NextCandidate(text[at..])) >= 0;)
        {
            at += skip;
            int found = _matcher.LongestPrefix(text[at..]);
            if (found < 0)
            {
                at++;
                continue;
            }

            int start = at, stop = at + _texts[found].Length;
            at = stop;
            AddedToken token = _tokens[found];
            if (token.SingleWord && (EndsWithWord(text[..start]) || StartsWithWord(text[stop..])))
                continue;
            if (token.LeftStrip)
                start = Math.Max(start - SpaceAtEnd(text[..start]), end);
            if (token.RightStrip)
                stop += SpaceAtStart(text[stop..]);
            if (end < start)
                parts.Add(new TextPart(end, start, -1));
            // A token that is all white space is gone where the one before took it.
            if (start < stop)
                parts.Add(new TextPart(start, stop, token.Id));
            end = stop;
        }

        if (end < text.Length)
            parts.Add(new TextPart(end, text.Length, -1));
        return parts;
    }

    private static bool StartsWithWord(ReadOnlySpan<byte> text)
    {
        Rune.DecodeFromUtf8(text, out Rune rune, out _);
        return text.Length > 0 && IsWord(rune);
    }

    private static bool EndsWithWord(ReadOnlySpan<byte> text)
    {
        Rune.DecodeLastFromUtf8(text, out Rune rune, out _);
        return text.Length > 0 && IsWord(rune);
    }

    private static int SpaceAtStart(ReadOnlySpan<byte> text)
    {
        int length = 0;
        while (length < text.Length)
        {
            Rune.DecodeFromUtf8(text[length..], out Rune rune, out int size);
            if (!Rune.IsWhiteSpace(rune))
                break;
            length += size;
        }

        return length;
    }

    private static int SpaceAtEnd(ReadOnlySpan<byte> text)
    {
        int length = 0;
        while (length < text.Length)
        {
            Rune.DecodeLastFromUtf8(text[..^length], out Rune rune, out int size);
            if (!Rune.IsWhiteSpace(rune))
                break;
            length += size;
        }

        return length;
    }

    /// <summary>A regular expression's \w in Unicode (UTS 18): alphabetic, mark, decimal digit, connector, join control.</summary>
    private static bool IsWord(Rune rune) => Rune.GetUnicodeCategory(rune) switch
    {
        <= UnicodeCategory.LetterNumber => true,
        UnicodeCategory.ConnectorPunctuation => true,
        // Letters in circles and squares are symbols by category and alphabetic all the same.
        UnicodeCategory.OtherSymbol => rune.Value is (>= 0x24B6 and <= 0x24E9) or (>= 0x1F130 and <= 0x1F149) or (>= 0x1F150 and <= 0x1F169)
            or (>= 0x1F170 and <= 0x1F189),
        _ => rune.Value is 0x200C or 0x200D,
    };
}
