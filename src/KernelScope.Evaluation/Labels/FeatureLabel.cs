namespace KernelScope.Evaluation;

/// <summary>What somebody, or some model, thinks that a feature means. A guess: its text comes from strangers and is shown as text.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeatureLabel
{
    /// <summary>The model, as Neuronpedia names it: <c>gemma-2-2b</c>.</summary>
    public required string ModelId { get; init; }

    /// <summary>The source, as Neuronpedia names it: <c>20-gemmascope-res-16k</c>.</summary>
    public required string Source { get; init; }

    /// <summary>Index of the feature.</summary>
    public required int Index { get; init; }

    /// <summary>The guess, without control characters, at most 500 characters.</summary>
    public required string Description { get; init; }

    /// <summary>An id of its own, if it has one.</summary>
    public string? Id { get; init; }

    /// <summary>How it was made, such as <c>oai_token-act-pair</c>; null: not said.</summary>
    public string? TypeName { get; init; }

    /// <summary>Which model made it; null: not said.</summary>
    public string? ModelName { get; init; }
}
