using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>A part of the demo's goldens that the emulator does in seconds; all of them are <see cref="KernelScope.Tests.Demo.DemoGoldenTests"/>.</summary>
public sealed class DemoTests
{
    [Fact]
    public void The_demo_model_and_its_SAE_run_in_the_emulator()
    {
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        using JumpReluSae sae = JumpReluSae.Load(device, Demo.OpenSae(Demo.DefaultSae));
        using var expected = new NpzArrays(Fixtures.Path("demo", "goldens", "text-question.npz"));
        int[] tokens = expected.Int32("tokens");
        using Session session = model.NewSession(contextLength: 128);
        using var cache = new ActivationCache(session.Hooks, [new HookPoint(Site.ResidPost, 3)], tokens.Length);
        using var capture = new FeatureCapture(session.Hooks, sae, sae.Site!.Value);
        Mat row = session.Prefill(tokens);
        float[] logits = new float[model.Config.VocabSize];
        device.Read(row, logits);
        Assert.True(Compare.Relative(cache.Values(new HookPoint(Site.ResidPost, 3)), expected.Floats("resid_post.3")) <= 2e-5,
            "resid_post.3");
        Assert.True(Compare.Largest(logits, expected.Floats("logits_last")) <= 2e-4, "logits");
        using var codes = new NpzArrays(Fixtures.Path("demo", "goldens", $"sae-{Demo.DefaultSae}.npz"));
        Assert.Equal(codes.Int32("feature_question"), capture.Codes.Feature.Take(capture.Codes.Count));

        cache.Dispose();
        using var sampler = new Sampler(device, model.Config.VocabSize, new SamplingOptions());
        foreach (int token in expected.Int32("greedy_tokens").Take(2))
        {
            Assert.Equal(token, sampler.Next(row));
            row = model.Forward([token], session);
        }
    }
}
