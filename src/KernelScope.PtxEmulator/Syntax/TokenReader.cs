using System.Text.RegularExpressions;

namespace KernelScope.PtxEmulator.Syntax;

/// <summary>The token stream, and the errors that point into it.</summary>
internal sealed partial class TokenReader(string text, string file)
{
    private readonly List<Token> _tokens = Lexer.Split(text, file);
    private int _at;

    public Token Peek => _tokens[_at];

    public Token PeekSecond => _tokens[Math.Min(_at + 1, _tokens.Count - 1)];

    public Token Take() => _tokens[_at].Kind == TokenKind.End ? _tokens[_at] : _tokens[_at++];

    public bool TakeIf(char mark)
    {
        if (!Peek.Is(mark))
            return false;
        _at++;
        return true;
    }

    public void Expect(char mark)
    {
        Token token = Take();
        if (!token.Is(mark))
            throw Error(token, $"'{mark}' was expected");
    }

    /// <summary>Leaves out the rest of a statement.</summary>
    public void SkipStatement()
    {
        while (!Peek.Is(';') && Peek.Kind != TokenKind.End)
            _at++;
        Expect(';');
    }

    /// <summary>The source between two offsets on one line, for messages.</summary>
    public string Source(int start, int end) => Blanks().Replace(text[start..end], " ").Trim();

    public PtxSyntaxException Error(Token token, string problem) =>
        new(file, token.Line, token.Kind == TokenKind.End ? "end of file" : token.Text, problem);

    public PtxSyntaxException Error(int line, string what, string problem) => new(file, line, what, problem);

    public ulong Integer()
    {
        Token token = Take();
        bool negative = token.Is('-');
        if (negative)
            token = Take();
        if (token.Kind != TokenKind.Number || !Lexer.TryNumber(token.Text, out Immediate value) || value.IsFloat)
            throw Error(token, "an integer was expected");
        return negative ? 0UL - value.Bits : value.Bits;
    }

    [GeneratedRegex(@"\s+")]
    private static partial Regex Blanks();
}
