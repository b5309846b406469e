using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Runtime;

/// <summary>A vector that is added at a hook point: y ← y + strength · direction.</summary>
public sealed record VectorEdit
{
    /// <summary>Where.</summary>
    public required HookPoint Point { get; init; }

    /// <summary>One value for each of the point's.</summary>
    public required ReadOnlyMemory<float> Direction { get; init; }

    /// <summary>Its factor.</summary>
    public float Strength { get; init; } = 1;

    /// <summary>At which positions.</summary>
    public EditPlace Place { get; init; }

    /// <summary>The positions, where <see cref="Place"/> cannot say them; null: it does.</summary>
    public Positions? Positions { get; init; }
}
