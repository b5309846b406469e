using System.IO.Compression;
using System.Text;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Evaluation;

/// <summary>Reads labels: JSON lines (gzip or not), a JSON array, <c>{"explanations": […]}</c>, or the demo's <c>{sae: {feature: text}}</c>.</summary>
/// <param name="modelId">The model of entries that do not say theirs; null: they must.</param>
/// <param name="namesAreFiles">Whether models and sources become names of files; an entry with another name is none then.</param>
internal sealed class LabelReader(string? modelId, bool namesAreFiles = false)
{
    private const int LongestDescription = 500, LongestLine = 16 << 20, LongestDocument = 512 << 20;
    private readonly Dictionary<string, string> _names = new(StringComparer.Ordinal);

    public List<FeatureLabel> Labels { get; } = [];

    /// <summary>What <see cref="FeatureLabels.Save"/> wrote.</summary>
    public List<LabelTable> Tables { get; } = [];

    public int Rejected { get; private set; }

    /// <summary>File, line and reason of the first entry that is not a label.</summary>
    public string? FirstRejected { get; private set; }

    /// <summary>Reads a file, or every <c>.jsonl</c>, <c>.jsonl.gz</c>, <c>.json</c> and <c>.labels</c> below a folder in the order of their names.</summary>
    public void Read(string path, CancellationToken cancellationToken)
    {
        if (!Directory.Exists(path))
        {
            if (!File.Exists(path))
                throw new FileNotFoundException($"{path}: there is no such file or folder of labels.", path);
            ReadFile(path, cancellationToken);
            return;
        }

        string[] files = [.. FilesBelow(path, []).Where(IsOfLabels).Order(StringComparer.Ordinal)];
        if (files.Length == 0)
            throw new InvalidDataException($"{path}: the folder holds no .jsonl, .jsonl.gz, .json or .labels file.");
        foreach (string file in files)
            ReadFile(file, cancellationToken);
    }

    /// <summary>Files of a folder and the folders in it, each folder once: links to folders may lead in a circle.</summary>
    private static IEnumerable<string> FilesBelow(string folder, HashSet<string> seen)
    {
        if (!seen.Add(FileStatus.Of(folder) is FileStatus status ? $"{status.Device}/{status.Inode}" : FilePlace.TargetOf(folder)))
            return [];
        IEnumerable<string> below = Directory.GetDirectories(folder).Order(StringComparer.Ordinal).SelectMany(f => FilesBelow(f, seen));
        return [.. Directory.GetFiles(folder), .. below];
    }

    private static bool IsOfLabels(string path) => path.EndsWith(".jsonl", StringComparison.Ordinal)
        || path.EndsWith(".jsonl.gz", StringComparison.Ordinal) || path.EndsWith(".json", StringComparison.Ordinal)
        || path.EndsWith(LabelFile.Extension, StringComparison.Ordinal);

    private void ReadFile(string path, CancellationToken cancellationToken)
    {
        // Before it is opened: a pipe waits for a writer, and a device may never end.
        if (FileStatus.Of(path)?.OddKind is string kind)
            throw BadFile.At(path, $"this is {kind}; a file or folder of labels was expected.");
        if (path.EndsWith(LabelFile.Extension, StringComparison.Ordinal))
        {
            LabelTable table = LabelFile.Open(path);
            if (WrongName(table.ModelId, table.Source) is string wrong)
                Reject($"{path}: {wrong}");
            else
                Tables.Add(table);
            return;
        }

        using FileStream file = File.OpenRead(path);
        using Stream content = path.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(file, CompressionMode.Decompress) : file;
        try
        {
            if (Path.GetFileName(path).Contains(".jsonl", StringComparison.Ordinal))
                ReadLines(content, path, cancellationToken);
            else
                ReadDocument(content, path);
        }
        catch (Exception e) when (e is JsonException
            || (e is InvalidDataException && !e.Message.StartsWith(path, StringComparison.Ordinal)))
        {
            bool isPacked = content is GZipStream && e is InvalidDataException;
            throw new InvalidDataException($"{path}: {(isPacked ? "it is not gzip, or damaged, or its end is missing." : e.Message)}", e);
        }
    }

    private void ReadLines(Stream content, string path, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[1 << 16];
        int held = 0, line = 0;
        for (bool ended = false; !ended;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (held == buffer.Length)
            {
                if (held >= LongestLine)
                    throw new InvalidDataException($"{path}: line {line + 1} is longer than {LongestLine} bytes.");
                Array.Resize(ref buffer, 2 * held);
            }

            int read = content.Read(buffer, held, buffer.Length - held);
            ended = read == 0;
            held += read;
            int start = 0;
            while (Array.IndexOf(buffer, (byte)'\n', start, held - start) is int end and >= 0)
            {
                ReadLine(buffer.AsSpan(start, end - start), path, ++line);
                start = end + 1;
            }

            if (ended)
                ReadLine(buffer.AsSpan(start, held - start), path, ++line);
            Buffer.BlockCopy(buffer, start, buffer, 0, held - start);
            held -= start;
        }
    }

    private void ReadLine(ReadOnlySpan<byte> line, string path, int number)
    {
        line = line.Trim((byte)' ').TrimEnd((byte)'\r');
        if (line.StartsWith(Encoding.UTF8.Preamble))
            line = line[Encoding.UTF8.Preamble.Length..];
        if (line.IsEmpty)
            return;
        int before = Rejected;
        try
        {
            var reader = new Utf8JsonReader(line);
            reader.Read();
            Add(ref reader, $"{path}, line {number}");
            // Throws where something follows.
            reader.Read();
        }
        catch (JsonException)
        {
            if (Rejected == before)
                Reject($"{path}, line {number}: this is not JSON.");
        }
    }

    private void ReadDocument(Stream content, string path)
    {
        using var bytes = new MemoryStream();
        byte[] buffer = new byte[1 << 16];
        for (int read; (read = content.Read(buffer)) > 0; bytes.Write(buffer, 0, read))
        {
            if (bytes.Length + read > LongestDocument)
                throw new InvalidDataException($"{path}: it holds more than {LongestDocument} bytes, and is not JSON lines (.jsonl).");
        }

        var reader = new Utf8JsonReader(bytes.GetBuffer().AsSpan(0, (int)bytes.Length));
        reader.Read();
        if (reader.TokenType == JsonTokenType.StartArray)
            ReadArray(ref reader, path);
        else if (reader.TokenType == JsonTokenType.StartObject)
            ReadObject(ref reader, path);
        else
            throw new InvalidDataException($"{path}: neither a list nor an object.");
    }

    private void ReadArray(ref Utf8JsonReader reader, string path)
    {
        for (int entry = 1; reader.Read() && reader.TokenType != JsonTokenType.EndArray; entry++)
            Add(ref reader, $"{path}, entry {entry}");
    }

    private void ReadObject(ref Utf8JsonReader reader, string path)
    {
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            reader.Read();
            if (name == "explanations" && reader.TokenType == JsonTokenType.StartArray)
                ReadArray(ref reader, path);
            else if (reader.TokenType == JsonTokenType.StartObject)
                ReadMeanings(ref reader, name, path);
            else
                reader.Skip();
        }
    }

    /// <summary>{"1738": "tales whose hero is a girl", …} of one source.</summary>
    private void ReadMeanings(ref Utf8JsonReader reader, string source, string path)
    {
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            reader.Read();
            bool isOne = int.TryParse(name, out int index) && index >= 0 && reader.TokenType == JsonTokenType.String;
            if (modelId is not null && WrongName(modelId, source) is string wrong)
                Reject($"{path}, {BadFile.Quote(source)}, '{name}': {wrong}");
            else if (isOne && modelId is not null && TextHere(ref reader) is string text)
                Labels.Add(new FeatureLabel { ModelId = modelId, Source = source, Index = index, Description = Clean(text) });
            else
                Reject($"{path}, {source}, '{name}': " + (modelId is null ? "the model is not said." : "no feature's number and text."));
            reader.Skip();
        }
    }

    private void Add(ref Utf8JsonReader reader, string place)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            Reject($"{place}: this is not an object.");
            reader.Skip();
            return;
        }

        string? model = modelId, source = null, description = null, id = null, type = null, by = null;
        int index = -1;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("modelId"u8))
                model = TextOf(ref reader, shared: true) ?? model;
            else if (reader.ValueTextEquals("layer"u8) || reader.ValueTextEquals("source"u8))
                source = TextOf(ref reader, shared: true) ?? source;
            else if (reader.ValueTextEquals("index"u8))
                index = IndexOf(ref reader);
            else if (reader.ValueTextEquals("description"u8))
                description = TextOf(ref reader);
            else if (reader.ValueTextEquals("id"u8))
                id = TextOf(ref reader);
            else if (reader.ValueTextEquals("typeName"u8))
                type = TextOf(ref reader, shared: true);
            else if (reader.ValueTextEquals("explanationModelName"u8))
                by = TextOf(ref reader, shared: true);
            else
                reader.Skip();
        }

        string? missing = string.IsNullOrEmpty(model) ? "modelId" : string.IsNullOrEmpty(source) ? "layer" : index < 0 ? "index"
            : string.IsNullOrWhiteSpace(description) ? "description" : null;
        if ((missing is null ? WrongName(model!, source!) : $"{missing} is missing.") is string wrong)
        {
            Reject($"{place}: {wrong}");
            return;
        }

        Labels.Add(new FeatureLabel
        {
            ModelId = model!,
            Source = source!,
            Index = index,
            Description = Clean(description!),
            Id = id,
            TypeName = type,
            ModelName = by,
        });
    }

    private string? WrongName(string model, string source) => !namesAreFiles ? null
        : LabelFile.WrongName(model) ?? LabelFile.WrongName(source);

    private string? TextOf(ref Utf8JsonReader reader, bool shared = false)
    {
        reader.Read();
        if (reader.TokenType != JsonTokenType.String)
        {
            reader.Skip();
            return null;
        }

        string? text = TextHere(ref reader);
        if (!shared || text is null)
            return text;
        if (!_names.TryGetValue(text, out string? name))
            _names.Add(text, name = text);
        return name;
    }

    /// <summary>The text; null where it holds bytes or escapes that are none.</summary>
    private static string? TextHere(ref Utf8JsonReader reader)
    {
        try
        {
            return reader.GetString();
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }

    private static int IndexOf(ref Utf8JsonReader reader)
    {
        reader.Read();
        if (reader.TokenType == JsonTokenType.Number && reader.TryGetInt32(out int number))
            return number;
        if (reader.TokenType == JsonTokenType.String && int.TryParse(reader.ValueSpan, out int digits))
            return digits;
        reader.Skip();
        return -1;
    }

    private void Reject(string why)
    {
        Rejected++;
        FirstRejected ??= why;
    }

    /// <summary>What may be shown of a text: without control characters, no longer than labels are.</summary>
    public static string Clean(string text)
    {
        if (text.Length <= LongestDescription && !HasHidden(text))
            return text;
        string clean = new([.. text.Where(c => !IsHidden(c)).Take(LongestDescription)]);
        return clean.Length > 0 && char.IsHighSurrogate(clean[^1]) ? clean[..^1] : clean;
    }

    private static bool HasHidden(string text)
    {
        foreach (char c in text)
        {
            if (IsHidden(c))
                return true;
        }

        return false;
    }

    /// <summary>Control characters, and those that turn the direction of the text around them.</summary>
    private static bool IsHidden(char c) => char.IsControl(c) || c is (>= '\u202A' and <= '\u202E') or (>= '\u2066' and <= '\u2069');
}
