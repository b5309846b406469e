using System.Text.Json.Serialization;

namespace KernelScope.Web.Endpoints;

// Answers of /v1. Names and shapes are Neuronpedia's.

internal sealed record InferenceError(string Error);

internal sealed record ValidationError(IReadOnlyList<Contract.SchemaError> Detail, string Error, string Message);

internal sealed record HealthAnswer(string Status);

internal sealed record TokenizeAnswer(IReadOnlyList<int> Tokens, IReadOnlyList<string> TokenStrings, bool PrependBos);

internal sealed record TokenSpan(
    int Position, int TokenId, string TokenStr, string Section, int? MessageIndex, string? Role, string? Channel);

internal sealed record ChatTemplateAnswer(string Prompt, IReadOnlyList<int> Tokens, IReadOnlyList<TokenSpan> Spans);

internal sealed record ActivationValues(IReadOnlyList<float> Values, float MaxValue, int MaxValueIndex)
{
    public IReadOnlyList<float>? DfaValues { get; init; }

    public int? DfaTargetIndex { get; init; }

    public float? DfaMaxValue { get; init; }
}

internal sealed record SingleAnswer(ActivationValues Activation, IReadOnlyList<string> Tokens, IReadOnlyList<bool> TokensIsSpecial);

internal sealed record SingleBatchAnswer(IReadOnlyList<SingleAnswer> Results);

internal sealed record AllFeature(string Source, int Index, IReadOnlyList<float> Values, float MaxValue, int MaxValueIndex, float SumValues)
{
    public IReadOnlyList<float>? DfaValues { get; init; }

    public int? DfaTargetIndex { get; init; }

    public float? DfaMaxValue { get; init; }
}

internal sealed record AllAnswer(IReadOnlyList<AllFeature> Activations, IReadOnlyList<string> Tokens)
{
    public IReadOnlyList<IReadOnlyList<float>>? Counts { get; init; }
}

internal sealed record AllBatchAnswer(IReadOnlyList<AllAnswer> Results);

internal sealed record TopFeature(int FeatureIndex, float ActivationValue);

internal sealed record TopkToken(int TokenPosition, string Token, bool IsSpecial, IReadOnlyList<TopFeature> TopFeatures);

internal sealed record TopkAnswer(IReadOnlyList<TopkToken> Results, IReadOnlyList<string> Tokens);

internal sealed record TopkBatchAnswer(IReadOnlyList<TopkAnswer> Results);

internal sealed record SourceResult(IReadOnlyList<string> Tokens, IReadOnlyDictionary<string, IReadOnlyList<double[]>> ActiveFeatures);

internal sealed record SourceAnswer(IReadOnlyList<SourceResult> Results);

internal sealed record RawLayer(int Layer, IReadOnlyList<int> TokenIndices, IReadOnlyList<float[]> Values);

internal sealed record RawResult(IReadOnlyList<string> TokenStrings, IReadOnlyList<int> TokenIds, IReadOnlyList<RawLayer> Activations);

internal sealed record RawAnswer(string HookPoint, string Type, string Dtype, string Device, IReadOnlyList<RawResult> Results);

internal sealed record LogprobTop(string Token, double Logprob);

internal sealed record Logprob(string Token, [property: JsonPropertyName("logprob")] double Value, IReadOnlyList<LogprobTop> TopLogprobs);

internal sealed record SteerOutput(string Type, string Output)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<Logprob>? Logprobs { get; init; }
}

internal sealed record SteerAnswer(IReadOnlyList<SteerOutput> Outputs);

internal sealed record SteerMessage(string Content, string Role);

internal sealed record SteerChatOutput(string Raw, IReadOnlyList<SteerMessage> ChatTemplate)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Type { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<Logprob>? Logprobs { get; init; }
}

internal sealed record SteerChatAnswer(IReadOnlyList<SteerChatOutput> Outputs, SteerChatOutput Input);

internal sealed record SteerStats(
    string Device,
    [property: JsonPropertyName("memory_bytes")] long MemoryBytes,
    [property: JsonPropertyName("free_bytes")] long FreeBytes,
    int Queued,
    int Running);

internal sealed record SteerHealthAnswer(SteerStats Stats, string Summary);

internal sealed record VectorAnswer(string HookName, IReadOnlyList<float> Vector, IReadOnlyList<float> Decoder);

internal sealed record NamedFeature(string Model, string Source, int Index);

internal sealed record SimilarFeature(NamedFeature Feature, float CosineSimilarity);

internal sealed record SimilarAnswer(NamedFeature? Feature, IReadOnlyList<SimilarFeature> TopkDecoderCossimFeatures);

internal sealed record CapabilitiesAnswer(
    string Model,
    string Backend,
    string Device,
    [property: JsonPropertyName("max_concurrent_requests")] int MaxConcurrentRequests,
    [property: JsonPropertyName("max_tokens")] int MaxTokens,
    [property: JsonPropertyName("token_limit")] int TokenLimit,
    [property: JsonPropertyName("activation_token_limit")] int ActivationTokenLimit,
    [property: JsonPropertyName("max_num_results")] int MaxNumResults,
    [property: JsonPropertyName("capture_points")] IReadOnlyList<string> CapturePoints,
    [property: JsonPropertyName("sae_sets")] IReadOnlyList<string> SaeSets,
    [property: JsonPropertyName("num_layers")] int NumLayers,
    IReadOnlyDictionary<string, bool> Endpoints);
