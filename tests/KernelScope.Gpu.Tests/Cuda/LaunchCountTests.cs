using KernelScope.Cuda;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>How many kernels a token takes: each costs about a microsecond, whatever it does.</summary>
public sealed class LaunchCountTests
{
    /// <summary>
    /// Embedding, norm, a copy of the final norm for the session, head with its soft-cap, two for the arg-max; in a layer q, k and v with RoPE and
    /// store, attention with its merge, o with two norms, gate and up, down with two norms. For 26 layers 136.
    /// </summary>
    [Fact]
    public void A_greedy_step_takes_five_launches_a_layer_and_six()
    {
        int launches = 0;
        using CudaDevice device = TestGpu.Open(launched: (_, _) => Interlocked.Increment(ref launches));
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "hd256"));
        using Session session = model.NewSession(chunkLength: 16);
        using var sampler = new Sampler(device, model.Config.VocabSize, new SamplingOptions());
        int token = sampler.Next(session.Prefill([2, 11, 7]));
        launches = 0;
        sampler.Next(model.Forward([token], session));
        Assert.Equal((5 * model.Config.LayerCount) + 6, launches);
    }
}
