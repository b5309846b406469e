using System.Buffers;
using System.Globalization;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>One value of a run's JSON files with its name; whatever is not as expected is refused with file and name.</summary>
internal readonly struct RunField(JsonElement element, string path, string name)
{
    /// <summary>Longest texts and lists that a run's files may hold.</summary>
    private const int LongestText = 4096;

    private static readonly SearchValues<char> Digits = SearchValues.Create("0123456789abcdef");

    /// <summary>The value at a name, which must be there.</summary>
    public RunField this[string key] =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(key, out JsonElement value)
            ? new RunField(value, path, Inner(key))
            : throw BadFile.At(path, $"{Inner(key)} is missing.");

    /// <summary>Whether there is a value that is not null.</summary>
    public bool Has(string key) => element.ValueKind == JsonValueKind.Object && element.TryGetProperty(key, out JsonElement value)
        && value.ValueKind != JsonValueKind.Null;

    /// <summary>A text; it is not empty.</summary>
    public string Text => element.ValueKind == JsonValueKind.String && element.GetString() is { Length: > 0 and <= LongestText } text ? text
        : throw Bad("a text");

    /// <summary>Whether it is a certain text.</summary>
    public bool IsText(string text) => element.ValueKind == JsonValueKind.String && element.ValueEquals(text);

    /// <summary>A text that may be null.</summary>
    public string? TextOrNull => element.ValueKind == JsonValueKind.Null ? null : Text;

    /// <summary>SHA-256 in lower-case hexadecimal.</summary>
    public string Sha256 => Text is { Length: 64 } text && !text.AsSpan().ContainsAnyExcept(Digits) ? text
        : throw Bad("a SHA-256 of 64 hexadecimal digits");

    /// <summary>A finite number.</summary>
    public double Double => element.ValueKind == JsonValueKind.Number && element.TryGetDouble(out double value) && double.IsFinite(value)
        ? value : throw Bad("a number");

    /// <summary>A finite number, or null.</summary>
    public double? DoubleOrNull => element.ValueKind == JsonValueKind.Null ? null : Double;

    /// <summary>True or false.</summary>
    public bool Bool => element.ValueKind is JsonValueKind.True or JsonValueKind.False ? element.GetBoolean() : throw Bad("true or false");

    /// <summary>The names of an object, with their values.</summary>
    public IEnumerable<(string Name, RunField Value)> Members
    {
        get
        {
            if (element.ValueKind != JsonValueKind.Object)
                throw Bad("an object");
            string file = path;
            RunField outer = this;
            return element.EnumerateObject().Select(p => (p.Name, new RunField(p.Value, file, outer.Inner(p.Name))));
        }
    }

    /// <summary>The values of a list.</summary>
    public IEnumerable<RunField> Items
    {
        get
        {
            if (element.ValueKind != JsonValueKind.Array)
                throw Bad("a list");
            string file = path, outer = name;
            return element.EnumerateArray().Select((item, i) => new RunField(item, file,
                string.Create(CultureInfo.InvariantCulture, $"{outer}[{i}]")));
        }
    }

    /// <summary>Number of values of a list.</summary>
    public int Count => element.ValueKind == JsonValueKind.Array ? element.GetArrayLength() : throw Bad("a list");

    /// <summary>An integer in a range.</summary>
    public long Long(long min, long max) =>
        element.ValueKind == JsonValueKind.Number && element.TryGetInt64(out long value) && value >= min && value <= max ? value
            : throw Bad($"an integer from {min} to {max}");

    /// <summary>An integer in a range.</summary>
    public int Int(int min, int max) => (int)Long(min, max);

    /// <summary>The refusal of this value.</summary>
    public InvalidDataException Bad(string expected) => BadFile.At(path, $"{name} is {JsonText.Kind(element)}; expected {expected}.");

    private string Inner(string key) => name.Length == 0 ? BadFile.Printable(key, 100) : $"{name}.{BadFile.Printable(key, 100)}";
}
