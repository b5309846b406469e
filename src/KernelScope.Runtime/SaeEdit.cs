using KernelScope.Devices;
using KernelScope.Sae;

namespace KernelScope.Runtime;

/// <summary>A change at an SAE's site (for a transcoder: where it writes).</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record SaeEdit
{
    /// <summary>Name of the SAE.</summary>
    public required string Sae { get; init; }

    /// <summary>
    /// What replaces the activation before the features are changed; <see cref="SpliceMode.Mean"/> needs <see cref="Mean"/>.
    /// </summary>
    public SpliceMode Splice { get; init; }

    /// <summary>Features that are steered, clamped or ablated, in order.</summary>
    public IReadOnlyList<FeatureEdit> Features { get; init; } = [];

    /// <summary>The vector of <see cref="SpliceMode.Mean"/>, one value for each of the site's.</summary>
    public ReadOnlyMemory<float> Mean { get; init; }

    /// <summary>The positions at which the edits act.</summary>
    public EditPlace Place { get; init; }

    /// <summary>The positions, where <see cref="Place"/> cannot say them; null: it does.</summary>
    public Positions? Positions { get; init; }
}
