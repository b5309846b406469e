using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Samples;

/// <summary>One forward pass: which token comes next?</summary>
internal static class ForwardPass
{
    public static void Main(string[] args)
    {
        GemmaTokenizer tokenizer = Demo.OpenTokenizer();
        using var device = new CpuDevice();
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        using Session session = model.NewSession();

        int[] tokens = [tokenizer.BosId, .. tokenizer.Encode("And the king said unto")];
        Mat logits = model.Forward(tokens, session);
        Console.WriteLine($"{logits.Rows} row of {logits.Columns} logits, after {session.Position} tokens");

        // The softmax of the logits gives each token of the vocabulary its probability.
        var probabilities = new LogProbabilities(device, model.Config.VocabSize);
        probabilities.Read(logits);
        foreach (TokenLogProb next in probabilities.Top(5))
            Console.WriteLine($"{Math.Exp(next.LogProb),6:P1}  '{tokenizer.Decode([next.Id])}'");
    }
}
