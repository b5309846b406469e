using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Text;

/// <summary>
/// Reads a <c>tokenizer.json</c>, the form in which Hugging Face's tokenizers library keeps a tokenizer: BPE as transformers saves it for
/// Gemma. What would change the ids or the text and is not implemented here is refused by the name of its field. Padding, truncation and
/// the post-processor, which adds BOS, are left to the caller.
/// </summary>
internal static class TokenizerJson
{
    // Gemma 2's has 17.5 MB, or 34.4 with each merge as a pair. Reading takes some five times the file's size.
    internal const int MaxFileBytes = 64 << 20;

    // Ids index tables; twice the largest vocabulary there is.
    internal const int MaxIds = 1 << 20;

    private const int MaxSteps = 8, MaxStepBytes = 16;

    private static readonly JsonElement Null = JsonElement.Parse("null");

    /// <summary>The model, and the tokens that were added to it.</summary>
    /// <exception cref="InvalidDataException">It is malformed, or not supported; the message says which field.</exception>
    public static (JsonTokenModel Model, List<AddedToken> Added) Read(ReadOnlyMemory<byte> json, string file)
    {
        using JsonDocument document = JsonText.ParseObject(json, file);
        JsonElement root = document.RootElement;
        JsonElement model = Field(root, "model");
        if (model.ValueKind != JsonValueKind.Object)
            throw Bad(file, "model", model, "an object");
        RequireBpe(model, file);
        var normalization = new List<(byte[], byte[])>();
        ReadNormalizer(Field(root, "normalizer"), "normalizer", normalization, file);
        var splits = new List<TextSplit>();
        ReadPreTokenizer(Field(root, "pre_tokenizer"), "pre_tokenizer", splits, file);
        RequirePostProcessor(Field(root, "post_processor"), file);
        (ReplaceSteps decoding, bool joinsBytes) = ReadDecoder(Field(root, "decoder"), file);
        PieceTable pieces = ReadVocabulary(Field(model, "vocab"), joinsBytes, file);
        string? unknown = Text(model, "unk_token", "model.unk_token", file);
        int unknownId = unknown is null ? -1 : pieces.Find(Encoding.UTF8.GetBytes(unknown));
        if (unknown is not null && unknownId < 0)
            throw BadFile.At(file, $"model.unk_token is {BadFile.Quote(unknown)}, which is not in model.vocab.");
        var result = new JsonTokenModel(pieces)
        {
            Normalization = new ReplaceSteps(normalization),
            Decoding = decoding,
            Splits = splits,
            Merges = ReadMerges(Field(model, "merges"), pieces, file),
            ByteIds = Flag(model, "byte_fallback", "model.byte_fallback", file) ? ReadBytes(pieces) : null,
            UnknownToken = unknownId,
            FusesUnknown = Flag(model, "fuse_unk", "model.fuse_unk", file),
            IgnoresMerges = Flag(model, "ignore_merges", "model.ignore_merges", file),
        };
        return (result, AddedTokenFiles.ReadTokenizerJson(Field(root, "added_tokens"), file));
    }

    private static void RequireBpe(JsonElement model, string file)
    {
        string? type = Text(model, "type", "model.type", file);
        if (type is not (null or "BPE"))
            throw Unsupported(file, "model.type", BadFile.Quote(type), "BPE");
        if (Field(model, "dropout") is { ValueKind: not JsonValueKind.Null } dropout
            && !(dropout.ValueKind == JsonValueKind.Number && dropout.TryGetDouble(out double rate) && rate == 0))
            throw Unsupported(file, "model.dropout", JsonText.Kind(dropout), "null");
        foreach (string name in (string[])["continuing_subword_prefix", "end_of_word_suffix"])
        {
            if (Text(model, name, $"model.{name}", file) is { Length: > 0 } text)
                throw Unsupported(file, $"model.{name}", BadFile.Quote(text), "null");
        }
    }

    private static void ReadNormalizer(JsonElement normalizer, string field, List<(byte[], byte[])> steps, string file)
    {
        if (normalizer.ValueKind == JsonValueKind.Null)
            return;
        switch (TypeOf(normalizer, field, file))
        {
            case "Sequence":
                foreach ((JsonElement item, string name) in Items(normalizer, "normalizers", field, file))
                    ReadNormalizer(item, name, steps, file);
                break;
            case "Replace":
                steps.Add(ReadReplace(normalizer, field, file));
                break;
            case "Prepend":
                steps.Add(([], Step(Text(normalizer, "prepend", $"{field}.prepend", file), $"{field}.prepend", file)));
                break;
            case string type:
                throw Unsupported(file, $"{field}.type", BadFile.Quote(type), "Replace, Prepend or a Sequence of them, as Gemma's");
        }

        if (steps.Count > MaxSteps)
            throw Unsupported(file, field, $"a Sequence of {steps.Count} steps or more", $"at most {MaxSteps}");
    }

    private static void ReadPreTokenizer(JsonElement splitter, string field, List<TextSplit> splits, string file)
    {
        if (splitter.ValueKind == JsonValueKind.Null)
            return;
        switch (TypeOf(splitter, field, file))
        {
            case "Sequence":
                foreach ((JsonElement item, string name) in Items(splitter, "pretokenizers", field, file))
                    ReadPreTokenizer(item, name, splits, file);
                break;
            case "Split":
                byte[] pattern = Pattern(splitter, field, file);
                string? behavior = Text(splitter, "behavior", $"{field}.behavior", file);
                if (!Enum.TryParse(behavior, out SplitBehavior parsed) || behavior != parsed.ToString())
                    throw Unsupported(file, $"{field}.behavior", behavior is null ? "missing" : BadFile.Quote(behavior),
                        "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
                splits.Add(new TextSplit(pattern, parsed, Flag(splitter, "invert", $"{field}.invert", file)));
                break;
            case string type:
                throw Unsupported(file, $"{field}.type", BadFile.Quote(type), "Split at a fixed text or a Sequence of such, as Gemma's");
        }

        if (splits.Count > MaxSteps)
            throw Unsupported(file, field, $"a Sequence of {splits.Count} steps or more", $"at most {MaxSteps}");
    }

    /// <summary>It may add tokens around a text, which is the caller's business here; those that do other things are refused.</summary>
    private static void RequirePostProcessor(JsonElement processor, string file)
    {
        if (processor.ValueKind != JsonValueKind.Null && TypeOf(processor, "post_processor", file) is not "TemplateProcessing"
            and string type)
            throw Unsupported(file, "post_processor.type", BadFile.Quote(type), "TemplateProcessing, as Gemma's");
    }

    private static (ReplaceSteps Steps, bool JoinsBytes) ReadDecoder(JsonElement decoder, string file)
    {
        if (decoder.ValueKind == JsonValueKind.Null)
            throw Unsupported(file, "decoder", "missing", "a Sequence of Replace, ByteFallback and Fuse, as Gemma's");
        List<(JsonElement Item, string Field)> items = TypeOf(decoder, "decoder", file) == "Sequence"
            ? Items(decoder, "decoders", "decoder", file) : [(decoder, "decoder")];
        var steps = new List<(byte[], byte[])>();
        bool joinsBytes = false, joined = false;
        foreach ((JsonElement item, string field) in items)
        {
            string type = TypeOf(item, field, file);
            if (type == "Replace" && !joinsBytes && !joined)
                steps.Add(ReadReplace(item, field, file));
            else if (type == "ByteFallback" && !joinsBytes && !joined)
                joinsBytes = true;
            else if (type == "Fuse")
                joined = true;
            else
                throw Unsupported(file, $"{field}.type", BadFile.Quote(type), "Replace, then ByteFallback, then Fuse, as Gemma's");
        }

        return steps.Count <= MaxSteps ? (new ReplaceSteps(steps), joinsBytes)
            : throw Unsupported(file, "decoder", $"a Sequence of {items.Count} steps", $"at most {MaxSteps} replacements");
    }

    private static PieceTable ReadVocabulary(JsonElement vocabulary, bool joinsBytes, string file)
    {
        if (vocabulary.ValueKind != JsonValueKind.Object)
            throw Bad(file, "model.vocab", vocabulary, "an object of pieces and their ids");
        var bytes = new List<byte>();
        var pieces = new List<Piece>();
        int count = 0;
        foreach (JsonProperty entry in vocabulary.EnumerateObject())
        {
            if (!JsonSettings.AsInt(entry.Value, out int id) || id < 0 || id >= MaxIds)
                throw Bad(file, $"model.vocab[{BadFile.Quote(entry.Name)}]", entry.Value, $"an id from 0 to {MaxIds - 1}");
            if (entry.Name.Length == 0)
                throw BadFile.At(file, $"model.vocab has an empty piece (id {id}).");
            if (id >= pieces.Count)
                CollectionsMarshal.SetCount(pieces, id + 1);
            if (pieces[id].Type != PieceType.None)
            {
                string other = Encoding.UTF8.GetString(CollectionsMarshal.AsSpan(bytes).Slice(pieces[id].Start, pieces[id].Length));
                throw BadFile.At(file, $"model.vocab gives the id {id} to {BadFile.Quote(entry.Name)} and to {BadFile.Quote(other)}.");
            }

            byte[] text = Encoding.UTF8.GetBytes(entry.Name);
            pieces[id] = new Piece(bytes.Count, text.Length, 0, joinsBytes && TryParseByte(text, out _) ? PieceType.Byte
                : PieceType.Normal);
            bytes.AddRange(text);
            count++;
        }

        if (count == 0)
            throw BadFile.At(file, "model.vocab is empty.");
        return PieceTable.Create([.. bytes, .. new byte[PieceTable.Padding]], [.. pieces], file);
    }

    /// <summary>Ids of the byte pieces. Some may be missing: in Gemma's file the piece of the tabulator is "\t" itself.</summary>
    private static int[] ReadBytes(PieceTable pieces) =>
        [.. Enumerable.Range(0, 256).Select(b => pieces.Find(Encoding.UTF8.GetBytes($"<0x{b:X2}>")))];

    private static Dictionary<ulong, PairMerge> ReadMerges(JsonElement merges, PieceTable pieces, string file)
    {
        if (merges.ValueKind != JsonValueKind.Array)
            throw Bad(file, "model.merges", merges, "a list");
        var result = new Dictionary<ulong, PairMerge>(merges.GetArrayLength(), new PairComparer());
        int rank = 0;
        foreach (JsonElement merge in merges.EnumerateArray())
        {
            (string left, string right) = Pair(merge, rank, file);
            // The first line of the file that merges once came from.
            if (left.StartsWith("#version", StringComparison.Ordinal) && merge.ValueKind == JsonValueKind.String)
                continue;
            int leftId = Id(left), rightId = Id(right), both = Id(left + right);
            result[PairMerger.Key(leftId, rightId)] = new PairMerge(rank++, both);
        }

        return result;

        int Id(string piece) => pieces.Find(Encoding.UTF8.GetBytes(piece)) is >= 0 and int id ? id
            : throw BadFile.At(file, $"model.merges[{rank}] needs the piece {BadFile.Quote(piece)}, which is not in model.vocab.");
    }

    private static (string Left, string Right) Pair(JsonElement merge, int rank, string file)
    {
        if (merge.ValueKind == JsonValueKind.String && merge.GetString()!.Split(' ') is [string left, string right])
            return (left, right);
        if (merge.ValueKind == JsonValueKind.Array && merge.GetArrayLength() == 2 && merge[0].ValueKind == JsonValueKind.String
            && merge[1].ValueKind == JsonValueKind.String)
            return (merge[0].GetString()!, merge[1].GetString()!);
        throw Bad(file, $"model.merges[{rank}]", merge, "two pieces, as a list or with one space between");
    }

    private static (byte[] Pattern, byte[] Text) ReadReplace(JsonElement replace, string field, string file) =>
        (Pattern(replace, field, file), Step(Text(replace, "content", $"{field}.content", file), $"{field}.content", file));

    private static byte[] Pattern(JsonElement element, string field, string file)
    {
        JsonElement pattern = Field(element, "pattern");
        if (pattern.ValueKind == JsonValueKind.Object && pattern.TryGetProperty("Regex", out _))
            throw Unsupported(file, $"{field}.pattern", "a regular expression", "a String");
        string? text = pattern.ValueKind == JsonValueKind.Object ? Text(pattern, "String", $"{field}.pattern.String", file)
            : throw Bad(file, $"{field}.pattern", pattern, "an object with a String");
        byte[] bytes = Step(text, $"{field}.pattern.String", file);
        return bytes.Length > 0 ? bytes : throw Unsupported(file, $"{field}.pattern.String", "empty", "a text");
    }

    /// <summary>Texts of replacements are short, so that no chain of them makes a long text of a short one.</summary>
    private static byte[] Step(string? text, string field, string file)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text ?? throw BadFile.At(file, $"{field} is missing; a text was expected."));
        return bytes.Length <= MaxStepBytes ? bytes
            : throw Unsupported(file, field, $"{bytes.Length} bytes long", $"at most {MaxStepBytes}");
    }

    private static string TypeOf(JsonElement element, string field, string file) => element.ValueKind == JsonValueKind.Object
        ? Text(element, "type", $"{field}.type", file) ?? throw BadFile.At(file, $"{field} has no type.")
        : throw Bad(file, field, element, "an object with a type, or null");

    private static List<(JsonElement Item, string Field)> Items(JsonElement sequence, string name, string field, string file)
    {
        JsonElement list = Field(sequence, name);
        return list.ValueKind == JsonValueKind.Array
            ? [.. list.EnumerateArray().Select((item, i) => (item, $"{field}.{name}[{i}]"))]
            : throw Bad(file, $"{field}.{name}", list, "a list");
    }

    /// <summary>Null where there is none.</summary>
    private static JsonElement Field(JsonElement element, string name) =>
        element.TryGetProperty(name, out JsonElement value) ? value : Null;

    private static string? Text(JsonElement element, string name, string field, string file) =>
        !element.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null ? null
        : value.ValueKind == JsonValueKind.String ? value.GetString() : throw Bad(file, field, value, "a text");

    private static bool Flag(JsonElement element, string name, string field, string file) =>
        element.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null
        && (value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean()
            : throw Bad(file, field, value, "true or false"));

    /// <summary>As the library reads it when decoding: hexadecimal digits of either case.</summary>
    public static bool TryParseByte(ReadOnlySpan<byte> text, out byte value)
    {
        value = 0;
        return text.Length == 6 && text.StartsWith("<0x"u8) && text[5] == '>'
            && byte.TryParse(text[3..5], System.Globalization.NumberStyles.AllowHexSpecifier, null, out value);
    }

    private static InvalidDataException Bad(string file, string field, JsonElement value, string expected) =>
        BadFile.At(file, $"{field} is {JsonText.Kind(value)}; expected {expected}.");

    private static InvalidDataException Unsupported(string file, string field, string found, string supported) =>
        BadFile.At(file, $"{field} is {found}, which is not supported; supported: {supported}.");

    /// <summary>Pairs by a hash that differs in every process, so that no file can be made to collide.</summary>
    private sealed class PairComparer : IEqualityComparer<ulong>
    {
        private readonly ulong _seed = (ulong)Random.Shared.NextInt64() | 1;

        public bool Equals(ulong x, ulong y) => x == y;

        public int GetHashCode(ulong pair) => (int)(Math.BigMul(pair ^ _seed, 0x9E3779B97F4A7C15, out ulong low) ^ low) ^ (int)(low >> 32);
    }
}
