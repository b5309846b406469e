using System.Globalization;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Text;

/// <summary>How a folder calls its special tokens; the defaults are Gemma's.</summary>
internal sealed record SpecialNames(string Bos = "<bos>", string Eos = "<eos>", string Pad = "<pad>", string Unknown = "<unk>");

/// <summary>Reads where a folder lists its added tokens.</summary>
internal static class AddedTokenFiles
{
    // Gemma's tokenizer_config.json has 46 kB; most of it is such a list.
    internal const int MaxFileBytes = 16 << 20;

    internal const string ConfigName = "tokenizer_config.json", AddedName = "added_tokens.json", JsonName = "tokenizer.json";

    /// <summary>
    /// Collects the tokens of tokenizer_config.json and added_tokens.json; of tokenizer.json only where neither lists any and a
    /// tokenizer.model is used.
    /// </summary>
    /// <exception cref="InvalidDataException">A file is malformed, or contradicts another.</exception>
    public static SpecialNames Read(ModelFolder folder, AddedTokens added, bool hasModel)
    {
        string config = Path.Combine(folder.Path, ConfigName), list = Path.Combine(folder.Path, AddedName),
            json = Path.Combine(folder.Path, JsonName);
        var names = new SpecialNames();
        bool listed = false;
        if (RawFile.IsThere(config))
        {
            using JsonDocument document = JsonText.ReadObject(config, MaxFileBytes);
            JsonElement root = document.RootElement;
            names = new SpecialNames(
                Name(root, "bos_token") ?? names.Bos,
                Name(root, "eos_token") ?? names.Eos,
                Name(root, "pad_token") ?? names.Pad,
                Name(root, "unk_token") ?? names.Unknown);
            if (root.TryGetProperty("added_tokens_decoder", out JsonElement decoder) && decoder.ValueKind != JsonValueKind.Null)
            {
                added.Add(OfDecoder(decoder, config), config);
                listed = true;
            }
        }

        if (RawFile.IsThere(list))
        {
            using JsonDocument document = JsonText.ReadObject(list, MaxFileBytes);
            added.Add([.. document.RootElement.EnumerateObject()
                .Select(entry => new AddedToken(Id(entry.Value, BadFile.Quote(entry.Name), list), entry.Name))], list);
            listed = true;
        }

        if (hasModel && !listed && RawFile.IsThere(json))
            added.Add(ReadTokenizerJson(json), json);
        return names;
    }

    /// <summary>The list <c>added_tokens</c> of a tokenizer.json.</summary>
    public static List<AddedToken> ReadTokenizerJson(JsonElement list, string file)
    {
        if (list.ValueKind == JsonValueKind.Null)
            return [];
        if (list.ValueKind != JsonValueKind.Array)
            throw BadFile.At(file, $"added_tokens is {JsonText.Kind(list)}; expected a list.");
        return [.. list.EnumerateArray().Select((token, i) => Read(token, $"added_tokens[{i}]", null, file))];
    }

    // The list comes before the vocabulary, which has megabytes and is not needed here.
    private static List<AddedToken> ReadTokenizerJson(string path)
    {
        byte[] bytes = RawFile.ReadAll(path, TokenizerJson.MaxFileBytes);
        JsonText.RequireUtf8(bytes, path);
        try
        {
            var reader = new Utf8JsonReader(JsonText.WithoutMark(bytes).Span, new JsonReaderOptions { MaxDepth = JsonText.MaxDepth });
            reader.Read();
            if (reader.TokenType != JsonTokenType.StartObject)
                throw BadFile.At(path, "the JSON is not an object.");
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                bool found = reader.ValueTextEquals("added_tokens");
                reader.Read();
                if (found)
                    return ReadTokenizerJson(JsonElement.ParseValue(ref reader), path);
                reader.Skip();
            }

            return [];
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw JsonText.NotJson(path, e);
        }
    }

    private static List<AddedToken> OfDecoder(JsonElement decoder, string file)
    {
        if (decoder.ValueKind != JsonValueKind.Object)
            throw BadFile.At(file, $"added_tokens_decoder is {JsonText.Kind(decoder)}; expected an object of ids and tokens.");
        var tokens = new List<AddedToken>();
        foreach (JsonProperty entry in decoder.EnumerateObject())
        {
            if (!int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int id) || id >= TokenizerJson.MaxIds)
                throw BadFile.At(file, $"added_tokens_decoder has {BadFile.Quote(entry.Name)} for an id; expected 0 to " +
                    $"{TokenizerJson.MaxIds - 1}.");
            tokens.Add(Read(entry.Value, $"added_tokens_decoder[{id}]", id, file));
        }

        return tokens;
    }

    private static AddedToken Read(JsonElement token, string field, int? id, string file)
    {
        if (token.ValueKind != JsonValueKind.Object)
            throw BadFile.At(file, $"{field} is {JsonText.Kind(token)}; expected an object with content.");
        if (!token.TryGetProperty("content", out JsonElement content) || content.ValueKind != JsonValueKind.String)
            throw BadFile.At(file, $"{field} has no content that is a text.");
        id ??= token.TryGetProperty("id", out JsonElement number) ? Id(number, $"{field}.id", file)
            : throw BadFile.At(file, $"{field} has no id.");
        return new AddedToken(id.Value, content.GetString()!)
        {
            // As the library has it where a file is silent.
            Normalized = Flag("normalized", !Flag("special", false)),
            LeftStrip = Flag("lstrip", false),
            RightStrip = Flag("rstrip", false),
            SingleWord = Flag("single_word", false),
        };

        bool Flag(string name, bool fallback) => !token.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null
            ? fallback
            : value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean()
            : throw BadFile.At(file, $"{field}.{name} is {JsonText.Kind(value)}; expected true or false.");
    }

    private static int Id(JsonElement value, string what, string file) =>
        JsonSettings.AsInt(value, out int id) && id is >= 0 and < TokenizerJson.MaxIds
        ? id
        : throw BadFile.At(file, $"{what} is {JsonText.Kind(value)}; expected an id from 0 to {TokenizerJson.MaxIds - 1}.");

    /// <summary>A special token is a text, or an object with one.</summary>
    private static string? Name(JsonElement root, string name)
    {
        if (root.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Object
            && !value.TryGetProperty("content", out value))
            return null;
        return value.ValueKind == JsonValueKind.String ? value.GetString() : null;
    }
}
