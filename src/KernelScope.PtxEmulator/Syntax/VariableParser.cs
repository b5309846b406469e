using System.Buffers.Binary;

namespace KernelScope.PtxEmulator.Syntax;

/// <summary>Variable declarations behind <c>.global</c>, <c>.const</c>, <c>.shared</c>, <c>.local</c> and <c>.param</c>.</summary>
internal static class VariableParser
{
    /// <summary>Reads the declarations up to and including the semicolon.</summary>
    public static List<PtxVariable> Read(TokenReader reader, StateSpace space, bool isExtern)
    {
        var variables = new List<PtxVariable>();
        (int alignment, PtxType type, int lanes) = ReadType(reader);
        do
            variables.Add(ReadNamed(reader, space, isExtern, alignment, type, lanes));
        while (reader.TakeIf(','));
        reader.Expect(';');
        return variables;
    }

    /// <summary>Reads one declaration without a terminator, as in a parameter list.</summary>
    public static PtxVariable ReadOne(TokenReader reader, StateSpace space, bool isExtern)
    {
        (int alignment, PtxType type, int lanes) = ReadType(reader);
        return ReadNamed(reader, space, isExtern, alignment, type, lanes);
    }

    private static (int Alignment, PtxType Type, int Lanes) ReadType(TokenReader reader)
    {
        int alignment = 0;
        int lanes = 1;
        while (true)
        {
            Token token = reader.Take();
            switch (token.Text)
            {
                case ".align":
                    alignment = checked((int)reader.Integer());
                    break;
                case ".v2":
                    lanes = 2;
                    break;
                case ".v4":
                    lanes = 4;
                    break;
                default:
                    if (!token.Text.StartsWith('.') || !PtxTypes.TryParse(token.Text[1..], out PtxType type) || type == PtxType.Pred)
                        throw reader.Error(token, "a variable's type was expected");
                    SkipPointerAttributes(reader, ref alignment);
                    if (alignment == 0)
                        alignment = type.Bytes() * lanes;
                    if ((alignment & (alignment - 1)) != 0)
                        throw reader.Error(token, "an alignment must be a power of two");
                    return (alignment, type, lanes);
            }
        }
    }

    /// <summary>A kernel parameter may say what it points to (<c>.ptr .global .align 16</c>): a hint, which changes no layout.</summary>
    private static void SkipPointerAttributes(TokenReader reader, ref int alignment)
    {
        if (!reader.Peek.Is(".ptr"))
        {
            if (reader.Peek.Is(".align"))
            {
                reader.Take();
                alignment = checked((int)reader.Integer());
            }
            return;
        }
        reader.Take();
        while (reader.Peek.Text is ".global" or ".shared" or ".const" or ".local" or ".align")
            if (reader.Take().Is(".align"))
                reader.Integer();
    }

    private static PtxVariable ReadNamed(TokenReader reader, StateSpace space, bool isExtern, int alignment, PtxType type, int lanes)
    {
        Token name = reader.Take();
        if (name.Kind != TokenKind.Word)
            throw reader.Error(name, "a variable's name was expected");
        long count = 1;
        bool open = false;
        while (reader.TakeIf('['))
        {
            if (reader.TakeIf(']'))
            {
                open = true;
                continue;
            }
            count = checked(count * (long)reader.Integer());
            reader.Expect(']');
        }
        byte[]? initializer = reader.TakeIf('=') ? ReadInitializer(reader, type) : null;
        long bytes = open ? initializer?.Length ?? 0 : checked(count * lanes * type.Bytes());
        bool dynamic = open && initializer is null;
        if (dynamic && !(isExtern && space == StateSpace.Shared))
            throw reader.Error(name, "only extern shared memory may have an open size");
        if (initializer is not null && initializer.Length > bytes)
            throw reader.Error(name, "the initialiser is longer than the variable");
        return new PtxVariable(name.Text, space, type, alignment, bytes, name.Line) { IsDynamic = dynamic, Initializer = initializer };
    }

    private static byte[] ReadInitializer(TokenReader reader, PtxType type)
    {
        var bytes = new List<byte>();
        ReadInitializer(reader, type, bytes);
        return [.. bytes];
    }

    private static void ReadInitializer(TokenReader reader, PtxType type, List<byte> bytes)
    {
        if (reader.TakeIf('{'))
        {
            do
                ReadInitializer(reader, type, bytes);
            while (reader.TakeIf(','));
            reader.Expect('}');
            return;
        }
        bool negative = reader.TakeIf('-');
        Token token = reader.Take();
        if (token.Kind != TokenKind.Number || !Lexer.TryNumber(token.Text, out Immediate value))
            throw reader.Error(token, "initialisers must be numbers");
        Span<byte> whole = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(whole, (negative ? value.Negated() : value).As(type));
        bytes.AddRange(whole[..type.Bytes()]);
    }
}
