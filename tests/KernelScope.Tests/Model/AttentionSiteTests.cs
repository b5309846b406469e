using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Tests.Model;

/// <summary>The sites inside attention, by arithmetic on what other sites show: q and k after RoPE, v, z. Windows of 6 and 4 heads on 2 key/value heads.</summary>
public sealed class AttentionSiteTests
{
    private const int Count = 23;

    public static TheoryData<string, int> Runs()
    {
        var runs = new TheoryData<string, int>();
        foreach (string device in TestDevices.All)
        {
            runs.Add(device, Count);
            runs.Add(device, 5);
            runs.Add(device, 1);
        }

        return runs;
    }

    [Theory]
    [MemberData(nameof(Runs))]
    public void Scores_and_patterns_follow_from_q_and_k_and_lead_to_z(string deviceName, int chunk)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        Gemma2Config config = model.Config;
        int dim = config.HeadDim, heads = config.HeadCount;
        foreach (int layer in (int[])[0, 1])
        {
            HookPoint q = new(Site.Q, layer), k = new(Site.K, layer), v = new(Site.V, layer),
                z = new(Site.Z, layer), scores = new(Site.AttnScores, layer), pattern = new(Site.AttnPattern, layer);
            using ActivationCache cache = Run(model, chunk, [q, k, v, z, scores, pattern]);
            float[] s = cache.Values(scores).ToArray(), p = cache.Values(pattern).ToArray();
            Assert.Equal(heads * Count * Count, s.Length);
            int window = config.IsSliding(layer) ? config.SlidingWindow : int.MaxValue;
            for (int h = 0; h < heads; h++)
            {
                for (int t = 0; t < Count; t++)
                {
                    double sum = 0;
                    double[] mixed = new double[dim];
                    for (int j = 0; j < Count; j++)
                    {
                        int at = (((h * Count) + t) * Count) + j;
                        if (j > t || j <= t - window)
                        {
                            Assert.Equal((float.NegativeInfinity, 0f), (s[at], p[at]));
                            continue;
                        }

                        double dot = 0;
                        for (int i = 0; i < dim; i++)
                            dot += (double)cache.Row(q, t)[(h * dim) + i] * cache.Row(k, j)[(h / 2 * dim) + i];
                        double expected = config.AttentionSoftcap
                            * Math.Tanh(dot / Math.Sqrt(config.QueryPreAttnScalar) / config.AttentionSoftcap);
                        Assert.True(Math.Abs(expected - s[at]) <= 1e-5 * Math.Max(1, Math.Abs(expected)),
                            $"layer {layer}, head {h}, {t} to {j}: {s[at]} instead of {expected}");
                        sum += p[at];
                        for (int i = 0; i < dim; i++)
                            mixed[i] += (double)p[at] * cache.Row(v, j)[(h / 2 * dim) + i];
                        int first = (((h * Count) + t) * Count) + t;
                        Assert.True(Math.Abs(Math.Log(p[at] / p[first]) - (s[at] - s[first])) <= 1e-3 || p[at] < 1e-30 || p[first] < 1e-30);
                    }

                    Assert.Equal(1, sum, 1e-5);
                    double largest = cache.Values(v).ToArray().Max(Math.Abs);
                    for (int i = 0; i < dim; i++)
                        Assert.True(Math.Abs(mixed[i] - cache.Row(z, t)[(h * dim) + i]) <= 1e-5 * largest,
                            $"layer {layer}, head {h}, row {t}: z");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Runs))]
    public void Before_RoPE_a_query_is_what_RoPE_turns_into_the_query_after_it(string deviceName, int chunk)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        int dim = model.Config.HeadDim, half = dim / 2;
        foreach ((Site before, Site after, int heads) in (ReadOnlySpan<(Site, Site, int)>)[(Site.QPreRope, Site.Q, 4),
            (Site.KPreRope, Site.K, 2)])
        {
            HookPoint plain = new(before, 2), turned = new(after, 2);
            using ActivationCache cache = Run(model, chunk, [plain, turned]);
            for (int t = 0; t < Count; t++)
            {
                for (int n = 0; n < heads * half; n++)
                {
                    int i = n % half, a = (n / half * dim) + i, b = a + half;
                    double angle = t * Math.Pow(model.Config.RopeTheta, -2.0 * i / dim);
                    double x = cache.Row(plain, t)[a], y = cache.Row(plain, t)[b];
                    Assert.Equal((x * Math.Cos(angle)) - (y * Math.Sin(angle)), cache.Row(turned, t)[a], 2e-4);
                    Assert.Equal((y * Math.Cos(angle)) + (x * Math.Sin(angle)), cache.Row(turned, t)[b], 2e-4);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Runs))]
    public void The_unit_input_of_attention_has_length_one_a_value_and_points_as_the_stream_does(string deviceName, int chunk)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        foreach (int layer in (int[])[0, 2])
        {
            HookPoint unit = new(Site.AttnInUnit, layer), resid = new(Site.ResidPre, layer);
            using ActivationCache cache = Run(model, chunk, [unit, resid]);
            for (int t = 0; t < Count; t++)
            {
                double[] x = [.. cache.Row(resid, t).ToArray().Select(value => (double)value)];
                double root = Math.Sqrt((x.Sum(value => value * value) / x.Length) + model.Config.NormEpsilon);
                for (int j = 0; j < x.Length; j++)
                    Assert.Equal(x[j] / root, cache.Row(unit, t)[j], 1e-5);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Runs))]
    public void Listening_changes_no_bit(string deviceName, int chunk)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        var last = new HookPoint(Site.FinalNorm);
        using ActivationCache plain = Run(model, chunk, [last]);
        HookPoint[] points =
            [.. Enumerable.Range(0, 4)
                .SelectMany(l => (Site[])[Site.AttnInUnit, Site.QPreRope, Site.KPreRope, Site.AttnScores, Site.AttnPattern],
                    (l, site) => new HookPoint(site, l)), last];
        using ActivationCache heard = Run(model, chunk, points);
        Assert.True(plain.Values(last).SequenceEqual(heard.Values(last)));
    }

    [Theory]
    [InlineData(Site.AttnInUnit)]
    [InlineData(Site.QPreRope)]
    [InlineData(Site.KPreRope)]
    [InlineData(Site.AttnScores)]
    [InlineData(Site.AttnPattern)]
    public void Edits_act(Site site)
    {
        using Device device = TestDevices.Open("cpu");
        using Gemma2Model model = Open(device);
        var last = new HookPoint(Site.FinalNorm);
        using ActivationCache plain = Run(model, Count, [last]);
        using ActivationCache edited =
            Run(model, Count,
                [last], hooks => hooks.Add(new HookPoint(site, 1),
                    (call, _, value) => call.Device.AddScaled(value.RowRange(3, 1), 1f, value.RowRange(3, 1))));
        // A hook at row 3 changes nothing before it (a key, a query and a row of weights belong to one position), and something from there on.
        Assert.True(plain.Values(last)[..(3 * 48)].SequenceEqual(edited.Values(last)[..(3 * 48)]));
        Assert.False(plain.Row(last, 3).SequenceEqual(edited.Row(last, 3)));
    }

    [Fact]
    public void A_pattern_that_looks_at_one_key_only_gives_that_keys_value()
    {
        using Device device = TestDevices.Open("cpu");
        using Gemma2Model model = Open(device);
        HookPoint z = new(Site.Z, 1), v = new(Site.V, 1);
        using ActivationCache cache = Run(model, Count, [z, v], hooks => hooks.Add(new HookPoint(Site.AttnPattern, 1), (call, _, value) =>
        {
            float[] row = new float[value.Columns];
            for (int h = 0; h < 4; h++)
                row[(h * Count) + 2] = 1;
            call.Device.Write(row, value.RowRange(9, 1));
        }));
        for (int h = 0; h < 4; h++)
            Assert.Equal(cache.Row(v, 2).Slice(h / 2 * 16, 16).ToArray(), cache.Row(z, 9).Slice(h * 16, 16).ToArray());
        using ActivationCache masked = Run(model, Count, [z], hooks => hooks.Add(new HookPoint(Site.AttnScores, 1), (call, _, value) =>
            call.Device.Write([.. Enumerable.Repeat(float.NegativeInfinity, value.Columns)], value.RowRange(9, 1))));
        Assert.All(masked.Row(z, 9).ToArray(), value => Assert.Equal(0f, value));
    }

    [Fact]
    public void They_have_TransformerLens_names_and_are_not_among_all()
    {
        (string, HookPoint)[] names =
        [
            ("blocks.3.attn.hook_attn_scores", new(Site.AttnScores, 3)), ("blocks.3.attn.hook_pattern", new(Site.AttnPattern, 3)),
                ("blocks.3.attn.hook_q", new(Site.QPreRope, 3)),
            ("blocks.3.attn.hook_k", new(Site.KPreRope, 3)), ("blocks.3.ln1.hook_normalized", new(Site.AttnInUnit, 3)),
            ("attn_scores.3", new(Site.AttnScores, 3)), ("attn_pattern.3", new(Site.AttnPattern, 3)),
                ("q_pre_rope.3", new(Site.QPreRope, 3)), ("k_pre_rope.3", new(Site.KPreRope, 3)),
                    ("attn_in_unit.3", new(Site.AttnInUnit, 3)),
        ];
        foreach ((string name, HookPoint point) in names)
        {
            Assert.Equal(point, HookPoint.Parse(name));
            Assert.Equal(point, HookPoint.Parse(point.ToString()));
            Assert.DoesNotContain(point, HookPoint.All(4));
        }

        Assert.False(HookPoint.TryParse("attn_pattern", out _));
        Assert.Equal((15 * 4) + 3, HookPoint.All(4).Count());
    }

    private static Gemma2Model Open(Device device) => Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));

    private static ActivationCache Run(Gemma2Model model, int chunk, HookPoint[] points, Func<HookSet, IDisposable>? edit = null)
    {
        using Session session = model.NewSession(chunkLength: chunk);
        using IDisposable? armed = edit?.Invoke(session.Hooks);
        var cache = new ActivationCache(session.Hooks, points);
        session.Prefill([2, .. Enumerable.Range(1, Count - 1).Select(i => (i * 37) % 300)]);
        return cache;
    }
}
