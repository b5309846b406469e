using System.Text.Json;

namespace KernelScope.Web.Contract;

/// <summary>An OpenAPI document of this assembly: what clients read, and what bodies are checked against.</summary>
internal sealed class ApiDocument
{
    private readonly JsonDocument _document;
    private readonly SchemaCheck _check;

    private ApiDocument(string name)
    {
        Bytes = Resources.Read($"openapi/{name}.json");
        _document = JsonDocument.Parse(Bytes);
        _check = new SchemaCheck(_document.RootElement.GetProperty("components").GetProperty("schemas"));
    }

    /// <summary>Inference and OpenAI's calls.</summary>
    public static ApiDocument Inference { get; } = new("v1");

    /// <summary>Features and search.</summary>
    public static ApiDocument Public { get; } = new("api");

    public byte[] Bytes { get; }

    /// <summary>What of a body does not fit the schema of a path.</summary>
    public IReadOnlyList<SchemaError> Check(string path, JsonElement body)
    {
        JsonElement schema = _document.RootElement.GetProperty("paths").GetProperty(path).GetProperty("post")
            .GetProperty("requestBody").GetProperty("content").GetProperty("application/json").GetProperty("schema");
        return _check.Check(schema, body);
    }
}
