using KernelScope.Attribution;
using KernelScope.Cpu;
using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Emulated;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Gradients on a device that has weights in memory of its own.</summary>
public sealed class GradientTests
{
    private static readonly int[] Tokens = [2, 40, 77, 5, 113, 200, 8, 9, 41, 6];
    private static readonly HookPoint Point = new(Site.ResidPre, 1);

    [Fact]
    public void Gradients_equal_the_cpus_and_the_second_pass_brings_no_weight()
    {
        var calls = new List<string>();
        using var driver = new FailingDriver(new EmulatedDriver()) { Calls = calls };
        using var device = new CudaDevice("cuda:0", driver);
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("sae", "evaluation", "model"));
        using var gradient = new StreamGradient(model, Tokens.Length);
        gradient.Forward(Tokens, 1);
        calls.Clear();
        float[] first = Backward(gradient);
        int uploads = Uploads(calls);
        calls.Clear();
        long bytes = device.AllocatedBytes;
        Assert.Equal(first, Backward(gradient));
        Assert.Equal(bytes, device.AllocatedBytes);
        // The first pass brought the transposes of four matrices of three layers and the unembedding's; what both bring are gradients.
        Assert.InRange(Uploads(calls), 1, uploads - (3 * 4) - 1);

        using var cpu = new CpuDevice();
        using Gemma2Model same = Gemma2Model.Open(cpu, Fixtures.Path("sae", "evaluation", "model"));
        using var expected = new StreamGradient(same, Tokens.Length);
        expected.Forward(Tokens, 1);
        float[] wanted = Backward(expected);
        Assert.True(Compare.Largest(first, wanted) <= 1e-5 * wanted.Max(Math.Abs));
    }

    private static float[] Backward(StreamGradient gradient) =>
        gradient.Backward([Point], (t, _, seed) => seed[(3 * t) % seed.Length] = 1)[Point];

    private static int Uploads(List<string> calls) => calls.Count(c => c == nameof(ICudaDriver.MemcpyHtoDAsync));
}
