using KernelScope.Cpu;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Samples;

/// <summary>How good is an SAE? Put its reconstruction in the place of the activation, and see how much worse the model predicts.</summary>
internal static class SpliceAndMeasure
{
    public static void Main(string[] args)
    {
        using var device = new CpuDevice();
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        using NpzFile file = NpzFile.Open(args[0]);
        TensorView stored = file["eval_tokens"]; // [sequences, tokens]
        int length = (int)stored.Shape[1];
        int[][] sequences = [.. stored.ToInt64s().Select(id => (int)id).Chunk(length)];

        foreach (string name in new[] { "res.3.2k.l0_19", "res.3.2k.l0_57", "mlp.3.1k.l0_37", "transcoder.3.1k.l0_20" })
        {
            using var sae = JumpReluSae.Load(device, Demo.OpenSae(name));
            double clean = Loss(sae, SpliceMode.None), spliced = Loss(sae, SpliceMode.Sae), zero = Loss(sae, SpliceMode.Zero);
            double recovered = (zero - spliced) / (zero - clean);
            Console.WriteLine($"{name,-22} loss {clean:F2}, with the SAE {spliced:F2}, with zeros {zero:F2}: {recovered:P0} recovered");
        }

        // The mean loss of all next tokens, in nats.
        double Loss(JumpReluSae sae, SpliceMode mode)
        {
            HookPoint site = sae.Site!.Value, siteOut = sae.SiteOut ?? site; // a transcoder reads at one place and writes at another
            var losses = new List<double>();
            foreach (int[] tokens in sequences)
            {
                using Session session = model.NewSession();
                using var splice = new SaeSplice(session.Hooks, sae, site, siteOut, mode, Positions.AllBut(model.Config.BosId), edits: []);
                model.Forward(tokens, session, LogitRows.None);
                double[] next = new double[tokens.Length - 1];
                model.NextTokenLoss(tokens.AsSpan(1), session, next);
                losses.AddRange(next);
            }

            return losses.Average();
        }
    }
}
