using System.Globalization;
using System.Text;

namespace KernelScope.Chat.Jinja;

/// <summary>Texts as Python sees them: sequences of code points, with Python's white space and Python's notation.</summary>
internal static class Text
{
    /// <summary>Python counts the four information separators as white space; .NET does not. Otherwise they agree.</summary>
    public static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\u001C' and <= '\u001F';

    public static string TrimEnd(string text)
    {
        int end = text.Length;
        while (end > 0 && IsSpace(text[end - 1]))
            end--;
        return text[..end];
    }

    /// <summary>Without what stands at the sides: white space, or any of some characters.</summary>
    public static string Strip(string text, string? characters, bool left, bool right)
    {
        HashSet<Rune>? set = characters is null ? null : [.. characters.EnumerateRunes()];
        ReadOnlySpan<char> rest = text;
        while (left && rest.Length > 0 && Matches(rest, fromEnd: false, out int size))
            rest = rest[size..];
        while (right && rest.Length > 0 && Matches(rest, fromEnd: true, out int size))
            rest = rest[..^size];
        return rest.Length == text.Length ? text : rest.ToString();

        bool Matches(ReadOnlySpan<char> where, bool fromEnd, out int size)
        {
            Rune rune;
            if (fromEnd)
                Rune.DecodeLastFromUtf16(where, out rune, out size);
            else
                Rune.DecodeFromUtf16(where, out rune, out size);
            return set?.Contains(rune) ?? (rune.IsBmp && IsSpace((char)rune.Value));
        }
    }

    /// <summary>How many code points it has.</summary>
    public static int Length(string text)
    {
        int pairs = 0;
        for (int i = 0; i + 1 < text.Length; i++)
        {
            if (char.IsSurrogatePair(text[i], text[i + 1]))
                pairs++;
        }

        return text.Length - pairs;
    }

    /// <summary>Its code points, each a text.</summary>
    public static List<object?> Characters(string text)
    {
        var characters = new List<object?>(text.Length);
        for (int i = 0, size; i < text.Length; i += size)
        {
            size = i + 1 < text.Length && char.IsSurrogatePair(text[i], text[i + 1]) ? 2 : 1;
            characters.Add(text.Substring(i, size));
        }

        return characters;
    }

    /// <summary>Orders by code points.</summary>
    public static int Compare(string a, string b)
    {
        int at = a.AsSpan().CommonPrefixLength(b);
        if (at == a.Length || at == b.Length)
            return a.Length.CompareTo(b.Length);
        // A surrogate stands for a code point above all that are written as one unit.
        bool high = char.IsSurrogate(a[at]), other = char.IsSurrogate(b[at]);
        return high == other ? a[at].CompareTo(b[at]) : high ? 1 : -1;
    }

    public static string Upper(string text) => text.ToUpperInvariant().Replace("\u00DF", "SS", StringComparison.Ordinal);

    /// <summary>One character as a word's first.</summary>
    public static string Title(string character) => character == "\u00DF" ? "Ss" : Upper(character);

    public static string Lower(string text)
    {
        string lower = text.Replace("\u0130", "i\u0307", StringComparison.Ordinal).ToLowerInvariant();
        if (!lower.Contains('\u03C3', StringComparison.Ordinal))
            return lower;
        // A capital sigma at a word's end becomes the final one.
        var result = new StringBuilder(lower);
        string same = text.Replace("\u0130", "i\u0307", StringComparison.Ordinal);
        for (int i = 0; i < result.Length; i++)
        {
            if (same[i] == '\u03A3' && i > 0 && char.IsLetter(same[i - 1]) && !(i + 1 < same.Length && char.IsLetter(same[i + 1])))
                result[i] = '\u03C2';
        }

        return result.ToString();
    }

    public static string Capitalize(string text)
    {
        if (text.Length == 0)
            return text;
        int first = text.Length > 1 && char.IsSurrogatePair(text[0], text[1]) ? 2 : 1;
        return Title(text[..first]) + Lower(text[first..]);
    }

    /// <summary>A text as Python's repr writes it.</summary>
    public static string Repr(string text)
    {
        char quote = text.Contains('\'', StringComparison.Ordinal) && !text.Contains('"', StringComparison.Ordinal) ? '"' : '\'';
        var result = new StringBuilder().Append(quote);
        foreach (Rune rune in text.EnumerateRunes())
        {
            string? escape = rune.Value switch
            {
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\\' => "\\\\",
                _ when rune.Value == quote =>
                "\\" + quote,
                _ => null
            };
            if (escape is not null)
                result.Append(escape);
            else if (IsPrintable(rune))
                result.Append(rune.ToString());
            else
                result.Append(CultureInfo.InvariantCulture,
                    $"\\{(rune.Value < 0x100 ? $"x{rune.Value:x2}" : rune.IsBmp ? $"u{rune.Value:x4}" : $"U{rune.Value:x8}")}");
        }

        return result.Append(quote).ToString();
    }

    private static bool IsPrintable(Rune rune) =>
        rune.Value == ' '
            || Rune.GetUnicodeCategory(rune) is not (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate
                or UnicodeCategory.PrivateUse
        or UnicodeCategory.OtherNotAssigned or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
        or UnicodeCategory.SpaceSeparator);

    /// <summary>A number as Python's repr writes it: the shortest digits that give it back.</summary>
    public static string Of(double number)
    {
        if (double.IsNaN(number))
            return "nan";
        if (double.IsInfinity(number))
            return number > 0 ? "inf" : "-inf";
        string sign = double.IsNegative(number) ? "-" : "";
        (string digits, int exponent) = Digits(Math.Abs(number).ToString("R", CultureInfo.InvariantCulture));
        return sign + exponent switch
        {
            >= -4 and < 0 => $"0.{new string('0', -exponent - 1)}{digits}",
            >= 0 and < 16 when digits.Length > exponent + 1 => $"{digits[..(exponent + 1)]}.{digits[(exponent + 1)..]}",
            >= 0 and < 16 => $"{digits.PadRight(exponent + 1, '0')}.0",
            _ => string.Create(CultureInfo.InvariantCulture,
                $"{digits[0]}{(digits.Length > 1 ? "." : "")}{digits[1..]}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent):00}"),
        };
    }

    /// <summary>The digits of a number, the first not 0 unless all are, and the power of ten that the first stands for.</summary>
    private static (string Digits, int Exponent) Digits(string written)
    {
        int mark = written.IndexOf('E', StringComparison.Ordinal);
        int exponent = mark < 0 ? 0 : int.Parse(written.AsSpan(mark + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        string mantissa = mark < 0 ? written : written[..mark];
        int point = mantissa.IndexOf('.', StringComparison.Ordinal);
        string digits = mantissa.Replace(".", "", StringComparison.Ordinal);
        exponent += (point < 0 ? mantissa.Length : point) - 1;
        int zeros = digits.Length - digits.TrimStart('0').Length;
        return zeros == digits.Length ? ("0", 0) : (digits[zeros..].TrimEnd('0'), exponent - zeros);
    }
}
