using KernelScope.Extensions;
using KernelScope.Generation;
using KernelScope.Text;
using Microsoft.Extensions.AI;
using ChatMessage = Microsoft.Extensions.AI.ChatMessage;

namespace KernelScope.Runtime.Tests;

public class ChatClientTests
{
    private static readonly ChatMessage[] Question = [new(ChatRole.User, "Who lived in the wood?")];

    [Fact]
    public async Task An_answer_is_what_the_engine_gives_for_the_templates_tokens()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var client = new KernelScopeChatClient(engine, maxOutputTokens: 12);
        int[] prompt = ChatTemplate.Encode(engine.Tokenizer!, [new("user", "Who lived in the wood?")], addGenerationPrompt: true);
        List<GeneratedToken> expected =
            await engine.AllAsync(new GenerationRequest { PromptTokens = prompt, Options = new GenerationOptions { MaxNewTokens = 12 } });
        ChatResponse response = await client.GetResponseAsync(Question);
        Assert.Equal(string.Concat(expected.Select(t => t.Text)), response.Text);
        Assert.Equal(prompt.Length, response.Usage?.InputTokenCount);
        Assert.Equal(expected.Count, response.Usage?.OutputTokenCount);
        Assert.Equal(expected.Count == 12 ? ChatFinishReason.Length : ChatFinishReason.Stop, response.FinishReason);
        Assert.Equal(ChatRole.Assistant, Assert.Single(response.Messages).Role);
    }

    [Fact]
    public async Task Updates_stream_the_same_text_and_carry_the_engines_tokens()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var client = new KernelScopeChatClient(engine);
        var options = new ChatOptions
        {
            MaxOutputTokens = 6,
            RawRepresentationFactory = _ => new GenerationRequest { Features = [new FeatureReport { Sae = Engines.Sae }] },
        };
        var updates = new List<ChatResponseUpdate>();
        await foreach (ChatResponseUpdate update in client.GetStreamingResponseAsync(Question, options))
            updates.Add(update);
        Assert.Equal((await client.GetResponseAsync(Question, options)).Text, string.Concat(updates.Select(u => u.Text)));
        Assert.All(updates, u => Assert.NotEmpty(Assert.IsType<GeneratedToken>(u.RawRepresentation).Features[0].Top));
        Assert.NotNull(updates[^1].FinishReason);
        Assert.Single(updates.Select(u => u.ResponseId).Distinct());
    }

    [Fact]
    public async Task A_seed_repeats_an_answer_and_a_stop_sequence_ends_it()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var client = new KernelScopeChatClient(engine);
        var options = new ChatOptions { MaxOutputTokens = 24, Temperature = 1, TopP = 0.95f, TopK = 50, Seed = 11 };
        options.FrequencyPenalty = 0.5f;
        string text = (await client.GetResponseAsync(Question, options)).Text;
        Assert.Equal(text, (await client.GetResponseAsync(Question, options)).Text);
        options.StopSequences = [text.Substring(text.Length / 2, 3)];
        ChatResponse stopped = await client.GetResponseAsync(Question, options);
        Assert.Equal(text[..text.IndexOf(options.StopSequences[0], StringComparison.Ordinal)], stopped.Text);
        Assert.Equal(ChatFinishReason.Stop, stopped.FinishReason);
    }

    [Fact]
    public async Task At_temperature_zero_options_of_chance_change_nothing()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var client = new KernelScopeChatClient(engine, maxOutputTokens: 8);
        string greedy = (await client.GetResponseAsync(Question)).Text;
        Assert.Equal(greedy,
            (await client.GetResponseAsync(Question, new ChatOptions { Temperature = 0, TopP = 0.5f, TopK = 3, Seed = 1 })).Text);
    }

    [Fact]
    public async Task A_value_that_cannot_be_meant_is_refused_at_any_temperature()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var client = new KernelScopeChatClient(engine, maxOutputTokens: 8);
        foreach (float? temperature in (float?[])[null, 0, 1])
        {
            await RefusesAsync("top-k is -1", new ChatOptions { Temperature = temperature, TopK = -1 });
            await RefusesAsync("top-p is 2", new ChatOptions { Temperature = temperature, TopP = 2 });
            await RefusesAsync("top-p is NaN", new ChatOptions { Temperature = temperature, TopP = float.NaN });
        }

        async Task RefusesAsync(string words, ChatOptions options) => Assert.Contains(
            words, (await Assert.ThrowsAsync<ArgumentException>(() => client.GetResponseAsync(Question, options))).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_text_that_cannot_be_embedded_is_named_by_its_place()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var generator = new KernelScopeEmbeddingGenerator(engine);
        foreach (string bad in (string[])["", null!, string.Concat(Enumerable.Repeat("word ", 2000))])
        {
            ArgumentException refusal = await Assert.ThrowsAsync<ArgumentException>(
                () => generator.GenerateAsync(["a wood", bad, "a mill"]));
            Assert.StartsWith("Text 1: ", refusal.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task What_the_system_says_stands_before_the_first_question()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var client = new KernelScopeChatClient(engine, maxOutputTokens: 8);
        string folded = (await client.GetResponseAsync([new(ChatRole.User, "Be brief.\n\nTell a tale.\n\nWho lived in the wood?")])).Text;
        ChatMessage[] messages = [new(ChatRole.System, "Tell a tale."), .. Question];
        Assert.Equal(folded, (await client.GetResponseAsync(messages, new ChatOptions { Instructions = "Be brief." })).Text);
        ArgumentException alone = await Assert.ThrowsAsync<ArgumentException>(() => client.GetResponseAsync(messages[..1]));
        Assert.Contains("system messages only", alone.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_chat_template_of_the_folder_writes_the_conversation()
    {
        string folder = Directory.CreateTempSubdirectory("kernelscope-chat").FullName;
        try
        {
            foreach (string file in Directory.EnumerateFiles(Path.Combine(AppContext.BaseDirectory, "model")))
                File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
            await File.WriteAllTextAsync(
                Path.Combine(folder, "chat_template.jinja"), "{% for m in messages %}{{ m.role }} says {{ m.content }}; {% endfor %}");
            await using KernelScopeEngine engine =
                await Engines.OpenAsync(change: o => (o.Checkpoint, o.Tokenizer, o.Model) = (null, null, folder));
            using var client = new KernelScopeChatClient(engine, maxOutputTokens: 6);
            int[] prompt = engine.Tokenizer!.Encode("system says Tell a tale.; user says Who lived in the wood?; ");
            var options = new GenerationOptions { MaxNewTokens = 6 };
            List<GeneratedToken> expected = await engine.AllAsync(new GenerationRequest { PromptTokens = prompt, Options = options });
            Assert.Equal(
                string.Concat(expected.Select(t => t.Text)),
                (await client.GetResponseAsync([new(ChatRole.System, "Tell a tale."), .. Question])).Text);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task What_it_cannot_do_is_refused_by_name()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var client = new KernelScopeChatClient(engine);
        await RefusedAsync("Tools", new ChatOptions { Tools = [AIFunctionFactory.Create(() => 1, "one")] });
        await RefusedAsync("JSON", new ChatOptions { ResponseFormat = ChatResponseFormat.Json });
        await RefusedAsync("presence penalty", new ChatOptions { PresencePenalty = 0.5f });
        await RefusedAsync("conversation id", new ChatOptions { ConversationId = "a" });
        await Assert.ThrowsAsync<NotSupportedException>(() => client.GetResponseAsync([new(ChatRole.Tool, "4")]));
        await Assert.ThrowsAsync<NotSupportedException>(() =>
            client.GetResponseAsync([new(ChatRole.User, [new DataContent("data:image/png;base64,AAAA")])]));
        await Assert.ThrowsAsync<ArgumentException>(() => client.GetResponseAsync([]));
        await Assert.ThrowsAsync<ArgumentException>(() => client.GetResponseAsync([null!]));
        foreach (float temperature in (float[])[float.NaN, float.PositiveInfinity, -1])
        {
            Assert.Contains("The temperature is", (await Assert.ThrowsAsync<ArgumentException>(() =>
                client.GetResponseAsync(Question, new ChatOptions { Temperature = temperature }))).Message, StringComparison.Ordinal);
        }

        Assert.Contains("MaxOutputTokens is 0", (await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() =>
            client.GetResponseAsync(Question, new ChatOptions { MaxOutputTokens = 0 }))).Message, StringComparison.Ordinal);
        Assert.NotEmpty((await client.GetResponseAsync(Question, new ChatOptions { Temperature = 1e30f, MaxOutputTokens = 2 })).Messages);

        async Task RefusedAsync(string part, ChatOptions options) => Assert.Contains(
            part, (await Assert.ThrowsAsync<NotSupportedException>(() => client.GetResponseAsync(Question, options))).Message,
                StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task Services_of_the_client_can_be_asked_for()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var client = new KernelScopeChatClient(engine);
        Assert.Same(engine, client.GetService<KernelScopeEngine>());
        Assert.Equal("kernelscope", client.GetService<ChatClientMetadata>()?.ProviderName);
        Assert.Same(client, client.GetService<IChatClient>());
        Assert.Null(client.GetService<string>());
    }

    [Fact]
    public async Task Embeddings_are_the_engines_and_count_tokens()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        using var generator = new KernelScopeEmbeddingGenerator(engine);
        GeneratedEmbeddings<Embedding<float>> embeddings = await generator.GenerateAsync(["A king.", "A queen."]);
        Assert.Equal(2, embeddings.Count);
        Assert.Equal(await engine.EmbedAsync(new EmbeddingRequest { Text = "A king." }), embeddings[0].Vector.ToArray());
        Assert.Equal(engine.Encode("A king.").Length + engine.Encode("A queen.").Length, embeddings.Usage?.InputTokenCount);
        Assert.Equal(embeddings[0].Vector.Length, generator.GetService<EmbeddingGeneratorMetadata>()?.DefaultModelDimensions);
        await Assert.ThrowsAsync<NotSupportedException>(() =>
            generator.GenerateAsync(["A king."], new EmbeddingGenerationOptions { Dimensions = 7 }));
    }
}
