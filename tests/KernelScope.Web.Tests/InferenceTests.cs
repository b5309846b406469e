using System.Text.Json.Nodes;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Web.Tests;

/// <summary>The calls of Neuronpedia's inference server: shapes by its contract, values by the library itself.</summary>
[Collection(nameof(DemoServer))]
public sealed class InferenceTests(DemoServer server)
{
    public static TheoryData<string, string> Requests => new()
    {
        { "/v1/tokenize", """{"model":"demo","text":"Hello there"}""" },
        { "/v1/apply-chat-template", """{"messages":[{"role":"user","content":"What is a harbour?"}]}""" },
        { "/v1/activation/single",
            $$"""{"model":"demo","prompt":"{{DemoServer.Text}}","source":"{{DemoServer.Source}}","index":"1738"}""" },
        { "/v1/activation/single-batch",
            $$"""{"model":"demo","prompts":["She wished","Thou art"],"source":"{{DemoServer.Source}}","index":1738}""" },
        { "/v1/activation/all",
            $$"""{"model":"demo","prompt":"{{DemoServer.Text}}","sourceSet":"demo-res-2k","selectedSources":["{{DemoServer.Source}}"],"sortByTokenIndexes":[],"ignoreBos":true}""" },
        { "/v1/activation/all-batch",
            """{"model":"demo","prompts":["She wished"],"sourceSet":"demo-res-2k","selectedSources":[],"sortByTokenIndexes":[1,2],"ignoreBos":false,"numResults":3}""" },
        { "/v1/activation/topk-by-token",
            $$"""{"model":"demo","prompt":"She wished","source":"{{DemoServer.Source}}","ignoreBos":true,"topK":3}""" },
        { "/v1/activation/topk-by-token-batch",
            $$"""{"model":"demo","prompts":["She wished","Thou art"],"source":"{{DemoServer.Source}}","ignoreBos":false}""" },
        { "/v1/activation/source", $$"""{"model":"demo","prompts":["She wished","Thou art"],"source":"{{DemoServer.Source}}"}""" },
        { "/v1/activation/raw", """{"model":"demo","prompts":["She wished"],"layers":[0,5]}""" },
        { "/v1/steer/completion", Steer() },
        { "/v1/steer/completion-chat", SteerChat() },
        { "/v1/util/sae-vector", $$"""{"model":"demo","source":"{{DemoServer.Source}}","index":69}""" },
        { "/v1/util/sae-topk-by-decoder-cossim",
            $$"""{"model":"demo","source":"{{DemoServer.Source}}","numResults":5,"feature":{"model":"demo","source":"{{DemoServer.Source}}","index":69} }""" },
    };

    [Theory]
    [MemberData(nameof(Requests))]
    public async Task Every_answer_is_what_the_contract_says(string path, string body)
    {
        Assert.True(Contract.Accepts(path, Named(path, body)), $"the contract refuses the request of {path}");
        Contract.RequireAnswer(path, await server.PostAsync(path, JsonNode.Parse(body)!));
    }

    [Theory]
    [MemberData(nameof(Requests))]
    public async Task Snake_case_gives_the_same_bytes(string path, string body)
    {
        using HttpResponseMessage camel = await server.SendAsync(path, body),
            snake = await server.SendAsync(path, Snake(JsonNode.Parse(body)!).ToJsonString());
        Assert.Equal(await camel.Content.ReadAsByteArrayAsync(), await snake.Content.ReadAsByteArrayAsync());
    }

    [Theory]
    [MemberData(nameof(Requests))]
    public async Task What_our_schema_refuses_the_contract_refuses(string path, string body)
    {
        JsonObject whole = JsonNode.Parse(body)!.AsObject();
        foreach (string name in whole.Select(p => p.Key).ToArray())
        {
            foreach (JsonNode? other in (JsonNode?[])[null, "text", -1, 1.5, true, new JsonArray(), new JsonObject()])
            {
                JsonObject changed = whole.DeepClone().AsObject();
                changed[name] = other?.DeepClone();
                using HttpResponseMessage response = await server.SendAsync(path, changed.ToJsonString());
                Assert.True((int)response.StatusCode < 500, $"{path} with {name} = {other?.ToJsonString()}: {(int)response.StatusCode}");
                if ((int)response.StatusCode == 422)
                    Assert.False(Contract.Accepts(path, Named(path, changed.ToJsonString())),
                        $"{path} with {name} = {other?.ToJsonString()}");
            }
        }
    }

    [Fact]
    public async Task Values_are_those_of_the_library_to_the_last_bit()
    {
        (int[] tokens, CodeList codes) = Read(DemoServer.Text);
        JsonNode all = await server.PostAsync("/v1/activation/topk-by-token", JsonNode.Parse(
            $$"""{"model":"demo","prompt":"{{DemoServer.Text}}","source":"{{DemoServer.Source}}","ignoreBos":false,"topK":10}""")!);
        JsonArray results = all["results"]!.AsArray();
        Assert.Equal(tokens.Length, results.Count);
        for (int t = 0; t < tokens.Length; t++)
        {
            foreach (JsonNode? feature in results[t]!["topFeatures"]!.AsArray())
                Assert.Equal(codes.ValueOf(t, (int)feature!["featureIndex"]!), (float)feature["activationValue"]!);
            Assert.Equal(codes.ValuesOf(t).ToArray().OrderDescending().Take(10),
                results[t]!["topFeatures"]!.AsArray().Select(f => (float)f!["activationValue"]!).Where(v => v > 0));
        }
    }

    [Fact]
    public async Task A_single_feature_drops_bos_and_zeroes_it()
    {
        (int[] tokens, CodeList codes) = Read(DemoServer.Text);
        int feature = codes.FeaturesOf(5)[0];
        JsonNode answer = await server.PostAsync("/v1/activation/single", JsonNode.Parse(
            $$"""{"model":"demo","prompt":"<bos>{{DemoServer.Text}}","source":"{{DemoServer.Source}}","index":"{{feature}}"}""")!);
        float[] values = [.. answer["activation"]!["values"]!.AsArray().Select(v => (float)v!)];
        Assert.Equal([.. Enumerable.Range(1, tokens.Length - 1).Select(t => codes.ValueOf(t, feature))], values);
        Assert.Equal(values.Max(), (float)answer["activation"]!["maxValue"]!);
        Assert.Equal(Array.IndexOf(values, values.Max()), (int)answer["activation"]!["maxValueIndex"]!);
        Assert.Equal(tokens.Length - 1, answer["tokens"]!.AsArray().Count);
        Assert.Null(answer["activation"]!["dfaValues"]);
    }

    [Fact]
    public async Task A_vector_gives_the_product_at_every_token_and_keeps_bos()
    {
        float[] column = server.Engine.Saes[DemoServer.Source].Sae.DecoderRow(69);
        var body = new JsonObject
        {
            ["model"] = "demo",
            ["prompt"] = "She wished",
            ["hook"] = "blocks.3.hook_resid_post",
            ["vector"] = new JsonArray([.. column.Select(v => (JsonNode)v)])
        };
        JsonNode answer = await server.PostAsync("/v1/activation/single", body);
        JsonNode tokens = await server.PostAsync("/v1/tokenize", JsonNode.Parse("""{"model":"demo","text":"She wished"}""")!);
        Assert.Equal(tokens["tokens"]!.AsArray().Count, answer["activation"]!["values"]!.AsArray().Count);
        Assert.Equal("<bos>", (string)answer["tokens"]![0]!);
    }

    [Fact]
    public async Task A_product_that_is_not_finite_is_refused_in_words_of_ours()
    {
        var body = new JsonObject
        {
            ["model"] = "demo",
            ["prompt"] = "She wished",
            ["hook"] = "blocks.3.hook_resid_post",
            ["vector"] = new JsonArray([.. Enumerable.Repeat(1e38, 224).Select(v => (JsonNode)v)])
        };
        JsonNode answer = await server.PostAsync("/v1/activation/single", body, 400);
        Assert.Contains("is not a finite float32 number", (string?)answer["error"], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Both_pairs_or_none_are_refused_in_the_words_that_clients_know()
    {
        JsonNode none = await server.PostAsync("/v1/activation/single", JsonNode.Parse("""{"model":"demo","prompt":"a"}""")!, 400);
        Assert.Equal("Invalid request data: exactly one of layer/index or vector must be provided", (string)none["error"]!);
    }

    [Fact]
    public async Task All_sorts_by_maximum_and_fills_with_zeros()
    {
        const int Count = 900;
        (_, CodeList codes) = Read("She wished");
        JsonNode answer = await server.PostAsync("/v1/activation/all", JsonNode.Parse(
            $$"""{"model":"demo","prompt":"She wished","sourceSet":"demo-res-2k","selectedSources":["{{DemoServer.Source}}"],"sortByTokenIndexes":[],"ignoreBos":false,"numResults":{{Count}}}""")!);
        float[] maxima = [.. answer["activations"]!.AsArray().Select(a => (float)a!["maxValue"]!)];
        Assert.Equal(Count, maxima.Length);
        Assert.Equal([.. maxima.OrderDescending()], maxima);
        Assert.Equal(0, maxima[^1]);
        var largest = Enumerable.Range(0, codes.Rows).SelectMany(t => codes.ValuesOf(t).ToArray()).Max();
        Assert.Equal(largest, maxima[0]);
        int[] rest = [.. answer["activations"]!.AsArray().Where(a => (float)a!["maxValue"]! == 0).Select(a => (int)a!["index"]!)];
        Assert.Equal([.. rest.Order()], rest);
        Assert.All(answer["activations"]!.AsArray(), a => Assert.Equal(DemoServer.Source, (string)a!["source"]!));
        Assert.Null(answer["counts"]);
    }

    [Fact]
    public async Task All_sorts_by_the_sum_at_given_tokens()
    {
        JsonNode answer = await server.PostAsync("/v1/activation/all", JsonNode.Parse(
            """{"model":"demo","prompt":"She wished for a ring","sourceSet":"demo-res-2k","selectedSources":[],"sortByTokenIndexes":[1,3],"ignoreBos":true,"numResults":20}""")!);
        foreach (JsonNode? row in answer["activations"]!.AsArray())
            Assert.Equal((float)row!["values"]![1]! + (float)row["values"]![3]!, (float)row["sumValues"]!, 5);
        float[] sums = [.. answer["activations"]!.AsArray().Select(a => (float)a!["sumValues"]!)];
        Assert.Equal([.. sums.OrderDescending()], sums);
        Assert.All(answer["activations"]!.AsArray(), a => Assert.Equal(0, (float)a!["values"]![0]!));
        Assert.Contains(answer["activations"]!.AsArray(), a => (string)a!["source"]! == DemoServer.Dense);
    }

    [Fact]
    public async Task Source_rounds_to_three_places_and_leaves_position_0_out()
    {
        (int[] tokens, CodeList codes) = Read("She wished");
        JsonNode answer =
            await server.PostAsync("/v1/activation/source",
                JsonNode.Parse($$"""{"model":"demo","prompts":["She wished"],"source":"{{DemoServer.Source}}"}""")!);
        JsonObject active = answer["results"]![0]!["activeFeatures"]!.AsObject();
        Assert.Equal(tokens.Length, answer["results"]![0]!["tokens"]!.AsArray().Count);
        int expected = Enumerable.Range(1, tokens.Length - 1).Sum(t => codes.FeaturesOf(t).Length);
        Assert.Equal(expected, active.Sum(f => f.Value!.AsArray().Count));
        foreach ((string feature, JsonNode? places) in active)
        {
            foreach (JsonNode? place in places!.AsArray())
                Assert.Equal(Math.Round((double)codes.ValueOf((int)place![0]!, int.Parse(feature)), 3), (double)place[1]!);
        }
    }

    [Fact]
    public async Task The_vector_is_the_encoders_and_the_decoder_stands_beside_it()
    {
        JsonNode answer =
            await server.PostAsync("/v1/util/sae-vector",
                JsonNode.Parse($$"""{"model":"demo","source":"{{DemoServer.Source}}","index":"69"}""")!);
        JumpReluSae sae = server.Engine.Saes[DemoServer.Source].Sae;
        Assert.Equal(sae.EncoderColumn(69), answer["vector"]!.AsArray().Select(v => (float)v!));
        Assert.Equal(sae.DecoderRow(69), answer["decoder"]!.AsArray().Select(v => (float)v!));
        Assert.Equal("blocks.3.hook_resid_post", (string)answer["hookName"]!);
    }

    [Fact]
    public async Task Encoder_columns_encode()
    {
        // a = x·W_enc[:, f] + b_enc is the feature's value where it fires.
        (int[] tokens, CodeList codes) = Read("She wished");
        int row = tokens.Length - 1, feature = codes.FeaturesOf(row)[0];
        JumpReluSae sae = server.Engine.Saes[DemoServer.Source].Sae;
        float[] bias = new float[sae.FeatureCount];
        server.Engine.Model.Device.Read(sae.Parameters.EncoderBias, bias);
        var body = new JsonObject
        {
            ["model"] = "demo",
            ["prompt"] = "She wished",
            ["hook"] = "resid_post.3",
            ["vector"] = new JsonArray([.. sae.EncoderColumn(feature).Select(v => (JsonNode)v)])
        };
        JsonNode answer = await server.PostAsync("/v1/activation/single", body);
        Assert.Equal(codes.ValueOf(row, feature), (float)answer["activation"]!["values"]![row]! + bias[feature], 1e-3);
    }

    [Fact]
    public async Task The_nearest_feature_of_a_feature_is_itself()
    {
        JsonNode answer = await server.PostAsync("/v1/util/sae-topk-by-decoder-cossim", JsonNode.Parse(
            $$"""{"model":"demo","source":"{{DemoServer.Source}}","numResults":5,"feature":{"model":"demo","source":"{{DemoServer.Source}}","index":69} }""")!);
        JsonArray similar = answer["topkDecoderCossimFeatures"]!.AsArray();
        Assert.Equal(69, (int)similar[0]!["feature"]!["index"]!);
        Assert.Equal(1, (float)similar[0]!["cosineSimilarity"]!, 5);
        Assert.Equal(5, similar.Count);
    }

    [Theory]
    [InlineData("/v1/activation/single", """{"model":"demo","prompt":"a b","source":"9-none","index":1}""", 404)]
    [InlineData("/v1/activation/single", """{"model":"demo","prompt":"a b","source":"3-demo-res-2k__l0-19","index":2048}""", 404)]
    [InlineData("/v1/activation/topk-by-token", """{"model":"demo","prompt":"a","source":"3-demo-res-2k__l0-19"}""", 422)]
    [InlineData("/v1/activation/all",
        """{"model":"demo","prompt":"a","sourceSet":"demo-res-2k","selectedSources":[],"sortByTokenIndexes":[99],"ignoreBos":true}""", 400)]
    [InlineData("/v1/activation/all",
        """{"model":"demo","prompt":"a","sourceSet":"demo-res-2k","selectedSources":[],"sortByTokenIndexes":[0,0,0],"ignoreBos":true}""", 400)]
    [InlineData("/v1/activation/raw", """{"prompts":["a"],"layers":[0,0,0,0,0,0,0]}""", 400)]
    [InlineData("/v1/activation/source", """{"model":"demo","prompts":["a","b","c","d","e"],"source":"3-demo-res-2k__l0-19"}""", 400)]
    [InlineData("/api/vector/get",
        """{"modelId":"demo","layer":"3-demo-res-2k__l0-19","source":"3-demo-att-1k__l0-42","index":"1"}""", 400)]
    [InlineData("/v1/lens/prompt", "{}", 501)]
    [InlineData("/v1/nowhere", "{}", 404)]
    [InlineData("/v1/nowhere/3", "{}", 404)]
    [InlineData("/api/nowhere/call", "{}", 404)]
    [InlineData("/api/feature/upload-batch", "{}", 501)]
    [InlineData("/api/activation/upload-batch", "{}", 501)]
    [InlineData("/api/vector/list-owned", "{}", 501)]
    [InlineData("/api/model/new", "{}", 501)]
    [InlineData("/api/source-set/new", "{}", 501)]
    [InlineData("/demo/3-demo-res-2k__l0-19/1", "{}", 405)]
    public async Task Refusals_have_their_status_and_a_sentence(string path, string body, int status)
    {
        JsonNode answer = await server.PostAsync(path, JsonNode.Parse(body)!, status);
        Assert.NotEmpty((string)answer["error"]!);
    }

    [Theory]
    [InlineData("/v1/nowhere/3")]
    [InlineData("/API/nowhere/3")]
    public async Task A_path_of_the_api_is_never_a_page(string path)
    {
        using HttpResponseMessage response = await server.Client.GetAsync(path);
        Assert.Equal(404, (int)response.StatusCode);
        Assert.NotEmpty((string)JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]!);
    }

    [Fact]
    public async Task A_text_that_is_too_long_is_refused_in_the_words_that_clients_match()
    {
        string text = string.Join(' ', Enumerable.Repeat("river", 300));
        JsonNode answer =
            await server.PostAsync("/v1/activation/topk-by-token",
                JsonNode.Parse($$"""{"model":"demo","prompt":"{{text}}","source":"{{DemoServer.Source}}","ignoreBos":true}""")!, 400);
        Assert.Matches("^Text too long: [0-9]+ tokens, max is 256$", (string)answer["error"]!);
    }

    internal static string Steer(string extra = "") => $$"""
        {"model":"demo","prompt":"There was once a","types":["STEERED","DEFAULT"],"features":[{"model":"demo","source":"{{DemoServer.Source}}","index":1652,"strength":10}],
        "strengthMultiplier":1,"nCompletionTokens":12,"temperature":0,"freqPenalty":0,"seed":7,"steerMethod":"SIMPLE_ADDITIVE","normalizeSteering":false{{extra}}}
        """;

    internal static string SteerChat(string extra = "") => $$"""
        {"model":"demo","prompt":[{"role":"user","content":"What is a harbour?"}],"types":["STEERED","DEFAULT"],"features":[{"model":"demo","source":"{{DemoServer.Source}}","index":1652,"strength":4}],
        "strengthMultiplier":1,"nCompletionTokens":12,"temperature":0,"freqPenalty":0,"seed":7,"steerMethod":"SIMPLE_ADDITIVE","normalizeSteering":false,"steerSpecialTokens":false{{extra}}}
        """;

    /// <summary>What <c>kernelscope features</c> computes: a session, a capture, an encoder that was not packed.</summary>
    private static (int[] Tokens, CodeList Codes) Read(string text)
    {
        using var device = new CpuDevice(1);
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, Demo.OpenSae("res.3.2k.l0_19"));
        using Session session = model.NewSession(256);
        using var capture = new FeatureCapture(session.Hooks, sae, sae.Site!.Value);
        int[] tokens = [model.Config.BosId, .. Demo.OpenTokenizer().Encode(text)];
        session.Prefill(tokens);
        return (tokens, capture.Codes);
    }

    /// <summary>A number where we also take a string of digits.</summary>
    private static JsonNode Named(string path, string body)
    {
        JsonNode node = JsonNode.Parse(body)!;
        if (node is JsonObject && node["index"] is JsonValue index && path.StartsWith("/v1/activation", StringComparison.Ordinal)
            && index.GetValueKind() == System.Text.Json.JsonValueKind.Number && double.IsInteger(index.GetValue<double>()))
            node["index"] = index.ToJsonString();
        return node;
    }

    private static JsonNode Snake(JsonNode node) => node switch
    {
        JsonObject fields =>
            new JsonObject(
                fields.Select(
                    p => KeyValuePair.Create(System.Text.Json.JsonNamingPolicy.SnakeCaseLower.ConvertName(p.Key), p.Value is null ? null
                        : (JsonNode?)Snake(p.Value)))),
        JsonArray items => new JsonArray([.. items.Select(i => i is null ? null : Snake(i))]),
        _ => node.DeepClone(),
    };
}
