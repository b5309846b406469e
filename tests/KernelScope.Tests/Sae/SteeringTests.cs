using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Sae;

/// <summary>A vector added at a hook point, alone and beside an SAE's edits; the mean activation that a splice puts in.</summary>
public sealed class SteeringTests
{
    private const string Name = "res.3.2k.l0_19";
    private const int Feature = 69;

    [Theory]
    [InlineData("cpu")]
    [InlineData("reference")]
    public void A_decoder_row_as_a_vector_steers_as_its_feature_does(string deviceName)
    {
        using Device device = TestDevices.Open(deviceName);
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae(Name));
        float[] direction = Direction();
        HookPoint site = sae.Site!.Value;
        int[] byFeature =
            Generate(model,
                hooks => [new SaeSplice(hooks, sae, site, site, SpliceMode.None, Positions.AllBut(2),
                    [new FeatureEdit(Feature, FeatureEditKind.Add, 10)])]);
        int[] byVector = Generate(model, hooks => [new Steering(hooks, device, site, direction, 10, Positions.AllBut(2))]);
        int[] byHalves = Generate(model, hooks =>
        [
            new Steering(hooks, device, site, direction, 4, Positions.AllBut(2)),
            new SaeSplice(hooks, sae, site, site, SpliceMode.None, Positions.AllBut(2), [new FeatureEdit(Feature, FeatureEditKind.Add, 6)]),
        ]);
        Assert.Equal(byFeature, byVector);
        Assert.Equal(byFeature, byHalves);
        Assert.NotEqual(byFeature, Generate(model, _ => []));
        Assert.Equal(Generate(model, _ => []), Generate(model, hooks => [new Steering(hooks, device, site, direction, 0, Positions.All)]));
    }

    [Fact]
    public void A_vector_that_does_not_fit_is_refused()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        var site = HookPoint.Parse("resid_post.3");
        Assert.Throws<ArgumentException>(
            () => Generate(model, hooks => [new Steering(hooks, device, site, [1, float.NaN], 1, Positions.All)]));
        Assert.Throws<InvalidOperationException>(
            () => Generate(model, hooks => [new Steering(hooks, device, site, [1, 2], 1, Positions.All)]));
    }

    [Fact]
    public void The_mean_activation_counts_each_token_once_whatever_the_chunks()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        int[] first = [2, .. Enumerable.Range(500, 300)], second = [2, 700, 701, 1];
        var tokens = TokenSet.Create([first, second], model.Config);
        var point = HookPoint.Parse("z.2");
        double[] sums = new double[256];
        foreach (int[] sequence in new[] { first, second })
        {
            using Session session = model.NewSession(sequence.Length);
            using var cache = new ActivationCache(session.Hooks, [point], sequence.Length);
            session.Prefill(sequence);
            for (int t = 0; t < sequence.Length; t++)
            {
                for (int j = 0; j < sums.Length && sequence[t] is not (1 or 2); j++)
                    sums[j] += cache.Values(point)[(t * sums.Length) + j];
            }
        }

        float[] mean = MeanActivation.Of(model, point, tokens);
        for (int j = 0; j < sums.Length; j++)
            Assert.Equal(sums[j] / 302, mean[j], 1e-5);
    }

    private static float[] Direction()
    {
        using SaeCheckpoint checkpoint = KernelScope.Demo.OpenSae(Name);
        float[] direction = new float[checkpoint.Config.OutputDim];
        checkpoint.Decoder.CopyTo((long)Feature * direction.Length, direction);
        return direction;
    }

    private static int[] Generate(Gemma2Model model, Func<HookSet, IDisposable[]> arm)
    {
        using Session session = model.NewSession(64);
        IDisposable[] armed = arm(session.Hooks);
        try
        {
            int[] prompt = [2, .. KernelScope.Demo.OpenTokenizer().Encode("Once upon a time there lived a miller who had a child called")];
            return [.. new Generator(session, new GenerationOptions { MaxNewTokens = 16, StopIds = [] }).Generate(prompt)];
        }
        finally
        {
            foreach (IDisposable one in armed)
                one.Dispose();
        }
    }
}
