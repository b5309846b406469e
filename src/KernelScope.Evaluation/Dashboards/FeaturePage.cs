namespace KernelScope.Evaluation;

/// <summary>One feature as a page shows it.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeaturePage
{
    /// <summary>What it does over the corpus.</summary>
    public required FeatureStatistics Statistics { get; init; }

    /// <summary>Which tokens its direction promotes; null where that is not defined.</summary>
    public FeatureLogits? Logits { get; init; }

    /// <summary>The features whose directions are nearest.</summary>
    public IReadOnlyList<RelatedFeature> Nearest { get; init; } = [];

    /// <summary>Guesses at what it means.</summary>
    public IReadOnlyList<string> Labels { get; init; } = [];

    /// <summary>Its page on Neuronpedia; null: none.</summary>
    public string? Link { get; init; }

    /// <summary>Texts of one's own.</summary>
    public IReadOnlyList<FeatureExample> OwnTexts { get; init; } = [];
}

/// <summary>What all features of a page share: where they come from and over which corpus they were counted.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeaturePageSource
{
    /// <summary>Name of the model.</summary>
    public required string Model { get; init; }

    /// <summary>Name of the SAE.</summary>
    public required string Sae { get; init; }

    /// <summary>The hook point that the SAE reads.</summary>
    public required string Site { get; init; }

    /// <summary>Where it writes; null: not known.</summary>
    public string? SiteOut { get; init; }

    /// <summary>The corpus, as it was named.</summary>
    public required string Corpus { get; init; }

    /// <summary>The token windows that examples are of.</summary>
    public required TokenSet Tokens { get; init; }

    /// <summary>Seed of the random choice of examples.</summary>
    public ulong Seed { get; init; }

    /// <summary>The text of a token.</summary>
    public required Func<int, string> Text { get; init; }

    /// <summary>The vocabulary's piece of a token.</summary>
    public required Func<int, string> Piece { get; init; }
}
