namespace KernelScope.Runtime;

/// <summary>Which features of a token are wanted.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeatureReport
{
    /// <summary>Name of the SAE.</summary>
    public required string Sae { get; init; }

    /// <summary>Most features of a token, strongest first; <see cref="int.MaxValue"/>: all that are active.</summary>
    public int Top { get; init; } = 5;

    /// <summary>Features whose activation is below this are left out.</summary>
    public float MinActivation { get; init; }

    internal void Validate()
    {
        if (Top < 1)
            throw new ArgumentException($"The number of features asked for is {Top}; it must be at least 1.");
        if (!(MinActivation >= 0))
            throw new ArgumentException($"The smallest activation asked for is {MinActivation}; it must be 0 or a positive number.");
    }
}
