using System.Text.Json.Serialization;

namespace KernelScope.Cli;

// What the verbs print as JSON. Names and shapes are a contract.

/// <summary>One active feature.</summary>
internal readonly record struct FeatureActivation(int Index, float Activation);

/// <summary>A token and its strongest features, strongest first.</summary>
internal sealed record TokenFeatures(int Id, string? Text, IReadOnlyList<FeatureActivation> Features);

/// <summary>Result of <c>features</c>.</summary>
internal sealed record FeaturesResult(string Model, string Sae, string Site, IReadOnlyList<TokenFeatures> Tokens);

/// <summary>Result of <c>generate</c>; <paramref name="Tokens"/> are the new ones.</summary>
internal sealed record GenerateResult(IReadOnlyList<int> PromptTokens, IReadOnlyList<int> Tokens, string? Text, string Stop)
{
    /// <summary>With <c>--features</c>: which SAE.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Sae { get; init; }

    /// <summary>With <c>--features</c>: where it reads.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Site { get; init; }

    /// <summary>With <c>--features</c>: one entry for each new token.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<TokenFeatures>? Features { get; init; }
}

/// <summary>A token and its logit.</summary>
internal sealed record TokenLogit(int Id, string? Text, float Logit);

/// <summary>Result of <c>run</c>.</summary>
internal sealed record RunResult(IReadOnlyList<int> Tokens, IReadOnlyList<double> NextTokenLoss, IReadOnlyList<TokenLogit> Top);
