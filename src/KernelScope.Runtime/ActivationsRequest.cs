using KernelScope.Hooks;

namespace KernelScope.Runtime;

/// <summary>A text whose activations are read.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record ActivationsRequest
{
    /// <summary>The text; BOS is put before it. Give either this or <see cref="Tokens"/>.</summary>
    public string? Text { get; init; }

    /// <summary>The text's ids, taken as they are.</summary>
    public ReadOnlyMemory<int> Tokens { get; init; }

    /// <summary>Where; at least one, and none over keys.</summary>
    public required IReadOnlyList<HookPoint> Points { get; init; }

    /// <summary>Whether only the last token's are wanted.</summary>
    public bool LastTokenOnly { get; init; }
}
