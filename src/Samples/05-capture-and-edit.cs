using KernelScope.Cpu;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Samples;

/// <summary>What does a layer contribute? A hook takes it away, and the next token is asked for again.</summary>
internal static class CaptureAndEdit
{
    public static void Main(string[] args)
    {
        GemmaTokenizer tokenizer = Demo.OpenTokenizer();
        using var device = new CpuDevice();
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        int[] tokens = [tokenizer.BosId, .. tokenizer.Encode("And the king said unto")];

        Console.WriteLine($"nothing removed:         {Best(null)}");
        for (int layer = 0; layer < model.Config.LayerCount; layer++)
            Console.WriteLine($"without attention {layer}:     {Best(new HookPoint(Site.AttnOutPost, layer))}");
        for (int layer = 0; layer < model.Config.LayerCount; layer++)
            Console.WriteLine($"without MLP {layer}:           {Best(new HookPoint(Site.MlpOutPost, layer))}");

        string Best(HookPoint? removed)
        {
            using Session session = model.NewSession();
            // A hook may change the values: here it writes zeros in the place of what a sub-layer would add to the stream.
            if (removed is { } point)
                session.Hooks.Add(point, (call, _, value) => call.Device.Write(new float[value.Rows * value.Columns], value));
            var probabilities = new LogProbabilities(device, model.Config.VocabSize);
            probabilities.Read(session.Prefill(tokens));
            TokenLogProb best = probabilities.Top(1)[0];
            return $"{Math.Exp(best.LogProb),6:P1}  '{tokenizer.Decode([best.Id])}'";
        }
    }
}
