using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Runtime.Tests;

public class LimitTests
{
    private static readonly GenerationRequest Long =
        new() { PromptTokens = Engines.Prompt(1, 200), Options = new GenerationOptions { MaxNewTokens = 100, StopIds = [] } };

    [Fact]
    public async Task The_request_beyond_the_limits_is_refused_and_the_others_come_out_in_order()
    {
        await using KernelScopeEngine engine =
            await Engines.OpenAsync(change: o => (o.MaxRunning, o.MaxWaiting, o.BufferedTokens) = (1, 16, 4));
        await using IAsyncEnumerator<GeneratedToken> running = engine.GenerateAsync(Long).GetAsyncEnumerator();
        Assert.True(await running.MoveNextAsync());
        var ended = new List<int>();
        Task[] waiting = [.. Enumerable.Range(0, 16).Select(async n =>
        {
            await engine.AllAsync(Engines.Request(1, newTokens: 2));
            lock (ended)
                ended.Add(n);
        })];
        EngineBusyException busy = await Assert.ThrowsAsync<EngineBusyException>(() => engine.AllAsync(Engines.Request(1)));
        Assert.Equal((1, 16, 17), (busy.Running, busy.Waiting, busy.Limit));
        await running.DisposeAsync();
        await Task.WhenAll(waiting).WaitAsync(Engines.Patience);
        Assert.Equal(16, ended.Count);
    }

    [Fact]
    public async Task Points_that_are_named_again_are_read_once()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        HookPoint first = new(Site.ResidPost, 1), second = new(Site.ResidPost, 3);
        HookPoint[] points = [second, first, .. Enumerable.Repeat(second, 200_000)];
        var request = new ActivationsRequest { Tokens = Engines.Prompt(1, 5), Points = points };
        IReadOnlyList<float[]> rows = await engine.ActivationsAsync(request).WaitAsync(Engines.Patience);
        Assert.Equal(points.Length, rows.Count);
        Assert.NotEqual(rows[0], rows[1]);
        Assert.Equal((await engine.ActivationsAsync(request with { Points = [first] }))[0], rows[1]);
        Assert.Equal(rows[0], rows[^1]);
    }

    [Fact]
    public async Task A_cache_of_bfloat16_takes_half_the_memory_and_another_type_is_refused()
    {
        await using KernelScopeEngine wide = await Engines.OpenAsync(),
            narrow = await Engines.OpenAsync(change: o => o.CacheType = DType.BF16);
        Assert.Equal((DType.F32, DType.BF16), (wide.Model.CacheType, narrow.Model.CacheType));
        // Half of the cache, beside the logits of a session, which stay as they are.
        long bytes = Scheduler.SessionBytes(wide.Model, 300, 64), saved = bytes - Scheduler.SessionBytes(narrow.Model, 300, 64);
        Assert.InRange(saved, bytes / 4, bytes / 2);
        Assert.Equal(2, (await narrow.AllAsync(Engines.Request(1, newTokens: 2))).Count);
        ArgumentException refused =
            await Assert.ThrowsAsync<ArgumentException>(() => Engines.OpenAsync(change: o => o.CacheType = DType.F16));
        Assert.Contains("CacheType is F16", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sessions_beyond_the_memory_wait_and_one_that_never_fits_is_refused()
    {
        await using KernelScopeEngine sizes = await Engines.OpenAsync();
        long bytes = Scheduler.SessionBytes(sizes.Model, 300, 64);
        await using KernelScopeEngine engine =
            await Engines.OpenAsync(change: o => (o.MaxSessionBytes, o.BufferedTokens) = (bytes + (bytes / 4), 4));
        await using IAsyncEnumerator<GeneratedToken> first = engine.GenerateAsync(Long).GetAsyncEnumerator();
        Assert.True(await first.MoveNextAsync());
        Task<List<GeneratedToken>> second = engine.AllAsync(Long);
        await Task.Delay(50);
        Assert.Equal((1, 1), (engine.Running, engine.Waiting));
        await first.DisposeAsync();
        Assert.Equal(100, (await second.WaitAsync(Engines.Patience)).Count);
        ArgumentException tooLarge = await Assert.ThrowsAsync<ArgumentException>(
            () => engine.AllAsync(Long with { Options = Long.Options with { MaxNewTokens = 312 } }));
        Assert.Contains("MaxSessionBytes", tooLarge.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Bad_requests_are_refused_at_once_with_a_sentence()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o => o.ContextLength = 64);
        Refused("no tokens", new GenerationRequest());
        Refused("not both", new GenerationRequest { Prompt = "a", PromptTokens = (int[])[2] });
        Refused("65 tokens", new GenerationRequest { PromptTokens = Engines.Prompt(1, 65) });
        Refused("Token id 5000000", new GenerationRequest { PromptTokens = (int[])[2, 5_000_000] });
        Refused("Token id -1", new GenerationRequest { PromptTokens = (int[])[2, -1] });
        var cold = new SamplingOptions { Temperature = -1 };
        Refused("temperature", new GenerationRequest { Prompt = "a", Options = new GenerationOptions { Sampling = cold } });
        Refused("no SAE 'other'", new GenerationRequest { Prompt = "a", Features = [new FeatureReport { Sae = "other" }] });
        Refused("at least 1", new GenerationRequest { Prompt = "a", Features = [new FeatureReport { Sae = Engines.Sae, Top = 0 }] });
        Refused("Feature 2048", Edited(new SaeEdit { Sae = Engines.Sae, Features = [new(2048, FeatureEditKind.Add, 1)] }));
        Refused("not a number", Edited(new SaeEdit { Sae = Engines.Sae, Features = [new(1, FeatureEditKind.Add, float.NaN)] }));
        Refused("A vector has 3 values", Steered(new float[3]));
        float[] infinite = new float[engine.Model.Config.ModelDim];
        foreach (float value in (float[])[float.NaN, float.PositiveInfinity])
        {
            infinite[5] = value;
            Refused("not a finite number", Steered(infinite));
        }

        Refused("mean", Edited(new SaeEdit { Sae = Engines.Sae, Splice = SpliceMode.Mean }));
        await Assert.ThrowsAsync<ArgumentException>(() => engine.FeaturesAsync(new FeaturesRequest { Text = "a", Features = [] }));
        await Assert.ThrowsAsync<ArgumentException>(() =>
            engine.EmbedAsync(new EmbeddingRequest { Text = "a", Options = new EmbeddingOptions { Site = new(Hooks.Site.ResidPost, 6) } }));

        GenerationRequest Steered(float[] direction) =>
            new() { Prompt = "a", Vectors = [new VectorEdit { Point = new(Hooks.Site.ResidPost, 3), Direction = direction }] };
        GenerationRequest Edited(SaeEdit edit) => new() { Prompt = "a", Edits = [edit] };
        void Refused(string part, GenerationRequest request) =>
            Assert.Contains(part, Assert.ThrowsAny<ArgumentException>(() => engine.GenerateAsync(request)).Message,
                StringComparison.Ordinal);
    }

    [Fact]
    public async Task Members_that_are_null_and_enums_out_of_range_are_refused_with_a_sentence()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        var plain = new GenerationRequest { Prompt = "a" };
        var edit = new SaeEdit { Sae = Engines.Sae };
        Refused("Options of the request is null", plain with { Options = null! });
        Refused("Options.Sampling of the request is null", plain with { Options = new GenerationOptions { Sampling = null! } });
        Refused("Features of the request is null", plain with { Features = null! });
        Refused("Features of the request has an entry", plain with { Features = [null!] });
        Refused("Edits of the request is null", plain with { Edits = null! });
        Refused("Edits of the request has an entry", plain with { Edits = [null!] });
        Refused("Vectors of the request is null", plain with { Vectors = null! });
        Refused("no SAE ''", plain with { Edits = [edit with { Sae = null! }] });
        Refused("is null", plain with { Edits = [edit with { Features = null! }] });
        Refused("no EditPlace 99", plain with { Edits = [edit with { Place = (EditPlace)99 }] });
        Refused("no SpliceMode 99", plain with { Edits = [edit with { Splice = (SpliceMode)99 }] });
        Refused("no FeatureEditKind 99", plain with { Edits = [edit with { Features = [new(1, (FeatureEditKind)99, 1)] }] });
        foreach (Hooks.Site site in (Hooks.Site[])[Hooks.Site.AttnPattern, Hooks.Site.AttnScores])
            Refused("not a fixed number", plain with { Vectors = [new VectorEdit { Point = new(site, 3), Direction = new float[8] }] });
        Assert.Contains("Options of the request is null", (await Assert.ThrowsAsync<ArgumentException>(() =>
            engine.EmbedAsync(new EmbeddingRequest { Text = "a", Options = null! }))).Message, StringComparison.Ordinal);
        Assert.Contains("no Pooling 99", (await Assert.ThrowsAsync<ArgumentException>(() => engine.EmbedAsync(
            new EmbeddingRequest { Text = "a", Options = new EmbeddingOptions { Pooling = (Pooling)99 } }))).Message,
            StringComparison.Ordinal);
        Assert.Contains("Features of the request is null", (await Assert.ThrowsAsync<ArgumentException>(() =>
            engine.FeaturesAsync(new FeaturesRequest { Text = "a", Features = null! }))).Message, StringComparison.Ordinal);

        void Refused(string part, GenerationRequest request) =>
            Assert.Contains(part, Assert.ThrowsAny<ArgumentException>(() => engine.GenerateAsync(request)).Message,
                StringComparison.Ordinal);
    }

    [Fact]
    public async Task Values_that_are_no_numbers_end_their_own_request_alone()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        GenerationRequest plain = Engines.Request(0);
        List<GeneratedToken> alone = await engine.AllAsync(plain);
        float[] broken = new float[engine.Model.Config.ModelDim];
        broken[0] = float.NaN;
        var poisoned = plain with { Edits = [new SaeEdit { Sae = Engines.Sae, Splice = SpliceMode.Mean, Mean = broken }] };
        Task<List<GeneratedToken>> beside = engine.AllAsync(plain);
        await Assert.ThrowsAsync<InvalidOperationException>(() => engine.AllAsync(poisoned));
        BatchingTests.AssertSame(alone, await beside);
        BatchingTests.AssertSame(alone, await engine.AllAsync(plain));
    }

    [Theory]
    [InlineData("either Model", null, 8)]
    [InlineData("MaxRunning is 0", "folder", 0)]
    public async Task Options_that_cannot_be_meant_are_refused(string part, string? model, int running)
    {
        var options = new EngineOptions { Model = model, MaxRunning = running };
        ArgumentException e = await Assert.ThrowsAsync<ArgumentException>(() => KernelScopeEngine.OpenAsync(options));
        Assert.Contains(part, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_model_that_is_not_there_is_named()
    {
        var options = new EngineOptions { Model = "no/such-model" };
        InvalidDataException e = await Assert.ThrowsAsync<InvalidDataException>(() => KernelScopeEngine.OpenAsync(options));
        Assert.Contains("no/such-model", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Metrics_count_requests_tokens_and_refusals()
    {
        using var measured = new Measurements();
        await using (KernelScopeEngine engine =
            await Engines.OpenAsync(change: o => (o.MeterFactory, o.MaxRunning, o.MaxWaiting, o.BufferedTokens) = (measured, 1, 0, 4)))
        {
            var five = new GenerationOptions { MaxNewTokens = 5, StopIds = [] };
            await engine.AllAsync(new GenerationRequest { PromptTokens = Engines.Prompt(2, 100), Options = five });
            await using IAsyncEnumerator<GeneratedToken> running = engine.GenerateAsync(Long).GetAsyncEnumerator();
            Assert.True(await running.MoveNextAsync());
            await Assert.ThrowsAsync<EngineBusyException>(() => engine.AllAsync(Engines.Request(1)));
            measured.Observe();
            Assert.Equal(1, measured["kernelscope.requests.running"]);
            Assert.True(measured["kernelscope.session.bytes"] > 0);
        }

        Assert.Equal(1, measured["kernelscope.requests outcome=done"]);
        Assert.Equal(2, measured["kernelscope.requests"]);
        Assert.Equal(1, measured["kernelscope.refusals"]);
        Assert.Equal(300, measured["kernelscope.tokens.prompt"]);
        Assert.Equal(300, measured["kernelscope.step.rows kind=prefill"]);
        Assert.True(measured["kernelscope.tokens.new"] >= 6);
        Assert.True(measured["kernelscope.time_to_first_token"] > 0);
        Assert.True(measured["kernelscope.step.duration kind=decode"] > 0);
    }
}
