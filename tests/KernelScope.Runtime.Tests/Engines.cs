using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Generation;
using KernelScope.Model;

namespace KernelScope.Runtime.Tests;

/// <summary>Engines over the demo, and what tests read from them.</summary>
internal static class Engines
{
    public const string Sae = "res3";

    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private static readonly Lazy<string> Panels = new(Pack);

    /// <summary>The demo from packed weights, where rows of a step do not depend on each other.</summary>
    public static EngineOptions Options(int threads = 1)
    {
        // An engine makes its device first.
        PanelStore? store = null;
        return new()
        {
            Device = () =>
            {
                var device = new CpuDevice(threads);
                store = device.Panels;
                return device;
            },
            Checkpoint = () => OpenPacked(store),
            Tokenizer = Demo.OpenTokenizer,
            Saes = { new SaeSource { Name = Sae, Checkpoint = () => Demo.OpenSae(Demo.DefaultSae) } },
        };
    }

    public static Task<KernelScopeEngine> OpenAsync(int threads = 1, Action<EngineOptions>? change = null)
    {
        EngineOptions options = Options(threads);
        change?.Invoke(options);
        return KernelScopeEngine.OpenAsync(options);
    }

    /// <summary>A request of ids that differs with its number: length, sampling, features and edits.</summary>
    public static GenerationRequest Request(int number, int newTokens = 16) => new()
    {
        PromptTokens = Prompt(number, 3 + (number * 37 % 150)),
        Options = new GenerationOptions
        {
            MaxNewTokens = newTokens,
            StopIds = [],
            Sampling = number % 3 == 1 ? new SamplingOptions { Temperature = 0.9, TopK = 40, Seed = (ulong)number } : new SamplingOptions(),
        },
        Features = number % 2 == 0 ? [new FeatureReport { Sae = Sae, Top = 4 }] : [],
        Edits = number % 4 == 3 ? [new SaeEdit { Sae = Sae, Features = [new(69, Devices.FeatureEditKind.Add, 10)] }] : [],
    };

    public static int[] Prompt(int number, int length)
    {
        var random = new Random(number);
        int[] ids = new int[length];
        for (int t = 0; t < ids.Length; t++)
            ids[t] = t == 0 ? 2 : random.Next(10, 4000);
        return ids;
    }

    public static async Task<List<GeneratedToken>> AllAsync(this KernelScopeEngine engine, GenerationRequest request,
        CancellationToken cancellationToken = default)
    {
        var tokens = new List<GeneratedToken>();
        await foreach (GeneratedToken token in engine.GenerateAsync(request, cancellationToken))
            tokens.Add(token);
        return tokens;
    }

    /// <summary>Waits until something holds; fails when patience ends.</summary>
    public static async Task UntilAsync(Func<bool> holds, string what)
    {
        using var patience = new CancellationTokenSource(Patience);
        while (!holds())
        {
            Assert.False(patience.IsCancellationRequested, $"waited in vain until {what}");
            await Task.Delay(5);
        }
    }

    public static Task IdleAsync(this KernelScopeEngine engine) =>
        UntilAsync(() => engine.Running == 0 && engine.Waiting == 0, "the engine is idle");

    private static Gemma2Checkpoint OpenPacked(PanelStore? store)
    {
        Gemma2Checkpoint checkpoint = Demo.OpenCheckpoint();
        if (store is not null)
            ModelPanels.Use(store, checkpoint, PanelFile.Open(Panels.Value));
        return checkpoint;
    }

    private static string Pack()
    {
        string path = Path.Combine(Path.GetTempPath(), $"kernelscope-{Guid.NewGuid():N}{PanelFile.Extension}");
        AppDomain.CurrentDomain.ProcessExit += (_, _) => File.Delete(path);
        using Gemma2Checkpoint checkpoint = Demo.OpenCheckpoint();
        ModelPanels.Write(checkpoint, path);
        return path;
    }
}
