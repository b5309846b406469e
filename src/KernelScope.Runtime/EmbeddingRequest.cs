using KernelScope.Model;

namespace KernelScope.Runtime;

/// <summary>A text that becomes a vector.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record EmbeddingRequest
{
    /// <summary>The text; BOS is put before it. Give either this or <see cref="Tokens"/>.</summary>
    public string? Text { get; init; }

    /// <summary>The text's ids, taken as they are.</summary>
    public ReadOnlyMemory<int> Tokens { get; init; }

    /// <summary>From which site and how; by default the mean of <c>final_norm</c> without special tokens.</summary>
    public EmbeddingOptions Options { get; init; } = new();
}
