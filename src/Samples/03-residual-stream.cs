using KernelScope.Cpu;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Samples;

/// <summary>The residual stream: the vector of a token that every layer reads and adds to.</summary>
internal static class ResidualStream
{
    public static void Main(string[] args)
    {
        GemmaTokenizer tokenizer = Demo.OpenTokenizer();
        using var device = new CpuDevice();
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        using Session session = model.NewSession();
        int[] tokens = [tokenizer.BosId, .. tokenizer.Encode("And the king said unto")];
        int last = tokens.Length - 1;

        // A capture listens at hook points and keeps what passes.
        var stream = Enumerable.Range(0, model.Config.LayerCount).Select(layer => new HookPoint(Site.ResidPost, layer)).ToArray();
        using var capture = new ActivationCache(session.Hooks, [new HookPoint(Site.Embed), .. stream]);
        session.Prefill(tokens);

        foreach (HookPoint point in capture.Points)
            Console.WriteLine($"{point,-12}  length {Length(capture.Row(point, last)),5:F1}");

        // The logit lens: what would come next if the layers above were not there?
        foreach (HookPoint point in stream)
        {
            LensToken best = LogitLens.Run(model, tokens, point, count: 1)[last][0];
            Console.WriteLine($"{point,-12}  {best.Probability,6:P1}  '{tokenizer.Decode([best.Id])}'");
        }
    }

    private static double Length(ReadOnlySpan<float> vector)
    {
        double sum = 0;
        foreach (float value in vector)
            sum += value * value;
        return Math.Sqrt(sum);
    }
}
