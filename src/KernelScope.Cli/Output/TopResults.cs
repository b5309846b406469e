using System.Text.Json.Serialization;

namespace KernelScope.Cli;

/// <summary>A place where the feature fires, with the tokens around it.</summary>
/// <param name="Sequence">Which sequence of the text; each has BOS and up to --length − 1 tokens.</param>
/// <param name="Position">Which position of the sequence.</param>
/// <param name="Activation">How strongly.</param>
/// <param name="Focus">The index of the token in <paramref name="Tokens"/>.</param>
/// <param name="Tokens">The tokens from --window before to --window after.</param>
/// <param name="Activations">The feature's activation at each of them; 0 at those that do not count.</param>
internal sealed record ContextRow(int Sequence, int Position, float Activation, int Focus, IReadOnlyList<NamedToken> Tokens,
    IReadOnlyList<float> Activations);

/// <summary>A quantile of the activations where the feature fires.</summary>
internal sealed record QuantileRow(double Share, double Activation);

/// <summary>Result of <c>top</c> with several features: the usual document for each, in their order.</summary>
internal sealed record SeveralTopResult(string Model, string Sae, string Site, IReadOnlyList<TopResult> Features);

/// <summary>Result of <c>top</c>.</summary>
/// <param name="Counted">Positions that count: not BOS, EOS or padding.</param>
/// <param name="Active">Those at which it fires.</param>
/// <param name="FiringShare">Their share.</param>
/// <param name="Mean">Mean activation where it fires; null if it does nowhere.</param>
internal sealed record TopResult(string Model, string Sae, string Site, int Feature, long Counted, long Active, double FiringShare,
    double Mean, IReadOnlyList<QuantileRow> Quantiles, IReadOnlyList<ContextRow> Contexts)
{
    /// <summary>What is known of the feature.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Meaning { get; init; }
}
