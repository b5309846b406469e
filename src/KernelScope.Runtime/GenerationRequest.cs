using KernelScope.Generation;

namespace KernelScope.Runtime;

/// <summary>A text to continue.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <example>
/// <code>
/// var request = new GenerationRequest
/// {
///     Prompt = "Once upon a time",
///     Options = new GenerationOptions { MaxNewTokens = 40 },
///     Features = [new FeatureReport { Sae = "res20", Top = 5 }],
///     Edits = [new SaeEdit { Sae = "res20", Features = [FeatureEdit.Steer(1738, 10)] }],
/// };
/// </code>
/// </example>
public sealed record GenerationRequest
{
    /// <summary>The text; BOS is put before it. Give either this or <see cref="PromptTokens"/>.</summary>
    public string? Prompt { get; init; }

    /// <summary>The prompt's ids, taken as they are (with BOS, if there is to be one).</summary>
    public ReadOnlyMemory<int> PromptTokens { get; init; }

    /// <summary>How far to go on, how tokens are chosen and what ends the text; greedy and 64 new tokens by default.</summary>
    public GenerationOptions Options { get; init; } = new();

    /// <summary>
    /// Features that are reported with each new token. A token then arrives one step later, because its features exist once it has been
    /// fed.
    /// </summary>
    public IReadOnlyList<FeatureReport> Features { get; init; } = [];

    /// <summary>What is changed at SAEs' sites, in the prompt and in every step, in this order.</summary>
    public IReadOnlyList<SaeEdit> Edits { get; init; } = [];

    /// <summary>Vectors that are added at hook points, after <see cref="Edits"/> where both act at one.</summary>
    public IReadOnlyList<VectorEdit> Vectors { get; init; } = [];
}
