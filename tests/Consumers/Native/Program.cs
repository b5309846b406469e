// Prefill and decode of a model (the demo, or the folder that --model names): what they give, and how fast with --time, or with --turns for tools/compare-native.sh, which lets builds take turns.
using System.Diagnostics;
using KernelScope;
using KernelScope.Cpu;
using KernelScope.Model;

int folder = Array.IndexOf(args, "--model") + 1;
using var device = new CpuDevice();
using var model = folder > 0 ? Gemma2Model.Open(device, args[folder]) : Gemma2Model.Load(device, Demo.OpenCheckpoint());
using var session = model.NewSession();
int[] prompt = [model.Config.BosId, .. Demo.OpenTokenizer().Encode("And the king said, Let there be light.")];
int[] text = [.. Enumerable.Repeat(prompt, 256 / prompt.Length).SelectMany(ids => ids)];
if (args.Contains("--turns"))
{
    TakeTurns();
    return;
}

Console.WriteLine($"instructions: {device.InstructionSet}");
Console.WriteLine($"greedy: {string.Join(' ', Greedy(24))}");
if (args.Contains("--time"))
{
    Console.WriteLine(FormattableString.Invariant($"prefill: {text.Length / Least(Prefill, 30, 0):F0} tokens/s"));
    Console.WriteLine(FormattableString.Invariant($"decode: {64 / Least(() => Greedy(64), 30, 0):F0} tokens/s"));
}

// For each line of standard input, "prefill" or "decode", a quarter of a second of it: tokens a second. At first three seconds of both, in which a JIT finds out what is hot.
void TakeTurns()
{
    int steps = folder > 0 ? 8 : 64;
    Least(Prefill, 1, 1.5);
    Least(() => Greedy(steps), 1, 1.5);
    Console.WriteLine(device.InstructionSet);
    while (Console.ReadLine() is { } what)
    {
        double speed = what == "prefill" ? text.Length / Least(Prefill, 1, 0.25) : steps / Least(() => Greedy(steps), 1, 0.25);
        Console.WriteLine(FormattableString.Invariant($"{speed:F1}"));
    }
}

void Prefill()
{
    session.Reset();
    session.Prefill(text);
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

// The least time of some rounds, and of as many more as begin within some seconds.
static double Least(Action work, int rounds, double seconds)
{
    double best = double.PositiveInfinity;
    var all = Stopwatch.StartNew();
    for (int round = 0; round < rounds || all.Elapsed.TotalSeconds < seconds; round++)
    {
        var watch = Stopwatch.StartNew();
        work();
        best = Math.Min(best, watch.Elapsed.TotalSeconds);
    }

    return best;
}
