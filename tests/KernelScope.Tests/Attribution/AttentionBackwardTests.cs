using KernelScope.Attribution;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Tests.Attribution;

/// <summary>Attention's backward pass where blocks of queries and keys end, against its equations in plain loops (our own, in double).</summary>
public sealed class AttentionBackwardTests
{
    [Theory]
    [InlineData(1, 2, 1, 8, 0, 50)]
    [InlineData(9, 4, 2, 6, 0, 50)]
    [InlineData(64, 4, 4, 16, 5, 50)]
    [InlineData(131, 6, 2, 10, 0, 0)]
    [InlineData(150, 4, 2, 16, 40, 30)]
    [InlineData(70, 3, 1, 2, 1, 50)]
    public void Gradients_equal_the_equations(int n, int heads, int kvHeads, int headDim, int window, float cap)
    {
        var shape = new AttentionShape(heads, 0.7f, cap, window);
        var random = new Random(n);
        float[] qkv = Normals(random, n * (heads + (2 * kvHeads)) * headDim), dz = Normals(random, n * heads * headDim);
        using var device = new CpuDevice(2);
        foreach (bool ownOnly in (bool[])[false, true])
        {
            float[] actual = Normals(random, qkv.Length);
            new AttentionBackward(device, shape, kvHeads, headDim).Run(qkv, dz, ownOnly, actual);
            double[] expected = Plain(shape, kvHeads, headDim, qkv, dz, n, ownOnly);
            double largest = expected.Max(Math.Abs);
            for (int i = 0; i < actual.Length; i++)
                Assert.InRange(actual[i], expected[i] - (1e-7 * largest), expected[i] + (1e-7 * largest));
        }
    }

    [Fact]
    public void Gradients_have_the_same_bits_at_any_number_of_threads()
    {
        int[] tokens = [.. Enumerable.Range(0, 97).Select(t => t == 0 ? 2 : 3 + (t * 37 % 290))];
        float[]? first = null;
        foreach (int threads in (int[])[1, 2, 3, 8])
        {
            using var device = new CpuDevice(threads);
            using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("sae", "evaluation", "model"));
            using var gradient = new StreamGradient(model, tokens.Length);
            gradient.Forward(tokens, 0);
            var point = new HookPoint(Site.ResidPre, 0);
            float[] values = gradient.Backward([point], (t, logits, seed) => GradientTests.CentredLogit(tokens, t, seed))[point];
            Assert.Equal(first ??= values, values);
        }
    }

    private static float[] Normals(Random random, int count) =>
        [.. Enumerable.Range(0, count)
            .Select(_ => (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(Math.Tau * random.NextDouble())))];

    private static double[] Plain(AttentionShape shape, int kvHeads, int headDim, float[] qkv, float[] dz, int n, bool ownOnly)
    {
        int row = (shape.HeadCount + (2 * kvHeads)) * headDim;
        double[] gradient = new double[qkv.Length];
        for (int t = 0; t < n; t++)
        {
            for (int h = 0; h < shape.HeadCount; h++)
            {
                int kv = h / (shape.HeadCount / kvHeads), query = (t * row) + (h * headDim), key = (shape.HeadCount + kv) * headDim,
                    value = key + (kvHeads * headDim);
                int first = shape.Window > 0 ? Math.Max(0, t - shape.Window + 1) : 0;
                double Dot(ReadOnlySpan<float> a, int from, int j, int column)
                {
                    double sum = 0;
                    for (int d = 0; d < headDim; d++)
                        sum += (double)a[from + d] * qkv[(j * row) + column + d];
                    return sum;
                }

                double[] s =
                    [.. Enumerable.Range(first, t + 1 - first).Select(j => shape.Scale * Dot(qkv, query, j, key))
                        .Select(u => shape.Softcap > 0 ? shape.Softcap * Math.Tanh(u / shape.Softcap) : u)];
                double[] e = [.. s.Select(Math.Exp)];
                double[] dp = [.. Enumerable.Range(first, s.Length).Select(j => Dot(dz, ((t * shape.HeadCount) + h) * headDim, j, value))];
                double mean = e.Zip(dp, (x, y) => x * y).Sum() / e.Sum();
                for (int k = 0; k < s.Length; k++)
                {
                    double p = e[k] / e.Sum(), damping = shape.Softcap > 0 ? 1 - (s[k] / shape.Softcap * s[k] / shape.Softcap)
                        : 1, du = shape.Scale * p * (dp[k] - mean) * damping;
                    for (int d = 0; d < headDim; d++)
                    {
                        gradient[query + d] += du * qkv[((first + k) * row) + key + d];
                        if (ownOnly && first + k != t)
                            continue;
                        gradient[((first + k) * row) + key + d] += du * qkv[query + d];
                        gradient[((first + k) * row) + value + d] += p * dz[(((t * shape.HeadCount) + h) * headDim) + d];
                    }
                }
            }
        }

        return gradient;
    }
}
