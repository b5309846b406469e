using System.Text.Json.Serialization;

namespace KernelScope.Web.Endpoints;

// Answers in OpenAI's shapes, with an extension of our own in "kernelscope".

internal sealed record OpenAiError(OpenAiErrorBody Error);

internal sealed record OpenAiErrorBody(string Message, string Type, string? Param, string? Code);

internal sealed record OpenAiModel(string Id, [property: JsonPropertyName("owned_by")] string OwnedBy)
{
    public string Object { get; init; } = "model";

    public long Created { get; init; }
}

internal sealed record OpenAiModels(IReadOnlyList<OpenAiModel> Data)
{
    public string Object { get; init; } = "list";
}

internal sealed record OpenAiMessage([property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Role, string? Content);

internal sealed record OpenAiUsage(
    [property: JsonPropertyName("prompt_tokens")] int PromptTokens,
    [property: JsonPropertyName("completion_tokens")] int CompletionTokens,
    [property: JsonPropertyName("total_tokens")] int TotalTokens);

internal sealed record OpenAiFeature(int Index, float Activation)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Label { get; init; }
}

internal sealed record OpenAiTokenFeatures(string Token, IReadOnlyList<OpenAiFeature> Features);

internal sealed record OpenAiExtension(IReadOnlyList<OpenAiTokenFeatures> Features);

internal sealed record OpenAiTokenLogprob(string Token, double Logprob)
{
    public IReadOnlyList<int>? Bytes { get; init; }

    [JsonPropertyName("top_logprobs")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<OpenAiTokenLogprob>? TopLogprobs { get; init; }
}

internal sealed record OpenAiLogprobs
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<OpenAiTokenLogprob>? Content { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<string>? Tokens { get; init; }

    [JsonPropertyName("token_logprobs")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<double>? TokenLogprobs { get; init; }

    [JsonPropertyName("top_logprobs")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<IReadOnlyDictionary<string, double>>? TopLogprobs { get; init; }
}

internal sealed record OpenAiChoice(int Index)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public OpenAiMessage? Message { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public OpenAiMessage? Delta { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Text { get; init; }

    public OpenAiLogprobs? Logprobs { get; init; }

    [JsonPropertyName("finish_reason")]
    public string? FinishReason { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public OpenAiExtension? Kernelscope { get; init; }
}

internal sealed record OpenAiCompletion(string Id, string Object, long Created, string Model, IReadOnlyList<OpenAiChoice> Choices)
{
    public OpenAiUsage? Usage { get; init; }
}
