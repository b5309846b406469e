using KernelScope.Evaluation;
using KernelScope.Model;

namespace KernelScope.Web.Tests;

/// <summary>Statistics over a corpus, against a plain count of the same codes.</summary>
public sealed class StatisticsTests
{
    private const int Width = 40, Feature = 7, Bos = 2;
    private readonly TokenSet _tokens;
    private readonly float[][][] _values;

    public StatisticsTests()
    {
        // Random codes of 30 windows, of which two have the same tokens; position 0 is BOS and does not count.
        var random = new Random(5);
        using Gemma2Checkpoint checkpoint = Demo.OpenCheckpoint();
        int[][] sequences =
            [.. Enumerable.Range(0, 30).Select(b => (int[])[Bos, .. Enumerable.Range(0, 20).Select(_ => random.Next(500, 520))])];
        sequences[17] = sequences[3];
        _tokens = TokenSet.Create(sequences, checkpoint.Config);
        _values = [.. sequences.Select(
            s => s.Select(_ => Enumerable.Range(0, Width).Select(f => random.NextDouble() < 0.2 ? (float)random.Next(1, 60) / 4 : 0)
                .ToArray()).ToArray())];
        _values[17] = _values[3];
    }

    [Fact]
    public void Counts_are_those_of_a_plain_count()
    {
        FeatureStatistics found = Create(new FeatureStatisticsOptions());
        (int B, int T, float V)[] firing = [.. Places().Where(p => p.V > 0)];
        float[] ascending = [.. firing.Select(p => p.V).Order()];
        Assert.Equal(600, found.Counted);
        Assert.Equal(firing.Length, found.Firing);
        Assert.Equal(firing.Average(p => (double)p.V), found.Mean, 12);
        Assert.Equal(ascending[^1], found.Max);
        foreach ((double share, float value) in found.Quantiles)
            Assert.Equal(ascending[(int)Math.Ceiling(share * ascending.Length) - 1], value);
        Assert.Equal(firing.Length, found.Activations.Counts.Sum());
        double low = ascending[0], width = (ascending[^1] - low) / 50;
        for (int i = 0; i < 50; i++)
        {
            int bin = i;
            Assert.Equal(firing.Count(p => Math.Min(49, (int)((p.V - low) / width)) == bin), found.Activations.Counts[i]);
            Assert.Equal(low + ((i + 0.5) * width), found.Activations.Centres[i], 9);
        }
    }

    [Fact]
    public void The_strongest_are_of_distinct_windows()
    {
        FeatureStatistics found = Create(new FeatureStatisticsOptions { Top = 12 });
        (int B, int T, float V)[] strongest =
            [.. Places().Where(p => p.B != 17).GroupBy(p => p.B).Select(g => g.OrderByDescending(p => p.V).ThenBy(p => p.T).First())
            .Where(p => p.V > 0).OrderByDescending(p => p.V).ThenBy(p => p.B).Take(12)];
        Assert.Equal(strongest, found.Top.Select(e => (e.Sequence, e.Position, e.Activation)));
        Assert.All(found.Top, e => Assert.Equal(_values[e.Sequence].Select((v, t) => t == 0 ? 0 : v[Feature]), e.Values));
    }

    [Fact]
    public void Groups_are_by_rank_without_zeros_and_without_windows_shown_before()
    {
        FeatureStatistics found = Create(new FeatureStatisticsOptions { Top = 3, Examples = 4 });
        float[] ascending = [.. Places().Where(p => p.V > 0).Select(p => p.V).Order()];
        double[] ends = [0, 0.5, 0.75, 0.9, 0.99, 1];
        Assert.Equal(1, found.Groups.Sum(g => g.Contains), 12);
        for (int g = 0; g < found.Groups.Count; g++)
        {
            int first = (int)Math.Ceiling(ends[g] * ascending.Length), end = (int)Math.Ceiling(ends[g + 1] * ascending.Length);
            Assert.Equal(ascending[first], found.Groups[g].From);
            Assert.Equal(ascending[end - 1], found.Groups[g].To);
            Assert.All(found.Groups[g].Examples, e => Assert.InRange(e.Activation, found.Groups[g].From, found.Groups[g].To));
        }

        FeatureExample[] shown = [.. found.Top, .. found.Groups.SelectMany(g => g.Examples)];
        Assert.DoesNotContain(shown, e => e.Activation == 0);
        Assert.Equal(shown.Length, shown.Select(e => string.Join(',', e.Tokens)).Distinct().Count());
    }

    [Fact]
    public void SaeDashboards_intervals_hold_zeros()
    {
        FeatureStatistics found = Create(new FeatureStatisticsOptions { Top = 20, Binning = ExampleBinning.SaeDashboard });
        float max = Places().Max(p => p.V);
        (int, int, float)[] top = [.. Places().Where(p => p.V > 0).OrderByDescending(p => p.V).ThenBy(p => p.B).ThenBy(p => p.T).Take(20)];
        Assert.Equal(top, found.Top.Select(e => (e.Sequence, e.Position, e.Activation)));
        Assert.Equal(5, found.Groups.Count);
        for (int i = 0; i < 5; i++)
        {
            ExampleGroup group = found.Groups[4 - i];
            float from = max * i / 5, to = max * (i + 1) / 5;
            Assert.Equal(Places().Count(p => p.V >= from && p.V <= to) / 600.0, group.Contains);
            Assert.Equal((from, to), (group.From, group.To));
        }

        Assert.True(found.Groups[^1].Contains > 0.8);
        var everywhere = new HashSet<(int, int)>();
        for (ulong seed = 0; seed < 200; seed++)
        {
            var options = new FeatureStatisticsOptions { Binning = ExampleBinning.SaeDashboard, Seed = seed };
            IReadOnlyList<FeatureExample> lowest = Create(options).Groups[^1].Examples;
            Assert.Equal(5, lowest.Select(e => (e.Sequence, e.Position)).Distinct().Count());
            Assert.All(lowest, e => Assert.True(e.Position > 0 && e.Activation <= max / 5));
            Assert.All(lowest, e => Assert.Equal(_values[e.Sequence][e.Position][Feature], e.Activation));
            everywhere.UnionWith(lowest.Select(e => (e.Sequence, e.Position)));
        }

        // Of the 500 or so positions there, 1,000 draws leave out one in seven.
        int inside = Places().Count(p => p.V <= max / 5);
        Assert.InRange(everywhere.Count, inside * 3 / 4, inside);
    }

    [Fact]
    public void Several_workers_give_what_one_gives()
    {
        FeatureFirings first = Collect(b => b % 3 == 0), second = Collect(b => b % 3 == 1), third = Collect(b => b % 3 == 2);
        third.Merge(first);
        third.Merge(second);
        FeatureStatistics one = Create(new FeatureStatisticsOptions()),
            several = FeatureStatistics.Create(third, _tokens, new FeatureStatisticsOptions())[0];
        Assert.Equal(Describe(one), Describe(several));
    }

    [Fact]
    public void Common_rows_are_counted()
    {
        FeatureStatistics found = Create(new FeatureStatisticsOptions());
        foreach (RelatedFeature other in found.CoFiring)
        {
            int both = Rows().Count(r => r[Feature] > 0 && r[other.Feature] > 0),
                either = Rows().Count(r => r[Feature] > 0 || r[other.Feature] > 0);
            Assert.Equal(both, other.Count);
            Assert.Equal(both / (double)either, other.Value);
        }

        Assert.Equal([.. found.CoFiring.OrderByDescending(c => c.Value).Select(c => c.Feature)], found.CoFiring.Select(c => c.Feature));
    }

    [Fact]
    public void A_feature_that_never_fires_has_empty_statistics()
    {
        var firings = new FeatureFirings(Width, [3]);
        firings.Add(0, 1, [], []);
        FeatureStatistics found = FeatureStatistics.Create(firings, _tokens, new FeatureStatisticsOptions())[0];
        Assert.Equal((0, 1, 0f), (found.Firing, found.Counted, found.Max));
        Assert.Empty(found.Top);
        Assert.Empty(found.Groups);
        Assert.Empty(found.Activations.Centres);
    }

    private FeatureStatistics Create(FeatureStatisticsOptions options) => FeatureStatistics.Create(Collect(_ => true), _tokens, options)[0];

    private FeatureFirings Collect(Func<int, bool> includes)
    {
        var firings = new FeatureFirings(Width, [Feature]);
        for (int b = 0; b < _tokens.Count; b++)
        {
            for (int t = 1; t < _values[b].Length && includes(b); t++)
            {
                int[] active = [.. Enumerable.Range(0, Width).Where(f => _values[b][t][f] > 0)];
                firings.Add(b, t, active, [.. active.Select(f => _values[b][t][f])]);
            }
        }

        return firings;
    }

    private IEnumerable<(int B, int T, float V)> Places() =>
        _values.SelectMany((s, b) => s.Select((row, t) => (b, t, row[Feature]))).Where(p => p.t > 0);

    private IEnumerable<float[]> Rows() => _values.SelectMany(s => s.Skip(1));

    private static string Describe(FeatureStatistics s) => string.Join('|',
        s.Firing, s.Mean, s.Max, string.Join(',', s.Activations.Counts),
        string.Join(',', s.Top.Select(e => (e.Sequence, e.Position, e.Activation))),
        string.Join(',', s.Groups.SelectMany(g => g.Examples).Select(e => (e.Sequence, e.Position))), string.Join(',', s.CoFiring),
        string.Join(',', s.TopTokens));
}
