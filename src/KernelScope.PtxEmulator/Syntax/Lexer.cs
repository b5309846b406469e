using System.Globalization;

namespace KernelScope.PtxEmulator.Syntax;

internal enum TokenKind
{
    Word,
    Number,
    Text,
    Mark,
    End,
}

/// <summary>One token: a word (identifier, register, directive or dotted opcode), number, quoted text or punctuation mark.</summary>
internal readonly record struct Token(TokenKind Kind, string Text, int Line, int Start, int End)
{
    public bool Is(char mark) => Kind == TokenKind.Mark && Text[0] == mark;

    public bool Is(string word) => Kind == TokenKind.Word && Text == word;
}

/// <summary>Splits PTX text into tokens. Comments and the line-based debug directives <c>.loc</c> and <c>.file</c> are dropped here.</summary>
internal sealed class Lexer(string text, string file)
{
    private int _at;
    private int _line = 1;

    public static List<Token> Split(string text, string file)
    {
        var lexer = new Lexer(text, file);
        var tokens = new List<Token>();
        while (true)
        {
            Token token = lexer.Next();
            if (token.Is(".loc") || token.Is(".file"))
            {
                lexer.SkipLine();
                continue;
            }
            tokens.Add(token);
            if (token.Kind == TokenKind.End)
                return tokens;
        }
    }

    private Token Next()
    {
        SkipBlanks();
        if (_at >= text.Length)
            return new Token(TokenKind.End, "", _line, text.Length, text.Length);
        int start = _at;
        char c = text[_at];
        if (c == '"')
            return Quoted(start);
        if (char.IsAsciiDigit(c))
            return Take(TokenKind.Number, start, IsNumberPart);
        if (IsWordPart(c))
            return Take(TokenKind.Word, start, IsWordPart);
        _at++;
        return new Token(TokenKind.Mark, text[start.._at], _line, start, _at);
    }

    private Token Take(TokenKind kind, int start, Func<char, bool> part)
    {
        while (_at < text.Length)
        {
            if (part(text[_at]))
                _at++;
            else if (kind == TokenKind.Word && Pair(':', ':'))
                _at += 2;
            else if (kind == TokenKind.Number && IsExponentSign(start))
                _at++;
            else
                break;
        }
        return new Token(kind, text[start.._at], _line, start, _at);
    }

    private bool IsExponentSign(int start) =>
        text[_at] is '+' or '-' && text[_at - 1] is 'e' or 'E'
            && _at - start > 1 && text[start + 1] is not ('x' or 'X' or 'f' or 'F' or 'd' or 'D');

    private Token Quoted(int start)
    {
        int end = text.IndexOf('"', start + 1);
        if (end < 0)
            throw new PtxSyntaxException(file, _line, text[start..Math.Min(text.Length, start + 20)], "a quoted text does not end");
        _at = end + 1;
        return new Token(TokenKind.Text, text[(start + 1)..end], _line, start, _at);
    }

    private static bool IsWordPart(char c) => char.IsAsciiLetterOrDigit(c) || c is '_' or '$' or '%' or '.';

    private static bool IsNumberPart(char c) => char.IsAsciiLetterOrDigit(c) || c == '.';

    private bool Pair(char first, char second) =>
        _at + 1 < text.Length && text[_at] == first && text[_at + 1] == second;

    private void SkipLine()
    {
        while (_at < text.Length && text[_at] != '\n')
            _at++;
    }

    private void SkipBlanks()
    {
        while (_at < text.Length)
        {
            if (char.IsWhiteSpace(text[_at]) || text[_at] == '\0')
            {
                if (text[_at] == '\n')
                    _line++;
                _at++;
            }
            else if (Pair('/', '/'))
            {
                SkipLine();
            }
            else if (Pair('/', '*'))
            {
                SkipComment();
            }
            else
            {
                return;
            }
        }
    }

    private void SkipComment()
    {
        int end = text.IndexOf("*/", _at + 2, StringComparison.Ordinal);
        if (end < 0)
            throw new PtxSyntaxException(file, _line, "/*", "a comment does not end");
        for (; _at < end + 2; _at++)
            if (text[_at] == '\n')
                _line++;
    }

    /// <summary>Reads a PTX number: 0fXXXXXXXX and 0dXXXXXXXXXXXXXXXX give the float's bits; integers may be decimal, 0x, 0b or octal with an optional U.</summary>
    public static bool TryNumber(string word, out Immediate value)
    {
        value = default;
        string lower = word.ToLowerInvariant();
        if (lower.StartsWith("0f", StringComparison.Ordinal) && lower.Length == 10)
        {
            bool ok = uint.TryParse(lower.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out uint bits);
            value = Immediate.Float(BitConverter.UInt32BitsToSingle(bits), bits);
            return ok;
        }
        if (lower.StartsWith("0d", StringComparison.Ordinal) && lower.Length == 18)
        {
            bool ok = ulong.TryParse(lower.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong bits);
            value = Immediate.Double(BitConverter.UInt64BitsToDouble(bits));
            return ok;
        }
        if (lower.Contains('.', StringComparison.Ordinal)
            || (!lower.StartsWith("0x", StringComparison.Ordinal) && lower.Contains('e', StringComparison.Ordinal)))
        {
            bool ok = double.TryParse(lower, NumberStyles.Float, CultureInfo.InvariantCulture, out double number);
            value = Immediate.Double(number);
            return ok;
        }
        return TryInteger(lower.TrimEnd('u'), out value);
    }

    private static bool TryInteger(string digits, out Immediate value)
    {
        ulong number;
        bool ok;
        if (digits.StartsWith("0x", StringComparison.Ordinal))
            ok = ulong.TryParse(digits.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out number);
        else if (digits.StartsWith("0b", StringComparison.Ordinal))
            ok = ulong.TryParse(digits.AsSpan(2), NumberStyles.BinaryNumber, CultureInfo.InvariantCulture, out number);
        else if (digits.Length > 1 && digits[0] == '0')
            ok = TryOctal(digits, out number);
        else
            ok = ulong.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out number);
        value = Immediate.Integer(number);
        return ok;
    }

    private static bool TryOctal(string digits, out ulong number)
    {
        number = 0;
        foreach (char c in digits)
        {
            if (c is < '0' or > '7')
                return false;
            number = number * 8 + (ulong)(c - '0');
        }
        return true;
    }
}
