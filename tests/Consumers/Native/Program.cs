// Prefill and decode of the demo model: what they give, and with --time how fast.
using System.Diagnostics;
using KernelScope;
using KernelScope.Cpu;
using KernelScope.Model;

using var device = new CpuDevice();
using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
using var session = model.NewSession();
int[] prompt = [model.Config.BosId, .. Demo.OpenTokenizer().Encode("And the king said, Let there be light.")];
Console.WriteLine($"instructions: {device.InstructionSet}");
Console.WriteLine($"greedy: {string.Join(' ', Greedy(24))}");
if (args.Contains("--time"))
{
    int[] text = [.. Enumerable.Repeat(prompt, 256 / prompt.Length).SelectMany(ids => ids)];
    double prefill = Best(() => { session.Reset(); session.Prefill(text); }), decode = Best(() => Greedy(64));
    Console.WriteLine(FormattableString.Invariant($"prefill: {text.Length / prefill:F0} tokens/s"));
    Console.WriteLine(FormattableString.Invariant($"decode: {64 / decode:F0} tokens/s"));
}

int[] Greedy(int count)
{
    session.Reset();
    float[] logits = new float[model.Config.VocabSize];
    int[] tokens = new int[count];
    device.Read(session.Prefill(prompt), logits);
    for (int n = 0; n < count; n++)
    {
        tokens[n] = logits.AsSpan().IndexOf(logits.Max());
        if (n + 1 < count)
            device.Read(model.Forward([tokens[n]], session), logits);
    }

    return tokens;
}

static double Best(Action work)
{
    double best = double.PositiveInfinity;
    for (int round = 0; round < 30; round++)
    {
        var watch = Stopwatch.StartNew();
        work();
        best = Math.Min(best, watch.Elapsed.TotalSeconds);
    }

    return best;
}
