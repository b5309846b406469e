namespace KernelScope.Generation;

/// <summary>How far and how to generate.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record GenerationOptions
{
    /// <summary>Most new tokens; 0: the prompt is fed, nothing more.</summary>
    public int MaxNewTokens { get; init; } = 64;

    /// <summary>How a token is chosen; greedy by default.</summary>
    public SamplingOptions Sampling { get; init; } = new();

    /// <summary>Ids that end the text (that id is still given back, without a text); null: the model's own.</summary>
    public IReadOnlyCollection<int>? StopIds { get; init; }

    /// <summary>The token that ends a turn, which is not text, whether it ends the generation or not.</summary>
    internal int? EndOfTurnId { get; init; }

    /// <summary>Texts that end the text before them, wherever tokens begin and end; they need a tokenizer. Null or empty: none.</summary>
    public IReadOnlyCollection<string>? StopStrings { get; init; }

    /// <summary>Log-probabilities: 0: the chosen token's, N: those of the N likeliest too; null: none, which saves reading all logits.</summary>
    public int? LogProbs { get; init; }

    /// <summary>Refuses what is out of range.</summary>
    /// <exception cref="ArgumentException">The message says which option.</exception>
    internal void Validate(int vocabSize)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(MaxNewTokens);
        if (LogProbs is int count && (count < 0 || count > vocabSize))
            throw new ArgumentException($"Log-probabilities of {count} tokens were asked for; it must be 0 to {vocabSize}, the " +
                "vocabulary.");
        if (Sampling is null)
            throw new ArgumentException($"{nameof(Sampling)} is null; leave it out for its default.");
        Sampling.Validate(vocabSize);
        _ = new StopText(StopStrings ?? []);
    }
}

/// <summary>Why generation ended.</summary>
public enum StopReason
{
    /// <summary>Generation has not ended.</summary>
    None,

    /// <summary>An end-of-text id came; it is the last token given.</summary>
    EndOfText,

    /// <summary>The number of tokens asked for was reached.</summary>
    MaxNewTokens,

    /// <summary>The context is full.</summary>
    ContextFull,

    /// <summary>A stop string came; the text ends before it.</summary>
    StopString,
}
