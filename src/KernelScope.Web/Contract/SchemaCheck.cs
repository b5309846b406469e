using System.Globalization;
using System.Text.Json;
using KernelScope.Web.Serving;

namespace KernelScope.Web.Contract;

/// <summary>What is wrong with a body, and where, as FastAPI's servers say it.</summary>
/// <param name="Loc">The way to the place: names of fields, and numbers of entries.</param>
/// <param name="Msg">What is wrong.</param>
/// <param name="Type">FastAPI's name for it.</param>
internal sealed record SchemaError(IReadOnlyList<object> Loc, string Msg, string Type) : IAnswer
{
    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteStartArray("loc");
        foreach (object step in Loc)
        {
            if (step is int entry)
                json.WriteNumberValue(entry);
            else
                json.WriteStringValue((string)step);
        }

        json.WriteEndArray();
        json.WriteString("msg", Msg);
        json.WriteString("type", Type);
        json.WriteEndObject();
    }
}

/// <summary>
/// Checks bodies against the schemas of an OpenAPI document: types, required fields, choices, bounds. Fields that a schema does not name
/// are let through, unless it says <c>additionalProperties: false</c>; even then, where they say nothing: null, an empty list or object.
/// </summary>
internal sealed class SchemaCheck(JsonElement schemas)
{
    private const int MostErrors = 20;

    /// <summary>What does not fit; empty: all does.</summary>
    public IReadOnlyList<SchemaError> Check(JsonElement schema, JsonElement body)
    {
        var errors = new List<SchemaError>();
        Check(schema, body, ["body"], errors);
        return errors;
    }

    private void Check(JsonElement schema, JsonElement value, object[] place, List<SchemaError> errors)
    {
        if (errors.Count >= MostErrors)
            return;
        if (schema.TryGetProperty("$ref", out JsonElement reference))
            schema = schemas.GetProperty(reference.GetString()!.Split('/')[^1]);
        if (schema.TryGetProperty("anyOf", out JsonElement choices))
            CheckAny(choices, value, place, errors);
        if (schema.TryGetProperty("type", out JsonElement type) && !IsOf(type.GetString()!, value))
        {
            errors.Add(new SchemaError(place, $"this must be of type {type.GetString()}", $"{type.GetString()}_type"));
            return;
        }

        if (schema.TryGetProperty("enum", out JsonElement names) && !names.EnumerateArray().Any(n => n.ValueEquals(TextOf(value))))
        {
            string known = string.Join(", ", names.EnumerateArray().Select(n => n.GetString()));
            errors.Add(new SchemaError(place, $"this must be one of {known}", "enum"));
        }

        CheckBounds(schema, value, place, errors);
        if (value.ValueKind == JsonValueKind.Object)
            CheckFields(schema, value, place, errors);
        else if (value.ValueKind == JsonValueKind.Array && schema.TryGetProperty("items", out JsonElement items))
            CheckItems(items, value, place, errors);
    }

    private void CheckAny(JsonElement choices, JsonElement value, object[] place, List<SchemaError> errors)
    {
        List<SchemaError>? nearest = null;
        foreach (JsonElement choice in choices.EnumerateArray())
        {
            var own = new List<SchemaError>();
            Check(choice, value, place, own);
            if (own.Count == 0)
                return;
            // The choice of the value's own kind complains of what is inside it, the others of its kind.
            if (nearest is null || own[0].Loc.Count > nearest[0].Loc.Count)
                nearest = own;
        }

        errors.AddRange(nearest ?? []);
    }

    private void CheckFields(JsonElement schema, JsonElement value, object[] place, List<SchemaError> errors)
    {
        if (schema.TryGetProperty("required", out JsonElement required))
        {
            foreach (string name in required.EnumerateArray().Select(n => n.GetString()!))
            {
                if (!Find(value, name, out _))
                    errors.Add(new SchemaError([.. place, name], "this field is missing", "missing"));
            }
        }

        if (!schema.TryGetProperty("properties", out JsonElement properties))
            return;
        foreach (JsonProperty property in properties.EnumerateObject())
        {
            if (Find(value, property.Name, out JsonElement field))
                Check(property.Value, field, [.. place, property.Name], errors);
        }

        if (!schema.TryGetProperty("additionalProperties", out JsonElement more) || more.ValueKind != JsonValueKind.False)
            return;
        foreach (JsonProperty field in value.EnumerateObject())
        {
            if (!properties.TryGetProperty(field.Name, out _) && !IsEmpty(field.Value))
                errors.Add(new SchemaError([.. place, field.Name], "this field is not supported", "extra_forbidden"));
        }
    }

    private static bool IsEmpty(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Null => true,
        JsonValueKind.Array => value.GetArrayLength() == 0,
        JsonValueKind.Object => value.GetPropertyCount() == 0,
        _ => false,
    };

    private void CheckItems(JsonElement items, JsonElement value, object[] place, List<SchemaError> errors)
    {
        int index = 0;
        foreach (JsonElement item in value.EnumerateArray())
        {
            Check(items, item, [.. place, index++], errors);
            if (errors.Count >= MostErrors)
                return;
        }
    }

    private static void CheckBounds(JsonElement schema, JsonElement value, object[] place, List<SchemaError> errors)
    {
        if (value.ValueKind == JsonValueKind.Number)
        {
            Bound("minimum", value.GetDouble(), atLeast: true, "this must be at least {0}");
            Bound("maximum", value.GetDouble(), atLeast: false, "this must be at most {0}");
        }
        else if (value.ValueKind == JsonValueKind.Array)
        {
            Bound("minItems", value.GetArrayLength(), atLeast: true, "this must have at least {0} entries");
            Bound("maxItems", value.GetArrayLength(), atLeast: false, "this must have at most {0} entries");
        }
        else if (value.ValueKind == JsonValueKind.String)
        {
            Bound("minLength", TextOf(value)?.Length ?? 0, atLeast: true, "this must have at least {0} characters");
            Bound("maxLength", TextOf(value)?.Length ?? 0, atLeast: false, "this must have at most {0} characters");
        }

        void Bound(string name, double found, bool atLeast, string sentence)
        {
            if (!schema.TryGetProperty(name, out JsonElement bound) || (atLeast ? found >= bound.GetDouble() : found <= bound.GetDouble()))
                return;
            string text = string.Format(CultureInfo.InvariantCulture, sentence, bound.GetDouble());
            errors.Add(new SchemaError(place, text, atLeast ? "greater_than_equal" : "less_than_equal"));
        }
    }

    private static bool Find(JsonElement value, string name, out JsonElement field) =>
        value.TryGetProperty(name, out field) || value.TryGetProperty(JsonNamingPolicy.SnakeCaseLower.ConvertName(name), out field);

    private static bool IsOf(string type, JsonElement value) => type switch
    {
        "string" => TextOf(value) is not null,
        "integer" => value.ValueKind == JsonValueKind.Number && double.IsInteger(value.GetDouble()),
        "number" => value.ValueKind == JsonValueKind.Number && double.IsFinite(value.GetDouble()),
        "boolean" => value.ValueKind is JsonValueKind.True or JsonValueKind.False,
        "array" => value.ValueKind == JsonValueKind.Array,
        "object" => value.ValueKind == JsonValueKind.Object,
        _ => value.ValueKind == JsonValueKind.Null,
    };

    /// <summary>The text; null where it is none, or holds half of a surrogate pair.</summary>
    private static string? TextOf(JsonElement value)
    {
        try
        {
            return value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }
}
