using KernelScope.Cpu;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Model;

/// <summary>A decode step allocates nothing, alone and with an SAE listening; a token's cost must not grow a heap.</summary>
public sealed class NoAllocationTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Decoding_allocates_nothing_per_token(bool withSae)
    {
        string content = Path.Combine(Fixtures.Root, "src", "KernelScope.Demo", "content");
        using var device = new CpuDevice(threads: 2);
        using Gemma2Model model = Gemma2Model.Open(device, Path.Combine(content, "model"));
        using JumpReluSae sae = JumpReluSae.Open(device, Path.Combine(content, "saes", "res", "layer_3", "width_2k", "average_l0_19"));
        using Session session = model.NewSession();
        using var sampler = new Sampler(device, model.Config.VocabSize, new SamplingOptions());
        using FeatureCapture? capture = withSae ? new FeatureCapture(session.Hooks, sae, new HookPoint(Site.ResidPost, 3)) : null;
        int[] token = [sampler.Next(session.Prefill([2, 1590, 857, 475]))];
        // What a capture keeps grows with the sequence: room for the steps below is made once, then they come again.
        Decode(96);
        // The runtime may make an event when the thread first waits for a worker; what a token costs would come every time.
        long least = long.MaxValue;
        for (int attempt = 0; attempt < 3; attempt++)
        {
            session.Rewind(session.Position - 32);
            long before = GC.GetAllocatedBytesForCurrentThread();
            Decode(32);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        Assert.Equal(0, least);

        void Decode(int steps)
        {
            for (int i = 0; i < steps; i++)
                token[0] = sampler.Next(model.Forward(token, session));
        }
    }
}
