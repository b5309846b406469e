using System.Globalization;
using System.Text;

namespace KernelScope.Chat.Jinja;

internal enum TokenKind
{
    Data,
    BeginVariable,
    EndVariable,
    BeginBlock,
    EndBlock,
    Name,
    Text,
    Number,
    Operator,
    End,
}

/// <summary>One token. The value is a name's, an operator's or a text's; a number's is a long or a double.</summary>
internal readonly record struct Token(TokenKind Kind, object Value, int Line)
{
    /// <summary>What messages call it.</summary>
    public string Said => Kind switch
    {
        TokenKind.EndVariable => "}}",
        TokenKind.EndBlock => "%}",
        TokenKind.End or TokenKind.Data or TokenKind.BeginVariable or TokenKind.BeginBlock => "the end of the expression",
        TokenKind.Text => "a text",
        _ => string.Create(CultureInfo.InvariantCulture, $"{Value}"),
    };
}

/// <summary>
/// Cuts a template into tokens as Jinja2 does with trim_blocks and lstrip_blocks: a block tag takes the line end after it and, if nothing
/// else stands before it on its line, the white space before it; <c>-</c> takes all white space on its side, <c>+</c> none.
/// </summary>
internal sealed class Lexer
{
    private static readonly string[] Operators =
        ["//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=",
            ".", ":", "|", ",", ";"];

    private readonly string _source;
    private readonly List<Token> _tokens = [];
    private int _at, _line = 1;

    /// <summary>Whether what was read last ended a line, also where its line end was trimmed away.</summary>
    private bool _lineStarts = true;

    private Lexer(string source)
    {
        source = source.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        _source = source.EndsWith('\n') ? source[..^1] : source;
    }

    /// <summary>All tokens of a template.</summary>
    /// <exception cref="TemplateException">A tag or a text does not end, or a character has no meaning.</exception>
    public static List<Token> Read(string source)
    {
        var lexer = new Lexer(source);
        while (lexer._at < lexer._source.Length)
            lexer.ReadDataAndTag();
        lexer.Add(TokenKind.End, "");
        return lexer._tokens;
    }

    private void ReadDataAndTag()
    {
        int begin = _at;
        do
            begin = _source.IndexOf('{', begin);
        while (begin >= 0 && !(begin + 1 < _source.Length && _source[begin + 1] is '{' or '%' or '#') && ++begin > 0);
        if (begin < 0)
        {
            Data(_source[_at..]);
            Advance(_source.Length);
            return;
        }

        string data = _source[_at..begin];
        char kind = _source[begin + 1];
        char sign = begin + 2 < _source.Length ? _source[begin + 2] : ' ';
        if (sign == '-')
            data = Text.TrimEnd(data);
        else if (sign != '+' && kind != '{')
            data = WithoutIndent(data);
        Data(data);
        Advance(begin + 2 + (sign is '-' or '+' ? 1 : 0));
        _lineStarts = false;
        if (kind == '#')
            Comment();
        else if (kind == '%' && RawBegins())
            Raw();
        else
            Tag(kind == '{');
    }

    /// <summary>Data without the white space between the last line's start and the tag, if nothing else is there.</summary>
    private string WithoutIndent(string data)
    {
        int line = data.LastIndexOf('\n') + 1;
        return (line > 0 || _lineStarts) && Text.TrimEnd(data[line..]).Length == 0 ? data[..line] : data;
    }

    private void Comment()
    {
        int end = _source.IndexOf("#}", _at, StringComparison.Ordinal);
        if (end < 0)
            throw new TemplateException("a comment {# does not end", _line);
        char sign = end > _at ? _source[end - 1] : ' ';
        Advance(end + 2);
        AfterTag(sign);
    }

    /// <summary>Whether the block that begins here is <c>raw</c>; if so it is read.</summary>
    private bool RawBegins()
    {
        int at = SkipSpace(_at);
        if (!_source.AsSpan(at).StartsWith("raw") || (at = SkipSpace(at + 3)) >= _source.Length)
            return false;
        bool strips = _source[at] == '-';
        if (!_source.AsSpan(at + (strips ? 1 : 0)).StartsWith("%}"))
            return false;
        Advance(at + (strips ? 3 : 2));
        if (strips)
            Advance(SkipSpace(_at));
        _lineStarts = _source[_at - 1] == '\n';
        return true;
    }

    private void Raw()
    {
        int line = _line;
        for (int begin = _at; (begin = _source.IndexOf("{%", begin, StringComparison.Ordinal)) >= 0; begin += 2)
        {
            int at = begin + 2;
            char before = at < _source.Length ? _source[at] : ' ';
            at = SkipSpace(at + (before is '-' or '+' ? 1 : 0));
            if (!_source.AsSpan(at).StartsWith("endraw"))
                continue;
            at = SkipSpace(at + 6);
            char after = at < _source.Length ? _source[at] : ' ';
            if (!_source.AsSpan(at + (after is '-' or '+' ? 1 : 0)).StartsWith("%}"))
                continue;
            string data = _source[_at..begin];
            Data(before == '-' ? Text.TrimEnd(data) : before == '+' ? data : WithoutIndent(data));
            Advance(at + (after is '-' or '+' ? 3 : 2));
            AfterTag(after);
            return;
        }

        throw new TemplateException("a raw block does not end", line);
    }

    private void AfterTag(char sign, bool trims = true)
    {
        int from = _at;
        if (sign == '-')
            Advance(SkipSpace(_at));
        else if (sign != '+' && trims && _at < _source.Length && _source[_at] == '\n')
            Advance(_at + 1);
        _lineStarts = _at > from && _source[_at - 1] == '\n';
    }

    private void Tag(bool isVariable)
    {
        int line = _line;
        Add(isVariable ? TokenKind.BeginVariable : TokenKind.BeginBlock, "");
        string end = isVariable ? "}}" : "%}";
        var open = new Stack<char>();
        while (true)
        {
            Advance(SkipSpace(_at));
            if (_at >= _source.Length)
                throw new TemplateException($"a tag {(isVariable ? "{{" : "{%")} does not end", line);
            char c = _source[_at];
            bool signed = c == '-' || (c == '+' && !isVariable);
            if (open.Count == 0 && _source.AsSpan(_at + (signed ? 1 : 0)).StartsWith(end))
            {
                Advance(_at + (signed ? 3 : 2));
                Add(isVariable ? TokenKind.EndVariable : TokenKind.EndBlock, "");
                AfterTag(signed ? c : ' ', trims: !isVariable);
                return;
            }

            if (c is '_' || char.IsLetter(c))
                Name();
            else if (char.IsAsciiDigit(c))
                Number();
            else if (c is '\'' or '"')
                String(c);
            else
                Operator(open);
        }
    }

    private void Name()
    {
        int end = _at;
        while (end < _source.Length && (_source[end] == '_' || char.IsLetterOrDigit(_source[end])))
            end++;
        Add(TokenKind.Name, _source[_at..end]);
        Advance(end);
    }

    private void Number()
    {
        int end = _at;
        bool Digits()
        {
            int start = end;
            while (end < _source.Length && (char.IsAsciiDigit(_source[end]) || (_source[end] == '_' && end > start)))
                end++;
            return end > start;
        }

        Digits();
        bool real = false;
        if (end + 1 < _source.Length && _source[end] == '.' && char.IsAsciiDigit(_source[end + 1]))
        {
            end++;
            real = Digits();
        }

        if (end < _source.Length && _source[end] is 'e' or 'E')
        {
            int mark = end++;
            if (end < _source.Length && _source[end] is '+' or '-')
                end++;
            if (Digits())
                real = true;
            else
                end = mark;
        }

        string digits = _source[_at..end].Replace("_", "", StringComparison.Ordinal);
        if (real)
            Add(TokenKind.Number, double.Parse(digits, CultureInfo.InvariantCulture));
        else if (long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out long whole)
            && !(end < _source.Length && char.IsLetter(_source[end])))
            Add(TokenKind.Number, whole);
        else
            throw new TemplateException($"the number {digits} cannot be read", _line);
        Advance(end);
    }

    private void String(char quote)
    {
        int end = _at + 1;
        while (end < _source.Length && _source[end] != quote)
            end += _source[end] == '\\' ? 2 : 1;
        if (end >= _source.Length)
            throw new TemplateException("a text in quotes does not end", _line);
        Add(TokenKind.Text, Unescape(_source.AsSpan(_at + 1, end - _at - 1)));
        Advance(end + 1);
    }

    private string Unescape(ReadOnlySpan<char> text)
    {
        var result = new StringBuilder();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] != '\\')
            {
                result.Append(text[i]);
                continue;
            }

            char c = text[++i];
            int digits = c switch { 'x' => 2, 'u' => 4, 'U' => 8, _ => 0 };
            if (digits > 0)
            {
                if (i + digits >= text.Length
                    || !int.TryParse(text.Slice(i + 1, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int code)
                    || code is < 0 or > 0x10FFFF)
                    throw new TemplateException($"the escape \\{c} in a text needs {digits} hexadecimal digits", _line);
                result.Append(code is >= 0x10000 ? char.ConvertFromUtf32(code) : ((char)code).ToString());
                i += digits;
            }
            else if (c is >= '0' and <= '7')
            {
                int code = 0, last = Math.Min(i + 3, text.Length);
                for (; i < last && text[i] is >= '0' and <= '7'; i++)
                    code = (code * 8) + text[i] - '0';
                i--;
                result.Append((char)code);
            }
            else if (c == 'N')
            {
                throw new TemplateException("an escape \\N in a text is not supported", _line);
            }
            else
            {
                int found = "abfnrtv\\'\"\n".IndexOf(c, StringComparison.Ordinal);
                result.Append(found switch { < 0 => $"\\{c}", 10 => "", _ => "\a\b\f\n\r\t\v\\'\""[found].ToString() });
            }
        }

        return result.ToString();
    }

    private void Operator(Stack<char> open)
    {
        string? found = Array.Find(Operators, o => _source.AsSpan(_at).StartsWith(o));
        if (found is null)
            throw new TemplateException($"the character {Text.Repr(_source[_at].ToString())} has no meaning here", _line);
        switch (found[0])
        {
            case '(' or '[' or '{':
                open.Push(found[0] switch { '(' => ')', '[' => ']', _ => '}' });
                break;
            case ')' or ']' or '}':
                if (!open.TryPop(out char expected) || expected != found[0])
                    throw new TemplateException($"'{found}' closes nothing", _line);
                break;
        }

        Add(TokenKind.Operator, found);
        Advance(_at + found.Length);
    }

    private int SkipSpace(int at)
    {
        while (at < _source.Length && Text.IsSpace(_source[at]))
            at++;
        return at;
    }

    private void Data(string data)
    {
        if (data.Length > 0)
            Add(TokenKind.Data, data);
    }

    private void Add(TokenKind kind, object value) => _tokens.Add(new Token(kind, value, _line));

    private void Advance(int to)
    {
        _line += _source.AsSpan(_at, to - _at).Count('\n');
        _at = to;
    }
}
