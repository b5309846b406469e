using System.Text.Json;
using KernelScope.Evaluation;
using KernelScope.Web.Contract;
using KernelScope.Web.Serving;

namespace KernelScope.Web.Endpoints;

// Answers of /v1. Names and shapes are Neuronpedia's.

internal sealed class InferenceError(string error) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("error", error).End();
}

internal sealed class ValidationError(IReadOnlyList<SchemaError> detail, string error, string message) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("detail", detail).Add("error", error).Add("message", message).End();
}

internal sealed class HealthAnswer(string status) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("status", status).End();
}

internal sealed class TokenizeAnswer(IReadOnlyList<int> tokens, IReadOnlyList<string> tokenStrings, bool prependBos) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("tokens", tokens)
        .Add("tokenStrings", tokenStrings)
        .Add("prependBos", prependBos)
        .End();
}

internal sealed class TokenSpan(
    int position, int tokenId, string tokenStr, string section, int? messageIndex, string? role, string? channel) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("position", position)
        .Add("tokenId", tokenId)
        .Add("tokenStr", tokenStr)
        .Add("section", section)
        .Add("messageIndex", messageIndex)
        .Add("role", role)
        .Add("channel", channel)
        .End();
}

internal sealed class ChatTemplateAnswer(string prompt, IReadOnlyList<int> tokens, IReadOnlyList<TokenSpan> spans) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("prompt", prompt).Add("tokens", tokens).Add("spans", spans).End();
}

/// <param name="Values">One for each token.</param>
/// <param name="MaxValue">The largest.</param>
/// <param name="MaxValueIndex">Where it is.</param>
/// <param name="Dfa">What each token gave it there; null for SAEs that are not at z.</param>
internal sealed record ActivationValues(IReadOnlyList<float> Values, float MaxValue, int MaxValueIndex, DirectAttribution? Dfa) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("values", Values)
        .Add("maxValue", MaxValue)
        .Add("maxValueIndex", MaxValueIndex)
        .AddDfa(Dfa)
        .End();
}

internal sealed record SingleAnswer(
    ActivationValues Activation, IReadOnlyList<string> Tokens, IReadOnlyList<bool> TokensIsSpecial) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("activation", Activation)
        .Add("tokens", Tokens)
        .Add("tokensIsSpecial", TokensIsSpecial)
        .End();
}

/// <summary>One answer for each prompt.</summary>
internal sealed class BatchAnswer(IReadOnlyList<IAnswer> results) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("results", results).End();
}

internal sealed record AllFeature(
    string Source, int Index, IReadOnlyList<float> Values, float MaxValue, int MaxValueIndex, float SumValues) : IAnswer
{
    public DirectAttribution? Dfa { get; init; }

    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("source", Source)
        .Add("index", Index)
        .Add("values", Values)
        .Add("maxValue", MaxValue)
        .Add("maxValueIndex", MaxValueIndex)
        .Add("sumValues", SumValues)
        .AddDfa(Dfa)
        .End();
}

internal sealed record AllAnswer(IReadOnlyList<AllFeature> Activations, IReadOnlyList<string> Tokens) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("activations", Activations).Add("tokens", Tokens).AddNull("counts").End();
}

internal sealed class TopFeature(int featureIndex, float activationValue) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("featureIndex", featureIndex).Add("activationValue", activationValue).End();
}

internal sealed class TopkToken(int tokenPosition, string token, bool isSpecial, IReadOnlyList<TopFeature> topFeatures) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("tokenPosition", tokenPosition)
        .Add("token", token)
        .Add("isSpecial", isSpecial)
        .Add("topFeatures", topFeatures)
        .End();
}

internal sealed class TopkAnswer(IReadOnlyList<TopkToken> results, IReadOnlyList<string> tokens) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("results", results).Add("tokens", tokens).End();
}

/// <summary>The features of a text that fire, each with pairs of token and value.</summary>
internal sealed class ActiveFeatures(IReadOnlyDictionary<string, IReadOnlyList<double[]>> places) : IAnswer
{
    public void Write(Utf8JsonWriter json)
    {
        AnswerFields fields = json.Fields();
        foreach ((string feature, IReadOnlyList<double[]> pairs) in places)
            fields.Add(feature, pairs);
        fields.End();
    }
}

internal sealed class SourceResult(IReadOnlyList<string> tokens, ActiveFeatures activeFeatures) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("tokens", tokens).Add("activeFeatures", activeFeatures).End();
}

internal sealed class RawLayer(int layer, IReadOnlyList<int> tokenIndices, IReadOnlyList<float[]> values) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("layer", layer)
        .Add("tokenIndices", tokenIndices)
        .Add("values", values)
        .End();
}

internal sealed class RawResult(IReadOnlyList<string> tokenStrings, IReadOnlyList<int> tokenIds, IReadOnlyList<RawLayer> activations)
    : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("tokenStrings", tokenStrings)
        .Add("tokenIds", tokenIds)
        .Add("activations", activations)
        .End();
}

internal sealed class RawAnswer(string hookPoint, string type, string dtype, string device, IReadOnlyList<RawResult> results) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("hookPoint", hookPoint)
        .Add("type", type)
        .Add("dtype", dtype)
        .Add("device", device)
        .Add("results", results)
        .End();
}

internal sealed class LogprobTop(string token, double logprob) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("token", token).Add("logprob", logprob).End();
}

internal sealed class Logprob(string token, double logprob, IReadOnlyList<LogprobTop> topLogprobs) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("token", token)
        .Add("logprob", logprob)
        .Add("topLogprobs", topLogprobs)
        .End();
}

internal sealed class SteerOutput(string type, string output, IReadOnlyList<Logprob>? logprobs) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("type", type)
        .Add("output", output)
        .Add("logprobs", logprobs, optional: true)
        .End();
}

internal sealed class SteerAnswer(IReadOnlyList<SteerOutput> outputs) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("outputs", outputs).End();
}

internal sealed class SteerMessage(string content, string role) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("content", content).Add("role", role).End();
}

internal sealed record SteerChatOutput(string Raw, IReadOnlyList<SteerMessage> ChatTemplate) : IAnswer
{
    public string? Type { get; init; }

    public IReadOnlyList<Logprob>? Logprobs { get; init; }

    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("raw", Raw)
        .Add("chatTemplate", ChatTemplate)
        .Add("type", Type, optional: true)
        .Add("logprobs", Logprobs, optional: true)
        .End();
}

internal sealed class SteerChatAnswer(IReadOnlyList<SteerChatOutput> outputs, SteerChatOutput input) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("outputs", outputs).Add("input", input).End();
}

internal sealed class SteerStats(string device, long memoryBytes, long freeBytes, int queued, int running) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("device", device)
        .Add("memory_bytes", memoryBytes)
        .Add("free_bytes", freeBytes)
        .Add("queued", queued)
        .Add("running", running)
        .End();
}

internal sealed class SteerHealthAnswer(SteerStats stats, string summary) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("stats", stats).Add("summary", summary).End();
}

internal sealed class VectorAnswer(string hookName, IReadOnlyList<float> vector, IReadOnlyList<float> decoder) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("hookName", hookName).Add("vector", vector).Add("decoder", decoder).End();
}

internal sealed class NamedFeature(string model, string source, int index) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("model", model).Add("source", source).Add("index", index).End();
}

internal sealed class SimilarFeature(NamedFeature feature, float cosineSimilarity) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("feature", feature).Add("cosineSimilarity", cosineSimilarity).End();
}

internal sealed class SimilarAnswer(NamedFeature? feature, IReadOnlyList<SimilarFeature> similar) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("feature", feature).Add("topkDecoderCossimFeatures", similar).End();
}

/// <summary>Which calls are served.</summary>
internal sealed class ServedCalls(IEnumerable<(string Name, bool IsServed)> calls) : IAnswer
{
    public void Write(Utf8JsonWriter json)
    {
        AnswerFields fields = json.Fields();
        foreach ((string name, bool isServed) in calls)
            fields.Add(name, isServed);
        fields.End();
    }
}

internal sealed class CapabilitiesAnswer : IAnswer
{
    public required string Model { get; init; }

    public required string Device { get; init; }

    public required int MaxConcurrentRequests { get; init; }

    public required int MaxTokens { get; init; }

    public required int TokenLimit { get; init; }

    public required IReadOnlyList<string> CapturePoints { get; init; }

    public required IReadOnlyList<string> SaeSets { get; init; }

    public required int LayerCount { get; init; }

    public required ServedCalls Endpoints { get; init; }

    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("model", Model)
        .Add("backend", "kernelscope")
        .Add("device", Device)
        .Add("max_concurrent_requests", MaxConcurrentRequests)
        .Add("max_tokens", MaxTokens)
        .Add("token_limit", TokenLimit)
        .Add("activation_token_limit", TokenLimit)
        .Add("max_num_results", ActivationEndpoints.MaxResults)
        .Add("capture_points", CapturePoints)
        .Add("sae_sets", SaeSets)
        .Add("num_layers", LayerCount)
        .Add("endpoints", Endpoints)
        .End();
}
