using KernelScope.Cpu;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Text;

namespace KernelScope.Samples;

/// <summary>Which features of a sparse autoencoder fire on which token?</summary>
internal static class Features
{
    public static void Main(string[] args)
    {
        GemmaTokenizer tokenizer = Demo.OpenTokenizer();
        using var device = new CpuDevice();
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, Demo.OpenSae(Demo.DefaultSae));
        using Session session = model.NewSession();
        using var capture = new FeatureCapture(session.Hooks, sae, sae.Site!.Value);
        Console.WriteLine($"{sae.FeatureCount} features at {sae.Site}");

        int[] tokens = [tokenizer.BosId, .. tokenizer.Encode("And the LORD said unto her: I am thy God")];
        session.Prefill(tokens);

        // The two strongest features of each token, and what is known of them. Those that fire on nearly every token say nothing about one.
        IReadOnlyDictionary<int, string> meanings = Demo.Meanings(Demo.DefaultSae);
        IReadOnlySet<int> dense = Demo.DenseFeatures(Demo.DefaultSae);
        for (int t = 1; t < tokens.Length; t++)
        {
            int[] features = capture.Codes.FeaturesOf(t).ToArray();
            Console.WriteLine($"'{tokenizer.Decode([tokens[t]])}': {features.Length} active");
            foreach (int feature in features.Where(f => !dense.Contains(f)).OrderByDescending(f => capture.Codes.ValueOf(t, f)).Take(2))
                Console.WriteLine($"  {feature,5}  {capture.Codes.ValueOf(t, feature),5:F1}  {meanings.GetValueOrDefault(feature, "?")}");
        }
    }
}
