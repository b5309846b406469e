using KernelScope.Numerics;

namespace KernelScope.Evaluation;

/// <summary>Which windows show what a feature does.</summary>
/// <param name="feature">The feature.</param>
/// <param name="places">Where it fires, by sequence and position.</param>
/// <param name="tokens">The corpus.</param>
/// <param name="options">How many.</param>
internal sealed class ExampleChoice(int feature, FeaturePlace[] places, TokenSet tokens, FeatureStatisticsOptions options)
{
    private const int Intervals = 5;
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

    /// <summary>The lowest interval holds all positions without an activation, so none is kept but the few that are shown.</summary>
    private List<ExampleGroup> IntervalGroups()
    {
        float max = places.Length == 0 ? 0 : places.Max(p => p.Activation);
        if (!(max > 0))
            return [];
        var chosen = new SmallestHashes[Intervals];
        for (int i = 0; i < Intervals; i++)
            chosen[i] = new SmallestHashes(options.Examples);
        long all = 0;
        int next = 0;
        for (int b = 0; b < tokens.Count; b++)
        {
            ReadOnlySpan<int> ids = tokens.Sequence(b);
            ulong ofSequence = Hash(options.Seed, feature, b);
            for (int t = 0; t < ids.Length; t++)
            {
                bool fires = next < places.Length && places[next].Sequence == b && places[next].Position == t;
                float value = fires ? places[next++].Activation : 0;
                if (t < options.SkipFirst || tokens.IsSpecial(ids[t]))
                    continue;
                all++;
                ulong hash = Hash(ofSequence, t);
                for (int i = 0; i < Intervals; i++)
                {
                    if (value >= max * i / Intervals && value <= max * (i + 1) / Intervals)
                        chosen[i].Add(hash, new FeaturePlace(b, t, value));
                }
            }
        }

        return [.. Enumerable.Range(0, Intervals).Reverse().Select(i => new ExampleGroup
        {
            From = max * i / Intervals,
            To = max * (i + 1) / Intervals,
            Contains = chosen[i].Count / (double)all,
            Examples = [.. chosen[i].Places.Select(Example)],
        })];
    }

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

    /// <summary>The places with the smallest hashes of those that were seen, and how many were.</summary>
    private sealed class SmallestHashes(int most)
    {
        private readonly SortedList<ulong, FeaturePlace> _places = [];

        public long Count { get; private set; }

        public IEnumerable<FeaturePlace> Places => _places.Values;

        public void Add(ulong hash, FeaturePlace place)
        {
            Count++;
            if (most == 0 || (_places.Count == most && hash >= _places.GetKeyAtIndex(most - 1)) || !_places.TryAdd(hash, place))
                return;
            if (_places.Count > most)
                _places.RemoveAt(most);
        }
    }

    private sealed class SameTokens : IEqualityComparer<int[]>
    {
        public static SameTokens Instance { get; } = new();

        public bool Equals(int[]? x, int[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode(int[] obj) => (int)Hash(0, obj);
    }
}
