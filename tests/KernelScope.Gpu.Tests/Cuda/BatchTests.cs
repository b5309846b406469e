using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Several sessions in one call on the CUDA device: each gets the bits that it gets alone, and a step replays the graph of the one before.</summary>
public sealed class BatchTests
{
    private const int Steps = 4;

    [Theory]
    [InlineData("bf16", 3, DType.F32)]
    [InlineData("mqa-odd", 5, DType.F32)]
    [InlineData("bf16", 3, DType.BF16)]
    public void A_sequence_gets_the_same_bits_whoever_shares_its_step(string name, int count, DType cacheType)
    {
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", name));
        model.CacheType = cacheType;
        var random = new Random(count);
        int[][] tokens =
            [.. Enumerable.Range(0, count)
                .Select(n => Enumerable.Range(0, 1 + (3 * n) + Steps).Select(_ => random.Next(model.Config.VocabSize)).ToArray())];
        Session[] sessions = [.. tokens.Select(_ => model.NewSession(contextLength: 40, chunkLength: 32))];
        for (int n = 0; n < count; n++)
            sessions[n].Prefill(tokens[n].AsSpan(0, tokens[n].Length - Steps));
        device.Synchronize();
        long graphs = device.GraphLaunches;
        float[][][] together = new float[Steps][][];
        for (int step = 0; step < Steps; step++)
        {
            model.Forward([.. sessions.Select((s, n) => new SessionTokens(s, tokens[n].AsMemory(s.Position, 1)))]);
            together[step] = [.. sessions.Select(s => Read(s.Logits))];
        }

        Assert.InRange(device.GraphLaunches - graphs, Steps - 3, 3 * Steps);
        for (int n = 0; n < count; n++)
        {
            using Session alone = model.NewSession(contextLength: 40, chunkLength: 32);
            alone.Prefill(tokens[n].AsSpan(0, tokens[n].Length - Steps));
            for (int step = 0; step < Steps; step++)
                Assert.Equal(Read(model.Forward(tokens[n].AsSpan(alone.Position, 1), alone)), together[step][n]);
            sessions[n].Dispose();
        }

        float[] Read(Mat x)
        {
            float[] values = new float[x.Rows * x.Columns];
            device.Read(x, values);
            return values;
        }
    }
}
