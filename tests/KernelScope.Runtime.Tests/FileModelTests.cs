using System.Collections;
using KernelScope.Cpu;
using KernelScope.Generation;
using KernelScope.Sae;

namespace KernelScope.Runtime.Tests;

/// <summary>A model in files: what is read after it was unmapped ends the process.</summary>
public class FileModelTests
{
    private static string Folder => Path.Combine(AppContext.BaseDirectory, "model");

    private static string SaePath =>
        Directory.EnumerateFiles(Path.Combine(AppContext.BaseDirectory, "sae"), "params.npz", SearchOption.AllDirectories).First();

    [Fact]
    public async Task Files_give_what_the_embedded_model_gives()
    {
        await using KernelScopeEngine embedded = await Engines.OpenAsync(change: o => o.Checkpoint = Demo.OpenCheckpoint);
        await using KernelScopeEngine files = await KernelScopeEngine.OpenAsync(Options());
        GenerationRequest request = Engines.Request(1) with { PromptTokens = default, Prompt = "Once upon a time" };
        BatchingTests.AssertSame(await embedded.AllAsync(request), await files.AllAsync(request));
    }

    [Fact]
    public async Task An_engine_over_files_may_be_disposed_at_any_moment()
    {
        var random = new Random(3);
        for (int round = 0; round < 20; round++)
        {
            KernelScopeEngine engine = await KernelScopeEngine.OpenAsync(Options());
            Task[] requests =
            [
                .. Enumerable.Range(0, 4).Select(n => EndsAsync(() => engine.AllAsync(Engines.Request(n, newTokens: 100)))),
                EndsAsync(() => engine.FeaturesAsync(
                    new FeaturesRequest { Tokens = Engines.Prompt(1, 400), Features = [new FeatureReport { Sae = Engines.Sae }] })),
                EndsAsync(() => engine.EmbedAsync(new EmbeddingRequest { Tokens = Engines.Prompt(2, 400) })),
            ];
            await Task.Delay(random.Next(0, 40));
            await engine.DisposeAsync();
            await Task.WhenAll(requests).WaitAsync(Engines.Patience);
        }
    }

    [Fact]
    public async Task An_error_in_a_step_for_many_ends_the_request_that_makes_it_and_no_other()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        GenerationRequest plain = Engines.Request(0, newTokens: 40);
        List<GeneratedToken> alone = await engine.AllAsync(plain);
        var where = Positions.Of(new Breaking(after: plain.PromptTokens.Length + 5));
        var edit = new SaeEdit { Sae = Engines.Sae, Features = [Devices.FeatureEdit.Steer(1, 1)], Positions = where };
        Task<List<GeneratedToken>>[] others = [engine.AllAsync(plain), engine.AllAsync(plain)];
        NotSupportedException e = await Assert.ThrowsAsync<NotSupportedException>(() => engine.AllAsync(plain with { Edits = [edit] }));
        Assert.Equal("broken", e.Message);
        foreach (Task<List<GeneratedToken>> other in others)
            BatchingTests.AssertSame(alone, await other);
        await engine.IdleAsync();
    }

    [Fact]
    public async Task Two_engines_run_side_by_side()
    {
        await using KernelScopeEngine first = await KernelScopeEngine.OpenAsync(Options());
        await using KernelScopeEngine second = await KernelScopeEngine.OpenAsync(Options());
        GenerationRequest request = Engines.Request(2);
        List<GeneratedToken>[] tokens = await Task.WhenAll(first.AllAsync(request), second.AllAsync(request));
        BatchingTests.AssertSame(tokens[0], tokens[1]);
        await first.DisposeAsync();
        BatchingTests.AssertSame(tokens[0], await second.AllAsync(request));
    }

    private static EngineOptions Options() => new()
    {
        Model = Folder,
        UsePackedWeights = false,
        Device = () => new CpuDevice(1),
        Saes = { new SaeSource { Name = Engines.Sae, Path = SaePath, Site = new(Hooks.Site.ResidPost, 3) } },
    };

    private static async Task EndsAsync(Func<Task> request)
    {
        try
        {
            await request();
        }
        catch (ObjectDisposedException)
        {
            // As it should.
        }
    }

    /// <summary>Positions that cannot be read any more after a number of times.</summary>
    private sealed class Breaking(int after) : IReadOnlyCollection<int>
    {
        private int _read;

        public int Count => 1;

        public IEnumerator<int> GetEnumerator() => ++_read > after ? throw new NotSupportedException("broken")
            : Enumerable.Empty<int>().GetEnumerator();

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
