using System.Globalization;
using System.Text;

namespace KernelScope.Chat.Jinja;

/// <summary>The methods of texts, lists and dictionaries that change nothing.</summary>
internal static class Methods
{
    /// <summary>A method of a value; null if its type has none of that name.</summary>
    /// <exception cref="TemplateException">It is one that Python has and that is not supported.</exception>
    public static Callable? Find(object? value, string name)
    {
        Func<Arguments, object?>? call = value switch
        {
            string text => OfText(text, name),
            PyList list => OfList(list, name),
            PyDict dict => OfDict(dict, name),
            _ => null,
        };
        return call is null ? null : new Callable(name, call);
    }

    private static Func<Arguments, object?>? OfText(string text, string name) => name switch
    {
        "strip" => a => Text.Strip(text, Characters(a), left: true, right: true),
        "lstrip" => a => Text.Strip(text, Characters(a), left: true, right: false),
        "rstrip" => a => Text.Strip(text, Characters(a), left: false, right: true),
        "upper" => a => None(a, Text.Upper(text)),
        "lower" => a => None(a, Text.Lower(text)),
        "capitalize" => a => None(a, Text.Capitalize(text)),
        "title" => a => None(a, Title(text)),
        "startswith" => a => Affix(a, p => text.StartsWith(p, StringComparison.Ordinal)),
        "endswith" => a => Affix(a, p => text.EndsWith(p, StringComparison.Ordinal)),
        "removeprefix" => a => One(a) is var p && text.StartsWith(p, StringComparison.Ordinal) ? text[p.Length..] : text,
        "removesuffix" => a => One(a) is var s && s.Length > 0 && text.EndsWith(s, StringComparison.Ordinal) ? text[..^s.Length] : text,
        "split" => a => Split(text, a, fromRight: false),
        "rsplit" => a => Split(text, a, fromRight: true),
        "splitlines" => a => Lines(text, a),
        "partition" => a => Partition(text, One(a), fromRight: false),
        "rpartition" => a => Partition(text, One(a), fromRight: true),
        "replace" => a => Replace(a.Render, text, a.Bind("old", "new", "count")),
        "find" => a => Find(text, a, fromRight: false),
        "rfind" => a => Find(text, a, fromRight: true),
        "index" => a => Find(text, a, fromRight: false) is >= 0 and long at ? at : throw new TemplateException("the text has no such part"),
        "count" => a => One(a) is var part && part.Length == 0 ? Text.Length(text) + 1L : CountOf(text, part),
        "join" => a => Join(a.Render, text, Python.Items(a.Bind("items")[0])),
        "isdigit" =>
            a => None(a, text.Length > 0 && text.EnumerateRunes()
                .All(r => Rune.GetUnicodeCategory(r) == UnicodeCategory.DecimalDigitNumber
                    || "\u00B2\u00B3\u00B9".Contains(r.ToString(), StringComparison.Ordinal))),
        "isalpha" => a => None(a, text.Length > 0 && text.EnumerateRunes().All(Rune.IsLetter)),
        "isalnum" =>
            a => None(a, text.Length > 0 && text.EnumerateRunes()
                .All(r => Rune.IsLetter(r) || Rune.GetUnicodeCategory(r) is UnicodeCategory.DecimalDigitNumber
                    or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber)),
        "isspace" => a => None(a, text.Length > 0 && text.All(Text.IsSpace)),
        "isupper" => a => None(a, Tests.Holds("upper", text, a)),
        "islower" => a => None(a, Tests.Holds("lower", text, a)),
        "format" or "encode" or "format_map" or "translate" or "zfill" or "center" or "ljust" or "rjust" or "swapcase" or "casefold"
            or "expandtabs" or "isnumeric" or "isdecimal" or "istitle" or "isascii" or "isidentifier" or "isprintable" or "rindex"
            => throw new TemplateException($"the method '{name}' of a text is not supported"),
        _ => null,
    };

    private static Func<Arguments, object?>? OfList(PyList list, string name) => name switch
    {
        "count" => a => (long)Searched(list, a).Items.Count(i => Python.AreEqual(i, a.Bind("value")[0])),
        "index" => a => Searched(list, a).Items.ToList().FindIndex(i => Python.AreEqual(i, a.Bind("value")[0])) is >= 0 and int at
            ? (long)at : throw new TemplateException("the list has no such item"),
        "copy" when !list.IsTuple => a => None(a, list),
        "append" or "extend" or "insert" or "pop" or "remove" or "clear" or "sort" or "reverse" when !list.IsTuple => throw Changes(name),
        _ => null,
    };

    private static Func<Arguments, object?>? OfDict(PyDict dict, string name) => name switch
    {
        "items" => a => None(a, new PyList([.. dict.Entries.Select(e => new PyList([e.Key, e.Value], isTuple: true))])),
        "keys" => a => None(a, new PyList([.. dict.Keys])),
        "values" => a => None(a, new PyList([.. dict.Values])),
        "copy" => a => None(a, dict),
        "get" => a => a.Bind("key", "default") is var given && dict.TryGet(given[0], out object? value) ? value
            : given[1] == Arguments.Missing ? null : given[1],
        "pop" or "popitem" or "update" or "clear" or "setdefault" => throw Changes(name),
        "fromkeys" => throw new TemplateException("the method 'fromkeys' of a dict is not supported"),
        _ => null,
    };

    public static string Replace(Render render, string text, object?[] given)
    {
        string old = TextOf(given[0]), now = TextOf(given[1]);
        long count = given[2] == Arguments.Missing || given[2] is null ? -1 : Whole(given[2]);
        if (old.Length > 0)
            render.ChargeText(text.Length + ((long)CountOf(text, old) * Math.Max(0, now.Length - old.Length)));
        if (old.Length > 0 && count < 0)
            return text.Replace(old, now, StringComparison.Ordinal);
        var result = new StringBuilder();
        int at = 0;
        if (old.Length == 0)
        {
            List<object?> characters = Text.Characters(text);
            render.ChargeText(text.Length + ((long)(characters.Count + 1) * now.Length));
            for (int i = 0; i <= characters.Count; i++)
                result.Append(count < 0 || i < count ? now : "").Append(i < characters.Count ? characters[i] : "");
            return result.ToString();
        }

        for (int found; count > 0 && (found = text.IndexOf(old, at, StringComparison.Ordinal)) >= 0; at = found + old.Length, count--)
            result.Append(text, at, found - at).Append(now);
        return result.Append(text, at, text.Length - at).ToString();
    }

    public static string Join(Render render, string separator, IReadOnlyList<object?> items)
    {
        string[] texts = [.. items.Select(TextOf)];
        render.ChargeText(texts.Sum(t => (long)t.Length + separator.Length));
        return string.Join(separator, texts);
    }

    public static string TextOf(object? value) => value as string ?? throw Python.NotDefined(value)
        ?? new TemplateException($"{Python.TypeName(value)} was given where a text is needed");

    public static long Whole(object? value) => Python.IsInteger(value, out long whole) ? whole
        : throw Python.NotDefined(value) ?? new TemplateException($"{Python.TypeName(value)} was given where an integer is needed");

    private static PyList Searched(PyList list, Arguments arguments)
    {
        arguments.Render.ChargeFor(list);
        return list;
    }

    private static TemplateException Changes(string name) => new($"'{name}' would change a value, which a template may not do");

    private static object? None(Arguments arguments, object? result)
    {
        arguments.Bind();
        return result;
    }

    private static string One(Arguments arguments)
    {
        object? value = arguments.Bind("value")[0];
        return value == Arguments.Missing ? throw new TemplateException($"{arguments.Callee} needs a text") : TextOf(value);
    }

    private static string? Characters(Arguments arguments)
    {
        object? value = arguments.Bind("chars")[0];
        return value == Arguments.Missing || value is null ? null : TextOf(value);
    }

    private static bool Affix(Arguments arguments, Func<string, bool> holds)
    {
        object? value = arguments.Bind("affix")[0];
        return value is PyList { IsTuple: true } several ? several.Items.Any(i => holds(TextOf(i)))
            : holds(value == Arguments.Missing ? throw new TemplateException($"{arguments.Callee} needs a text") : TextOf(value));
    }

    private static PyList Split(string text, Arguments arguments, bool fromRight)
    {
        object?[] given = arguments.Bind("sep", "maxsplit");
        long most = given[1] == Arguments.Missing ? -1 : Whole(given[1]);
        most = most < 0 ? long.MaxValue : most;
        string? separator = given[0] == Arguments.Missing || given[0] is null ? null : TextOf(given[0]);
        if (separator?.Length == 0)
            throw new TemplateException("a text cannot be split at an empty text");
        // From the right is from the left in a mirror.
        if (fromRight)
            (text, separator) = (Mirror(text), separator is null ? null : Mirror(separator));
        List<string> parts = separator is null ? SplitAtSpace(text, most) : SplitAt(text, separator, most);
        arguments.Render.Charge(parts.Count + (text.Length / 16));
        if (fromRight)
            parts = [.. parts.Select(Mirror).Reverse()];
        return new PyList(parts);
    }

    private static List<string> SplitAt(string text, string separator, long most)
    {
        var parts = new List<string>();
        int at = 0;
        for (int found; parts.Count < most && (found = text.IndexOf(separator, at, StringComparison.Ordinal)) >= 0; at = found
            + separator.Length)
            parts.Add(text[at..found]);
        parts.Add(text[at..]);
        return parts;
    }

    /// <summary>Words; the last takes all that is left where a limit ends the splitting.</summary>
    private static List<string> SplitAtSpace(string text, long most)
    {
        var parts = new List<string>();
        int at = 0;
        while (true)
        {
            while (at < text.Length && Text.IsSpace(text[at]))
                at++;
            if (at == text.Length)
                return parts;
            int end = at;
            while (end < text.Length && (parts.Count >= most || !Text.IsSpace(text[end])))
                end++;
            parts.Add(text[at..end]);
            at = end;
        }
    }

    private static string Mirror(string text)
    {
        char[] characters = text.ToCharArray();
        Array.Reverse(characters);
        return new string(characters);
    }

    private static PyList Lines(string text, Arguments arguments)
    {
        object? keep = arguments.Bind("keepends")[0];
        bool keeps = keep != Arguments.Missing && Python.IsTrue(keep);
        var lines = new List<object?>();
        for (int at = 0; at < text.Length;)
        {
            int end = at;
            while (end < text.Length
                && text[end] is not ('\n' or '\r' or '\v' or '\f' or '\u001C' or '\u001D' or '\u001E' or '\u0085' or '\u2028' or '\u2029'))
                end++;
            int next = Math.Min(text.Length, end + (text.AsSpan(end).StartsWith("\r\n") ? 2 : 1));
            lines.Add(text[at..(keeps ? next : end)]);
            at = next;
        }

        return new PyList(lines);
    }

    private static PyList Partition(string text, string separator, bool fromRight)
    {
        int at = separator.Length == 0 ? throw new TemplateException("a text cannot be split at an empty text")
            : fromRight ? text.LastIndexOf(separator, StringComparison.Ordinal) : text.IndexOf(separator, StringComparison.Ordinal);
        return new PyList(at >= 0 ? [text[..at], separator, text[(at + separator.Length)..]] : fromRight ? ["", "", text]
            : [text, "", ""], isTuple: true);
    }

    private static long Find(string text, Arguments arguments, bool fromRight)
    {
        string part = One(arguments);
        int at = fromRight ? (part.Length == 0 ? text.Length : text.LastIndexOf(part, StringComparison.Ordinal))
            : text.IndexOf(part, StringComparison.Ordinal);
        return at < 0 ? -1 : Text.Length(text[..at]);
    }

    private static long CountOf(string text, string part) => text.AsSpan().Count(part);

    /// <summary>Each run of letters begins with a capital and goes on in small ones.</summary>
    private static string Title(string text)
    {
        var result = new StringBuilder();
        bool inWord = false;
        foreach (object? character in Text.Characters(text))
        {
            string c = (string)character!;
            result.Append(inWord ? Text.Lower(c) : Text.Title(c));
            inWord = char.IsLetter(c, 0);
        }

        return result.ToString();
    }
}
