using KernelScope.Cpu;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Tests.Model;

/// <summary>Text embeddings by arithmetic on what a capture of the same site holds.</summary>
public sealed class TextEmbeddingTests
{
    [Theory]
    [InlineData("final_norm", 256)]
    [InlineData("final_norm", 5)]
    [InlineData("resid_post.3", 5)]
    [InlineData("embed", 5)]
    [InlineData("resid_pre.0", 5)]
    [InlineData("mlp_act.5", 256)]
    public void They_are_the_mean_or_the_last_of_the_rows_that_count(string site, int chunk)
    {
        using var device = new CpuDevice();
        using Gemma2Model model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        int[] tokens = [2, .. KernelScope.Demo.OpenTokenizer().Encode("She loved the river more than anything."), 1, 0];
        var point = HookPoint.Parse(site);
        using Session session = model.NewSession(chunkLength: chunk);
        using var cache = new ActivationCache(session.Hooks, [point]);
        session.Prefill(tokens);
        cache.Dispose();
        int width = cache.Width(point), count = tokens.Length;
        double[] mean = new double[width], all = new double[width];
        for (int t = 0; t < count; t++)
        {
            for (int j = 0; j < width; j++)
            {
                all[j] += cache.Row(point, t)[j] / (double)count;
                mean[j] += t == 0 || t >= count - 2 ? 0 : cache.Row(point, t)[j] / (double)(count - 3);
            }
        }

        Near(mean, Embed(new() { Site = point }));
        Near(all, Embed(new() { Site = point, IncludeSpecialTokens = true }));
        Near([.. cache.Row(point, count - 3).ToArray().Select(v => (double)v)], Embed(new() { Site = point, Pooling = Pooling.LastToken }));
        Near([.. cache.Row(point, count - 1).ToArray().Select(v => (double)v)],
            Embed(new() { Site = point, Pooling = Pooling.LastToken, IncludeSpecialTokens = true }));
        double length = Math.Sqrt(mean.Sum(v => v * v));
        Near([.. mean.Select(v => v / length)], Embed(new() { Site = point, Normalize = true }));
        Assert.Equal(tokens, session.Tokens.ToArray());
        if (site == "final_norm")
            Near(mean, TextEmbedding.Embed(session, tokens));

        float[] Embed(EmbeddingOptions options) => TextEmbedding.Embed(session, tokens, options);
    }

    [Fact]
    public void What_is_not_an_embedding_is_refused()
    {
        using var device = new CpuDevice();
        using Gemma2Model model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using Session session = model.NewSession(16);
        Assert.Throws<ArgumentException>(() => TextEmbedding.Embed(session, [2, 5], new() { Site = new HookPoint(Site.Logits) }));
        Assert.Throws<ArgumentException>(() => TextEmbedding.Embed(session, [2, 5], new() { Site = new HookPoint(Site.AttnPattern, 1) }));
        Assert.Throws<ArgumentException>(() => TextEmbedding.Embed(session, [2]));
        Assert.Throws<ArgumentException>(() => TextEmbedding.Embed(session, []));
        Assert.Throws<ArgumentException>(() => TextEmbedding.Embed(session, new int[17]));
        Assert.Equal(224, TextEmbedding.Embed(session, [2, 5]).Length);
    }

    private static void Near(double[] expected, float[] actual)
    {
        double largest = expected.Max(Math.Abs);
        Assert.Equal(expected.Length, actual.Length);
        Assert.All(expected.Zip(actual), pair => Assert.True(Math.Abs(pair.First - pair.Second) <= 1e-5 * largest));
    }
}
