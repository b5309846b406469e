using System.Globalization;
using System.Text.Json;

namespace KernelScope.Web.Contract;

/// <summary>Reads fields of a body that was checked against its schema. A name counts in camelCase and in snake_case.</summary>
internal static class JsonFields
{
    /// <summary>The field, unless it is missing or null.</summary>
    public static bool TryField(this JsonElement body, string name, out JsonElement value) =>
        (body.TryGetProperty(name, out value) || body.TryGetProperty(JsonNamingPolicy.SnakeCaseLower.ConvertName(name), out value))
        && value.ValueKind != JsonValueKind.Null;

    public static string? Text(this JsonElement body, string name) => body.TryField(name, out JsonElement value) ? value.GetString() : null;

    public static string RequiredText(this JsonElement body, string name) => body.Text(name) ?? throw Missing(name);

    public static bool? Flag(this JsonElement body, string name) => body.TryField(name, out JsonElement value) ? value.GetBoolean() : null;

    public static double? Number(this JsonElement body, string name) =>
        body.TryField(name, out JsonElement value) ? value.GetDouble() : null;

    /// <summary>A whole number, which some clients send as a string of digits or as 1.0.</summary>
    /// <exception cref="Refusal">It has more than 32 bits, or is not a number.</exception>
    public static int? Whole(this JsonElement body, string name)
    {
        if (!body.TryField(name, out JsonElement value))
            return null;
        if (value.ValueKind != JsonValueKind.String)
        {
            return value.GetDouble() is double number and >= int.MinValue and <= int.MaxValue ? (int)number
                : throw Refusal.Bad(string.Create(CultureInfo.InvariantCulture, $"{name} is {value.GetDouble()}, which is out of range."),
                name);
        }

        return int.TryParse(value.GetString(), NumberStyles.None, CultureInfo.InvariantCulture, out int digits) ? digits
            : throw Refusal.Bad($"{name} is not a number.", name);
    }

    public static int RequiredWhole(this JsonElement body, string name) => body.Whole(name) ?? throw Missing(name);

    public static double RequiredNumber(this JsonElement body, string name) => body.Number(name) ?? throw Missing(name);

    /// <summary>The entries of a list; empty where it is missing.</summary>
    public static IEnumerable<JsonElement> Entries(this JsonElement body, string name) =>
        body.TryField(name, out JsonElement value) ? value.EnumerateArray() : [];

    public static string[] Texts(this JsonElement body, string name) => [.. body.Entries(name).Select(e => e.GetString()!)];

    /// <summary>A text, or a list of texts.</summary>
    public static string[] OneOrMoreTexts(this JsonElement body, string name, out bool isList)
    {
        isList = body.TryField(name, out JsonElement value) && value.ValueKind == JsonValueKind.Array;
        return isList ? body.Texts(name) : [body.RequiredText(name)];
    }

    public static float[] Vector(this JsonElement body, string name)
    {
        const int Most = 65_536;
        if (!body.TryField(name, out JsonElement value))
            return [];
        if (value.GetArrayLength() > Most)
            throw Refusal.Bad($"{name} has {value.GetArrayLength()} values; at most {Most} are taken.", name);
        float[] vector = [.. value.EnumerateArray().Select(e => (float)e.GetDouble())];
        int bad = Array.FindIndex(vector, v => !float.IsFinite(v));
        return bad < 0 ? vector : throw Refusal.Bad($"{name}[{bad}] is not a finite float32 number.", name);
    }

    private static Refusal Missing(string name) => Refusal.Bad($"{name} is missing.", name);
}
