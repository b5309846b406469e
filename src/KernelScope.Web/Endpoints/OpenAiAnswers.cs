using System.Text.Json;
using KernelScope.Web.Serving;

namespace KernelScope.Web.Endpoints;

// Answers in OpenAI's shapes, with an extension of our own in "kernelscope".

internal sealed class OpenAiError(string message, string type, string? param) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("error", new Body(message, type, param)).End();

    private sealed class Body(string message, string type, string? param) : IAnswer
    {
        public void Write(Utf8JsonWriter json) => json.Fields()
            .Add("message", message)
            .Add("type", type)
            .Add("param", param)
            .AddNull("code")
            .End();
    }
}

internal sealed class OpenAiModel(string id, string ownedBy) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("id", id)
        .Add("owned_by", ownedBy)
        .Add("object", "model")
        .Add("created", 0)
        .End();
}

internal sealed class OpenAiModels(IReadOnlyList<OpenAiModel> data) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("data", data).Add("object", "list").End();
}

internal sealed class OpenAiMessage(string? role, string? content) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("role", role, optional: true).Add("content", content).End();
}

internal sealed class OpenAiUsage(int promptTokens, int completionTokens) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("prompt_tokens", promptTokens)
        .Add("completion_tokens", completionTokens)
        .Add("total_tokens", promptTokens + completionTokens)
        .End();
}

internal sealed class OpenAiFeature(int index, float activation, string? label) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("index", index)
        .Add("activation", activation)
        .Add("label", label, optional: true)
        .End();
}

internal sealed class OpenAiTokenFeatures(string token, IReadOnlyList<OpenAiFeature> features) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("token", token).Add("features", features).End();
}

internal sealed class OpenAiExtension(IReadOnlyList<OpenAiTokenFeatures> features) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("features", features).End();
}

internal sealed class OpenAiTokenLogprob(
    string token, double logprob, IReadOnlyList<int> bytes, IReadOnlyList<OpenAiTokenLogprob>? top) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("token", token)
        .Add("logprob", logprob)
        .Add("bytes", bytes)
        .Add("top_logprobs", top, optional: true)
        .End();
}

/// <summary>Of a conversation.</summary>
internal sealed class OpenAiChatLogprobs(IReadOnlyList<OpenAiTokenLogprob> content) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("content", content).End();
}

/// <summary>Of a text, column by column.</summary>
internal sealed class OpenAiTextLogprobs(
    IReadOnlyList<string> tokens, IReadOnlyList<double> logprobs, IReadOnlyList<OpenAiLikeliest> top) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("tokens", tokens)
        .Add("token_logprobs", logprobs)
        .Add("top_logprobs", top)
        .End();
}

/// <summary>Log probabilities by token, the likeliest first.</summary>
internal sealed class OpenAiLikeliest(IReadOnlyDictionary<string, double> logprobs) : IAnswer
{
    public void Write(Utf8JsonWriter json)
    {
        AnswerFields fields = json.Fields();
        foreach ((string token, double logprob) in logprobs)
            fields.Add(token, logprob);
        fields.End();
    }
}

internal sealed class OpenAiChoice : IAnswer
{
    public OpenAiMessage? Message { get; init; }

    public OpenAiMessage? Delta { get; init; }

    public string? Text { get; init; }

    public IAnswer? Logprobs { get; init; }

    public string? FinishReason { get; init; }

    public OpenAiExtension? Kernelscope { get; init; }

    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("index", 0)
        .Add("message", Message, optional: true)
        .Add("delta", Delta, optional: true)
        .Add("text", Text, optional: true)
        .Add("logprobs", Logprobs)
        .Add("finish_reason", FinishReason)
        .Add("kernelscope", Kernelscope, optional: true)
        .End();
}

internal sealed class OpenAiCompletion(string id, string kind, long created, string model, OpenAiChoice choice, OpenAiUsage? usage)
    : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("id", id)
        .Add("object", kind)
        .Add("created", created)
        .Add("model", model)
        .Add("choices", new AnswerList([choice]))
        .Add("usage", usage)
        .End();
}
