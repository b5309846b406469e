using System.Globalization;
using System.Text;

namespace KernelScope.Files;

/// <summary>
/// The one way in which the readers refuse a file: a sentence that starts with the file.
/// Names come from strangers, so they are made printable first: a message stays on its line and cannot act on a terminal.
/// </summary>
internal static class BadFile
{
    // Longer names are cut: a sentence that holds 200,000 letters is not a sentence.
    private const int MaxNameLength = 100;

    /// <summary>The exception that says "file: what".</summary>
    internal static InvalidDataException At(string path, string what, Exception? inner = null) =>
        new($"{Printable(path, 4096)}: {what}", inner);

    /// <summary>A name from a file between quotes, printable and cut to a readable length.</summary>
    internal static string Quote(string name) => $"'{Printable(name, MaxNameLength)}'";

    /// <summary>The text with control, format and unpaired surrogate characters as \u escapes, cut with an ellipsis if it is too long.</summary>
    internal static string Printable(string text, int maxLength)
    {
        bool plain = text.Length <= maxLength;
        for (int i = 0; plain && i < text.Length; i++)
            plain = text[i] is >= ' ' and < '\x7f';
        if (plain)
            return text;

        var printable = new StringBuilder(Math.Min(text.Length, maxLength) + 16);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (printable.Length >= maxLength)
            {
                printable.Append('…');
                break;
            }
            bool visible = rune != Rune.ReplacementChar && Rune.GetUnicodeCategory(rune) is not (
                UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
                or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned);
            if (visible)
                printable.Append(rune.ToString());
            else
                printable.Append(CultureInfo.InvariantCulture, $"\\u{rune.Value:X4}");
        }
        return printable.ToString();
    }

    /// <summary>A shape as [3, 4].</summary>
    internal static string Shape(ReadOnlySpan<long> shape)
    {
        var text = new StringBuilder("[");
        for (int i = 0; i < shape.Length; i++)
        {
            if (i > 0)
                text.Append(", ");
            text.Append(shape[i].ToString(CultureInfo.InvariantCulture));
        }
        return text.Append(']').ToString();
    }
}
