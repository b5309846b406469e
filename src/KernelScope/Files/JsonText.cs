using System.Text.Json;
using System.Text.Unicode;

namespace KernelScope.Files;

/// <summary>JSON from strangers: strict, of bounded depth and size, no name twice. Every refusal names the file.</summary>
internal static class JsonText
{
    /// <summary>Deeper than any file of ours, far less deep than a stack.</summary>
    public const int MaxDepth = 64;

    /// <summary>Reads a JSON file whose root is an object. The caller disposes the document.</summary>
    /// <param name="path">The file.</param>
    /// <param name="maxLength">Longer files are refused.</param>
    public static JsonDocument ReadObject(string path, int maxLength) => ParseObject(RawFile.ReadAll(path, maxLength), path);

    /// <summary>Parses a JSON text whose root is an object. The caller disposes the document, and leaves <paramref name="json"/> unchanged until then.</summary>
    public static JsonDocument ParseObject(ReadOnlyMemory<byte> json, string path)
    {
        RequireUtf8(json.Span, path);
        json = WithoutMark(json);
        JsonDocument? document = null;
        try
        {
            document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = MaxDepth, AllowDuplicateProperties = false });
            if (document.RootElement.ValueKind != JsonValueKind.Object)
                throw BadFile.At(path, $"the JSON is {Kind(document.RootElement)}; an object was expected.");
            RequireText(document.RootElement);
            return document;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            document?.Dispose();
            throw NotJson(path, e);
        }
        catch (InvalidDataException)
        {
            document?.Dispose();
            throw;
        }
    }

    /// <summary>The text after the mark that some editors put before UTF-8.</summary>
    public static ReadOnlyMemory<byte> WithoutMark(ReadOnlyMemory<byte> text) => text.Span.StartsWith("\uFEFF"u8) ? text[3..] : text;

    /// <summary>The refusal of a text that is not JSON.</summary>
    public static InvalidDataException NotJson(string path, Exception e, string what = "this")
    {
        string place = e is JsonException { LineNumber: long line, BytePositionInLine: long column }
            ? $" (line {line + 1}, byte {column + 1})" : "";
        string reason = e is JsonException ? "" : ": an escape is not a character";
        return BadFile.At(path, $"{what} is not valid JSON, has a name twice, or is nested more than {MaxDepth} deep{place}{reason}.", e);
    }

    /// <summary>Refuses bytes that are not UTF-8.</summary>
    public static void RequireUtf8(ReadOnlySpan<byte> json, string path)
    {
        if (!Utf8.IsValid(json))
            throw BadFile.At(path, "the JSON text is not valid UTF-8.");
    }

    /// <summary>What an element is, for a message: "a string", "null", "the number 8.5".</summary>
    public static string Kind(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => $"the text {BadFile.Quote(element.GetString()!)}",
        JsonValueKind.Number => $"the number {BadFile.Printable(element.GetRawText(), 40)}",
        JsonValueKind.True => "true",
        JsonValueKind.False => "false",
        _ => "null",
    };

    /// <summary>Decodes every string and name once: they are decoded lazily, and an escape that is not a character throws only then.</summary>
    /// <exception cref="InvalidOperationException">There is such an escape.</exception>
    public static void RequireText(JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.String:
                _ = element.GetString();
                break;
            case JsonValueKind.Array:
                foreach (JsonElement item in element.EnumerateArray())
                    RequireText(item);
                break;
            case JsonValueKind.Object:
                foreach (JsonProperty property in element.EnumerateObject())
                {
                    _ = property.Name;
                    RequireText(property.Value);
                }
                break;
        }
    }
}
