using System.Text.Json;

namespace KernelScope.Files;

/// <summary>
/// Reads and checks the header of a safetensors file: {name: {"dtype", "shape", "data_offsets": [begin, end]}}, offsets relative to the end of the header.
/// Refused: a name or field twice, numbers that are not plain integers, sizes that do not agree, and tensors that overlap, leave holes, or do not end where the file ends.
/// </summary>
internal static class SafetensorsHeader
{
    /// <summary>The safetensors package refuses longer headers.</summary>
    public const int MaxLength = 100_000_000;

    // As NumPy. A header of 100 MB could otherwise hold a shape that takes a gigabyte.
    private const int MaxRank = 64;

    /// <summary>A tensor and the bytes it claims.</summary>
    public readonly record struct Entry(TensorInfo Info, long Begin, long End);

    /// <summary>Parses the header. Gives the tensors in the order of their bytes.</summary>
    /// <param name="json">The header's text.</param>
    /// <param name="dataLength">Bytes behind the header.</param>
    /// <param name="path">The file, for messages.</param>
    /// <param name="metadata">Receives the texts of __metadata__.</param>
    public static List<Entry> Parse(ReadOnlySpan<byte> json, long dataLength, string path, Dictionary<string, string> metadata)
    {
        if (json.IsEmpty || json[0] != (byte)'{')
            throw BadFile.At(path, "the header does not begin with '{': this is not a safetensors file.");
        JsonText.RequireUtf8(json, path);
        try
        {
            List<Entry> entries = ParseObject(json, path, metadata);
            CheckLayout(entries, dataLength, path);
            return entries;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw JsonText.NotJson(path, e, "the header");
        }
    }

    private static List<Entry> ParseObject(ReadOnlySpan<byte> json, string path, Dictionary<string, string> metadata)
    {
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = JsonText.MaxDepth });
        var entries = new List<Entry>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            if (!names.Add(name))
                throw BadFile.At(path, $"the name {BadFile.Quote(name)} is there twice.");
            reader.Read();
            if (name == "__metadata__")
                ReadMetadata(ref reader, path, metadata);
            else
                entries.Add(ParseTensor(ref reader, name, path));
        }
        // To the end: anything but space behind the object is refused by the reader.
        while (reader.Read()) { }
        return entries;
    }

    private static Entry ParseTensor(ref Utf8JsonReader reader, string name, string path)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
            throw Bad(path, name, "is not described by an object");
        DType? dtype = null;
        List<long>? shape = null, offsets = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string field = reader.GetString()!;
            reader.Read();
            bool repeated = field switch
            {
                "dtype" => dtype is not null,
                "shape" => shape is not null,
                "data_offsets" => offsets is not null,
                _ => false,
            };
            if (repeated)
                throw Bad(path, name, $"has {field} twice");
            switch (field)
            {
                case "dtype":
                    if (reader.TokenType != JsonTokenType.String)
                        throw Bad(path, name, "has a dtype that is not a text");
                    string type = reader.GetString()!;
                    dtype = DTypes.FromSafetensors(type) ?? throw Bad(path, name, $"has the unknown dtype {BadFile.Quote(type)}");
                    break;
                case "shape": shape = ParseIntegers(ref reader, name, field, MaxRank, path); break;
                case "data_offsets": offsets = ParseIntegers(ref reader, name, field, 2, path); break;
                default: SkipValue(ref reader); break;
            }
        }
        if (dtype is null)
            throw Bad(path, name, "has no dtype");
        if (shape is null)
            throw Bad(path, name, "has no shape");
        if (offsets is not { Count: 2 })
            throw Bad(path, name, "has no data_offsets of two numbers");
        return Check(name, dtype.Value, shape, offsets[0], offsets[1], path);
    }

    private static Entry Check(string name, DType dtype, List<long> dimensions, long begin, long end, string path)
    {
        long[] shape = [.. dimensions];
        string asked = $"{dtype.SafetensorsName()} {BadFile.Shape(shape)}";
        if (!TensorInfo.TryCount(shape, dtype, out long count))
            throw Bad(path, name, $"has the shape {asked}, whose size overflows");
        if (begin > end)
            throw Bad(path, name, $"begins at {begin}, behind its end {end}");
        if (end - begin != count * dtype.ByteSize())
            throw Bad(path, name, $"is {asked} and needs {count * dtype.ByteSize()} bytes, but its data_offsets [{begin}, {end}] span " +
                $"{end - begin}");
        return new Entry(new TensorInfo(name, dtype, shape), begin, end);
    }

    private static List<long> ParseIntegers(ref Utf8JsonReader reader, string name, string field, int maxCount, string path)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
            throw Bad(path, name, $"has a {field} that is not a list");
        var values = new List<long>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !TryInteger(reader.ValueSpan, out long value))
                throw Bad(path, name, $"has a {field} with something that is not an integer from 0 to 2^63 - 1");
            if (values.Count == maxCount)
                throw Bad(path, name, $"has a {field} of more than {maxCount} numbers");
            values.Add(value);
        }
        return values;
    }

    /// <summary>Digits only: no sign, fraction or exponent, even where the value would be an integer.</summary>
    private static bool TryInteger(ReadOnlySpan<byte> digits, out long value)
    {
        value = 0;
        foreach (byte digit in digits)
        {
            if (digit is < (byte)'0' or > (byte)'9' || value > (long.MaxValue - (digit - '0')) / 10)
                return false;
            value = (value * 10) + (digit - '0');
        }
        return true;
    }

    private static void ReadMetadata(ref Utf8JsonReader reader, string path, Dictionary<string, string> metadata)
    {
        if (reader.TokenType == JsonTokenType.Null)
            return;
        if (reader.TokenType != JsonTokenType.StartObject)
            throw BadFile.At(path, "__metadata__ is not an object.");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.String)
                throw BadFile.At(path, $"__metadata__ has a value that is not a text at {BadFile.Quote(key)}.");
            metadata[key] = reader.GetString()!;
        }
    }

    // Reader.Skip would not look into strings; an escape that is not a character is refused wherever it is.
    private static void SkipValue(ref Utf8JsonReader reader)
    {
        int depth = reader.CurrentDepth;
        while (true)
        {
            if (reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName)
                _ = reader.GetString();
            if (reader.CurrentDepth == depth && reader.TokenType is not (JsonTokenType.StartObject or JsonTokenType.StartArray))
                return;
            reader.Read();
        }
    }

    private static void CheckLayout(List<Entry> entries, long dataLength, string path)
    {
        entries.Sort((a, b) => a.Begin != b.Begin ? a.Begin.CompareTo(b.Begin) : a.End.CompareTo(b.End));
        long at = 0;
        foreach (Entry entry in entries)
        {
            if (entry.End > dataLength)
                throw Bad(path, entry.Info.Name, $"ends at byte {entry.End} of the data, but the file has only {dataLength} (an " +
                    "incomplete download?)");
            if (entry.Begin < at)
                throw Bad(path, entry.Info.Name, $"begins at byte {entry.Begin} of the data, where another tensor already lies (up " +
                    $"to {at})");
            if (entry.Begin > at)
                throw Bad(path, entry.Info.Name, $"begins at byte {entry.Begin} of the data; the bytes from {at} on belong to no tensor");
            at = entry.End;
        }
        if (at != dataLength)
            throw BadFile.At(path, $"the tensors end at byte {at} of the data, but the file has {dataLength}: bytes that belong to " +
                "no tensor.");
    }

    private static InvalidDataException Bad(string path, string name, string what) =>
        BadFile.At(path, $"the tensor {BadFile.Quote(name)} {what}.");
}
