using System.Buffers.Binary;
using System.Text;
using KernelScope.Text;

namespace KernelScope.Tests.Text;

/// <summary>Writes small tokenizer.model files, sound or not, for the tests.</summary>
internal sealed class TokenizerFile
{
    public const int Normal = 1, Unknown = 2, Control = 3, UserDefined = 4, Unused = 5, Byte = 6;

    public int ModelType { get; init; } = 2;

    public bool ByteFallback { get; init; } = true;

    public bool DummyPrefix { get; init; }

    public bool RemoveExtraSpaces { get; init; }

    public bool EscapeSpaces { get; init; } = true;

    public string BosPiece { get; init; } = "<bos>";

    public long BosId { get; init; } = 2;

    public string? UnknownSurface { get; init; }

    public string CharacterTable { get; init; } = "";

    public string DecodingTable { get; init; } = "";

    public List<(string Text, float Score, int Type)> Pieces { get; } =
    [
        ("<pad>", 0, Control), ("<eos>", 0, Control), ("<bos>", 0, Control), ("<unk>", 0, Unknown), ("\n", 0, UserDefined),
            ("<h1>", 0, UserDefined),
        .. Enumerable.Range(0, 256).Select(b => ($"<0x{b:X2}>", 0f, Byte)),
    ];

    public TokenizerFile With(params ReadOnlySpan<(string Text, float Score, int Type)> pieces)
    {
        Pieces.AddRange(pieces);
        return this;
    }

    public GemmaTokenizer Load() => GemmaTokenizer.Load(ToBytes(), "test.model");

    public byte[] ToBytes()
    {
        var file = new List<byte>();
        foreach ((string text, float score, int type) in Pieces)
            file.AddRange(Field(1, [.. Field(1, Encoding.UTF8.GetBytes(text)), .. Float(2, score), .. Number(3, type)]));
        byte[] surface = UnknownSurface is null ? [] : Field(44, Encoding.UTF8.GetBytes(UnknownSurface));
        file.AddRange(
            Field(2, [.. Number(3, ModelType), .. Number(35, ByteFallback ? 1 : 0), .. Number(41, BosId),
                .. surface, .. Field(46, Encoding.UTF8.GetBytes(BosPiece))]));
        file.AddRange(
            Field(3, [.. Field(2, Encoding.UTF8.GetBytes(CharacterTable)), .. Number(3, DummyPrefix ? 1 : 0),
                .. Number(4, RemoveExtraSpaces ? 1 : 0), .. Number(5, EscapeSpaces ? 1 : 0)]));
        file.AddRange(Field(5, Field(2, Encoding.UTF8.GetBytes(DecodingTable))));
        return [.. file];
    }

    public static byte[] Field(int number, byte[] value) => [.. Varint((ulong)number << 3 | 2), .. Varint((ulong)value.Length), .. value];

    public static byte[] Number(int number, long value) => [.. Varint((ulong)number << 3), .. Varint((ulong)value)];

    public static byte[] Float(int number, float value)
    {
        byte[] bits = new byte[sizeof(float)];
        BinaryPrimitives.WriteSingleLittleEndian(bits, value);
        return [.. Varint((ulong)number << 3 | 5), .. bits];
    }

    public static byte[] Varint(ulong value)
    {
        var bytes = new List<byte>();
        for (; value > 0x7F; value >>= 7)
            bytes.Add((byte)(value | 0x80));
        bytes.Add((byte)value);
        return [.. bytes];
    }
}
