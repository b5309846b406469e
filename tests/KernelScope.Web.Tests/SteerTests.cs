using System.Text.Json.Nodes;

namespace KernelScope.Web.Tests;

/// <summary>Steering and streams.</summary>
[Collection(nameof(DemoServer))]
public sealed class SteerTests(DemoServer server)
{
    public static TheoryData<string> Goldens => [.. Cases().Select(c => (string)c["name"]!)];

    /// <summary>Texts that transformers and SAELens gave.</summary>
    [Theory]
    [MemberData(nameof(Goldens))]
    public async Task Texts_are_the_goldens(string name)
    {
        JsonNode golden = Cases().Single(c => (string)c["name"]! == name);
        JsonNode steered =
            await CompleteAsync(golden,
                $$"""[{"sae":"{{DemoServer.Source}}","feature":{{golden["feature"]}},"mode":"steer","value":{{golden["strength"]}}}]""");
        JsonNode plain = await CompleteAsync(golden, "[]");
        Assert.Equal((string)golden["steered_text"]!, (string)steered["choices"]![0]!["text"]!);
        Assert.Equal((string)golden["plain_text"]!, (string)plain["choices"]![0]!["text"]!);
        Assert.Equal(golden["tokens"]!.AsArray().Count, (int)steered["usage"]!["prompt_tokens"]!);
    }

    [Fact]
    public async Task A_stream_ends_with_the_whole_answer()
    {
        JsonNode whole = await server.PostAsync("/v1/steer/completion", JsonNode.Parse(InferenceTests.Steer())!);
        (List<string> frames, string raw) =
            await server.StreamAsync("/v1/steer/completion", JsonNode.Parse(InferenceTests.Steer(",\"stream\":true"))!);
        Assert.Equal(24, frames.Count);
        Assert.Equal(whole.ToJsonString(), JsonNode.Parse(frames[^1])!.ToJsonString());
        Assert.Equal(raw, string.Concat(frames.Select(f => $"data: {f}\n\n")));
        JsonNode first = JsonNode.Parse(frames[0])!;
        Assert.Equal("", (string)first["outputs"]![1]!["output"]!);
        Contract.RequireAnswer("/v1/steer/completion", first);
    }

    [Fact]
    public async Task Chats_stream_too_and_leave_marks_of_turns_alone()
    {
        (List<string> frames, _) =
            await server.StreamAsync("/v1/steer/completion-chat", JsonNode.Parse(InferenceTests.SteerChat(",\"stream\":true"))!);
        JsonNode last = JsonNode.Parse(frames[^1])!;
        Contract.RequireAnswer("/v1/steer/completion-chat", last);
        Assert.StartsWith((string)last["input"]!["raw"]!, (string)last["outputs"]![0]!["raw"]!);
        Assert.Equal("model", (string)last["outputs"]![0]!["chatTemplate"]![1]!["role"]!);
    }

    [Fact]
    public async Task Log_probabilities_are_there_when_they_are_asked_for()
    {
        JsonNode answer = await server.PostAsync("/v1/steer/completion", JsonNode.Parse(InferenceTests.Steer(",\"nLogprobs\":3"))!);
        Contract.RequireAnswer("/v1/steer/completion", answer);
        JsonArray logprobs = answer["outputs"]![0]!["logprobs"]!.AsArray();
        Assert.Equal(12, logprobs.Count);
        Assert.All(logprobs, l => Assert.Equal(3, l!["topLogprobs"]!.AsArray().Count));
        // Greedy: the chosen token is the likeliest.
        Assert.All(logprobs, l => Assert.Equal((double)l!["topLogprobs"]![0]!["logprob"]!, (double)l["logprob"]!));
    }

    [Fact]
    public async Task A_steered_request_does_not_change_the_next_one()
    {
        const string Plain = """{"model":"demo","prompt":"There was once a","max_tokens":20,"temperature":0,"logprobs":2}""";
        JsonNode before = await server.PostAsync("/v1/completions", JsonNode.Parse(Plain)!);
        Task<JsonNode>[] others =
            [.. Enumerable.Range(0, 4).Select(_ => server.PostAsync("/v1/steer/completion", JsonNode.Parse(InferenceTests.Steer())!))];
        JsonNode beside = await server.PostAsync("/v1/completions", JsonNode.Parse(Plain)!);
        await Task.WhenAll(others);
        JsonNode after = await server.PostAsync("/v1/completions", JsonNode.Parse(Plain)!);
        Assert.Equal(before["choices"]!.ToJsonString(), beside["choices"]!.ToJsonString());
        Assert.Equal(before["choices"]!.ToJsonString(), after["choices"]!.ToJsonString());
    }

    /// <summary>c = 1 leaves the projection as it is; c = 0 takes it away, so that nothing along the direction is left to cap at 0.</summary>
    [Fact]
    public async Task Orthogonal_decomposition_scales_the_projection()
    {
        string one = await SteeredAsync("ORTHOGONAL_DECOMP", 1), plain = await SteeredAsync("SIMPLE_ADDITIVE", 0),
            far = await SteeredAsync("ORTHOGONAL_DECOMP", 40);
        Assert.Equal(plain, one);
        Assert.NotEqual(plain, far);
        Assert.Equal(plain, await SteeredAsync("PROJECTION_CAP", 100_000));
    }

    [Fact]
    public async Task The_public_call_gives_the_same_texts()
    {
        JsonNode inference = await server.PostAsync("/v1/steer/completion", JsonNode.Parse(InferenceTests.Steer())!);
        JsonNode answer = await server.PostAsync("/api/steer/", JsonNode.Parse(
            $$"""{"modelId":"demo","prompt":"There was once a","features":[{"modelId":"demo","layer":"{{DemoServer.Source}}","index":"1652","strength":10}],"temperature":0,"n_tokens":12,"freq_penalty":2,"seed":7,"strength_multiplier":1}""")!);
        Assert.Equal((string)inference["outputs"]![0]!["output"]!, (string)answer["STEERED"]!);
        Assert.Equal((string)inference["outputs"]![1]!["output"]!, (string)answer["DEFAULT"]!);
    }

    [Fact]
    public async Task A_seed_repeats_a_text()
    {
        string body = InferenceTests.Steer().Replace("\"temperature\":0", "\"temperature\":1", StringComparison.Ordinal);
        JsonNode first = await server.PostAsync("/v1/steer/completion", JsonNode.Parse(body)!),
            second = await server.PostAsync("/v1/steer/completion", JsonNode.Parse(body)!);
        Assert.Equal(first.ToJsonString(), second.ToJsonString());
    }

    private async Task<string> SteeredAsync(string method, double strength)
    {
        string body = InferenceTests.Steer().Replace("SIMPLE_ADDITIVE", method, StringComparison.Ordinal)
            .Replace("\"strength\":10", $"\"strength\":{strength}", StringComparison.Ordinal);
        return (string)(await server.PostAsync("/v1/steer/completion", JsonNode.Parse(body)!))["outputs"]![0]!["output"]!;
    }

    private Task<JsonNode> CompleteAsync(JsonNode golden, string edits) => server.PostAsync("/v1/completions", JsonNode.Parse(
        $$"""{"model":"demo","prompt":{{golden["prompt"]!.ToJsonString()}},"max_tokens":{{golden["plain"]!.AsArray().Count}},"temperature":0,"kernelscope":{"edits":{{edits}} } }""")!);

    private static IEnumerable<JsonNode> Cases() =>
        JsonNode.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "demo", "steering.json")))!.AsArray().Select(c => c!)
            .Where(c => (string)c["sae"]! == "res.3.2k.l0_19");
}
