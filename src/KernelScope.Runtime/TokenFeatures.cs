using KernelScope.Generation;

namespace KernelScope.Runtime;

/// <summary>A token of a text that was read, with its features.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record TokenFeatures
{
    /// <summary>Id of the token.</summary>
    public required int Id { get; init; }

    /// <summary>The token's text by itself, bytes that are not a whole character as U+FFFD; null where the model has no tokenizer.</summary>
    public string? Text { get; init; }

    /// <summary>One entry for each report asked for, in the order of the request.</summary>
    public IReadOnlyList<SaeFeatures> Features { get; init; } = [];
}
