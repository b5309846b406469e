using KernelScope.Devices;
using KernelScope.Generation;

namespace KernelScope.Runtime.Tests;

/// <summary>Sessions of ended requests that later ones begin with: what comes out is what comes out without them.</summary>
public class PrefixTests
{
    private const string Reused = "kernelscope.tokens.reused", Fed = "kernelscope.tokens.prompt";

    /// <summary>Whole pieces, of 16 tokens here, leave the bits as they are, on weights that are packed or not; all tokens leave float32 noise.</summary>
    [Theory]
    [InlineData(PrefixReuse.WholePieces, true)]
    [InlineData(PrefixReuse.WholePieces, false)]
    [InlineData(PrefixReuse.AllTokens, true)]
    [InlineData(PrefixReuse.AllTokens, false)]
    public async Task A_chats_next_turn_feeds_what_is_new_and_gets_the_same(PrefixReuse reuse, bool isPacked)
    {
        using var measured = new Measurements();
        await using KernelScopeEngine engine = await Engines.OpenAsync(2, o => Change(o, 4, measured));
        await using KernelScopeEngine without = await Engines.OpenAsync(2, o => Change(o, 0, new Measurements()));
        int[] prompt = Engines.Prompt(5, 90);
        double fed = 0;
        for (int turn = 0; turn < 4; turn++)
        {
            GenerationRequest request = Request(prompt);
            List<GeneratedToken> expected = await without.AllAsync(request), actual = await engine.AllAsync(request);
            if (reuse == PrefixReuse.WholePieces)
                BatchingTests.AssertSame(expected, actual);
            AssertNear(expected, actual, reuse == PrefixReuse.WholePieces ? 0 : 1e-4f);
            // Of what the last prompt had: all, with the new tokens; or its whole pieces.
            double more = measured[Fed] - fed;
            Assert.Equal(turn == 0 ? 90 : reuse == PrefixReuse.AllTokens ? 7 : prompt.Length - ((prompt.Length - 19) / 16 * 16), more);
            fed += more;
            prompt = [.. prompt, .. actual.Select(t => t.Id), .. Engines.Prompt(turn, 8)[1..]];
        }

        // 90, 109, 128 and 147 tokens.
        Assert.Equal(90 + 109 + 128 + 147 - fed, measured[Reused]);

        void Change(EngineOptions options, int kept, Measurements meters)
        {
            (options.KeptSessions, options.PrefixReuse, options.PrefillRows, options.MeterFactory) = (kept, reuse, 16, meters);
            if (!isPacked)
                options.Checkpoint = Demo.OpenCheckpoint;
        }
    }

    [Fact]
    public async Task Prompts_with_one_beginning_share_it_also_while_they_run_at_once()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(2);
        await using KernelScopeEngine without = await Engines.OpenAsync(2, o => o.KeptSessions = 0);
        int[] system = Engines.Prompt(9, 70);
        GenerationRequest[] requests =
            [.. Enumerable.Range(0, 12).Select(n => Request([.. system, .. Engines.Prompt(n, 3 + (5 * n))[1..]]))];
        var expected = new List<List<GeneratedToken>>();
        foreach (GenerationRequest request in requests)
            expected.Add(await without.AllAsync(request));
        for (int round = 0; round < 3; round++)
        {
            List<GeneratedToken>[] actual = await Task.WhenAll(requests.Select(r => engine.AllAsync(r)));
            for (int n = 0; n < requests.Length; n++)
                BatchingTests.AssertSame(expected[n], actual[n]);
        }
    }

    [Fact]
    public async Task Edits_leave_nothing_behind_and_take_nothing()
    {
        using var measured = new Measurements();
        await using KernelScopeEngine engine =
            await Engines.OpenAsync(change: o => (o.MeterFactory, o.PrefixReuse) = (measured, PrefixReuse.AllTokens));
        GenerationRequest plain = Request(Engines.Prompt(2, 40));
        GenerationRequest edited = plain with { Edits = [new SaeEdit { Sae = Engines.Sae, Features = [FeatureEdit.Steer(69, 30)] }] };
        List<GeneratedToken> first = await engine.AllAsync(edited);
        List<GeneratedToken> untouched = await engine.AllAsync(plain);
        Assert.Equal(0, measured[Reused]);
        BatchingTests.AssertSame(first, await engine.AllAsync(edited));
        Assert.Equal(0, measured[Reused]);
        AssertNear(untouched, await engine.AllAsync(plain), 1e-4f);
        Assert.Equal(39, measured[Reused]);
        // Features of a whole text need every row.
        IReadOnlyList<TokenFeatures> features = await engine.FeaturesAsync(
            new FeaturesRequest { Tokens = plain.PromptTokens, Features = [new FeatureReport { Sae = Engines.Sae }] });
        Assert.Equal(plain.PromptTokens.ToArray(), features.Select(f => f.Id));
        Assert.Equal(39, measured[Reused]);
    }

    [Fact]
    public async Task Kept_sessions_are_few_count_towards_the_memory_and_make_room()
    {
        using var measured = new Measurements();
        await using KernelScopeEngine sizes = await Engines.OpenAsync();
        long Bytes(int context) => Scheduler.SessionBytes(sizes.Model, context, 64);
        // A quarter of the memory holds two, not three.
        int length = Enumerable.Range(20, 100).First(c => 3 * Bytes(c) > Bytes(400) / 4);
        long bytes = Bytes(length);
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o =>
            (o.MeterFactory, o.KeptSessions, o.PrefixReuse, o.MaxSessionBytes) = (measured, 3, PrefixReuse.AllTokens, Bytes(400)));
        for (int n = 0; n < 6; n++)
            await engine.AllAsync(Request(Engines.Prompt(n, length - 12)));
        await engine.IdleAsync();
        Assert.Equal((0, 2, 2 * bytes), Gauges());
        // One that needs all of the memory gets it.
        Assert.Equal(12, (await engine.AllAsync(Request(Engines.Prompt(7, 388)))).Count);
        await engine.IdleAsync();
        Assert.Equal((0, 0, 0), Gauges());

        (double Running, double Kept, double KeptBytes) Gauges()
        {
            string[] names = ["kernelscope.session.bytes", "kernelscope.kept.sessions", "kernelscope.kept.bytes"];
            double[] before = [.. names.Select(n => measured[n])];
            measured.Observe();
            return (measured[names[0]] - before[0], measured[names[1]] - before[1], measured[names[2]] - before[2]);
        }
    }

    [Fact]
    public async Task A_reader_who_left_and_a_request_that_failed_spoil_nothing()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o => (o.BufferedTokens, o.PrefillRows) = (2, 16));
        await using KernelScopeEngine without = await Engines.OpenAsync(change: o => (o.KeptSessions, o.PrefillRows) = (0, 16));
        GenerationRequest request = Request(Engines.Prompt(3, 50));
        List<GeneratedToken> expected = await without.AllAsync(request);
        for (int read = 0; read < 4; read++)
        {
            await using (IAsyncEnumerator<GeneratedToken> reader = engine.GenerateAsync(request).GetAsyncEnumerator())
            {
                for (int n = 0; n <= read; n++)
                    Assert.True(await reader.MoveNextAsync());
            }

            await engine.IdleAsync();
            BatchingTests.AssertSame(expected, await engine.AllAsync(request));
        }

        float[] broken = new float[engine.Model.Config.ModelDim];
        broken[0] = float.NaN;
        await Assert.ThrowsAnyAsync<InvalidOperationException>(() => engine.AllAsync(
            request with { Edits = [new SaeEdit { Sae = Engines.Sae, Splice = Sae.SpliceMode.Mean, Mean = broken }] }));
        BatchingTests.AssertSame(expected, await engine.AllAsync(request));
    }

    /// <summary>Little memory, long and short prompts with common beginnings, readers who leave at any time: whoever stays gets what is right.</summary>
    [Fact]
    public async Task Readers_who_come_and_go_on_many_threads_get_the_same_bits()
    {
        await using KernelScopeEngine without = await Engines.OpenAsync(2, o => (o.KeptSessions, o.PrefillRows) = (0, 16));
        GenerationRequest[] requests =
        [
            .. Enumerable.Range(0, 10)
                .Select(n => Request([.. Engines.Prompt(n % 3, 20 + (40 * (n % 3))), .. Engines.Prompt(n, 2 + (13 * n))[1..]])),
        ];
        var expected = new List<List<GeneratedToken>>();
        foreach (GenerationRequest request in requests)
            expected.Add(await without.AllAsync(request));
        long most = 5 * Scheduler.SessionBytes(without.Model, 260, 16);
        KernelScopeEngine engine = await Engines.OpenAsync(
            2, o => (o.KeptSessions, o.PrefillRows, o.MaxSessionBytes, o.MaxRunning, o.MaxWaiting, o.BufferedTokens) =
            (3, 16, most, 4, 1000, 3));
        await Task.WhenAll(Enumerable.Range(0, 6).Select(t => Task.Run(async () =>
        {
            var random = new Random(t);
            for (int round = 0; round < 10; round++)
            {
                int n = random.Next(requests.Length), taken = random.Next(24);
                var tokens = new List<GeneratedToken>();
                await foreach (GeneratedToken token in engine.GenerateAsync(requests[n]))
                {
                    tokens.Add(token);
                    if (tokens.Count == taken)
                        break;
                }

                BatchingTests.AssertSame(expected[n][..Math.Min(tokens.Count, 12)], tokens);
            }
        })));
        Task[] running = [.. requests.Select(r => engine.AllAsync(r))];
        await engine.DisposeAsync();
        foreach (Task request in running)
            Assert.True(await Record.ExceptionAsync(() => request) is null or ObjectDisposedException);
    }

    [Fact]
    public async Task An_engine_that_goes_gives_the_kept_sessions_back()
    {
        Device? device = null;
        KernelScopeEngine engine = await Engines.OpenAsync(change: o => o.Device = () => device = new Cpu.CpuDevice(1));
        await engine.AllAsync(Request(Engines.Prompt(3, 50)));
        Task<List<GeneratedToken>> running =
            engine.AllAsync(Request(Engines.Prompt(3, 60)) with { Options = new() { MaxNewTokens = 400, StopIds = [] } });
        await engine.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => running);
        Assert.Throws<ObjectDisposedException>(() => device!.CreateMat(1, 1, "after"));
    }

    private static void AssertNear(List<GeneratedToken> expected, List<GeneratedToken> actual, float tolerance)
    {
        Assert.Equal(expected.Select(t => (t.Id, t.Text, t.Stop)), actual.Select(t => (t.Id, t.Text, t.Stop)));
        for (int n = 0; n < expected.Count; n++)
        {
            Assert.Equal(expected[n].LogProb!.Value, actual[n].LogProb!.Value, tolerance);
            FeatureActivation[] features = [.. expected[n].Features.SelectMany(f => f.Top)],
                others = [.. actual[n].Features.SelectMany(f => f.Top)];
            Assert.Equal(features.Select(f => f.Feature), others.Select(f => f.Feature));
            Assert.All(features.Zip(others), p => Assert.Equal(p.First.Activation, p.Second.Activation, tolerance * p.First.Activation));
        }
    }

    private static GenerationRequest Request(int[] prompt) => new()
    {
        PromptTokens = prompt,
        Options = new GenerationOptions { MaxNewTokens = 12, StopIds = [], LogProbs = 0 },
        Features = [new FeatureReport { Sae = Engines.Sae, Top = 3 }],
    };
}
