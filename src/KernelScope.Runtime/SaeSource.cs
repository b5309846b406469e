using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Runtime;

/// <summary>An SAE or transcoder that an engine opens.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record SaeSource
{
    /// <summary>What requests call it.</summary>
    public required string Name { get; init; }

    /// <summary>A Gemma Scope <c>params.npz</c>, its folder, or a SAELens folder.</summary>
    public string? Path { get; init; }

    /// <summary>Opens the files instead of <see cref="Path"/>. The engine owns the result.</summary>
    public Func<SaeCheckpoint>? Checkpoint { get; init; }

    /// <summary>Where it reads; null: what its path or cfg.json says.</summary>
    public HookPoint? Site { get; init; }

    /// <summary>Where a transcoder writes; null: what its path or cfg.json says. An SAE writes where it reads.</summary>
    public HookPoint? SiteOut { get; init; }

    internal void Validate()
    {
        if (string.IsNullOrEmpty(Name))
            throw new ArgumentException("An SAE has an empty name; requests call it by that.");
        if (string.IsNullOrEmpty(Path) == Checkpoint is null)
            throw new ArgumentException($"The SAE '{Name}' needs either a Path or a Checkpoint, which opens one.");
    }
}
