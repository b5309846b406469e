namespace KernelScope.Attribution;

/// <summary>A scalar function of a sequence's logits (after the soft-cap), with its gradient: what is attributed to features.</summary>
/// <remarks>For one caller at a time: the loss keeps a buffer between positions.</remarks>
public sealed class AttributionMetric
{
    private readonly Term _term;
    private readonly Func<int, bool> _reads;

    private AttributionMetric(Term term, Func<int, bool> reads, int lastPosition, int largestId)
    {
        _term = term;
        _reads = reads;
        LastPosition = lastPosition;
        LargestId = largestId;
    }

    /// <summary>The part of the metric that a position's logits are; adds its gradient.</summary>
    private delegate double Term(int t, ReadOnlySpan<float> logits, Span<float> gradient);

    /// <summary>The last position whose logits it needs.</summary>
    internal int LastPosition { get; }

    /// <summary>The largest token id that it asks for.</summary>
    internal int LargestId { get; }

    /// <summary>logits[position, token], or logits[position, token] − logits[position, against].</summary>
    /// <exception cref="ArgumentOutOfRangeException">A negative position or id.</exception>
    public static AttributionMetric Logit(int position, int token, int? against = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(position);
        ArgumentOutOfRangeException.ThrowIfNegative(token);
        ArgumentOutOfRangeException.ThrowIfNegative(against ?? 0, nameof(against));
        return new((_, logits, gradient) => Difference(logits, gradient, token, against), t => t == position, position,
            Math.Max(token, against ?? 0));
    }

    /// <summary>Σ_t −log softmax(logits[t])[tokens[t + 1]], in nats, over all positions that have a next token.</summary>
    /// <exception cref="ArgumentException">Fewer than two tokens: there is no loss.</exception>
    public static AttributionMetric NextTokenLoss(IReadOnlyList<int> tokens)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        if (tokens.Count < 2)
            throw new ArgumentException("One token has no next-token loss.", nameof(tokens));
        double[] probabilities = [];
        return new(Term, t => t + 1 < tokens.Count, tokens.Count - 2, tokens.Max());

        double Term(int t, ReadOnlySpan<float> logits, Span<float> gradient)
        {
            if (probabilities.Length < logits.Length)
                probabilities = new double[logits.Length];
            return Loss(logits, gradient, tokens[t + 1], probabilities.AsSpan(0, logits.Length));
        }
    }

    /// <summary>Whether it depends on the logits of a position.</summary>
    internal bool Reads(int t) => _reads(t);

    /// <summary>Adds the gradient with respect to the logits of a position that it reads, and returns that position's part of the value.</summary>
    internal double Add(int t, ReadOnlySpan<float> logits, Span<float> gradient) => _term(t, logits, gradient);

    private static double Difference(ReadOnlySpan<float> logits, Span<float> gradient, int token, int? against)
    {
        gradient[token] += 1;
        if (against is not int other)
            return logits[token];
        gradient[other] -= 1;
        return (double)logits[token] - logits[other];
    }

    private static double Loss(ReadOnlySpan<float> logits, Span<float> gradient, int next, Span<double> probabilities)
    {
        double sum = LogitRow.LogSumExp(logits, probabilities);
        for (int v = 0; v < logits.Length; v++)
            gradient[v] += (float)probabilities[v];
        gradient[next] -= 1;
        return sum - logits[next];
    }
}
