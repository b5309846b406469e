using System.Diagnostics;
using KernelScope.Cpu;
using KernelScope.Generation;

namespace KernelScope.Runtime.Tests;

public class LifetimeTests
{
    private static readonly GenerationRequest Long =
        new() { PromptTokens = Engines.Prompt(1, 300), Options = new GenerationOptions { MaxNewTokens = 200, StopIds = [] } };

    [Fact]
    public async Task A_reader_who_leaves_ends_the_request_and_no_other()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        List<GeneratedToken> alone = await engine.AllAsync(Engines.Request(4));
        Task<List<GeneratedToken>> other = engine.AllAsync(Engines.Request(4));
        await foreach (GeneratedToken _ in engine.GenerateAsync(Long))
            break;
        BatchingTests.AssertSame(alone, await other);
        await engine.IdleAsync();
    }

    [Fact]
    public async Task A_storm_of_cancellations_leaves_nothing_behind()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(2, o => o.MaxWaiting = 200);
        List<GeneratedToken> alone = await engine.AllAsync(Engines.Request(4));
        var random = new Random(7);
        Task[] storm = [.. Enumerable.Range(0, 120).Select(n => CancelledAsync(engine, n, random.Next(0, 60)))];
        Task<List<GeneratedToken>> survivor = engine.AllAsync(Engines.Request(4));
        await Task.WhenAll(storm).WaitAsync(Engines.Patience);
        BatchingTests.AssertSame(alone, await survivor);
        await engine.IdleAsync();
        BatchingTests.AssertSame(alone, await engine.AllAsync(Engines.Request(4)));
    }

    [Fact]
    public async Task A_request_that_waits_can_be_cancelled()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o => (o.MaxRunning, o.BufferedTokens) = (1, 4));
        await using IAsyncEnumerator<GeneratedToken> running = engine.GenerateAsync(Long).GetAsyncEnumerator();
        Assert.True(await running.MoveNextAsync());
        using var cancellation = new CancellationTokenSource();
        Task<List<GeneratedToken>> waiting = engine.AllAsync(Engines.Request(1), cancellation.Token);
        await Engines.UntilAsync(() => engine.Waiting == 1, "one request waits");
        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        Assert.Equal(0, engine.Waiting);
    }

    [Fact]
    public async Task A_slow_reader_pauses_alone()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o => o.BufferedTokens = 4);
        GenerationRequest request = Engines.Request(2, newTokens: 40);
        List<GeneratedToken> alone = await engine.AllAsync(request);
        await using IAsyncEnumerator<GeneratedToken> slow = engine.GenerateAsync(request).GetAsyncEnumerator();
        Assert.True(await slow.MoveNextAsync());
        var slowly = new List<GeneratedToken> { slow.Current };
        // Everybody else goes on and ends while the slow one reads nothing.
        for (int n = 0; n < 3; n++)
            BatchingTests.AssertSame(alone, await engine.AllAsync(request));
        Assert.Equal(1, engine.Running);
        while (await slow.MoveNextAsync())
            slowly.Add(slow.Current);
        BatchingTests.AssertSame(alone, slowly);
    }

    [Fact]
    public async Task Dispose_ends_what_runs_and_what_waits()
    {
        KernelScopeEngine engine = await Engines.OpenAsync(change: o => (o.MaxRunning, o.BufferedTokens) = (2, 4));
        IAsyncEnumerator<GeneratedToken>[] running =
            [engine.GenerateAsync(Long).GetAsyncEnumerator(), engine.GenerateAsync(Long).GetAsyncEnumerator()];
        foreach (IAsyncEnumerator<GeneratedToken> reader in running)
            Assert.True(await reader.MoveNextAsync());
        Task<List<GeneratedToken>>[] waiting = [.. Enumerable.Range(0, 4).Select(_ => engine.AllAsync(Long))];
        Task<IReadOnlyList<TokenFeatures>> features =
            engine.FeaturesAsync(new FeaturesRequest { Tokens = Long.PromptTokens, Features = [new FeatureReport { Sae = Engines.Sae }] });
        Assert.Equal(5, engine.Waiting);
        long started = Stopwatch.GetTimestamp();
        await engine.DisposeAsync();
        TimeSpan took = Stopwatch.GetElapsedTime(started);
        foreach (Task stream in (Task[])[.. running.Select(DrainAsync), .. waiting, features])
            await Assert.ThrowsAsync<ObjectDisposedException>(() => stream).WaitAsync(Engines.Patience);
        Assert.True(took < TimeSpan.FromSeconds(5), $"disposing took {took}");
    }

    [Fact]
    public async Task Dispose_may_be_called_twice_and_later_calls_say_so()
    {
        KernelScopeEngine engine = await Engines.OpenAsync();
        await Task.WhenAll(engine.DisposeAsync().AsTask(), engine.DisposeAsync().AsTask());
        engine.Dispose();
        Assert.Throws<ObjectDisposedException>(() => engine.GenerateAsync(Long));
        await Assert.ThrowsAsync<ObjectDisposedException>(() => engine.EmbedAsync(new EmbeddingRequest { Text = "a" }));
    }

    [Fact]
    public async Task An_enumeration_that_begins_after_dispose_says_so()
    {
        KernelScopeEngine engine = await Engines.OpenAsync();
        IAsyncEnumerable<GeneratedToken> tokens = engine.GenerateAsync(Long);
        await engine.DisposeAsync();
        await using IAsyncEnumerator<GeneratedToken> reader = tokens.GetAsyncEnumerator();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await reader.MoveNextAsync());
    }

    [Fact]
    public async Task Opening_that_is_cancelled_closes_what_it_opened()
    {
        using var cancellation = new CancellationTokenSource();
        CpuDevice? device = null;
        EngineOptions options = Engines.Options();
        options.Device = () => device = new CpuDevice(1);
        options.Tokenizer = () =>
        {
            cancellation.Cancel();
            return Demo.OpenTokenizer();
        };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            KernelScopeEngine.OpenAsync(options, cancellationToken: cancellation.Token));
        Assert.NotNull(device);
    }

    [Fact]
    public async Task Progress_reaches_one()
    {
        var seen = new List<double>();
        await using KernelScopeEngine engine = await KernelScopeEngine.OpenAsync(Engines.Options(), new Sink(seen));
        Assert.Equal(1, seen[^1]);
        Assert.Equal(seen.Order(), seen);
    }

    [Fact]
    public async Task Hundreds_of_generations_do_not_grow_memory()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        await ManyAsync(engine, 100);
        long before = PrivateBytes();
        await ManyAsync(engine, 300);
        long grown = PrivateBytes() - before;
        Assert.True(grown < 20 << 20, $"private memory grew by {grown >> 20} MiB");
    }

    private static async Task DrainAsync(IAsyncEnumerator<GeneratedToken> reader)
    {
        while (await reader.MoveNextAsync())
        {
        }
    }

    private static async Task ManyAsync(KernelScopeEngine engine, int count)
    {
        for (int n = 0; n < count; n += 10)
            await Task.WhenAll(Enumerable.Range(n, 10).Select(m => engine.AllAsync(Engines.Request(m, newTokens: 4))));
    }

    private static long PrivateBytes()
    {
        GC.Collect(2, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        GC.WaitForPendingFinalizers();
        using var process = Process.GetCurrentProcess();
        return process.PrivateMemorySize64;
    }

    private static async Task CancelledAsync(KernelScopeEngine engine, int number, int milliseconds)
    {
        using var cancellation = new CancellationTokenSource(milliseconds);
        try
        {
            await engine.AllAsync(Engines.Request(number, newTokens: 300), cancellation.Token);
        }
        catch (OperationCanceledException)
        {
            // As asked for.
        }
    }

    private sealed class Sink(List<double> seen) : IProgress<double>
    {
        public void Report(double value) => seen.Add(value);
    }
}
