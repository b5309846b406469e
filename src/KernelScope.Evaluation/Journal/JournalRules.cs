namespace KernelScope.Evaluation;

/// <summary>What the records of a journal must be like to belong to an evaluation. A checksum shows that a record is as it was written, not that this program wrote it.</summary>
/// <param name="tokens">The sequences.</param>
/// <param name="widths">Width of each site's output.</param>
/// <param name="featureCounts">Features of each SAE.</param>
/// <param name="newScores">Room for a sequence's scores.</param>
internal sealed class JournalRules(TokenSet tokens, int[] widths, int[] featureCounts, Func<int, SequenceScores> newScores)
{
    private readonly long[] _counts = new long[3];
    private int _counted;

    /// <summary>Number of sequences.</summary>
    public int Sequences => tokens.Count;

    /// <summary>Room for the first pass's sums.</summary>
    public SiteSums[] NewSums() => [.. widths.Select(w => new SiteSums(w))];

    /// <summary>Room for a sequence's scores.</summary>
    public SequenceScores NewScores(int sequence) => newScores(sequence);

    /// <summary>Whether sums can be those after <paramref name="count"/> sequences, asked for one count after the other.</summary>
    public bool Allow(int count, SiteSums[] sums)
    {
        for (; _counted < count; _counted++)
        {
            foreach (int token in tokens.Padded(_counted))
            {
                _counts[0] += tokens.IsSpecial(token) ? 0 : 1;
                _counts[1] += token != tokens.PadId ? 1 : 0;
                _counts[2]++;
            }
        }

        return Array.TrueForAll(sums, s => s.Counts.AsSpan().SequenceEqual(_counts) && Array.TrueForAll(s.Sums, double.IsFinite));
    }

    /// <summary>Whether row starts can be those of an SAE's codes with at most so many bytes behind them.</summary>
    public static bool AllowStarts(ReadOnlySpan<long> starts, int featureCount, long bytes)
    {
        bool ordered = starts[0] == 0;
        for (int t = 1; ordered && t < starts.Length; t++)
            ordered = starts[t] >= starts[t - 1] && starts[t] - starts[t - 1] <= featureCount;
        return ordered && starts[^1] <= bytes / (sizeof(int) + sizeof(float));
    }

    /// <summary>Features of an SAE.</summary>
    public int FeatureCount(int sae) => featureCounts[sae];

    /// <summary>Whether scores can be a sequence's.</summary>
    public bool Allow(SequenceScores scores)
    {
        for (int s = 0; s < scores.Codes.Length; s++)
        {
            Span<double> l1 = scores[ScoreLayout.OfSae(s, "l1")];
            for (int t = 0; t < scores.Codes[s].Rows; t++)
            {
                if (!AllowRow(scores.Codes[s].FeaturesOf(t), scores.Codes[s].ValuesOf(t), featureCounts[s], l1[t]))
                    return false;
            }
        }

        return Array.TrueForAll(scores.Row, IsComputed) && Array.TrueForAll(scores.Values, v => Array.TrueForAll(v, float.IsFinite));
    }

    // Ascending features, and the sum that was taken of their values.
    private static bool AllowRow(ReadOnlySpan<int> features, ReadOnlySpan<float> values, int featureCount, double l1)
    {
        double sum = 0;
        for (int i = 0; i < features.Length; i++)
        {
            if (features[i] < 0 || features[i] >= featureCount || (i > 0 && features[i] <= features[i - 1]) || !float.IsFinite(values[i]))
                return false;
            sum += values[i];
        }

        return sum == l1;
    }

    // A quantity that is not defined is the NaN that processors make, of either sign.
    private static bool IsComputed(double value) =>
        !double.IsNaN(value) || (BitConverter.DoubleToUInt64Bits(value) & ~(1UL << 63)) == 0x7FF8_0000_0000_0000;
}
