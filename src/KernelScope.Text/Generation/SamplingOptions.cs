namespace KernelScope.Generation;

/// <summary>How the next token is chosen.</summary>
/// <remarks>
/// In this order, which is that of transformers' generate: logit bias, repetition penalty, frequency penalty, temperature, top-k, top-p, min-p. The first three act at temperature 0 too;
/// the last three, and a seed, need a temperature and are refused without one. Immutable: any number of threads may read it.
/// </remarks>
public sealed record SamplingOptions
{
    /// <summary>Divides the logits; 0: greedy, the largest logit, the lower id among equals.</summary>
    public double Temperature { get; init; }

    /// <summary>Only the k largest logits stay; 0: all.</summary>
    public int TopK { get; init; }

    /// <summary>Of what top-k left, only the fewest most likely tokens whose probability reaches p stay; 1: all.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>
    /// Of what is left, only tokens whose probability is at least this share of the likeliest one's stay; 0: all.
    /// As transformers' MinPLogitsWarper (Nguyen et al. 2024): p ≥ min_p · max p, after the temperature.
    /// </summary>
    public double MinP { get; init; }

    /// <summary>
    /// A logit above 0 is divided by it, one below multiplied, for every token of the prompt or of the new text, once; 1: none.
    /// As transformers' RepetitionPenaltyLogitsProcessor (Keskar et al. 2019, θ).
    /// </summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>
    /// Taken from a token's logit as many times as the token was generated; 0: none. Tokens of the prompt do not count. As OpenAI and vLLM: logit − count · penalty.
    /// </summary>
    public double FrequencyPenalty { get; init; }

    /// <summary>Added to the logits of these ids before everything else, as OpenAI's logit_bias; −∞ forbids a token. Null: none.</summary>
    public IReadOnlyDictionary<int, double>? LogitBias { get; init; }

    /// <summary>The same seed and logits give the same tokens. Null: a fresh one, which <see cref="Sampler.Seed"/> tells.</summary>
    public ulong? Seed { get; init; }

    /// <summary>Whether logits are changed before a token is chosen from them.</summary>
    internal bool ChangesLogits => RepetitionPenalty != 1 || FrequencyPenalty != 0 || LogitBias is { Count: > 0 };

    /// <summary>Refuses what is out of range or cannot act.</summary>
    /// <exception cref="ArgumentException">The message says which option.</exception>
    internal void Validate(int vocabSize = int.MaxValue)
    {
        Require(Temperature >= 0 && double.IsFinite(Temperature), $"The temperature is {Temperature}; it must be 0 (greedy) or a " +
            "positive number.");
        Require(TopK >= 0, $"top-k is {TopK}; it must be 0 (all) or a positive number.");
        Require(TopP is > 0 and <= 1, $"top-p is {TopP}; it must be above 0 and at most 1.");
        Require(MinP is >= 0 and <= 1, $"min-p is {MinP}; it must be 0 (all) to 1.");
        Require(RepetitionPenalty > 0 && double.IsFinite(RepetitionPenalty),
            $"The repetition penalty is {RepetitionPenalty}; it must be a positive number (1: none).");
        Require(double.IsFinite(FrequencyPenalty), $"The frequency penalty is {FrequencyPenalty}; it must be a finite number (0: none).");
        foreach ((int id, double bias) in LogitBias ?? new Dictionary<int, double>())
        {
            Require(id >= 0 && id < vocabSize, $"The logit bias is for id {id}; the vocabulary has ids 0 to {vocabSize - 1}.");
            Require(!double.IsNaN(bias) && !double.IsPositiveInfinity(bias),
                $"The logit bias of id {id} is {bias}; it must be a number, or −∞ to forbid the token.");
        }

        Require(Temperature > 0 || (TopK == 0 && TopP == 1 && MinP == 0 && Seed is null),
            "top-k, top-p, min-p and a seed choose among tokens by chance, which needs a temperature above 0; at temperature 0 the " +
            "largest logit is taken.");
    }

    private static void Require(bool holds, string complaint)
    {
        if (!holds)
            throw new ArgumentException(complaint);
    }
}
