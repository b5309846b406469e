using KernelScope.Numerics;

namespace KernelScope.Evaluation;

/// <summary>Which windows show what a feature does.</summary>
/// <param name="feature">The feature.</param>
/// <param name="places">Where it fires, by sequence and position.</param>
/// <param name="counted">Positions that count.</param>
/// <param name="tokens">The corpus.</param>
/// <param name="options">How many.</param>
internal sealed class ExampleChoice(
    int feature, FeaturePlace[] places, long counted, TokenSet tokens, FeatureStatisticsOptions options)
{
    private const int Intervals = 5, MostDraws = 10_000;
    private static readonly double[] Ranks = [0, 0.5, 0.75, 0.9, 0.99, 1];

    private readonly Dictionary<(int Sequence, int Window), (int First, int End)> _byWindow = Ranges(places, options.Window);
    private readonly HashSet<int[]> _shown = new(SameTokens.Instance);

    public (IReadOnlyList<FeatureExample> Top, IReadOnlyList<ExampleGroup> Groups) Choose() =>
        options.Binning == ExampleBinning.Quantile ? (TopWindows(), QuantileGroups()) : (TopPositions(), IntervalGroups());

    /// <summary>The strongest place of each window in which the feature fires.</summary>
    public IEnumerable<FeaturePlace> Peaks()
    {
        foreach ((int first, int end) in _byWindow.Values)
        {
            FeaturePlace peak = places[first];
            for (int i = first + 1; i < end; i++)
            {
                if (places[i].Activation > peak.Activation)
                    peak = places[i];
            }

            yield return peak;
        }
    }

    /// <summary>The strongest place of each window, by activation; windows of the same tokens count once.</summary>
    private List<FeatureExample> TopWindows()
    {
        FeaturePlace[] strongest = [.. Peaks()];
        Array.Sort(strongest, static (a, b) => ByStrength(a, b));
        var top = new List<FeatureExample>();
        foreach (FeaturePlace place in strongest)
        {
            if (top.Count == options.Top)
                break;
            if (_shown.Add(WindowOf(place)))
                top.Add(Example(place));
        }

        return top;
    }

    private List<ExampleGroup> QuantileGroups()
    {
        FeaturePlace[] ascending = [.. places];
        Array.Sort(ascending, static (a, b) => a.Activation.CompareTo(b.Activation) is int c and not 0 ? c : ByPlace(a, b));
        var groups = new List<ExampleGroup>();
        for (int g = 0; g + 1 < Ranks.Length; g++)
        {
            int first = Rank(Ranks[g], ascending.Length), end = Rank(Ranks[g + 1], ascending.Length);
            if (first == end)
                continue;
            groups.Add(new ExampleGroup
            {
                From = ascending[first].Activation,
                To = ascending[end - 1].Activation,
                Contains = (end - first) / (double)ascending.Length,
                Examples = [.. ByHash(ascending.AsSpan(first, end - first)).Where(p => _shown.Add(WindowOf(p))).Take(options.Examples)
                    .Select(Example)],
            });
        }

        return groups;
    }

    private FeatureExample[] TopPositions()
    {
        FeaturePlace[] strongest = [.. places];
        Array.Sort(strongest, static (a, b) => ByStrength(a, b));
        return [.. strongest.Take(options.Top).Select(Example)];
    }

    /// <summary>The lowest interval holds all positions without an activation, too.</summary>
    private List<ExampleGroup> IntervalGroups()
    {
        float max = places.Length == 0 ? 0 : places.Max(p => p.Activation);
        if (!(max > 0))
            return [];
        var groups = new List<ExampleGroup>();
        for (int i = Intervals - 1; i >= 0; i--)
        {
            float from = max * i / Intervals, to = max * (i + 1) / Intervals;
            FeaturePlace[] inside = Array.FindAll(places, p => p.Activation >= from && p.Activation <= to);
            long silent = i == 0 ? counted - places.Length : 0;
            IEnumerable<FeaturePlace> chosen = ByHash(inside);
            if (i == 0)
                chosen = Drawn(to).Concat(chosen).Distinct();
            groups.Add(new ExampleGroup
            {
                From = from,
                To = to,
                Contains = (inside.Length + silent) / (double)counted,
                Examples = [.. chosen.Take(options.Examples).Select(Example)],
            });
        }

        return groups;
    }

    /// <summary>
    /// Positions at which the feature is at most so strong, each as likely as any other: drawn, because looking at every position of a
    /// large corpus for every feature takes hours. Few, or none, where it nearly always fires strongly.
    /// </summary>
    private IEnumerable<FeaturePlace> Drawn(float most)
    {
        for (int draw = 0; draw < MostDraws; draw++)
        {
            ulong hash = Hash(options.Seed, feature, draw);
            int b = Scaled((uint)(hash >> 32), tokens.Count), t = Scaled((uint)hash, tokens.Length);
            ReadOnlySpan<int> ids = tokens.Sequence(b);
            if (t >= ids.Length || t < options.SkipFirst || tokens.IsSpecial(ids[t]))
                continue;
            var place = new FeaturePlace(b, t, 0);
            int at = Array.BinarySearch(places, place, Comparer<FeaturePlace>.Create(static (x, y) => ByPlace(x, y)));
            if (at < 0)
                yield return place;
            else if (places[at].Activation <= most)
                yield return places[at];
        }
    }

    private static int Scaled(uint random, int count) => (int)(((ulong)random * (ulong)count) >> 32);

    /// <summary>Places in the order of their hashes.</summary>
    private FeaturePlace[] ByHash(ReadOnlySpan<FeaturePlace> from)
    {
        FeaturePlace[] ordered = from.ToArray();
        ulong[] hashes = Array.ConvertAll(ordered, p => Hash(options.Seed, feature, p.Sequence, p.Position));
        Array.Sort(hashes, ordered);
        return ordered;
    }

    private FeatureExample Example(FeaturePlace place)
    {
        int window = place.Position / options.Window, first = window * options.Window;
        int[] ids = WindowOf(place);
        float[] values = new float[ids.Length];
        if (_byWindow.TryGetValue((place.Sequence, window), out (int First, int End) range))
        {
            for (int i = range.First; i < range.End; i++)
                values[places[i].Position - first] = places[i].Activation;
        }

        return new FeatureExample
        {
            Sequence = place.Sequence,
            Position = place.Position,
            Activation = place.Activation,
            FirstPosition = first,
            Tokens = ids,
            Values = values,
        };
    }

    private int[] WindowOf(FeaturePlace place)
    {
        ReadOnlySpan<int> ids = tokens.Sequence(place.Sequence);
        int first = place.Position / options.Window * options.Window;
        return ids.Slice(first, Math.Min(options.Window, ids.Length - first)).ToArray();
    }

    private static Dictionary<(int Sequence, int Window), (int First, int End)> Ranges(FeaturePlace[] places, int window)
    {
        var ranges = new Dictionary<(int, int), (int, int)>();
        for (int start = 0, i = 1; i <= places.Length; i++)
        {
            (int, int) key = (places[start].Sequence, places[start].Position / window);
            if (i < places.Length && (places[i].Sequence, places[i].Position / window) == key)
                continue;
            ranges.Add(key, (start, i));
            start = i;
        }

        return ranges;
    }

    private static int ByStrength(in FeaturePlace a, in FeaturePlace b) =>
        b.Activation.CompareTo(a.Activation) is int c and not 0 ? c : ByPlace(a, b);

    private static int ByPlace(in FeaturePlace a, in FeaturePlace b) =>
        a.Sequence.CompareTo(b.Sequence) is int c and not 0 ? c : a.Position.CompareTo(b.Position);

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
