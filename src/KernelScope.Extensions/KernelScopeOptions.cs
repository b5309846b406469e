using KernelScope.Model;
using KernelScope.Runtime;

namespace KernelScope.Extensions;

/// <summary>
/// What <see cref="KernelScopeServices.AddKernelScope"/> opens, and what its chat client and embedding generator do where a call does not
/// say.
/// </summary>
/// <remarks>For one caller at a time, until the engine is open.</remarks>
public sealed class KernelScopeOptions : EngineOptions
{
    /// <summary>
    /// Whether the engine opens when the host starts, so that a model that cannot be opened stops the start. Else, and without a host, it
    /// opens at first use.
    /// </summary>
    public bool OpenAtStart { get; set; } = true;

    /// <summary>Most new tokens of an answer whose <c>ChatOptions.MaxOutputTokens</c> is null.</summary>
    public int MaxOutputTokens { get; set; } = 512;

    /// <summary>What the embedding generator gives; by default the mean of <c>final_norm</c>.</summary>
    public EmbeddingOptions Embedding { get; set; } = new();

    /// <inheritdoc/>
    public override void Validate()
    {
        base.Validate();
        if (MaxOutputTokens < 1)
            throw new ArgumentException($"{nameof(MaxOutputTokens)} is {MaxOutputTokens}; it must be at least 1.");
    }
}
