using System.Text.Json.Serialization;

namespace KernelScope.Cli;

/// <summary>An active feature of a token and its part in the metric.</summary>
internal readonly record struct TokenAttribution(int Index, float Activation, double Attribution);

/// <summary>A feature's part in the metric, over all tokens but BOS.</summary>
internal readonly record struct SummedAttribution(int Index, double Attribution);

/// <summary>A token and the features that matter most on it, largest |attribution| first.</summary>
internal sealed record AttributedToken(int Id, string? Text, IReadOnlyList<TokenAttribution> Features);

/// <summary>A token that the metric asks for.</summary>
internal sealed record NamedToken(int Id, string? Text);

/// <summary>Result of <c>attribute</c>.</summary>
/// <param name="Metric"><c>logit</c>, <c>logit_difference</c> or <c>next_token_loss</c> (summed, in nats).</param>
/// <param name="Value">The metric in the clean forward pass.</param>
/// <param name="Tokens">Every token, BOS too.</param>
/// <param name="Features">Sums over all tokens but BOS.</param>
internal sealed record AttributeResult(string Model, string Sae, string Site, string Metric, double Value,
    IReadOnlyList<AttributedToken> Tokens, IReadOnlyList<SummedAttribution> Features)
{
    /// <summary>The position whose logits are meant; null for a loss.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? Position { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public NamedToken? Target { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public NamedToken? Against { get; init; }

    /// <summary>Where a transcoder writes, which is where the gradient is taken; null for an SAE.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? SiteOut { get; init; }

    /// <summary>Over which tokens <see cref="Features"/> are summed. SAEs are not trained on BOS: what fires there means nothing.</summary>
    public string SummedOver { get; } = "all_but_bos";
}
