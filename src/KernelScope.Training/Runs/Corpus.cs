using System.Text;
using System.Text.Json;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Text;

namespace KernelScope.Training.Runs;

/// <summary>What the files of a corpus hold.</summary>
internal enum CorpusKind
{
    /// <summary>UTF-8 text; a file is a document.</summary>
    Text,

    /// <summary>A document on each line: a JSON string, a list of ids, {"text": …} or {"ids": …}.</summary>
    Jsonl,

    /// <summary>JSON lists of token ids; a list is a document.</summary>
    Tokens,
}

/// <summary>A file of a corpus, which may be opened more than once.</summary>
/// <param name="Name">What messages call it.</param>
/// <param name="Open">Opens it at its beginning.</param>
internal sealed record CorpusFile(string Name, Func<Stream> Open);

/// <summary>
/// Documents as token sequences, one after the other and never all at once. It may be gone through more than once, with the same sequences.
/// Each sequence of a text begins with BOS. Packed: documents follow each other without a gap, and every sequence but the last is full.
/// Separate: a sequence holds one document, and a longer document is cut.
/// Token ids are taken as they are: no BOS is added, and when separate a list is one sequence.
/// </summary>
internal sealed class Corpus
{
    private const int MaxTextLength = int.MaxValue - 64;
    private readonly CorpusKind _kind;
    private readonly IReadOnlyList<CorpusFile> _files;
    private readonly GemmaTokenizer? _tokenizer;
    private readonly int _bosId;
    private readonly int _vocabulary;

    /// <param name="kind">What the files hold.</param>
    /// <param name="files">In their order.</param>
    /// <param name="tokenizer">Cuts texts; null where there are only ids.</param>
    /// <param name="bosId">What begins a sequence of a text.</param>
    /// <param name="vocabulary">Ids are below it.</param>
    public Corpus(CorpusKind kind, IReadOnlyList<CorpusFile> files, GemmaTokenizer? tokenizer, int bosId, int vocabulary)
    {
        (_kind, _files, _tokenizer, _bosId, _vocabulary) = (kind, files, tokenizer, bosId, vocabulary);
    }

    /// <summary>The name of the kind in run.json.</summary>
    public string Source => _kind switch { CorpusKind.Text => "text", CorpusKind.Jsonl => "jsonl", _ => "tokens" };

    /// <summary>The sequences.</summary>
    /// <param name="context">Most tokens of one, BOS included; at least 2.</param>
    /// <param name="packed">Whether documents share sequences.</param>
    /// <exception cref="InvalidDataException">A file cannot be read or holds something else; the message says where.</exception>
    public IEnumerable<TokenSequence> Sequences(int context, bool packed) => packed ? Packed(context) : Documents()
        .SelectMany(d => Cut(d, context));

    private IEnumerable<TokenSequence> Packed(int context)
    {
        var ids = new List<int>(context);
        long first = 0;
        foreach (Document document in Documents())
        {
            foreach (int id in document.Ids)
            {
                if (ids.Count == 0)
                {
                    first = document.Number;
                    if (document.IsText)
                        ids.Add(_bosId);
                }

                ids.Add(id);
                if (ids.Count < context)
                    continue;
                yield return new TokenSequence([.. ids], first);
                ids.Clear();
            }
        }

        if (ids.Count > 0)
            yield return new TokenSequence([.. ids], first);
    }

    private IEnumerable<TokenSequence> Cut(Document document, int context)
    {
        if (!document.IsText)
        {
            return document.Ids.Length <= context ? [new TokenSequence(document.Ids, document.Number)]
                : throw BadFile.At(document.File,
                    $"{document.Place} has {document.Ids.Length} ids; a sequence has at most {context} (--context), and packed " +
                        $"documents are cut.");
        }

        return document.Ids.Chunk(context - 1).Select(chunk => new TokenSequence([_bosId, .. chunk], document.Number));
    }

    private IEnumerable<Document> Documents()
    {
        long number = 0;
        bool isEmpty = true;
        foreach (CorpusFile file in _files)
        {
            foreach (Document document in DocumentsOf(file))
            {
                Check(document);
                if (document.Ids.Length > 0)
                    yield return document with { Number = number };
                isEmpty &= document.Ids.Length == 0;
                number++;
            }
        }

        if (isEmpty)
            throw BadFile.At(_files.Count == 1 ? _files[0].Name : $"the {_files.Count} files of the corpus",
                number == 0 ? "there is no document in it." : "there is no token in it: every document is empty.");
    }

    private IEnumerable<Document> DocumentsOf(CorpusFile file) => _kind switch
    {
        CorpusKind.Text => [new Document(Encode(ReadText(file), file.Name), true, 0, file.Name, "the text")],
        CorpusKind.Tokens => TokenFiles.ReadJson(ReadAll(file), file.Name)
            .Select((ids, b) => new Document(ids, false, 0, file.Name, $"sequence {b}")),
        _ => Lines(file).Select(line => OfLine(line.Bytes, file.Name, $"line {line.Number}")).OfType<Document>(),
    };

    private void Check(Document document)
    {
        int bad = document.Ids.AsSpan().IndexOfAnyExceptInRange(0, _vocabulary - 1);
        if (bad >= 0)
            throw BadFile.At(document.File,
                $"{document.Place}, position {bad}: the id {document.Ids[bad]} is outside the vocabulary of {_vocabulary} entries.");
    }

    private static byte[] ReadAll(CorpusFile file)
    {
        using Stream stream = file.Open();
        if (stream.CanSeek && stream.Length > MaxTextLength)
            throw BadFile.At(file.Name,
                $"the file has {stream.Length} bytes; at most {MaxTextLength} can be read at once: divide it into several files of a " +
                    $"folder, or use JSON lines.");
        using var bytes = new MemoryStream();
        stream.CopyTo(bytes);
        return bytes.ToArray();
    }

    private static string ReadText(CorpusFile file)
    {
        ReadOnlyMemory<byte> bytes = JsonText.WithoutMark(ReadAll(file));
        return System.Text.Unicode.Utf8.IsValid(bytes.Span) ? Encoding.UTF8.GetString(bytes.Span)
            : throw BadFile.At(file.Name, "the text is not valid UTF-8.");
    }

    private int[] Encode(string text, string file)
    {
        if (_tokenizer is null)
            throw BadFile.At(file, "this is text, and the model has no tokenizer to cut it; give token ids (--tokens-file).");
        var ids = new List<int>();
        _tokenizer.Encode(text, ids);
        return [.. ids];
    }

    private Document? OfLine(ReadOnlyMemory<byte> line, string file, string place)
    {
        if (line.Span.Trim(" \t\r"u8).IsEmpty)
            return null;
        if (!System.Text.Unicode.Utf8.IsValid(line.Span))
            throw BadFile.At(file, $"{place} is not valid UTF-8.");
        const string Expected = "a text in double quotes, a list of token ids, or an object with \"text\" or \"ids\"";
        try
        {
            var options = new JsonDocumentOptions { MaxDepth = JsonText.MaxDepth, AllowDuplicateProperties = false };
            using var document = JsonDocument.Parse(line, options);
            JsonElement value = document.RootElement;
            if (value.ValueKind == JsonValueKind.Object && (value.TryGetProperty("text",
                out JsonElement text) != value.TryGetProperty("ids", out JsonElement ids)))
                value = text.ValueKind == JsonValueKind.Undefined ? ids : text;
            return value.ValueKind switch
            {
                JsonValueKind.String => new Document(Encode(value.GetString()!, file), true, 0, file, place),
                JsonValueKind.Array => new Document([.. value.EnumerateArray()
                    .Select(i => i.TryGetInt32(out int id) ? id : throw BadFile.At(file,
                    $"{place}: {JsonText.Kind(i)} is not a token id."))], false, 0, file, place),
                _ => throw BadFile.At(file, $"{place}: {Expected} was expected."),
            };
        }
        catch (InvalidOperationException e)
        {
            throw BadFile.At(file, $"{place} has a text with half of a surrogate pair, which is not valid Unicode.", e);
        }
        catch (JsonException e)
        {
            throw BadFile.At(file, $"{place} is not JSON, or has a name twice; {Expected} was expected.", e);
        }
    }

    /// <summary>The lines of a file, which may be larger than memory.</summary>
    private static IEnumerable<(ReadOnlyMemory<byte> Bytes, long Number)> Lines(CorpusFile file)
    {
        using Stream stream = file.Open();
        byte[] buffer = new byte[1 << 16];
        int start = 0, end = 0;
        for (long number = 1; ; number++)
        {
            int length;
            while ((length = buffer.AsSpan(start, end - start).IndexOf((byte)'\n')) < 0)
            {
                if (start > 0)
                {
                    buffer.AsSpan(start, end - start).CopyTo(buffer);
                    (start, end) = (0, end - start);
                }

                if (end == buffer.Length)
                    Array.Resize(ref buffer, buffer.Length <= Array.MaxLength / 2 ? 2 * buffer.Length
                        : throw BadFile.At(file.Name, $"line {number} is longer than can be read at once."));
                int read = stream.Read(buffer, end, buffer.Length - end);
                if (read == 0)
                    break;
                end += read;
            }

            bool isLast = length < 0;
            ReadOnlyMemory<byte> line = buffer.AsMemory(start, isLast ? end - start : length);
            yield return (number == 1 ? JsonText.WithoutMark(line) : line, number);
            if (isLast)
                yield break;
            start += length + 1;
        }
    }

    private sealed record Document(int[] Ids, bool IsText, long Number, string File, string Place);
}
