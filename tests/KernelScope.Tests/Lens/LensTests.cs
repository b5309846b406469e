using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Lens;

/// <summary>The lenses against the model's own logits and against products written out.</summary>
public sealed class LensTests
{
    private static readonly int[] Tokens =
        [2, .. KernelScope.Demo.OpenTokenizer().Encode("Once upon a time there lived a miller who had a child called")];

    [Theory]
    [InlineData("resid_post.5")]
    [InlineData("final_norm")]
    public void At_the_end_of_the_stream_the_lens_shows_the_models_own_logits(string site)
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        float[] logits = Logits(model);
        int vocab = model.Config.VocabSize;
        LensToken[][] tops = LogitLens.Run(model, Tokens, HookPoint.Parse(site), 7);
        Assert.Equal(Tokens.Length, tops.Length);
        for (int t = 0; t < Tokens.Length; t++)
        {
            float[] row = logits[(t * vocab)..((t + 1) * vocab)];
            int[] expected = [.. Enumerable.Range(0, vocab).OrderByDescending(i => row[i]).ThenBy(i => i).Take(7)];
            double sum = row.Sum(l => Math.Exp(l));
            Assert.Equal(expected, tops[t].Select(k => k.Id));
            Assert.All(tops[t], k => Assert.Equal(row[k.Id], k.Logit, 1e-5));
            Assert.All(tops[t], k => Assert.Equal(Math.Exp(row[k.Id]) / sum, k.Probability, 1e-5));
        }
    }

    [Theory]
    [InlineData("embed")]
    [InlineData("resid_mid.2")]
    [InlineData("mlp_out_post.3")]
    public void Elsewhere_it_is_the_norm_the_unembedding_and_the_cap(string site)
    {
        using Device device = TestDevices.Open("reference");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        HookPoint point = HookPoint.Parse(site);
        using Session session = model.NewSession(Tokens.Length, Tokens.Length);
        using var cache = new ActivationCache(session.Hooks, [point], Tokens.Length);
        model.Forward(Tokens, session, LogitRows.None);
        int dim = model.Config.ModelDim, t = Tokens.Length - 1;
        float[] x = cache.Values(point)[(t * dim)..].ToArray(), gain = new float[dim];
        device.Read(model.Weights.FinalNorm, gain);
        double scale = 1 / Math.Sqrt((x.Sum(v => (double)v * v) / dim) + model.Config.NormEpsilon);
        float[] table = model.Weights.Checkpoint.Embedding.ToFloats();
        LensToken[] top = LogitLens.Run(model, Tokens, point, 3)[t];
        foreach (LensToken token in top)
        {
            double product = Enumerable.Range(0, dim).Sum(j => x[j] * scale * (1 + gain[j]) * table[(token.Id * dim) + j]);
            Assert.Equal(30 * Math.Tanh(product / 30), token.Logit, 1e-3);
        }

        Assert.Equal(top.OrderByDescending(k => k.Logit), top);
    }

    [Fact]
    public void The_pieces_of_a_text_do_not_matter_to_the_lens()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        int[] text = [2, .. Enumerable.Range(0, 299).Select(i => 500 + (i * 37 % 3000))];
        LensToken[][] whole = LogitLens.Run(model, text, HookPoint.Parse("resid_post.1"), 2),
            start = LogitLens.Run(model, text.AsSpan(0, 40), HookPoint.Parse("resid_post.1"), 2);
        Assert.Equal(300, whole.Length);
        for (int t = 0; t < 40; t++)
            Assert.Equal(start[t].Select(k => k.Id), whole[t].Select(k => k.Id));
    }

    [Fact]
    public void A_feature_promotes_what_the_products_with_its_decoder_row_say()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae(KernelScope.Demo.DefaultSae));
        const int Feature = 1738;
        int dim = model.Config.ModelDim;
        float[] decoder = sae.Checkpoint.Decoder.ToFloats()[(Feature * dim)..((Feature + 1) * dim)], gain = new float[dim],
            table = model.Weights.Checkpoint.Embedding.ToFloats();
        device.Read(model.Weights.FinalNorm, gain);
        FeatureLens lens = FeatureLens.Of(model, sae, HookPoint.Parse("resid_post.3"), Feature, 6);
        Check(lens.WithoutGain, _ => 1);
        Check(lens.WithGain, j => 1 + gain[j]);
        // What the demo's notes say of it: it promotes "she" and "her".
        Assert.Contains(" she", lens.WithGain.Top.Select(p => KernelScope.Demo.OpenTokenizer().Decode([p.Id])));

        void Check(PromotedTokens tokens, Func<int, double> factor)
        {
            double[] values =
                [.. Enumerable.Range(0, model.Config.VocabSize)
                    .Select(v => Enumerable.Range(0, dim).Sum(j => decoder[j] * factor(j) * table[(v * dim) + j]))];
            int[] order = [.. Enumerable.Range(0, values.Length).OrderByDescending(v => values[v])];
            Assert.Equal(order[..6], tokens.Top.Select(p => p.Id));
            Assert.Equal(order[^6..].Reverse(), tokens.Bottom.Select(p => p.Id));
            Assert.All(tokens.Top.Concat(tokens.Bottom), p => Assert.Equal(values[p.Id], p.Value, 1e-4));
        }
    }

    [Fact]
    public void What_is_no_stream_is_refused()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae("att.3.1k.l0_42"));
        Assert.Contains("not a point of the stream",
            Assert.Throws<ArgumentException>(() => LogitLens.Run(model, Tokens, HookPoint.Parse("z.1"), 3)).Message,
            StringComparison.Ordinal);
        Assert.Contains("not a direction of the stream",
            Assert.Throws<ArgumentException>(() => FeatureLens.Of(model, sae, HookPoint.Parse("z.3"), 5, 3)).Message,
            StringComparison.Ordinal);
        Assert.Contains("0 to 1023", Assert.Throws<ArgumentException>(() => FeatureLens.Of(model, sae, HookPoint.Parse("z.3"), 1024, 3))
            .Message, StringComparison.Ordinal);
    }

    private static float[] Logits(Gemma2Model model)
    {
        using Session session = model.NewSession(Tokens.Length, Tokens.Length);
        float[] logits = new float[Tokens.Length * model.Config.VocabSize];
        model.Device.Read(model.Forward(Tokens, session, LogitRows.All), logits);
        return logits;
    }
}
