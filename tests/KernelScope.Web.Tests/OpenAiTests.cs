using System.Text.Json.Nodes;

namespace KernelScope.Web.Tests;

/// <summary>The calls of OpenAI's clients.</summary>
[Collection(nameof(DemoServer))]
public sealed class OpenAiTests(DemoServer server)
{
    [Fact]
    public async Task A_chat_gives_features_and_usage()
    {
        JsonNode answer = await server.PostAsync("/v1/chat/completions", JsonNode.Parse(
            $$"""{"model":"demo","messages":[{"role":"user","content":"What is a harbour?"}],"max_tokens":8,"temperature":0,"kernelscope":{"features":{"sae":"{{DemoServer.Source}}","top":3} } }""")!);
        Assert.Equal("chat.completion", (string)answer["object"]!);
        JsonArray features = answer["choices"]![0]!["kernelscope"]!["features"]!.AsArray();
        Assert.Equal((int)answer["usage"]!["completion_tokens"]!, features.Count);
        Assert.All(features, f => Assert.InRange(f!["features"]!.AsArray().Count, 1, 3));
        Assert.Equal(string.Concat(features.Take(7).Select(f => (string)f!["token"]!)),
            ((string)answer["choices"]![0]!["message"]!["content"]!)[..string.Concat(features.Take(7).Select(f => (string)f!["token"]!))
                .Length]);
    }

    [Fact]
    public async Task A_stream_ends_with_done_and_says_what_the_whole_says()
    {
        const string Body =
            """{"model":"demo","messages":[{"role":"user","content":"What is a harbour?"}],"max_tokens":12,"temperature":0""";
        JsonNode whole = await server.PostAsync("/v1/chat/completions", JsonNode.Parse(Body + "}")!);
        (List<string> frames, _) = await server.StreamAsync("/v1/chat/completions", JsonNode.Parse(Body + ",\"stream\":true}")!);
        Assert.Equal("[DONE]", frames[^1]);
        JsonNode[] chunks = [.. frames.SkipLast(1).Select(f => JsonNode.Parse(f)!)];
        Assert.Equal((string)whole["choices"]![0]!["message"]!["content"]!,
            string.Concat(chunks.Select(c => (string?)c["choices"]![0]!["delta"]!["content"])));
        Assert.Equal((string)whole["choices"]![0]!["finish_reason"]!, (string)chunks[^1]["choices"]![0]!["finish_reason"]!);
        Assert.Equal(whole["usage"]!.ToJsonString(), chunks[^1]["usage"]!.ToJsonString());
    }

    [Theory]
    [InlineData("tools", "[]")]
    [InlineData("n", "2")]
    [InlineData("presence_penalty", "1")]
    public async Task What_is_not_supported_is_refused_by_name(string field, string value)
    {
        JsonNode answer =
            await server.PostAsync("/v1/chat/completions",
                JsonNode.Parse($$"""{"messages":[{"role":"user","content":"a"}],"{{field}}":{{value}}}""")!, 400);
        Assert.Equal(field, (string)answer["error"]!["param"]!);
        Assert.Equal("invalid_request_error", (string)answer["error"]!["type"]!);
    }

    [Fact]
    public async Task The_model_is_listed()
    {
        JsonNode answer = JsonNode.Parse(await server.Client.GetStringAsync("/v1/models"))!;
        Assert.Equal("demo", (string)answer["data"]![0]!["id"]!);
    }
}
