using System.Buffers;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Unicode;
using KernelScope.Files;

namespace KernelScope.Text;

/// <summary>
/// Text to token ids and back, exactly as sentencepiece does it with Gemma's <c>tokenizer.model</c>: byte-pair encoding with
/// user-defined symbols, byte fallback and no rewriting of the text. Tokens that a folder adds to the vocabulary are cut out first; where a
/// folder has no <c>tokenizer.model</c>, its <c>tokenizer.json</c> is read. Safe for use by many threads at once.
/// </summary>
/// <remarks>
/// Encoding, step by step: added tokens are cut out, longest first; spaces become U+2581; user-defined symbols are matched, longest first
/// from the left, and never merge; the rest merges by score; a character that is not a piece becomes its bytes. Nothing is added: the caller
/// prepends <see cref="BosId"/>. Control pieces of a <c>tokenizer.model</c> (<c>&lt;bos&gt;</c>) are never found in a text.
/// <para>
/// With a <c>tokenizer.json</c>, ids and text are those of Hugging Face's tokenizers library, which differ from sentencepiece's: runs of
/// more than 31 spaces or newlines merge into other pieces; <c>&lt;bos&gt;</c> and its like, which are added tokens there, are found in a
/// text; and bytes that are not UTF-8 as a whole run decode to U+FFFD all of them, not only the wrong ones.
/// </para>
/// <para>
/// Why not Microsoft.ML.Tokenizers 2.0.1: with a 180,000-piece vocabulary on one core it encodes 4 MB of prose at 1.5 million characters
/// a second, this at 21; it keeps 33 MB, this 14; it loads in 97 ms, this in 50 (20 as native code); and it gives other ids for runs of
/// spaces, for newlines and for turn markers.
/// </para>
/// <para>Any number of threads may use it.</para>
/// </remarks>
/// <example>
/// <code>
/// GemmaTokenizer tokenizer = GemmaTokenizer.Open(ModelFolder.Resolve("google/gemma-2-2b"))!;
/// int[] ids = [tokenizer.BosId, .. tokenizer.Encode("Let there be light.")];
/// </code>
/// </example>
public sealed class GemmaTokenizer
{
    // Gemma's file has 4.2 MB. The bound keeps what a hostile file of tiny pieces costs (about 20 times its size) below 1 GB.
    internal const int MaxFileBytes = 32 << 20;

    private readonly TokenModel _model;
    private readonly Dictionary<int, AddedToken> _added = [];

    /// <summary>Cut out of the text as it is, and out of the normalised text.</summary>
    private readonly AddedTokenSplitter? _first, _second;
    private readonly byte[] _unknownSurface;

    private GemmaTokenizer(TokenModel model, IReadOnlyList<AddedToken> added)
    {
        _model = model;
        (BosId, EosId, PadId, UnknownId) = model.Special;
        foreach (AddedToken token in added)
            _added[token.Id] = token;
        if (added.Any(token => !IsPlainSymbol(token)))
        {
            _first = AddedTokenSplitter.Create(added.Where(token => !token.Normalized), text => text);
            _second = AddedTokenSplitter.Create(added.Where(token => token.Normalized), model.Normalizer.Apply);
        }

        PieceCount = Math.Max(model.Pieces.Count, added.Count == 0 ? 0 : added.Max(token => token.Id) + 1);
        _unknownSurface = Encoding.UTF8.GetBytes(model.UnknownSurface);
    }

    /// <summary>
    /// How many ids there are, added tokens included; they run from 0 to one less, and some in between may stand for nothing (<see
    /// cref="Contains"/>).
    /// </summary>
    public int PieceCount { get; }

    /// <summary>The id of <c>&lt;bos&gt;</c>, which begins every text the model sees (Gemma: 2); −1 if the file has none.</summary>
    public int BosId { get; }

    /// <summary>The id of <c>&lt;eos&gt;</c> (Gemma: 1); −1 if the file has none.</summary>
    public int EosId { get; }

    /// <summary>The id of <c>&lt;pad&gt;</c> (Gemma: 0); −1 if the file has none.</summary>
    public int PadId { get; }

    /// <summary>
    /// The id of <c>&lt;unk&gt;</c> (Gemma: 3); −1 if the file has none. Encoding gives it only where a <c>tokenizer.json</c> has no byte
    /// fallback.
    /// </summary>
    public int UnknownId { get; }

    /// <summary>Whether a run of byte pieces decodes as a whole, or not at all.</summary>
    internal bool RunsAreWhole => _model.RunsAreWhole;

    /// <summary>
    /// Opens the tokenizer of a model's folder: <c>tokenizer.model</c>, or <c>tokenizer.json</c> if that is missing; and the added tokens
    /// of
    /// <c>tokenizer_config.json</c>, <c>added_tokens.json</c> and <c>tokenizer.json</c>.
    /// </summary>
    /// <returns>Null if the folder has neither.</returns>
    /// <exception cref="InvalidDataException">A file is malformed, or of a kind that is not supported, or two of them contradict each
    /// other.</exception>
    public static GemmaTokenizer? Open(ModelFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        return folder.TokenizerPath is string path ? Open(path, folder) : null;
    }

    /// <summary>Opens a <c>tokenizer.model</c> file, or a <c>tokenizer.json</c> with the tokens that are added in it.</summary>
    /// <exception cref="InvalidDataException">It is malformed, or of another kind than Gemma's.</exception>
    public static GemmaTokenizer Open(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        return Open(path, null);
    }

    /// <summary>Reads a <c>tokenizer.model</c> from memory.</summary>
    /// <param name="model">The bytes of the file, which are copied.</param>
    /// <param name="file">What error messages call it.</param>
    /// <exception cref="InvalidDataException">It is malformed, or a sentencepiece model of another kind than Gemma's.</exception>
    public static GemmaTokenizer Load(ReadOnlySpan<byte> model, string file) => new(ReadModel(model, file), []);

    /// <summary>Reads a <c>tokenizer.json</c> from memory.</summary>
    /// <param name="json">The bytes of the file; they must not change until this returns.</param>
    /// <param name="file">What error messages call it.</param>
    /// <exception cref="InvalidDataException">It is malformed, or of a kind that is not supported; the message names the field.</exception>
    public static GemmaTokenizer LoadJson(ReadOnlyMemory<byte> json, string file) => OfJson(json, file, null);

    private static GemmaTokenizer Open(string path, ModelFolder? folder)
    {
        if (path.EndsWith(".json", StringComparison.OrdinalIgnoreCase))
            return OfJson(RawFile.ReadAll(path, TokenizerJson.MaxFileBytes), path, folder);
        SentencepieceModel model = ReadModel(RawFile.ReadAll(path, MaxFileBytes), path);
        var added = new AddedTokens();
        if (folder is not null)
            AddedTokenFiles.Read(folder, added, hasModel: true);
        return new GemmaTokenizer(model, added.Over(model, path));
    }

    private static GemmaTokenizer OfJson(ReadOnlyMemory<byte> json, string file, ModelFolder? folder)
    {
        (JsonTokenModel model, List<AddedToken> listed) = TokenizerJson.Read(json, file);
        var added = new AddedTokens();
        added.Add(listed, file);
        SpecialNames names = folder is null ? new SpecialNames() : AddedTokenFiles.Read(folder, added, hasModel: false);
        model.SpecialIds = (IdOf(names.Bos), IdOf(names.Eos), IdOf(names.Pad), IdOf(names.Unknown));
        return new GemmaTokenizer(model, added.Over(model, file));

        int IdOf(string name) => added.Find(name) ?? model.Pieces.Find(Encoding.UTF8.GetBytes(name));
    }

    private static SentencepieceModel ReadModel(ReadOnlySpan<byte> model, string file)
    {
        byte[] padded = new byte[model.Length + PieceTable.Padding];
        model.CopyTo(padded);
        return new SentencepieceModel(TokenizerModel.Read(padded, model.Length, file));
    }

    /// <summary>Whether an id stands for anything.</summary>
    public bool Contains(int id) => (uint)id < (uint)PieceCount
        && (_added.ContainsKey(id) || (id < _model.Pieces.Count && _model.Pieces[id].Type != PieceType.None));

    /// <summary>The id of a piece or added token with exactly this text, as <see cref="Piece"/> gives it.</summary>
    public bool TryGetId(string piece, out int id)
    {
        ArgumentNullException.ThrowIfNull(piece);
        foreach (AddedToken token in _added.Values)
        {
            if (token.Content == piece)
            {
                id = token.Id;
                return true;
            }
        }

        id = piece.Length == 0 ? -1 : _model.Pieces.Find(Encoding.UTF8.GetBytes(piece));
        return id >= 0 && !_added.ContainsKey(id);
    }

    /// <summary>The text of a piece as the vocabulary has it: U+2581 for a space, <c>&lt;0x0A&gt;</c> for a byte.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such id.</exception>
    public string Piece(int id)
    {
        CheckId(id);
        return _added.TryGetValue(id, out AddedToken? token) ? token.Content : _model.Pieces.Text(id);
    }

    /// <summary>Whether a piece is one byte of a character that the vocabulary lacks.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such id.</exception>
    public bool IsByte(int id)
    {
        CheckId(id);
        return TypeOf(id) == PieceType.Byte;
    }

    /// <summary>Whether a piece stands for no text: <c>&lt;bos&gt;</c>, <c>&lt;eos&gt;</c>, <c>&lt;pad&gt;</c>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such id.</exception>
    public bool IsControl(int id)
    {
        CheckId(id);
        return TypeOf(id) == PieceType.Control;
    }

    /// <summary>
    /// Whether a piece is a symbol that is found whole in a text before anything merges, such as a turn marker, a run of newlines or an
    /// added token.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such id.</exception>
    public bool IsUserDefined(int id)
    {
        CheckId(id);
        return TypeOf(id) == PieceType.UserDefined;
    }

    /// <summary>The ids of a text, without BOS. A lone surrogate is read as U+FFFD.</summary>
    /// <exception cref="ArgumentException">The text is too long for one array (more than about 700 million characters).</exception>
    public int[] Encode(ReadOnlySpan<char> text)
    {
        var ids = new List<int>((text.Length / 4) + 4);
        Encode(text, ids);
        return [.. ids];
    }

    /// <summary>Appends the ids of a text, without BOS. A lone surrogate is read as U+FFFD.</summary>
    /// <exception cref="ArgumentException">The text is too long for one array (more than about 700 million characters).</exception>
    public void Encode(ReadOnlySpan<char> text, List<int> destination)
    {
        ArgumentNullException.ThrowIfNull(destination);
        byte[] utf8 = ArrayPool<byte>.Shared.Rent(Encoding.UTF8.GetByteCount(text));
        int length = Encoding.UTF8.GetBytes(text, utf8);
        EncodeValid(utf8.AsSpan(0, length), destination);
        ArrayPool<byte>.Shared.Return(utf8);
    }

    /// <summary>
    /// The ids of a text given as UTF-8, without BOS. Each byte that does not begin a whole valid sequence is read as one U+FFFD.
    /// </summary>
    /// <exception cref="ArgumentException">The text is too long for one array (more than about 700 million bytes).</exception>
    public int[] EncodeUtf8(ReadOnlySpan<byte> text)
    {
        var ids = new List<int>((text.Length / 4) + 4);
        if (Utf8.IsValid(text))
        {
            EncodeValid(text, ids);
        }
        else
        {
            var repaired = new ArrayBufferWriter<byte>(text.Length + 16);
            Utf8Repair.Write(text, complete: true, repaired);
            EncodeValid(repaired.WrittenSpan, ids);
        }

        return [.. ids];
    }

    /// <summary>
    /// The text of some ids. Control pieces are nothing, the unknown piece is " ⁇ ", U+2581 is a space. A run of byte pieces is read as
    /// UTF-8, with one U+FFFD for each byte that does not begin a whole valid sequence; any other piece ends the run.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">One of the ids does not exist; nothing is decoded.</exception>
    public string Decode(ReadOnlySpan<int> ids)
    {
        var text = new ArrayBufferWriter<byte>((ids.Length * 4) + 16);
        var run = new List<byte>();
        foreach (int id in ids)
        {
            CheckId(id);
            if (TryGetByte(id, out byte value))
            {
                run.Add(value);
                continue;
            }

            WriteRun(run, text);
            WriteText(id, text);
        }

        WriteRun(run, text);
        return Encoding.UTF8.GetString(text.WrittenSpan);
    }

    /// <summary>Whether a piece is a byte piece, and which byte it is.</summary>
    internal bool TryGetByte(int id, out byte value)
    {
        value = 0;
        return TypeOf(id) == PieceType.Byte && TokenizerJson.TryParseByte(_model.Pieces.Utf8(id), out value);
    }

    /// <summary>Writes what a run of bytes decodes to, and empties it.</summary>
    internal void WriteRun(List<byte> run, IBufferWriter<byte> destination)
    {
        Span<byte> bytes = CollectionsMarshal.AsSpan(run);
        if (RunsAreWhole && !Utf8.IsValid(bytes))
        {
            for (int i = 0; i < bytes.Length; i++)
                destination.Write("\uFFFD"u8);
        }
        else
        {
            Utf8Repair.Write(bytes, complete: true, destination);
        }

        run.Clear();
    }

    /// <summary>Writes what a piece that is not a byte decodes to.</summary>
    internal void WriteText(int id, IBufferWriter<byte> destination)
    {
        switch (TypeOf(id))
        {
            case PieceType.Control:
                break;
            case PieceType.Unknown:
                destination.Write(_unknownSurface);
                break;
            default:
                ReadOnlySpan<byte> text = _added.TryGetValue(id, out AddedToken? token) ? Encoding.UTF8.GetBytes(token.Content)
                    : _model.Pieces.Utf8(id);
                byte[] decoded = _model.Denormalizer.Apply(text, 0, out int length);
                destination.Write(decoded.AsSpan(0, length));
                ArrayPool<byte>.Shared.Return(decoded);
                break;
        }
    }

    /// <summary>Refuses an id that does not exist.</summary>
    internal void CheckId(int id)
    {
        if (!Contains(id))
            throw new ArgumentOutOfRangeException(null, $"Token id {id} does not exist: this tokenizer has ids 0 to " +
                $"{PieceCount - 1}{((uint)id < (uint)PieceCount ? ", and nothing for that one" : "")}.");
    }

    /// <summary>Refuses a tokenizer whose ids have no row in an embedding.</summary>
    /// <param name="rows">Of the embedding (vocab_size).</param>
    /// <param name="path">The tokenizer's file.</param>
    internal void RequireRows(int rows, string path)
    {
        if (_model.Pieces.Count > rows)
            throw BadFile.At(path, $"the tokenizer has {_model.Pieces.Count} pieces, but the embedding only {rows} rows (vocab_size).");
        AddedToken? beyond = _added.Values.FirstOrDefault(token => token.Id >= rows);
        if (beyond is not null)
            throw BadFile.At(path, $"the added token {BadFile.Quote(beyond.Content)} has the id {beyond.Id}, but the embedding only " +
                $"{rows} rows (vocab_size).");
    }

    private PieceType TypeOf(int id) => !_added.ContainsKey(id) ? _model.Pieces[id].Type
        : id == BosId || id == EosId || id == PadId ? PieceType.Control
        : PieceType.UserDefined;

    /// <summary>
    /// Whether the model finds it all the same: sentencepiece's own symbols, which transformers lists among the added tokens.
    /// </summary>
    private bool IsPlainSymbol(AddedToken token) => token.IsPlain && token.Id < _model.Pieces.Count
        && _model.Pieces[token.Id].Type == PieceType.UserDefined && _model.Pieces.Text(token.Id) == token.Content;

    private void EncodeValid(ReadOnlySpan<byte> utf8, List<int> ids)
    {
        if (_first is null)
        {
            Normalize(utf8, ids);
            return;
        }

        foreach (TextPart part in _first.Split(utf8))
        {
            if (part.Id >= 0)
                ids.Add(part.Id);
            else
                Normalize(utf8[part.Start..part.End], ids);
        }
    }

    private void Normalize(ReadOnlySpan<byte> utf8, List<int> ids)
    {
        byte[] normal = _model.Normalizer.Apply(utf8, PieceTable.Padding, out int length);
        if (_second is null)
        {
            _model.Encode(normal, length, ids);
        }
        else
        {
            foreach (TextPart part in _second.Split(normal.AsSpan(0, length)))
            {
                if (part.Id >= 0)
                    ids.Add(part.Id);
                else
                    _model.Encode(normal.AsSpan(part.Start), part.End - part.Start, ids);
            }
        }

        ArrayPool<byte>.Shared.Return(normal);
    }
}
