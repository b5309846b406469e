using System.Text.Json;
using KernelScope.Chat.Jinja;
using KernelScope.Files;
using KernelScope.Text;

namespace KernelScope.Chat;

/// <summary>The special tokens that a template knows by name: <c>bos_token</c> and its like.</summary>
internal sealed class SpecialTexts
{
    private const int MaxFileBytes = 16 << 20;
    private static readonly string[] Names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

    private readonly Dictionary<string, object?> _values = [];

    public static SpecialTexts None { get; } = new();

    /// <summary>Names and texts.</summary>
    public IEnumerable<KeyValuePair<string, object?>> Variables => _values;

    /// <summary>Those of tokenizer_config.json, then of special_tokens_map.json, then the tokenizer's own.</summary>
    /// <exception cref="InvalidDataException">A file is malformed.</exception>
    public static SpecialTexts Read(ModelFolder folder, GemmaTokenizer tokenizer)
    {
        var special = new SpecialTexts();
        var off = new HashSet<string>();
        foreach (string file in (string[])["tokenizer_config.json", "special_tokens_map.json"])
        {
            string path = Path.Combine(folder.Path, file);
            if (!RawFile.IsThere(path))
                continue;
            using JsonDocument document = JsonText.ReadObject(path, MaxFileBytes);
            foreach (string name in Names.Where(n => document.RootElement.TryGetProperty(n, out _)))
            {
                JsonElement value = document.RootElement.GetProperty(name);
                if (value.ValueKind == JsonValueKind.Null)
                    off.Add(name);
                else if (!off.Contains(name))
                    special._values.TryAdd(name, Text(value, name, path));
            }

            if (document.RootElement.TryGetProperty("additional_special_tokens", out JsonElement more)
                && more.ValueKind == JsonValueKind.Array)
                special._values.TryAdd("additional_special_tokens",
                    new PyList([.. more.EnumerateArray().Select(t => (object?)Text(t, "additional_special_tokens", path))]));
        }

        foreach ((string name, int id) in (ReadOnlySpan<(string, int)>)[("bos_token", tokenizer.BosId), ("eos_token", tokenizer.EosId),
            ("pad_token", tokenizer.PadId), ("unk_token", tokenizer.UnknownId)])
        {
            if (id >= 0 && !off.Contains(name))
                special._values.TryAdd(name, tokenizer.Piece(id));
        }

        return special;
    }

    /// <summary>A special token is a text, or an object with one.</summary>
    private static string Text(JsonElement value, string name, string path)
    {
        if (value.ValueKind == JsonValueKind.Object && value.TryGetProperty("content", out JsonElement content))
            value = content;
        return value.ValueKind == JsonValueKind.String ? value.GetString()!
            : throw BadFile.At(path, $"{name} is {JsonText.Kind(value)}; expected a text, or an object with one as content.");
    }
}
