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
    [InlineData("tools", """[{"type":"function"}]""")]
    [InlineData("response_format", """{"type":"json_object"}""")]
    [InlineData("top_logprobs", "2")]
    [InlineData("top_p", "2")]
    [InlineData("seed", "1e20")]
    [InlineData("max_completion_tokens", "0")]
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

    /// <summary>A misspelt edit must not give an answer without it.</summary>
    [Theory]
    [InlineData("kernelscope.edit", """ "kernelscope":{"edit":[1]} """)]
    [InlineData("kernelscope.edits.0.positions",
        """ "kernelscope":{"edits":[{"sae":"3-demo-res-2k__l0-19","feature":69,"value":10,"positions":"all"}]} """)]
    [InlineData("kernelscope.features.k", """ "kernelscope":{"features":{"sae":"3-demo-res-2k__l0-19","k":3}} """)]
    [InlineData("stream_options.x", """ "stream_options":{"x":true} """)]
    [InlineData("messages.0.tool_calls", """ "messages":[{"role":"user","content":"a","tool_calls":[1]}] """)]
    public async Task A_field_inside_that_is_not_known_is_refused_by_its_place(string place, string fields)
    {
        string messages = fields.Contains("messages", StringComparison.Ordinal) ? "" : """ "messages":[{"role":"user","content":"a"}], """;
        JsonNode answer = await server.PostAsync("/v1/chat/completions", JsonNode.Parse($"{{{messages}{fields}}}")!, 400);
        Assert.Equal(place, (string)answer["error"]!["param"]!);
    }

    [Fact]
    public async Task What_clients_send_beside_what_they_mean_changes_nothing()
    {
        const string Neutral = """
            "presence_penalty":0,"logit_bias":{},"tools":[],"response_format":{"type":"text"},"store":false,"metadata":null,
            "stream_options":{"include_usage":true},
            """;
        const string Rest = "\"max_tokens\":6,\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":";
        JsonNode plain = await server.PostAsync("/v1/chat/completions", JsonNode.Parse("{" + Rest + "\"What is a harbour?\"}]}")!);
        JsonNode parts = await server.PostAsync("/v1/chat/completions", JsonNode.Parse("{" + Neutral + Rest +
            """[{"type":"text","text":"What is "},{"type":"text","text":"a harbour?"}],"name":"a","tool_calls":null}]}""")!);
        Assert.Equal((string)plain["choices"]![0]!["message"]!["content"]!, (string)parts["choices"]![0]!["message"]!["content"]!);

        JsonNode text = await server.PostAsync("/v1/completions", JsonNode.Parse("""{"prompt":"Once upon","max_tokens":4,"temperature":0}""")!);
        JsonNode list = await server.PostAsync(
            "/v1/completions", JsonNode.Parse("""{"prompt":["Once upon"],"max_tokens":4,"temperature":0,"best_of":1}""")!);
        Assert.Equal((string)text["choices"]![0]!["text"]!, (string)list["choices"]![0]!["text"]!);
        await server.PostAsync("/v1/completions", JsonNode.Parse("""{"prompt":["a","b"],"max_tokens":4}""")!, 400);
        await server.PostAsync("/v1/completions", JsonNode.Parse("""{"prompt":[],"max_tokens":4}""")!, 400);
    }

    [Theory]
    [InlineData(200, """ "tools":[ ],"logit_bias":{ } """)]
    [InlineData(400, """ "tools":"[]" """)]
    [InlineData(400, """ "tools":"\ud800" """)]
    [InlineData(400, """ "suffix":"\ud800" """)]
    public async Task A_field_says_nothing_by_its_kind_and_not_by_its_text(int status, string field)
    {
        using HttpResponseMessage response =
            await server.SendAsync("/v1/completions", $$"""{"prompt":"a","max_tokens":1,"temperature":0,{{field}}}""");
        Assert.Equal(status, (int)response.StatusCode);
    }

    [Fact]
    public async Task The_model_is_listed()
    {
        JsonNode answer = JsonNode.Parse(await server.Client.GetStringAsync("/v1/models"))!;
        Assert.Equal("demo", (string)answer["data"]![0]!["id"]!);
    }
}
