using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Decode steps replayed as graphs, and runs repeated: the same bits.</summary>
public sealed class GraphTests
{
    private const int Steps = 6;

    [Theory]
    [InlineData("base")]
    [InlineData("mqa-odd")]
    public void Replayed_graphs_and_plain_launches_give_the_same_bits(string model)
    {
        (float[] plain, long none) = Decode(model, new CudaDeviceOptions { Graphs = false });
        (float[] replayed, long graphs) = Decode(model, new CudaDeviceOptions());
        Assert.Equal(0, none);
        Assert.InRange(graphs, Steps - 3, Steps);
        SameBits(plain, replayed);
    }

    [Fact]
    public void Two_runs_give_the_same_bits()
    {
        (float[] first, _) = Decode("bf16", new CudaDeviceOptions());
        (float[] second, _) = Decode("bf16", new CudaDeviceOptions());
        SameBits(first, second);
    }

    /// <summary>How large a device is decides nothing on which sums depend.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(132)]
    public void The_number_of_multiprocessors_does_not_show(int multiprocessors)
    {
        (float[] expected, _) = Decode("bf16", new CudaDeviceOptions());
        (float[] actual, _) = Decode("bf16", new CudaDeviceOptions(), multiprocessors);
        SameBits(expected, actual);
    }

    [Fact]
    public void A_graph_serves_features_that_are_read_with_each_token()
    {
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "gs-48x96"));
        using Session session = model.NewSession(chunkLength: 4);
        using var capture = new FeatureCapture(session.Hooks, sae, new Hooks.HookPoint(Hooks.Site.ResidPost, 1));
        session.Prefill([2, 5, 7]);
        long before = device.GraphLaunches;
        for (int i = 0; i < Steps; i++)
        {
            model.Forward([3 + i], session);
            Assert.Equal(4 + i, capture.Codes.Rows);
        }

        Assert.InRange(device.GraphLaunches - before, Steps - 3, 3 * Steps);
    }

    private static (float[] Logits, long Graphs) Decode(string name, CudaDeviceOptions options, int multiprocessors = 108)
    {
        EmulatedDriverOptions driver = TestGpu.Driver();
        driver = driver with { Gpu = driver.Gpu with { MultiprocessorCount = multiprocessors } };
        using CudaDevice device = EmulatedDevices.Open(options, driver);
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", name));
        using Session session = model.NewSession(chunkLength: 16);
        using var sampler = new Sampler(device, model.Config.VocabSize, new SamplingOptions());
        Mat row = session.Prefill([2, 11, 7, 9, 30]);
        float[] logits = new float[Steps * model.Config.VocabSize];
        for (int i = 0; i < Steps; i++)
        {
            int token = sampler.Next(row);
            device.Read(row, logits.AsSpan(i * model.Config.VocabSize, model.Config.VocabSize));
            row = model.Forward([token], session);
        }

        return (logits, device.GraphLaunches);
    }

    private static void SameBits(float[] expected, float[] actual) =>
        Assert.Equal(expected.Select(BitConverter.SingleToInt32Bits), actual.Select(BitConverter.SingleToInt32Bits));
}
