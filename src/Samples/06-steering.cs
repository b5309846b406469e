using KernelScope.Cpu;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Text;

namespace KernelScope.Samples;

/// <summary>Adding a feature's direction to the residual stream changes what the model writes.</summary>
internal static class Steer
{
    private const int Feature = 69;

    public static void Main(string[] args)
    {
        GemmaTokenizer tokenizer = Demo.OpenTokenizer();
        using var device = new CpuDevice();
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, Demo.OpenSae(Demo.DefaultSae));
        int[] prompt = [tokenizer.BosId, .. tokenizer.Encode("In a village lived a")];
        Console.WriteLine($"feature {Feature}: {Demo.Meanings(Demo.DefaultSae)[Feature]}");

        foreach (float strength in new[] { 0f, 10f, -10f })
        {
            using Session session = model.NewSession();
            using var steering = new Steering(
                session.Hooks, device, sae.Site!.Value, sae.DecoderRow(Feature), strength, Positions.AllBut(tokenizer.BosId));
            var generator = new Generator(session, new GenerationOptions { MaxNewTokens = 24 });
            int[] tokens = [.. prompt, .. generator.Generate(prompt)];
            Console.WriteLine($"{strength,3}: {tokenizer.Decode(tokens)}");
        }
    }
}
