using System.Text.Json.Nodes;

namespace KernelScope.Web.Tests;

/// <summary>The calls of Neuronpedia's Python client: its bodies, and every key that it reads.</summary>
[Collection(nameof(DemoServer))]
public sealed class PublicTests(DemoServer server)
{
    [Theory]
    [MemberData(nameof(Recorded))]
    public async Task Recorded_requests_are_answered_with_every_key_that_the_client_reads(string file)
    {
        JsonNode recorded = JsonNode.Parse(File.ReadAllText(Path.Combine(Folder, file)))!;
        using HttpResponseMessage response = (string)recorded["method"]! == "GET"
            ? await server.Client.GetAsync((string)recorded["path"]!)
            : await server.SendAsync((string)recorded["path"]!, recorded["body"]!.ToJsonString());
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        JsonNode answer = JsonNode.Parse(text)!;
        foreach (JsonNode? path in recorded["reads"]!.AsArray())
            Require(answer, ((string)path!).Split('.'), (string)path!);
    }

    public static TheoryData<string> Recorded =>
        [.. Directory.EnumerateFiles(Folder).Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal)];

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "neuronpedia", "requests");

    [Fact]
    public async Task A_feature_has_its_label_and_logits()
    {
        JsonNode row = await GetAsync($"/api/feature/demo/{DemoServer.Source}/1738");
        Assert.Equal("1738", (string)row["index"]!);
        Assert.Equal(10, row["pos_str"]!.AsArray().Count);
        Assert.Contains("▁she", row["pos_str"]!.AsArray().Select(s => (string)s!));
        Assert.StartsWith("tales whose hero is a girl", (string)row["explanations"]![0]!["description"]!);
        Assert.Equal(10, row["topkCosSimIndices"]!.AsArray().Count);
    }

    /// <summary>By a count of our own over the codes that the server answers with.</summary>
    [Fact]
    public async Task Statistics_count_the_corpus()
    {
        const int Feature = 1738;
        Evaluation.TokenSet corpus = DemoServer.DemoCorpus();
        JsonNode row = await GetAsync($"/api/feature/demo/{DemoServer.Source}/{Feature}");
        float largest = 0;
        int firing = 0, counted = 0;
        for (int b = 0; b < corpus.Count; b++)
        {
            int[] tokens = corpus.Sequence(b).ToArray();
            var request =
                new Runtime.FeaturesRequest { Tokens = tokens,
                    Features = [new Runtime.FeatureReport { Sae = DemoServer.Source, Top = int.MaxValue }] };
            IReadOnlyList<Runtime.TokenFeatures> read = await server.Engine.FeaturesAsync(request);
            for (int t = 0; t < tokens.Length; t++)
            {
                counted += corpus.IsSpecial(tokens[t]) ? 0 : 1;
                float value = corpus.IsSpecial(tokens[t]) ? 0
                    : read[t].Features[0].Top.FirstOrDefault(f => f.Feature == Feature).Activation;
                firing += value > 0 ? 1 : 0;
                largest = Math.Max(largest, value);
            }
        }

        Assert.True(firing > 0);
        Assert.Equal(firing / (double)counted, (double)row["frac_nonzero"]!);
        Assert.Equal(largest, (float)row["maxActApprox"]!);
        Assert.Equal(firing, row["freq_hist_data_bar_heights"]!.AsArray().Sum(h => (int)h!));
        Assert.Equal(4096, row["logits_hist_data_bar_heights"]!.AsArray().Sum(h => (int)h!));
        Assert.Equal(Math.Round((double)largest, 3), (double)row["activations"]![0]!["maxValue"]!);
        Assert.All(row["activations"]!.AsArray(), a => Assert.Equal(a!["tokens"]!.AsArray().Count, a["values"]!.AsArray().Count));
    }

    [Fact]
    public async Task Labels_are_found_by_words()
    {
        JsonNode answer =
            await server.PostAsync("/api/explanation/search", JsonNode.Parse("""{"modelId":"demo","layers":[],"query":"girl"}""")!);
        Assert.Equal("1738", (string)answer["results"]![0]!["index"]!);
        Assert.True((double)answer["results"]![0]!["score"]! > 0);
    }

    [Fact]
    public async Task A_list_of_texts_gives_a_list()
    {
        string feature = $$"""{"modelId":"demo","layer":"{{DemoServer.Source}}","index":"1738"}""";
        JsonNode one =
            await server.PostAsync("/api/activation/new", JsonNode.Parse($$"""{"feature":{{feature}},"customText":"She wished"}""")!);
        JsonNode list =
            await server.PostAsync("/api/activation/new",
                JsonNode.Parse($$"""{"feature":{{feature}},"customText":["She wished","Thou art"]}""")!);
        Assert.Equal(one["values"]!.ToJsonString(), list[0]!["values"]!.ToJsonString());
        Assert.Equal(2, list.AsArray().Count);
    }

    [Fact]
    public async Task Errors_have_a_message()
    {
        JsonNode answer =
            await server.PostAsync("/api/vector/get", JsonNode.Parse("""{"modelId":"gpt2-small","source":"x","index":"1"}""")!, 404);
        Assert.Equal((string)answer["error"]!, (string)answer["message"]!);
    }

    private static void Require(JsonNode? node, ReadOnlySpan<string> path, string whole)
    {
        if (path.IsEmpty)
            return;
        if (node is JsonArray list)
        {
            Assert.True(list.Count > 0 || path.Length == 0, $"{whole}: the list is empty");
            foreach (JsonNode? entry in list)
                Require(entry, path, whole);
            return;
        }

        Assert.True(node is JsonObject fields && fields.ContainsKey(path[0]), $"{whole}: {path[0]} is missing");
        Require(node![path[0]], path[1..], whole);
    }

    private async Task<JsonNode> GetAsync(string path) => JsonNode.Parse(await server.Client.GetStringAsync(path))!;
}
