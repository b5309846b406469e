using KernelScope.Numerics;

namespace KernelScope.Evaluation;

/// <summary>Which windows show what a feature does.</summary>
internal sealed class ExampleChoice(int feature, FeaturePlace[] places, TokenSet tokens, FeatureStatisticsOptions options)
{
    private static readonly double[] Ranks = [0, 0.5, 0.75, 0.9, 0.99, 1];
    private const int Intervals = 5;
    private readonly Dictionary<int, (int First, int End)> _bySequence = Ranges(places);
    private readonly HashSet<int[]> _shown = new(SameTokens.Instance);

    public (IReadOnlyList<FeatureExample> Top, IReadOnlyList<ExampleGroup> Groups) Choose() =>
        options.Binning == ExampleBinning.Quantile ? (TopWindows(), QuantileGroups()) : (TopPositions(), IntervalGroups());

    /// <summary>The strongest place of each window, by activation; windows of the same tokens count once.</summary>
    private List<FeatureExample> TopWindows()
    {
        IEnumerable<FeaturePlace> strongest = _bySequence.Values
            .Select(r => places[r.First..r.End].OrderByDescending(p => p.Activation).ThenBy(p => p.Position).First())
            .OrderByDescending(p => p.Activation).ThenBy(p => p.Sequence);
        var top = new List<FeatureExample>();
        foreach (FeaturePlace place in strongest)
        {
            if (top.Count == options.Top)
                break;
            if (_shown.Add(tokens.Sequence(place.Sequence).ToArray()))
                top.Add(Example(place));
        }

        return top;
    }

    private List<ExampleGroup> QuantileGroups()
    {
        FeaturePlace[] ascending = [.. places.OrderBy(p => p.Activation).ThenBy(p => p.Sequence).ThenBy(p => p.Position)];
        var groups = new List<ExampleGroup>();
        for (int g = 0; g + 1 < Ranks.Length; g++)
        {
            int first = Rank(Ranks[g], ascending.Length), end = Rank(Ranks[g + 1], ascending.Length);
            if (first == end)
                continue;
            FeaturePlace[] group = ascending[first..end];
            groups.Add(new ExampleGroup
            {
                From = group[0].Activation,
                To = group[^1].Activation,
                Contains = group.Length / (double)ascending.Length,
                Examples = [.. ByHash(group).Where(p => _shown.Add(tokens.Sequence(p.Sequence).ToArray())).Take(options.Examples)
                    .Select(Example)],
            });
        }

        return groups;
    }

    private FeatureExample[] TopPositions() =>
        [.. places.OrderByDescending(p => p.Activation).ThenBy(p => p.Sequence).ThenBy(p => p.Position).Take(options.Top).Select(Example)];

    private List<ExampleGroup> IntervalGroups()
    {
        float max = places.Length == 0 ? 0 : places.Max(p => p.Activation);
        FeaturePlace[] all = [.. EveryPlace()];
        var groups = new List<ExampleGroup>();
        for (int i = Intervals - 1; i >= 0 && max > 0; i--)
        {
            float from = max * i / Intervals, to = max * (i + 1) / Intervals;
            FeaturePlace[] inside = [.. all.Where(p => p.Activation >= from && p.Activation <= to)];
            groups.Add(new ExampleGroup
            {
                From = from,
                To = to,
                Contains = inside.Length / (double)all.Length,
                Examples = [.. ByHash(inside).Take(options.Examples).Select(Example)],
            });
        }

        return groups;
    }

    /// <summary>Every position that counts, those without an activation too.</summary>
    private IEnumerable<FeaturePlace> EveryPlace()
    {
        for (int b = 0; b < tokens.Count; b++)
        {
            float[] values = ValuesOf(b);
            for (int t = 0; t < values.Length; t++)
            {
                if (!tokens.IsSpecial(tokens.Sequence(b)[t]))
                    yield return new FeaturePlace(b, t, values[t]);
            }
        }
    }

    private IEnumerable<FeaturePlace> ByHash(IEnumerable<FeaturePlace> from) =>
        from.OrderBy(p => Hash(options.Seed, feature, p.Sequence, p.Position)).ThenBy(p => p.Sequence).ThenBy(p => p.Position);

    private FeatureExample Example(FeaturePlace place) => new()
    {
        Sequence = place.Sequence,
        Position = place.Position,
        Activation = place.Activation,
        Tokens = tokens.Sequence(place.Sequence).ToArray(),
        Values = ValuesOf(place.Sequence),
    };

    private float[] ValuesOf(int sequence)
    {
        float[] values = new float[tokens.Sequence(sequence).Length];
        if (_bySequence.TryGetValue(sequence, out (int First, int End) range))
        {
            for (int i = range.First; i < range.End; i++)
                values[places[i].Position] = places[i].Activation;
        }

        return values;
    }

    private static Dictionary<int, (int First, int End)> Ranges(FeaturePlace[] places)
    {
        var ranges = new Dictionary<int, (int, int)>();
        for (int start = 0, i = 1; i <= places.Length; i++)
        {
            if (i < places.Length && places[i].Sequence == places[start].Sequence)
                continue;
            ranges.Add(places[start].Sequence, (start, i));
            start = i;
        }

        return ranges;
    }

    private static int Rank(double share, int count) => (int)Math.Ceiling(share * count);

    /// <summary>h ← mix(h ⊕ v) for the three values in turn, from the seed; mix is SplitMix64's finaliser.</summary>
    internal static ulong Hash(ulong seed, params ReadOnlySpan<int> values)
    {
        ulong h = seed;
        foreach (int value in values)
            h = SplitMix64.Mix(h ^ (uint)value);

        return h;
    }

    private sealed class SameTokens : IEqualityComparer<int[]>
    {
        public static SameTokens Instance { get; } = new();

        public bool Equals(int[]? x, int[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode(int[] obj) => (int)Hash(0, obj);
    }
}
