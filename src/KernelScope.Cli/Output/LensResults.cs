using System.Text.Json.Serialization;

namespace KernelScope.Cli;

/// <summary>A token that the stream points to.</summary>
internal sealed record LensTokenRow(int Id, string? Text, float Logit, double Probability);

/// <summary>A position of the text and the tokens that the stream there points to, the likeliest first.</summary>
internal sealed record LensPosition(int Id, string? Text, IReadOnlyList<LensTokenRow> Top);

/// <summary>Result of <c>lens TEXT --site</c>.</summary>
internal sealed record LensResult(string Model, string Site, IReadOnlyList<LensPosition> Tokens);

/// <summary>A token that a feature promotes or suppresses.</summary>
internal sealed record PromotedRow(int Id, string? Text, float Value);

/// <summary>The most promoted tokens, largest first, and the most suppressed, smallest first.</summary>
internal sealed record PromotedRows(IReadOnlyList<PromotedRow> Top, IReadOnlyList<PromotedRow> Bottom);

/// <summary>Result of <c>lens --feature</c>: W_dec[f] times the unembedding, with the final norm's gain (1 + g) and without.</summary>
internal sealed record FeatureLensResult(string Model, string Sae, string Site, int Feature, PromotedRows WithGain,
    PromotedRows WithoutGain)
{
    /// <summary>What is known of the feature.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Meaning { get; init; }
}
