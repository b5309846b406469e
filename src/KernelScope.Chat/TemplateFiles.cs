using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using KernelScope.Files;

namespace KernelScope.Chat;

/// <summary>Finds a folder's chat template.</summary>
internal static class TemplateFiles
{
    // The longest that are published have 20 kB.
    private const int MaxTemplateBytes = 1 << 20;
    private const int MaxJsonBytes = 16 << 20;
    private const string Member = "chat_template";

    /// <summary>The template and its file, in the order in which transformers prefers them; null if there is none.</summary>
    /// <exception cref="InvalidDataException">A file is malformed.</exception>
    public static (string Path, string Source)? Find(ModelFolder folder)
    {
        string plain = Path.Combine(folder.Path, "chat_template.jinja");
        if (RawFile.IsThere(plain))
        {
            ReadOnlyMemory<byte> bytes = RawFile.ReadAll(plain, MaxTemplateBytes);
            if (!Utf8.IsValid(bytes.Span))
                throw BadFile.At(plain, "the template is not valid UTF-8.");
            return (plain, Encoding.UTF8.GetString(JsonText.WithoutMark(bytes).Span));
        }

        foreach (string name in (string[])["tokenizer_config.json", "chat_template.json"])
        {
            string path = Path.Combine(folder.Path, name);
            if (RawFile.IsThere(path) && OfJson(path) is string source)
                return (path, source);
        }

        return null;
    }

    private static string? OfJson(string path)
    {
        using JsonDocument document = JsonText.ReadObject(path, MaxJsonBytes);
        if (!document.RootElement.TryGetProperty(Member, out JsonElement template) || template.ValueKind == JsonValueKind.Null)
            return null;
        string source = template.ValueKind switch
        {
            JsonValueKind.String => template.GetString()!,
            JsonValueKind.Array => Default(template, path),
            _ => throw BadFile.At(path, $"{Member} is {JsonText.Kind(template)}; expected a text, or a list of named templates."),
        };
        return source.Length <= MaxTemplateBytes ? source
            : throw BadFile.At(path, $"{Member} has {source.Length} characters, more than a template can have ({MaxTemplateBytes}).");
    }

    private static string Default(JsonElement list, string path)
    {
        var names = new List<string>();
        foreach (JsonElement item in list.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Object || !item.TryGetProperty("name", out JsonElement name)
                || name.ValueKind != JsonValueKind.String
                || !item.TryGetProperty("template", out JsonElement template) || template.ValueKind != JsonValueKind.String)
                throw BadFile.At(path, $"{Member}[{names.Count}] has no name and template that are texts.");
            names.Add(name.GetString()!);
            if (names[^1] == "default")
                return template.GetString()!;
        }

        throw BadFile.At(path, $"{Member} has no template named 'default', only {string.Join(", ", names.Select(BadFile.Quote))}.");
    }
}
