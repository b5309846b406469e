using KernelScope.Generation;
using KernelScope.Model;

namespace KernelScope.Tests.Model;

/// <summary>
/// The forward pass against Hugging Face transformers (float32, eager), every array of every golden; tolerances are those that fixtures/README.md recommends.
/// </summary>
public sealed partial class GoldenTests
{
    public static TheoryData<string, string, string> Goldens() => Of(["", "-2"]);

    public static TheoryData<string, string, string> GreedyGoldens() => Of(TestDevices.GreedyPrompts);

    private static TheoryData<string, string, string> Of(string[] prompts)
    {
        var data = new TheoryData<string, string, string>();
        foreach (string device in TestDevices.All)
        {
            foreach (string folder in Directory.GetDirectories(Fixtures.Path("gemma2", "models")).Order(StringComparer.Ordinal))
            {
                foreach (string prompt in prompts)
                    data.Add(device, Path.GetFileName(folder), prompt);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Goldens))]
    public void Every_hook_point_and_loss_equals_transformers(string deviceName, string name, string suffix)
    {
        using var run = new GoldenRun(deviceName, name, suffix);
        foreach ((string array, double error, double limit) in run.Departures())
            Assert.True(error <= limit, $"{name}{suffix} {array}: departs by {error:g3} of its largest value, allowed {limit:g3}");
    }

    [Theory]
    [MemberData(nameof(GreedyGoldens))]
    public void Greedy_tokens_logits_and_stops_equal_transformers(string deviceName, string name, string suffix) =>
        CheckGreedy(deviceName, name, suffix, TestDevices.GreedySteps);

    private static void CheckGreedy(string deviceName, string name, string suffix, int count)
    {
        using var run = new GoldenRun(deviceName, name, suffix);
        (int[] tokens, float[][] logits) = run.Greedy(count);
        IEnumerable<long> expected = run.Expected.Int64("greedy_tokens").Take(count);
        Assert.Equal(expected, tokens.Select(t => (long)t));
        float[] expectedLogits = run.Expected.Floats("greedy_logits");
        double largest = expectedLogits.Max(Math.Abs);
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<float> row = expectedLogits.AsSpan(i * logits[i].Length, logits[i].Length);
            Assert.True(Compare.Largest(logits[i], row) <= run.LooseLimit * largest, $"{name}{suffix}: logits of greedy step {i}");
        }

        long stopAfter = run.Expected.Int64("greedy_stop_after")[0];
        using Session session = run.NewSession();
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = count });
        int[] stopped = [.. generator.Generate(run.Tokens)];
        bool stops = stopAfter >= 0 && stopAfter <= count;
        Assert.Equal(stops ? stopAfter : count, stopped.Length);
        Assert.Equal(tokens.Take(stopped.Length), stopped);
        Assert.Equal(stops ? StopReason.EndOfText : StopReason.MaxNewTokens, generator.Stop);
    }
}
