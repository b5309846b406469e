using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Generation;

namespace KernelScope.Tests.Generation;

/// <summary>The sampler's options against their definitions, written out here: transformers' processors, OpenAI's bias and penalty.</summary>
public sealed class SamplerTests : IDisposable
{
    private const int Vocabulary = 12;
    private static readonly float[] Row = [2f, 1.5f, -1f, 0.5f, 3f, -2f, 0f, 1f, 2.5f, -0.5f, 1.2f, 0.1f];
    private readonly CpuDevice _device = new(1);
    private readonly Mat _logits;

    public SamplerTests()
    {
        _logits = _device.CreateMat(1, Vocabulary, "logits");
        _device.Write(Row, _logits);
    }

    public void Dispose()
    {
        _logits.Buffer.Dispose();
        _device.Dispose();
    }

    public static TheoryData<string, SamplingOptions> Cases() => new()
    {
        { "plain", new SamplingOptions { Temperature = 0.8, Seed = 1 } },
        { "top-k", new SamplingOptions { Temperature = 0.8, Seed = 1, TopK = 3 } },
        { "top-p", new SamplingOptions { Temperature = 0.8, Seed = 1, TopP = 0.7 } },
        { "min-p", new SamplingOptions { Temperature = 0.8, Seed = 1, MinP = 0.2 } },
        { "all three", new SamplingOptions { Temperature = 1.5, Seed = 1, TopK = 8, TopP = 0.9, MinP = 0.25 } },
        { "repetition", new SamplingOptions { Temperature = 1, Seed = 1, RepetitionPenalty = 1.7 } },
        { "frequency", new SamplingOptions { Temperature = 1, Seed = 1, FrequencyPenalty = 0.02 } },
        { "bias", new SamplingOptions { Temperature = 1, Seed = 1,
            LogitBias = new Dictionary<int, double> { [4] = -1.5, [5] = 4, [8] = double.NegativeInfinity } } },
        { "everything",
            new SamplingOptions { Temperature = 1.2, Seed = 1, TopK = 9, TopP = 0.95, MinP = 0.02, RepetitionPenalty = 1.3,
                FrequencyPenalty = 0.01, LogitBias = new Dictionary<int, double> { [5] = 3 } } },
    };

    /// <summary>10,000 draws; the share of each token is its probability by the definitions, within five standard deviations, at every step with the counts of that step.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void Tokens_come_as_often_as_the_definitions_say(string name, SamplingOptions options)
    {
        const int Draws = 10_000;
        int[] prompt = [0, 2, 2, 5];
        using var sampler = new Sampler(_device, Vocabulary, options);
        sampler.See(prompt);
        double[] expected = new double[Vocabulary], variance = new double[Vocabulary];
        int[] counts = new int[Vocabulary];
        for (int n = 0; n < Draws; n++)
        {
            double[] p = Probabilities(options, prompt, counts);
            int token = sampler.Next(_logits);
            Assert.True(p[token] > 0, $"{name}: token {token} cannot come");
            counts[token]++;
            for (int i = 0; i < Vocabulary; i++)
            {
                expected[i] += p[i];
                variance[i] += p[i] * (1 - p[i]);
            }
        }

        for (int i = 0; i < Vocabulary; i++)
            Assert.True(Math.Abs(counts[i] - expected[i]) <= (5 * Math.Sqrt(variance[i])) + 1e-9,
                $"{name}: token {i} came {counts[i]} times; {expected[i]:0.0} expected");
    }

    [Fact]
    public void Penalties_and_bias_act_on_the_greedy_choice()
    {
        // 4 has 3, 8 has 2.5, 0 has 2.
        Assert.Equal([4, 8, 0, 1], Greedy(new SamplingOptions { FrequencyPenalty = 10 }, 4));
        // 3/1.3 = 2.31 < 2.5/1 and > 2; then 2.5/1.3 = 1.92.
        Assert.Equal([4, 8, 4, 4], Greedy(new SamplingOptions { RepetitionPenalty = 1.3 }, 4, 0));
        Assert.Equal([5, 5], Greedy(new SamplingOptions { LogitBias = new Dictionary<int, double> { [5] = 5.5 } }, 2));
        Assert.Equal([8, 8], Greedy(new SamplingOptions { LogitBias = new Dictionary<int, double> { [4] = double.NegativeInfinity } }, 2));
        float[] after = new float[Vocabulary];
        _device.Read(_logits, after);
        Assert.Equal(Row, after);
    }

    /// <summary>What is larger than a float acts as the largest does; it is not the model's fault.</summary>
    [Fact]
    public void Penalties_and_biases_beyond_float32_keep_the_logits_finite()
    {
        Assert.Equal([5, 5], Greedy(new SamplingOptions { LogitBias = new Dictionary<int, double> { [5] = 1e300 } }, 2));
        Assert.Equal([8, 8], Greedy(new SamplingOptions { LogitBias = new Dictionary<int, double> { [4] = -1e300 } }, 2));
        Assert.Equal([4, 4], Greedy(new SamplingOptions { RepetitionPenalty = 1e-300 }, 2));
        Assert.Equal([4, 8, 0], Greedy(new SamplingOptions { RepetitionPenalty = 1e300 }, 3));
        Assert.Equal([4, 8, 0], Greedy(new SamplingOptions { FrequencyPenalty = 1e300 }, 3));
        Assert.Equal([4, 4], Greedy(new SamplingOptions { FrequencyPenalty = -1e300 }, 2));
    }

    [Fact]
    public void Options_that_cannot_act_or_are_out_of_range_are_refused()
    {
        SamplingOptions[] wrong =
        [
            new() { TopK = 5 }, new() { TopP = 0.9 }, new() { MinP = 0.1 }, new() { Seed = 7 },
            new() { Temperature = -1 }, new() { Temperature = double.NaN }, new() { Temperature = 1, TopP = 0 },
                new() { Temperature = 1, MinP = 1.5 }, new() { Temperature = 1, TopK = -1 },
            new() { RepetitionPenalty = 0 }, new() { RepetitionPenalty = double.NaN }, new() { FrequencyPenalty = double.PositiveInfinity },
            new() { LogitBias = new Dictionary<int, double> { [Vocabulary] = 1 } },
                new() { LogitBias = new Dictionary<int, double> { [-1] = 1 } },
                    new() { LogitBias = new Dictionary<int, double> { [1] = double.NaN } },
        ];
        foreach (SamplingOptions options in wrong)
            Assert.Throws<ArgumentException>(() => new Sampler(_device, Vocabulary, options));
        Assert.Contains(
            "temperature above 0",
            Assert.Throws<ArgumentException>(() => new Sampler(_device, Vocabulary, new SamplingOptions { TopK = 5 })).Message,
            StringComparison.Ordinal);
    }

    private int[] Greedy(SamplingOptions options, int count, params int[] prompt)
    {
        using var sampler = new Sampler(_device, Vocabulary, options);
        sampler.See(prompt);
        return [.. Enumerable.Range(0, count).Select(_ => sampler.Next(_logits))];
    }

    /// <summary>Bias; repetition penalty (l &lt; 0: l·θ, else l/θ); frequency penalty; temperature; top-k; top-p; min-p.</summary>
    private static double[] Probabilities(SamplingOptions options, int[] prompt, int[] counts)
    {
        // Changed logits are float32, as those of the model are; near ties hang on it.
        float[] l = [.. Row];
        for (int i = 0; i < l.Length; i++)
        {
            l[i] += (float)(options.LogitBias?.GetValueOrDefault(i) ?? 0);
            if (prompt.Contains(i) || counts[i] > 0)
                l[i] = l[i] < 0 ? l[i] * (float)options.RepetitionPenalty : l[i] / (float)options.RepetitionPenalty;
            l[i] -= counts[i] * (float)options.FrequencyPenalty;
        }

        int[] order = [.. Enumerable.Range(0, l.Length).OrderByDescending(i => l[i]).ThenBy(i => i)];
        if (options.TopK > 0)
            order = order[..Math.Min(order.Length, options.TopK)];
        double[] p = Softmax(l, order, options.Temperature);
        double reached = 0;
        order = [.. order.TakeWhile(i => reached < options.TopP && (reached += p[i]) > 0)];
        p = Softmax(l, order, options.Temperature);
        order = [.. order.Where(i => p[i] >= options.MinP * p.Max())];
        return Softmax(l, order, options.Temperature);
    }

    private static double[] Softmax(float[] l, int[] kept, double temperature)
    {
        double[] p = new double[l.Length];
        foreach (int i in kept)
            p[i] = Math.Exp((l[i] - kept.Max(j => l[j])) / temperature);
        double sum = p.Sum();
        return [.. p.Select(x => x / sum)];
    }
}
