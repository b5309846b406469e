namespace KernelScope.Generation;

/// <summary>A token that was generated.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record GeneratedToken
{
    /// <summary>Id of the token.</summary>
    public required int Id { get; init; }

    /// <summary>
    /// The text that is certain now and was not before. It can be empty and later tokens' longer: a character whose bytes have not all come is held back, and so is what may become a stop string.
    /// All of them together are the text, without stop strings and end-of-text marks. Null where there is no tokenizer.
    /// </summary>
    public string? Text { get; init; }

    /// <summary>ln p of the token, by the distribution before bias, penalties and temperature; null unless asked for.</summary>
    public double? LogProb { get; init; }

    /// <summary>The likeliest tokens at this place with their ln p, likeliest first; null unless asked for.</summary>
    public IReadOnlyList<TokenLogProb>? Top { get; init; }

    /// <summary>Features of the token, one entry for each SAE that was asked for; empty where none was. An engine fills it, a <see cref="Generator"/> does not (see <see cref="Sae.FeatureCapture"/>).</summary>
    public IReadOnlyList<SaeFeatures> Features { get; init; } = [];

    /// <summary>Why the text ends with this token; <see cref="StopReason.None"/> for all but the last.</summary>
    public StopReason Stop { get; init; }
}

/// <summary>A token and its ln p.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct TokenLogProb
{
    internal TokenLogProb(int id, double logProb)
    {
        Id = id;
        LogProb = logProb;
    }

    /// <summary>Id of the token.</summary>
    public int Id { get; init; }

    /// <summary>Natural logarithm of its probability.</summary>
    public double LogProb { get; init; }
}
