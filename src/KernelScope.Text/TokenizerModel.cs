using System.Text;
using System.Text.Unicode;
using KernelScope.Files;

namespace KernelScope.Text;

/// <summary>
/// What a <c>tokenizer.model</c> says: sentencepiece's <c>ModelProto</c> (sentencepiece_model.proto), as far as tokenizing with it needs.
/// A setting that would change the ids and that is not implemented here is refused by name.
/// </summary>
internal sealed class TokenizerModel
{
    private const int ModelBpe = 2;

    private readonly string _file;
    private readonly List<Piece> _pieces = [];
    private byte[] _bytes = [];

    // Defaults of the proto, where the file is silent.
    private long _modelType = 1;
    private long _bosId = 1, _eosId = 2, _padId = -1;
    private bool _byteFallback;
    private bool _dummyPrefix = true, _removeExtraSpaces = true, _escapeSpaces = true;
    private string _bosPiece = "<s>", _eosPiece = "</s>", _padPiece = "<pad>";

    private TokenizerModel(string file) => _file = file;

    public PieceTable Pieces { get; private set; } = null!;

    /// <summary>Id of the piece of each byte.</summary>
    public int[] ByteIds { get; } = new int[256];

    public int UnknownId { get; private set; } = -1;

    public int BosId => SpecialId(_bosPiece, _bosId);

    public int EosId => SpecialId(_eosPiece, _eosId);

    public int PadId => SpecialId(_padPiece, _padId);

    /// <summary>What the unknown piece decodes to.</summary>
    public string UnknownSurface { get; private set; } = " \u2047 ";

    /// <summary>Reads the model from the first <paramref name="length"/> bytes of <paramref name="padded"/>, which it keeps.</summary>
    /// <exception cref="InvalidDataException">It is malformed or unsupported; the message says where.</exception>
    public static TokenizerModel Read(byte[] padded, int length, string file)
    {
        var model = new TokenizerModel(file) { _bytes = padded };
        model.ReadFields(new ProtobufReader(padded, 0, length, file));
        model.CheckSettings();
        model.Pieces = PieceTable.Create(padded, [.. model._pieces], file);
        model.IndexReserved();
        return model;
    }

    /// <summary>
    /// The control piece that the trainer named, as sentencepiece finds it; else the one whose id the trainer stated; else −1.
    /// </summary>
    private int SpecialId(string piece, long stated)
    {
        int id = Pieces.Find(Encoding.UTF8.GetBytes(piece));
        if (id >= 0 && Pieces[id].Type == PieceType.Control)
            return id;
        return stated >= 0 && stated < Pieces.Count && Pieces[(int)stated].Type == PieceType.Control ? (int)stated : -1;
    }

    private void ReadFields(ProtobufReader reader)
    {
        while (reader.Next())
        {
            if (reader.Is(1, WireType.Bytes))
                _pieces.Add(ReadPiece(reader.ReadMessage(), reader.FieldStart));
            else if (reader.Is(2, WireType.Bytes))
                ReadTrainer(reader.ReadMessage());
            else if (reader.Is(3, WireType.Bytes))
                ReadNormalizer(reader.ReadMessage());
            else if (reader.Is(5, WireType.Bytes))
                ReadDenormalizer(reader.ReadMessage());
            else
                reader.Skip();
        }
    }

    private Piece ReadPiece(ProtobufReader reader, int at)
    {
        int start = 0, length = 0;
        float score = 0;
        ulong type = (ulong)PieceType.Normal;
        while (reader.Next())
        {
            if (reader.Is(1, WireType.Bytes))
                (start, length) = reader.ReadBytes();
            else if (reader.Is(2, WireType.Fixed32))
                score = reader.ReadFloat();
            else if (reader.Is(3, WireType.Varint))
                type = reader.ReadVarint();
            else
                reader.Skip();
        }

        if (length == 0)
            throw Bad(at, $"piece {_pieces.Count} is empty");
        if (!Utf8.IsValid(_bytes.AsSpan(start, length)))
            throw Bad(start, $"the text of piece {_pieces.Count} is not UTF-8");
        if (float.IsNaN(score))
            throw Bad(at, $"the score of piece {_pieces.Count} is not a number");
        if (type is < (ulong)PieceType.Normal or > (ulong)PieceType.Byte)
            throw Bad(at, $"piece {_pieces.Count} is of type {type}, which sentencepiece does not define");
        return new Piece(start, length, score, (PieceType)type);
    }

    private void ReadTrainer(ProtobufReader reader)
    {
        while (reader.Next())
        {
            if (reader.Is(3, WireType.Varint))
                _modelType = (int)reader.ReadVarint();
            else if (reader.Is(35, WireType.Varint))
                _byteFallback = reader.ReadVarint() != 0;
            else if (reader.Is(41, WireType.Varint))
                _bosId = (int)reader.ReadVarint();
            else if (reader.Is(42, WireType.Varint))
                _eosId = (int)reader.ReadVarint();
            else if (reader.Is(43, WireType.Varint))
                _padId = (int)reader.ReadVarint();
            else if (reader.Is(44, WireType.Bytes))
                UnknownSurface = ReadText(ref reader);
            else if (reader.Is(46, WireType.Bytes))
                _bosPiece = ReadText(ref reader);
            else if (reader.Is(47, WireType.Bytes))
                _eosPiece = ReadText(ref reader);
            else if (reader.Is(48, WireType.Bytes))
                _padPiece = ReadText(ref reader);
            else
                reader.Skip();
        }
    }

    private void ReadNormalizer(ProtobufReader reader)
    {
        while (reader.Next())
        {
            if (reader.Is(2, WireType.Bytes))
                RefuseTable(ref reader, "normalises its text by a table of characters");
            else if (reader.Is(3, WireType.Varint))
                _dummyPrefix = reader.ReadVarint() != 0;
            else if (reader.Is(4, WireType.Varint))
                _removeExtraSpaces = reader.ReadVarint() != 0;
            else if (reader.Is(5, WireType.Varint))
                _escapeSpaces = reader.ReadVarint() != 0;
            else
                reader.Skip();
        }
    }

    private void ReadDenormalizer(ProtobufReader reader)
    {
        while (reader.Next())
        {
            if (reader.Is(2, WireType.Bytes))
                RefuseTable(ref reader, "rewrites decoded text by a table of characters");
            else
                reader.Skip();
        }
    }

    private void RefuseTable(ref ProtobufReader reader, string does)
    {
        int at = reader.FieldStart;
        if (reader.ReadBytes().Length > 0)
            throw Bad(at, $"this tokenizer {does}, which is not supported (Gemma's does not)");
    }

    private string ReadText(ref ProtobufReader reader)
    {
        (int start, int length) = reader.ReadBytes();
        ReadOnlySpan<byte> text = _bytes.AsSpan(start, length);
        return Utf8.IsValid(text) ? Encoding.UTF8.GetString(text)
            : throw Bad(start, $"field {reader.Number} of the trainer's settings is not UTF-8");
    }

    private void CheckSettings()
    {
        if (_modelType != ModelBpe)
            throw Unsupported($"its type is {_modelType switch { 1 => "unigram", 3 => "word", 4 => "char", var t => $"{t}" }}, not BPE");
        if (!_byteFallback)
            throw Unsupported("it has no byte fallback");
        if (_dummyPrefix)
            throw Unsupported("it puts a space before every text (add_dummy_prefix)");
        if (_removeExtraSpaces)
            throw Unsupported("it removes spaces (remove_extra_whitespaces)");
        if (!_escapeSpaces)
            throw Unsupported("it does not write spaces as U+2581 (escape_whitespaces)");
        if (_pieces.Count == 0)
            throw new InvalidDataException($"{_file}: no pieces.");
    }

    /// <summary>Finds the unknown piece and the 256 byte pieces.</summary>
    private void IndexReserved()
    {
        Array.Fill(ByteIds, -1);
        for (int id = 0; id < Pieces.Count; id++)
        {
            if (Pieces[id].Type == PieceType.Unknown)
            {
                if (UnknownId >= 0)
                    throw Bad(Pieces[id].Start, $"piece {id} is of type UNKNOWN, and so is piece {UnknownId}");
                UnknownId = id;
            }
            else if (Pieces[id].Type == PieceType.Byte)
            {
                if (!TryParseByte(Pieces.Utf8(id), out byte value))
                    throw Bad(Pieces[id].Start, $"piece {id} is of type BYTE, but {BadFile.Quote(Pieces.Text(id))} is not of the " +
                        "form <0x41>");
                ByteIds[value] = id;
            }
        }

        int missing = Array.IndexOf(ByteIds, -1);
        if (missing >= 0)
            throw new InvalidDataException($"{_file}: there is no piece <0x{missing:X2}> of type BYTE; byte fallback needs all 256.");
    }

    /// <summary>Reads the text of a byte piece, as in <c>&lt;0x41&gt;</c>.</summary>
    public static bool TryParseByte(ReadOnlySpan<byte> text, out byte value)
    {
        value = 0;
        if (text.Length != 6 || !text.StartsWith("<0x"u8) || text[5] != '>')
            return false;
        int high = HexDigits.IndexOf(text[3]), low = HexDigits.IndexOf(text[4]);
        value = (byte)((high << 4) | low);
        return high >= 0 && low >= 0;
    }

    private static ReadOnlySpan<byte> HexDigits => "0123456789ABCDEF"u8;

    private InvalidDataException Bad(int at, string what) => new($"{_file}: {what} (byte {at}).");

    private InvalidDataException Unsupported(string what) =>
        new($"{_file}: this sentencepiece model is not supported: {what}, and Gemma's tokenizer is BPE with byte fallback and no " +
        "rewriting of the text.");
}
