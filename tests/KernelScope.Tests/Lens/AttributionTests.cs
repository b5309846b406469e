using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Lens;

/// <summary>Attributions against what editing a feature by a little does to the metric: a path through the model that knows no gradient.</summary>
public sealed class AttributionTests
{
    private const string DefaultSae = KernelScope.Demo.DefaultSae;
    private static readonly int[] Tokens =
        [2, .. KernelScope.Demo.OpenTokenizer().Encode("She loved the river more than anything. More than anything")];

    public static TheoryData<string, string, string> Saes() => new()
    {
        { DefaultSae, "resid_post.3", "resid_post.3" },
        { "res.5.1k.l0_37", "resid_post.5", "resid_post.5" },
        { "att.3.1k.l0_42", "z.3", "z.3" },
        { "transcoder.3.1k.l0_20", "mlp_in_unit.3", "mlp_out_post.3" },
    };

    [Theory]
    [MemberData(nameof(Saes))]
    public void An_attribution_is_what_a_small_change_of_the_feature_does(string name, string siteName, string siteOutName)
    {
        HookPoint site = HookPoint.Parse(siteName), siteOut = HookPoint.Parse(siteOutName);
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae(name));
        using var attribution = new SaeAttribution(model, sae, site, siteOut, Tokens.Length);
        int last = Tokens.Length - 1;
        foreach (bool loss in new[] { false, true })
        {
            FeatureAttributions all =
                attribution.Run(Tokens, loss ? AttributionMetric.NextTokenLoss(Tokens) : AttributionMetric.Logit(last, 700, 701));
            Assert.Equal(Metric(model, null, loss), all.Value, 1e-4);
            // At the last layer the logits of the last position hang on that position alone.
            foreach (int t in loss ? [3, last - 1] : new[] { last - 1, last })
            {
                int strongest = Enumerable.Range((int)all.Codes.RowStart[t], all.Codes.FeaturesOf(t).Length)
                    .MaxBy(i => Math.Abs(all.Values[i]));
                float activation = all.Codes.Value[strongest];
                // Twice the same relative step up and down: the second-order term cancels.
                const float Share = 0.05f;
                double up = Edited(Share * activation), down = Edited(-Share * activation);
                double measured = (up - down) / (2 * Share);
                Assert.True(Math.Abs(measured - all.Values[strongest]) <= (0.03 * Math.Abs(all.Values[strongest])) + 2e-3,
                    $"{name}, token {t}, feature {all.Codes.Feature[strongest]}, loss {loss}: {all.Values[strongest]:g5} by the "
                        + $"gradient, {measured:g5} by editing");

                double Edited(float strength)
                {
                    using Session session = model.NewSession(Tokens.Length, Tokens.Length);
                    using var splice =
                        new SaeSplice(session.Hooks, sae, site, siteOut, SpliceMode.None,
                            Positions.Of(t), [new(all.Codes.Feature[strongest], FeatureEditKind.Add, strength)]);
                    return Metric(model, session, loss);
                }
            }
        }
    }

    [Fact]
    public void Sums_go_over_the_rows_asked_for_and_are_ordered_by_size()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae(DefaultSae));
        using var attribution =
            new SaeAttribution(model, sae, HookPoint.Parse("resid_post.3"), HookPoint.Parse("resid_post.3"), Tokens.Length);
        FeatureAttributions all = attribution.Run(Tokens, AttributionMetric.Logit(Tokens.Length - 1, 700));
        IReadOnlyList<(int Feature, double Attribution)> sums = all.Sum(r => r > 0);
        var expected = new double[sae.FeatureCount];
        for (int r = 1; r < all.Codes.Rows; r++)
        {
            for (long i = all.Codes.RowStart[r]; i < all.Codes.RowStart[r + 1]; i++)
                expected[all.Codes.Feature[i]] += all.Values[i];
        }

        Assert.All(sums, s => Assert.Equal(expected[s.Feature], s.Attribution));
        Assert.Equal(expected.Count(e => e != 0), sums.Count(s => s.Attribution != 0));
        Assert.Equal(sums.OrderByDescending(s => Math.Abs(s.Attribution)).ThenBy(s => s.Feature), sums);
    }

    [Fact]
    public void What_there_is_not_is_refused()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae(DefaultSae));
        Assert.Contains(
            "attributed at embed",
            Assert.Throws<ArgumentException>(() => new SaeAttribution(model, sae, HookPoint.Parse("embed"), HookPoint.Parse("embed"), 4))
            .Message, StringComparison.Ordinal);
        using var attribution = new SaeAttribution(model, sae, HookPoint.Parse("resid_post.3"), HookPoint.Parse("resid_post.3"), 4);
        Assert.Contains("position 3", Assert.Throws<ArgumentException>(() => attribution.Run([2, 5, 7], AttributionMetric.Logit(3, 700)))
            .Message, StringComparison.Ordinal);
        Assert.Contains("4096", Assert.Throws<ArgumentException>(() => attribution.Run([2, 5, 7], AttributionMetric.Logit(2, 4096)))
            .Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => AttributionMetric.NextTokenLoss([2]));
    }

    private static double Metric(Gemma2Model model, Session? given, bool loss)
    {
        using Session? own = given is null ? model.NewSession(Tokens.Length, Tokens.Length) : null;
        Session session = given ?? own!;
        float[] logits = new float[model.Config.VocabSize];
        model.Device.Read(model.Forward(Tokens, session), logits);
        double[] losses = new double[Tokens.Length - 1];
        model.NextTokenLoss(Tokens.AsSpan(1), session, losses);
        return loss ? losses.Sum() : logits[700] - logits[701];
    }
}
