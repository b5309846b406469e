using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Lens;

/// <summary>The search against a table of every activation of a text.</summary>
public sealed class TopContextsTests
{
    private const string Text =
        "Once upon a time there lived a miller who had a child called Lena. More than anything she wished for a river. And the LORD "
            + "said unto her, Fear not. More than anything he wished for a key. She was glad.";

    [Theory]
    [InlineData("res.3.2k.l0_19", "resid_post.3", 1738)]
    [InlineData("res.3.2k.l0_57", "resid_post.3", null)]
    [InlineData("transcoder.3.1k.l0_20", "mlp_in_unit.3", null)]
    public void Places_shares_and_quantiles_equal_those_of_all_activations(string name, string siteName, int? given)
    {
        HookPoint site = HookPoint.Parse(siteName);
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae(name));
        int[] ids = KernelScope.Demo.OpenTokenizer().Encode(Text);
        int[][] sequences = [.. ids.Chunk(20).Select(chunk => (int[])[2, .. chunk])];
        var set = TokenSet.Create(sequences, model.Config);
        int feature = given ?? Busiest(model, sae, site, sequences[0]);
        FeaturePlace[] all = [.. sequences.SelectMany((sequence, b) => All(model, sae, site, feature, sequence, b))];
        FeaturePlace[] active = [.. all.Where(p => p.Activation > 0)];
        Assert.NotEmpty(active);

        TopContexts found = TopContexts.Find(model, sae, site, feature, set, 3);
        Assert.Equal((ids.Length, active.Length), (found.Counted, found.Active));
        FeaturePlace[] strongest = [.. active.OrderByDescending(p => p.Activation).Take(3)];
        Assert.Equal(strongest.Select(p => (p.Sequence, p.Position)), found.Places.Select(p => (p.Sequence, p.Position)));
        Assert.All(strongest.Zip(found.Places), p => Assert.Equal(p.First.Activation, p.Second.Activation, 1e-3));
        Assert.Equal(active.Average(p => (double)p.Activation), found.Mean, 1e-3);
        float[] sorted = [.. active.Select(p => p.Activation).Order()];
        foreach (double share in new[] { 0, 0.25, 0.5, 0.9, 1 })
        {
            float expected = sorted[Math.Max(0, (int)Math.Ceiling(share * sorted.Length) - 1)];
            Assert.InRange(found.Activations[share], expected * (1 - 5e-4), expected * (1 + 5e-4));
        }
    }

    [Fact]
    public void A_feature_that_fires_nowhere_has_no_places_and_no_quantiles()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae(KernelScope.Demo.DefaultSae));
        var set = TokenSet.Create([[2, .. KernelScope.Demo.OpenTokenizer().Encode("12 + 7 = 19")]], model.Config);
        TopContexts found = TopContexts.Find(model, sae, HookPoint.Parse("resid_post.3"), 1738, set, 3);
        Assert.Equal((0, 0), (found.Active, found.Places.Count));
        Assert.True(double.IsNaN(found.Mean) && double.IsNaN(found.Activations[0.5]));
        Assert.Contains(
            "0 to 2047", Assert.Throws<ArgumentException>(() => TopContexts.Find(model, sae, HookPoint.Parse("resid_post.3"), 2048, set, 3))
            .Message, StringComparison.Ordinal);
    }

    /// <summary>The feature that fires on most tokens.</summary>
    private static int Busiest(Gemma2Model model, JumpReluSae sae, HookPoint site, int[] sequence)
    {
        using Session session = model.NewSession(sequence.Length, sequence.Length);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        model.Forward(sequence, session);
        return capture.Codes.Feature[(int)capture.Codes.RowStart[1]..capture.Codes.Count].GroupBy(f => f).MaxBy(g => g.Count())!.Key;
    }

    /// <summary>Every activation of a sequence but BOS', from a pass that keeps all codes.</summary>
    private static IEnumerable<FeaturePlace> All(Gemma2Model model, JumpReluSae sae, HookPoint site, int feature, int[] sequence, int b)
    {
        using Session session = model.NewSession(sequence.Length, sequence.Length);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        model.Forward(sequence, session);
        return [.. Enumerable.Range(1, sequence.Length - 1).Select(t => new FeaturePlace(b, t, capture.Codes.ValueOf(t, feature)))];
    }
}
