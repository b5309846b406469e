namespace KernelScope.Generation;

/// <summary>The features of one token in one SAE.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record SaeFeatures
{
    /// <summary>Name of the SAE.</summary>
    public required string Sae { get; init; }

    /// <summary>The strongest features, strongest first, the lower index first among equals.</summary>
    public IReadOnlyList<FeatureActivation> Top { get; init; } = [];
}

/// <summary>A feature that is active, and how much.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct FeatureActivation
{
    /// <summary>Index of the feature.</summary>
    public int Feature { get; init; }

    /// <summary>f(x) at that feature.</summary>
    public float Activation { get; init; }
}
