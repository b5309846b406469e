using KernelScope.Cpu;
using KernelScope.Files;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Samples;

/// <summary>Is this the same model? Compares with numbers that Hugging Face transformers stored in an npz file.</summary>
internal static class DiffWithAnotherRuntime
{
    public static void Main(string[] args)
    {
        using NpzFile theirs = NpzFile.Open(args[0]);
        int[] tokens = [.. theirs["tokens_tale"].ToInt64s().Select(id => (int)id)];
        int[] greedy = [.. theirs["greedy_tokens_tale"].ToInt64s().Select(id => (int)id)];

        using var device = new CpuDevice();
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        using Session session = model.NewSession(tokens.Length + greedy.Length, tokens.Length);
        var point = HookPoint.Parse("blocks.3.hook_resid_post"); // TransformerLens' name of resid_post.3
        using var capture = new ActivationCache(session.Hooks, [point]);
        float[] logits = new float[model.Config.VocabSize];
        device.Read(model.Forward(tokens, session), logits);

        Compare($"{point}, {tokens.Length} tokens", theirs["resid_post.3_tale"].ToFloats(), capture.Values(point));
        Compare("the last token's logits", theirs["logits_last_tale"].ToFloats(), logits);

        session.Reset();
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = greedy.Length, StopIds = [] });
        int equal = generator.Generate(tokens).Zip(greedy).Count(pair => pair.First == pair.Second);
        Console.WriteLine($"greedy tokens: {equal} of {greedy.Length} are equal");
    }

    private static void Compare(string name, ReadOnlySpan<float> theirs, ReadOnlySpan<float> ours)
    {
        double difference = 0, largest = 0;
        for (int i = 0; i < theirs.Length; i++)
        {
            difference = Math.Max(difference, Math.Abs(theirs[i] - ours[i]));
            largest = Math.Max(largest, Math.Abs(theirs[i]));
        }

        string verdict = difference <= 1e-5 * largest ? "equal to 5 digits of the largest" : $"they differ by {difference}";
        Console.WriteLine($"{name}: {theirs.Length} values up to {largest:F1}: {verdict}");
    }
}
