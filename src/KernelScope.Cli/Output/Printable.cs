using System.Globalization;
using System.Text;

namespace KernelScope.Cli;

/// <summary>Makes text that comes from files and models safe to print: nothing in it can act on a terminal.</summary>
internal static class Printable
{
    /// <summary>The text with everything that is not a visible character as an escape: <c>\n</c>, <c>\t</c>, <c>\u001B</c>.</summary>
    public static string Escape(string text) => Escape(text, keepLines: false);

    /// <summary>As <see cref="Escape(string)"/>, but line breaks and tabs stay.</summary>
    public static string EscapeKeepingLines(string text) => Escape(text, keepLines: true);

    /// <summary>A message on one line.</summary>
    public static string OneLine(string text) => Escape(text.ReplaceLineEndings(" "), keepLines: false);

    private static string Escape(string text, bool keepLines)
    {
        bool plain = true;
        for (int i = 0; plain && i < text.Length; i++)
            plain = text[i] is >= ' ' and < '\x7f';
        if (plain)
            return text;

        var printable = new StringBuilder(text.Length + 16);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (keepLines && rune.Value is '\n' or '\t')
                printable.Append((char)rune.Value);
            else if (IsVisible(rune))
                printable.Append(rune.ToString());
            else
                printable.Append(rune.Value switch
                {
                    '\n' => "\\n",
                    '\t' => "\\t",
                    '\r' => "\\r",
                    _ => string.Create(CultureInfo.InvariantCulture, $"\\u{rune.Value:X4}")
                });
        }

        return printable.ToString();
    }

    // Format characters include the bidirectional overrides that make a line read as another. The joiners of emoji are format characters too: an escape there is the price.
    private static bool IsVisible(Rune rune) => Rune.GetUnicodeCategory(rune) is not (UnicodeCategory.Control or UnicodeCategory.Format
        or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.PrivateUse
        or UnicodeCategory.OtherNotAssigned or UnicodeCategory.Surrogate);
}
