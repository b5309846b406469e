using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Devices.Cpu;
using KernelScope.Model;
using KernelScope.Tests;
using Xunit.Abstractions;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The fast precision on the demo's texts.</summary>
[Trait("Category", "Slow")]
public sealed class DemoFastTests(ITestOutputHelper output)
{
    private static readonly string[] Texts = ["tale", "scripture", "question", "csharp", "numbers", "languages"];

    [Fact]
    public void The_best_token_stays_at_99_of_100_positions()
    {
        using CudaDevice fast = TestGpu.Open(options: new CudaDeviceOptions { Precision = Precision.Fast });
        using var exact = new CpuDevice();
        using Gemma2Model fastModel = Gemma2Model.Load(fast, Demo.OpenCheckpoint()), exactModel = Gemma2Model.Load(exact, Demo.OpenCheckpoint());
        int positions = 0, same = 0;
        double worst = 0;
        foreach (string text in Texts)
        {
            using var expected = new NpzArrays(Fixtures.Path("demo", "goldens", $"text-{text}.npz"));
            int[] tokens = expected.Int32("tokens");
            float[] a = Logits(fastModel, tokens), b = Logits(exactModel, tokens);
            int width = a.Length / tokens.Length;
            for (int t = 0; t < tokens.Length; t++)
            {
                ReadOnlySpan<float> x = a.AsSpan(t * width, width), y = b.AsSpan(t * width, width);
                positions++;
                same += Best(x) == Best(y) ? 1 : 0;
                worst = Math.Max(worst, Compare.Largest(x, y));
            }
        }

        output.WriteLine(FormattableString.Invariant($"{same} of {positions} positions; the largest difference of a logit is {worst:g3}"));
        Assert.True(same >= 0.99 * positions, $"{same} of {positions}");
    }

    private static float[] Logits(Gemma2Model model, int[] tokens)
    {
        using Session session = model.NewSession(contextLength: 256, chunkLength: tokens.Length);
        Mat rows = model.Forward(tokens, session, LogitRows.All);
        float[] values = new float[rows.Rows * rows.Columns];
        model.Device.Read(rows, values);
        return values;
    }

    private static int Best(ReadOnlySpan<float> logits)
    {
        int best = 0;
        for (int i = 1; i < logits.Length; i++)
            best = logits[i] > logits[best] ? i : best;
        return best;
    }
}
