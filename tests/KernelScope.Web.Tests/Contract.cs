using System.Text.Json.Nodes;
using Json.Schema;

namespace KernelScope.Web.Tests;

/// <summary>Neuronpedia's contract, read by a validator of others.</summary>
internal static class Contract
{
    private static readonly JsonNode Document =
        JsonNode.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "neuronpedia", "openapi.json")))!;
    private static readonly Lazy<string> Definitions = new(() =>
        Document["components"]!["schemas"]!.ToJsonString().Replace("#/components/schemas/", "#/$defs/", StringComparison.Ordinal));

    public static IEnumerable<string> Paths => Document["paths"]!.AsObject().Select(p => p.Key);

    /// <summary>Fails if an answer is not what the contract says of a path.</summary>
    public static void RequireAnswer(string path, JsonNode answer)
    {
        JsonNode operation = Document["paths"]![path]!.AsObject().First().Value!;
        Require(operation["responses"]!["200"]!["content"]!["application/json"]!["schema"]!, answer, path);
    }

    /// <summary>Whether the contract lets a request of a path through.</summary>
    public static bool Accepts(string path, JsonNode body) =>
        Evaluate(Document["paths"]![path]!["post"]!["requestBody"]!["content"]!["application/json"]!["schema"]!, body).IsValid;

    private static void Require(JsonNode schema, JsonNode answer, string path)
    {
        EvaluationResults results = Evaluate(schema, answer);
        string errors =
            string.Join("; ", (results.Details ?? []).Where(d => d.Errors is not null)
                .Select(d => $"{d.InstanceLocation}: {string.Join(", ", d.Errors!.Values)}"));
        Assert.True(results.IsValid, $"{path}: {errors}");
    }

    private static EvaluationResults Evaluate(JsonNode schema, JsonNode value)
    {
        string own = schema.ToJsonString().Replace("#/components/schemas/", "#/$defs/", StringComparison.Ordinal);
        var full = JsonSchema.FromText($$"""{"allOf":[{{own}}],"$defs":{{Definitions.Value}}}""");
        using var document = System.Text.Json.JsonDocument.Parse(value.ToJsonString());
        return full.Evaluate(document.RootElement, new EvaluationOptions { OutputFormat = OutputFormat.List });
    }
}
