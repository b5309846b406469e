using KernelScope.Devices.Reference;
using KernelScope.Generation;

namespace KernelScope.Runtime.Tests;

public class BatchingTests
{
    private static readonly SaeEdit Steer69 = new() { Sae = Engines.Sae, Features = [Devices.FeatureEdit.Steer(69, 10)] };

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public async Task Many_requests_at_once_get_what_each_gets_alone(int threads)
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(threads);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 24).Select(n => Engines.Request(n))];
        var alone = new List<List<GeneratedToken>>();
        foreach (GenerationRequest request in requests)
            alone.Add(await engine.AllAsync(request));
        List<GeneratedToken>[] together = await Task.WhenAll(requests.Select(r => engine.AllAsync(r)));
        for (int n = 0; n < requests.Length; n++)
            AssertSame(alone[n], together[n]);
    }

    [Fact]
    public async Task Many_requests_at_once_from_weights_that_are_not_packed_get_what_each_gets_alone_to_float32_noise()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(2, o => o.Checkpoint = Demo.OpenCheckpoint);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 12).Select(n => Engines.Request(n))];
        var alone = new List<List<GeneratedToken>>();
        foreach (GenerationRequest request in requests)
            alone.Add(await engine.AllAsync(request));
        List<GeneratedToken>[] together = await Task.WhenAll(requests.Select(r => engine.AllAsync(r)));
        for (int n = 0; n < requests.Length; n++)
        {
            Assert.Equal(alone[n].Select(t => t.Id), together[n].Select(t => t.Id));
            FeatureActivation[] expected = Strongest(alone[n]), actual = Strongest(together[n]);
            for (int f = 0; f < expected.Length; f++)
            {
                Assert.Equal(expected[f].Feature, actual[f].Feature);
                Assert.Equal(expected[f].Activation, actual[f].Activation, 1e-5f * expected[f].Activation);
            }
        }

        static FeatureActivation[] Strongest(List<GeneratedToken> tokens) => [.. tokens.SelectMany(t => t.Features).Select(f => f.Top[0])];
    }

    [Fact]
    public async Task Requests_at_once_get_what_each_gets_alone_on_the_reference_device()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o => o.Device = () => new ReferenceDevice());
        GenerationRequest[] requests =
            [.. Enumerable.Range(0, 3).Select(n => Engines.Request(n, newTokens: 2) with { PromptTokens = Engines.Prompt(n, 2 + n) })];
        List<GeneratedToken>[] together = await Task.WhenAll(requests.Select(r => engine.AllAsync(r)));
        for (int n = 0; n < requests.Length; n++)
            AssertSame(await engine.AllAsync(requests[n]), together[n]);
    }

    [Fact]
    public async Task A_vector_is_added_as_a_features_direction_is()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        GenerationRequest plain = Greedy("Once upon a time there lived a miller who had a child called", 12);
        EngineSae sae = engine.Saes[Engines.Sae];
        var vector = new VectorEdit { Point = sae.Site, Direction = sae.Sae.DecoderRow(69), Strength = 10 };
        List<GeneratedToken> steered = await engine.AllAsync(plain with { Edits = [Steer69] });
        Assert.Equal(steered.Select(t => t.Id), (await engine.AllAsync(plain with { Vectors = [vector] })).Select(t => t.Id));
        Assert.NotEqual(steered.Select(t => t.Id), (await engine.AllAsync(plain)).Select(t => t.Id));
    }

    [Fact]
    public async Task The_engine_gives_what_a_generator_gives()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        GenerationRequest request = Engines.Request(1);
        using Model.Session session = engine.Model.NewSession(512);
        int[] expected = [.. new Generator(session, request.Options).Generate(request.PromptTokens)];
        Assert.Equal(expected, (await engine.AllAsync(request)).Select(t => t.Id));
    }

    [Fact]
    public async Task Texts_of_tokens_add_up_to_the_text_and_the_last_says_why_it_ends()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        List<GeneratedToken> tokens = await engine.AllAsync(Greedy("Once upon a time", 20));
        string text = string.Concat(tokens.Select(t => t.Text));
        Assert.Equal(Demo.OpenTokenizer().Decode([.. tokens.Select(t => t.Id)]), text);
        Assert.Equal(StopReason.MaxNewTokens, tokens[^1].Stop);
        Assert.All(tokens.SkipLast(1), t => Assert.Equal(StopReason.None, t.Stop));
    }

    [Fact]
    public async Task Features_of_new_tokens_are_those_of_the_whole_text_read_at_once()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        int[] prompt = Engines.Prompt(5, 40);
        FeatureReport[] reports = [new FeatureReport { Sae = Engines.Sae, Top = 3 }];
        List<GeneratedToken> tokens = await engine.AllAsync(new GenerationRequest
        {
            PromptTokens = prompt,
            Options = new GenerationOptions { MaxNewTokens = 8, StopIds = [] },
            Features = reports,
        });
        int[] whole = [.. prompt, .. tokens.Select(t => t.Id)];
        IReadOnlyList<TokenFeatures> read = await engine.FeaturesAsync(new FeaturesRequest { Tokens = whole, Features = reports });
        for (int n = 0; n < tokens.Count; n++)
        {
            SaeFeatures expected = read[prompt.Length + n].Features[0], actual = tokens[n].Features[0];
            Assert.NotEmpty(actual.Top);
            Assert.Equal(expected.Top.Select(f => f.Feature), actual.Top.Select(f => f.Feature));
            for (int f = 0; f < actual.Top.Count; f++)
                Assert.Equal(expected.Top[f].Activation, actual.Top[f].Activation, 1e-4 * expected.Top[0].Activation);
        }
    }

    [Fact]
    public async Task Features_of_a_text_are_those_of_a_capture()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        int[] prompt = Engines.Prompt(9, 150);
        IReadOnlyList<TokenFeatures> read = await engine.FeaturesAsync(
            new FeaturesRequest { Tokens = prompt, Features = [new FeatureReport { Sae = Engines.Sae, Top = int.MaxValue }] });
        using Model.Session session = engine.Model.NewSession(150, 150);
        EngineSae sae = engine.Saes[Engines.Sae];
        using var capture = new KernelScope.Sae.FeatureCapture(session.Hooks, sae.Sae, sae.Site);
        session.Prefill(prompt);
        Assert.Equal(prompt.Length, read.Count);
        for (int t = 0; t < prompt.Length; t++)
        {
            Assert.Equal(prompt[t], read[t].Id);
            Assert.Equal(capture.Codes.FeaturesOf(t).ToArray(), read[t].Features[0].Top.Select(f => f.Feature).Order());
        }
    }

    [Fact]
    public async Task An_edit_changes_its_own_request_and_not_the_next()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        GenerationRequest plain = Greedy("Once upon a time there lived a miller who had a child called", 8);
        List<GeneratedToken> before = await engine.AllAsync(plain);
        Task<List<GeneratedToken>> beside = engine.AllAsync(plain);
        List<GeneratedToken> steered = await engine.AllAsync(plain with { Edits = [Steer69] });
        AssertSame(before, await beside);
        AssertSame(before, await engine.AllAsync(plain));
        Assert.NotEqual(before.Select(t => t.Id), steered.Select(t => t.Id));
    }

    [Fact]
    public async Task A_stop_string_ends_the_text_before_it()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        GenerationRequest request = Greedy("Once upon a time", 30);
        string text = string.Concat((await engine.AllAsync(request)).Select(t => t.Text));
        string stop = text.Substring(text.Length / 2, 6);
        List<GeneratedToken> tokens =
            await engine.AllAsync(request with { Options = request.Options with { StopStrings = [stop], LogProbs = 2 } });
        Assert.Equal(text[..text.IndexOf(stop, StringComparison.Ordinal)], string.Concat(tokens.Select(t => t.Text)));
        Assert.Equal(StopReason.StopString, tokens[^1].Stop);
        Assert.All(tokens, t => Assert.Equal(t.LogProb, t.Top![0].LogProb));
    }

    [Fact]
    public async Task An_embedding_is_that_of_the_text_by_itself()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        int[] prompt = Engines.Prompt(3, 130);
        Model.EmbeddingOptions[] kinds = [new(), new() { Site = new(Hooks.Site.ResidPost, 2), Pooling = Model.Pooling.LastToken }];
        foreach (Model.EmbeddingOptions options in kinds)
        {
            float[] embedding = await engine.EmbedAsync(new EmbeddingRequest { Tokens = prompt, Options = options });
            using Model.Session session = engine.Model.NewSession(130, 64);
            Assert.Equal(Model.TextEmbedding.Embed(session, prompt, options), embedding);
        }
    }

    [Fact]
    public async Task A_full_context_ends_the_text()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o => o.ContextLength = 20);
        List<GeneratedToken> tokens = await engine.AllAsync(new GenerationRequest
        {
            PromptTokens = Engines.Prompt(1, 18),
            Options = new GenerationOptions { MaxNewTokens = 50, StopIds = [] },
            Features = [new FeatureReport { Sae = Engines.Sae }],
        });
        Assert.Equal(StopReason.ContextFull, tokens[^1].Stop);
        Assert.Equal(3, tokens.Count);
        Assert.Empty(tokens[^1].Features);
    }

    [Fact]
    public async Task A_stop_id_ends_the_text_and_is_not_part_of_it()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        GenerationRequest request = Greedy("Once upon a time", 20);
        int stop = (await engine.AllAsync(request))[4].Id;
        List<GeneratedToken> tokens = await engine.AllAsync(request with { Options = request.Options with { StopIds = [stop] } });
        Assert.Equal(StopReason.EndOfText, tokens[^1].Stop);
        Assert.Equal(stop, tokens[^1].Id);
        Assert.Equal("", tokens[^1].Text);
    }

    [Fact]
    public async Task No_new_tokens_are_asked_for_and_none_come()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        Assert.Empty(await engine.AllAsync(Greedy("Once", 0)));
        await engine.IdleAsync();
    }

    private static GenerationRequest Greedy(string prompt, int newTokens) =>
        new() { Prompt = prompt, Options = new GenerationOptions { MaxNewTokens = newTokens } };

    internal static void AssertSame(List<GeneratedToken> expected, List<GeneratedToken> actual)
    {
        Assert.Equal(expected.Count, actual.Count);
        for (int n = 0; n < expected.Count; n++)
        {
            Assert.Equal(expected[n].Id, actual[n].Id);
            Assert.Equal(expected[n].Text, actual[n].Text);
            Assert.Equal(expected[n].Stop, actual[n].Stop);
            Assert.Equal(expected[n].Features.SelectMany(f => f.Top), actual[n].Features.SelectMany(f => f.Top));
        }
    }
}
