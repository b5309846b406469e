namespace KernelScope.Runtime;

/// <summary>A text whose features are read.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeaturesRequest
{
    /// <summary>The text; BOS is put before it. Give either this or <see cref="Tokens"/>.</summary>
    public string? Text { get; init; }

    /// <summary>The text's ids, taken as they are.</summary>
    public ReadOnlyMemory<int> Tokens { get; init; }

    /// <summary>Which features of each token are wanted; at least one.</summary>
    public required IReadOnlyList<FeatureReport> Features { get; init; }

    /// <summary>What is changed while the text is read.</summary>
    public IReadOnlyList<SaeEdit> Edits { get; init; } = [];

    /// <summary>Vectors that are added at hook points, after <see cref="Edits"/> where both act at one.</summary>
    public IReadOnlyList<VectorEdit> Vectors { get; init; } = [];
}
