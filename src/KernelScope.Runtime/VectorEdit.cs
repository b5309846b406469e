using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Runtime;

/// <summary>What a vector does to an activation y; v is the direction, s the strength, v̂ = v/‖v‖.</summary>
public enum VectorMethod
{
    /// <summary>y ← y + s·v.</summary>
    Add,

    /// <summary>y ← y + (s − 1)·(v̂·y)·v̂: the part of y along v becomes s times what it was; 0 takes it away.</summary>
    ScaleProjection,

    /// <summary>y ← y − max(0, v̂·y − s)·v̂: the length of y along v is at most s.</summary>
    CapProjection,
}

/// <summary>A vector that acts at a hook point; by default it is added: y ← y + strength · direction.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record VectorEdit
{
    /// <summary>The hook point at which the vector acts.</summary>
    public required HookPoint Point { get; init; }

    /// <summary>One value for each of the point's.</summary>
    public required ReadOnlyMemory<float> Direction { get; init; }

    /// <summary>s of <see cref="Method"/>.</summary>
    public float Strength { get; init; } = 1;

    /// <summary>What it does. The two that read the activation wait for the device at every call.</summary>
    public VectorMethod Method { get; init; }

    /// <summary>The positions at which it acts.</summary>
    public EditPlace Place { get; init; }

    /// <summary>The positions, where <see cref="Place"/> cannot say them; null: it does.</summary>
    public Positions? Positions { get; init; }
}
