using System.Text.Json.Nodes;
using KernelScope.Cpu;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Web.Tests;

/// <summary>From which tokens a feature of an attention SAE has its activation.</summary>
[Collection(nameof(DemoServer))]
public sealed class AttributionTests(DemoServer server)
{
    private static readonly string Long = string.Join(' ', Enumerable.Repeat(DemoServer.Text, 9));

    [Theory]
    [InlineData(DemoServer.Attention, 3)]
    [InlineData(DemoServer.Windowed, 2)]
    public async Task Values_are_the_pattern_times_the_values_times_the_encoder(string source, int layer)
    {
        JsonNode all = await AllAsync(source, Long);
        (float[] patterns, float[] values) = Capture(Long, layer);
        float[] bias = new float[1024];
        using (SaeCheckpoint sae = Demo.OpenSae("att.3.1k.l0_42"))
            sae.EncoderBias.CopyTo(bias);
        int tokens = all["tokens"]!.AsArray().Count;
        Assert.True(tokens > 128, "longer than the window of 64 tokens");
        JsonArray rows = all["activations"]!.AsArray();
        Assert.Equal(40, rows.Count);
        Assert.Contains(rows, row => (int)row!["dfaTargetIndex"]! > 64);
        foreach (JsonNode? row in rows)
        {
            int feature = (int)row!["index"]!, target = (int)row["dfaTargetIndex"]!;
            Assert.Equal((int)row["maxValueIndex"]!, target);
            float[] given = Values(row);
            Assert.Equal(tokens, given.Length);
            Assert.Equal(given.Max(), (float)row["dfaMaxValue"]!);
            double[] expected = Expected(patterns, values, server.Engine.Saes[source].Sae.EncoderColumn(feature), target, tokens);
            double largest = expected.Max(Math.Abs);
            Assert.All(given.Zip(expected), v => Assert.InRange(Math.Abs(v.First - v.Second), 0, 1e-5 * largest));
            // All of them and the bias make up the activation.
            Assert.Equal((float)row["maxValue"]!, expected.Sum() + bias[feature], 1e-4 * (1 + largest));
        }
    }

    [Fact]
    public async Task Without_bos_targets_are_counted_from_the_token_after_it()
    {
        JsonNode row = (await AllAsync(DemoServer.Attention, DemoServer.Text))["activations"]![0]!;
        string index = row["index"]!.ToString();
        JsonNode answer = await server.PostAsync("/v1/activation/single", JsonNode.Parse(
            $$"""{"model":"demo","prompt":"{{DemoServer.Text}}","source":"{{DemoServer.Attention}}","index":"{{index}}"}""")!);
        Contract.RequireAnswer("/v1/activation/single", answer);
        JsonNode single = answer["activation"]!;
        Assert.Equal(Values(row)[1..], Values(single));
        Assert.Equal((int)row["dfaTargetIndex"]! - 1, (int)single["dfaTargetIndex"]!);
        Assert.Equal((int)single["maxValueIndex"]!, (int)single["dfaTargetIndex"]!);
        Assert.Equal(Values(single).Max(), (float)single["dfaMaxValue"]!);
        JsonNode made = await server.PostAsync("/api/activation/new", new JsonObject
        {
            ["feature"] = new JsonObject { ["modelId"] = "demo", ["source"] = DemoServer.Attention, ["index"] = index },
            ["customText"] = DemoServer.Text,
        });
        Assert.Equal(Values(single), Values(made));
        Assert.Equal((int)single["dfaTargetIndex"]!, (int)made["dfaTargetIndex"]!);
        JsonNode found = await server.PostAsync("/api/search-all", new JsonObject
        {
            ["modelId"] = "demo",
            ["sourceSet"] = "demo-att-1k",
            ["text"] = DemoServer.Text,
            ["ignoreBos"] = true,
            ["numResults"] = 2,
        });
        Assert.Equal(Values(row), Values(found["result"]![0]!));
        Assert.Equal((int)row["dfaTargetIndex"]!, (int)found["result"]![0]!["dfaTargetIndex"]!);
    }

    /// <summary>Against the model's own hooks on the sequence that each example was taken from.</summary>
    [Fact]
    public async Task Examples_of_a_feature_page_say_which_tokens_they_come_from()
    {
        Evaluation.TokenSet corpus = DemoServer.DemoCorpus();
        KernelScope.Text.GemmaTokenizer tokenizer = Demo.OpenTokenizer();
        var hooks = new Dictionary<int, (float[] Patterns, float[] Values)>();
        int checkedExamples = 0;
        foreach (int feature in Enumerable.Range(0, 16))
        {
            string path = $"/api/feature/demo/{DemoServer.Attention}/{feature}";
            JsonNode row = JsonNode.Parse(await server.Client.GetStringAsync(path))!;
            Assert.Equal("first of each sequence", (string)row["kernelscope"]!["bos_policy"]!);
            Assert.InRange((double)row["kernelscope"]!["l0"]!, 20, 80);
            foreach (JsonNode? example in row["activations"]!.AsArray())
            {
                string[] texts = [.. example!["tokens"]!.AsArray().Select(t => (string)t!)];
                int[] same = [.. Enumerable.Range(0, corpus.Count)
                    .Where(b => corpus.Sequence(b).ToArray()[1..].Select(Text).SequenceEqual(texts))];
                int sequence = Assert.Single(same), tokens = texts.Length + 1, target = (int)example["dfaTargetIndex"]! + 1;
                Assert.Equal((int)example["maxValueTokenIndex"]!, target - 1);
                if (!hooks.TryGetValue(sequence, out var read))
                    hooks.Add(sequence, read = Capture(corpus.Sequence(sequence).ToArray(), 3));
                float[] column = server.Engine.Saes[DemoServer.Attention].Sae.EncoderColumn(feature);
                double[] expected = Expected(read.Patterns, read.Values, column, target, tokens)[1..];
                float[] given = Values(example);
                Assert.All(given.Zip(expected), v => Assert.InRange(Math.Abs(v.First - v.Second), 0, 0.00051));
                Assert.Equal(given.Max(), (float)example["dfaMaxValue"]!);
                checkedExamples++;
            }
        }

        Assert.True(checkedExamples > 10, $"{checkedExamples} examples");

        string Text(int id) => tokenizer.IsControl(id) || id == tokenizer.UnknownId ? tokenizer.Piece(id) : tokenizer.Decode([id]);
    }

    [Fact]
    public async Task Capabilities_say_that_there_is_such_an_sae()
    {
        JsonNode answer = JsonNode.Parse(await server.Client.GetStringAsync("/v1/capabilities"))!;
        Assert.True((bool)answer["endpoints"]!["dfa"]!);
    }

    private async Task<JsonNode> AllAsync(string source, string text)
    {
        JsonNode answer = await server.PostAsync("/v1/activation/all", new JsonObject
        {
            ["model"] = "demo",
            ["prompt"] = text,
            ["sourceSet"] = "unused",
            ["selectedSources"] = new JsonArray(source),
            ["sortByTokenIndexes"] = new JsonArray(),
            ["ignoreBos"] = true,
            ["numResults"] = 40,
        });
        Contract.RequireAnswer("/v1/activation/all", answer);
        return answer;
    }

    private static float[] Values(JsonNode row) => [.. row["dfaValues"]!.AsArray().Select(v => (float)v!)];

    /// <summary>What the model's own hooks say: the pattern, [heads, tokens, tokens], and the values, [tokens, kv heads · d_head].</summary>
    private static (float[] Patterns, float[] Values) Capture(string text, int layer) =>
        Capture([Demo.OpenTokenizer().BosId, .. Demo.OpenTokenizer().Encode(text)], layer);

    private static (float[] Patterns, float[] Values) Capture(int[] tokens, int layer)
    {
        using var device = new CpuDevice(1);
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        using Session session = model.NewSession(256);
        HookPoint pattern = new(Site.AttnPattern, layer), value = new(Site.V, layer);
        using var cache = new ActivationCache(session.Hooks, [pattern, value]);
        session.Prefill(tokens);
        return (cache.Values(pattern).ToArray(), cache.Values(value).ToArray());
    }

    /// <summary>Plain loops: four heads of 64, each two of which share keys and values.</summary>
    private static double[] Expected(float[] patterns, float[] values, float[] column, int target, int tokens)
    {
        double[] given = new double[tokens];
        for (int s = 0; s < tokens; s++)
        {
            for (int h = 0; h < 4; h++)
            {
                for (int i = 0; i < 64; i++)
                {
                    double z = (double)patterns[(((h * tokens) + target) * tokens) + s] * values[(s * 128) + (h / 2 * 64) + i];
                    given[s] += z * column[(h * 64) + i];
                }
            }
        }

        return given;
    }
}
