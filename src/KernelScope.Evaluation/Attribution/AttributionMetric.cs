namespace KernelScope.Attribution;

/// <summary>A scalar function of a sequence's logits (after the soft-cap), with its gradient: what is attributed to features.</summary>
public sealed class AttributionMetric
{
    private readonly Term _term;

    private AttributionMetric(Term term, int lastPosition, int largestId)
    {
        _term = term;
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
        return new((t, logits, gradient) => t == position ? Difference(logits, gradient, token, against) : 0, position, Math.Max(token, against ?? 0));
    }

    /// <summary>Σ_t −log softmax(logits[t])[tokens[t + 1]], in nats, over all positions that have a next token.</summary>
    /// <exception cref="ArgumentException">Fewer than two tokens: there is no loss.</exception>
    public static AttributionMetric NextTokenLoss(IReadOnlyList<int> tokens)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        if (tokens.Count < 2)
            throw new ArgumentException("One token has no next-token loss.", nameof(tokens));
        return new((t, logits, gradient) => t + 1 < tokens.Count ? Loss(logits, gradient, tokens[t + 1]) : 0, tokens.Count - 2, tokens.Max());
    }

    /// <summary>Adds the gradient with respect to the logits of position <paramref name="t"/> and returns that position's part of the value.</summary>
    internal double Add(int t, ReadOnlySpan<float> logits, Span<float> gradient) => _term(t, logits, gradient);

    private static double Difference(ReadOnlySpan<float> logits, Span<float> gradient, int token, int? against)
    {
        gradient[token] += 1;
        if (against is not int other)
            return logits[token];
        gradient[other] -= 1;
        return (double)logits[token] - logits[other];
    }

    private static double Loss(ReadOnlySpan<float> logits, Span<float> gradient, int next)
    {
        double largest = double.NegativeInfinity, sum = 0;
        foreach (float logit in logits)
            largest = Math.Max(largest, logit);
        foreach (float logit in logits)
            sum += Math.Exp(logit - largest);
        for (int v = 0; v < logits.Length; v++)
            gradient[v] += (float)(Math.Exp(logits[v] - largest) / sum);
        gradient[next] -= 1;
        return largest + Math.Log(sum) - logits[next];
    }
}
