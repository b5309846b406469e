using System.Text.Json;

namespace KernelScope.Files;

/// <summary>Typed, checked access to the settings of a config object; a value of the wrong type or range is refused with its name.</summary>
internal readonly struct JsonSettings(JsonElement root, string path)
{
    public string Path => path;

    /// <summary>The value, if the name is there and not null.</summary>
    public bool TryGet(string name, out JsonElement value) => root.TryGetProperty(name, out value) && value.ValueKind != JsonValueKind.Null;

    /// <summary>Whether the name is there, null or not.</summary>
    public bool Has(string name) => root.TryGetProperty(name, out _);

    /// <summary>The refusal "file: name is what; expected".</summary>
    public InvalidDataException Bad(string name, JsonElement value, string expected) =>
        BadFile.At(path, $"{name} is {JsonText.Kind(value)}; expected {expected}.");

    /// <summary>An integer written as one (8.0 and 1e1 are not), of min or more; the fallback if the name is absent. Null is refused.</summary>
    public int Int(string name, int? fallback, int min)
    {
        if (!root.TryGetProperty(name, out JsonElement value))
            return fallback ?? throw BadFile.At(path, $"there is no {name} in it.");
        return AsInt(value, out int number) && number >= min ? number : throw Bad(name, value, $"an integer of {min} or more");
    }

    /// <summary>A finite number that is neither zero nor too small or large for float32.</summary>
    public double Positive(string name, double fallback)
    {
        if (!root.TryGetProperty(name, out JsonElement value))
            return fallback;
        return AsPositive(value, out double number) ? number : throw Bad(name, value, "a positive number");
    }

    /// <summary>As <see cref="Positive"/>, but null means 0: the feature is off.</summary>
    public double PositiveOrOff(string name, double fallback) =>
        root.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Null ? 0 : Positive(name, fallback);

    /// <summary>True or false; the fallback if it is absent or null.</summary>
    public bool Bool(string name, bool fallback) => !TryGet(name, out JsonElement value) ? fallback : value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Bad(name, value, "true or false"),
    };

    /// <summary>A text; null if it is absent or null.</summary>
    public string? Text(string name) => !TryGet(name, out JsonElement value) ? null
        : value.ValueKind == JsonValueKind.String ? value.GetString()! : throw Bad(name, value, "a text");

    public static bool AsInt(JsonElement value, out int number)
    {
        number = 0;
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out number) && !value.GetRawText().AsSpan().ContainsAny("eE.");
    }

    public static bool AsPositive(JsonElement value, out double number)
    {
        number = 0;
        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out number) && float.IsNormal((float)number) && number > 0;
    }
}
