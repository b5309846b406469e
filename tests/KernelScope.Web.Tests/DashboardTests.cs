using System.IO.Compression;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Web.Dashboards;
using KernelScope.Web.Endpoints;

namespace KernelScope.Web.Tests;

/// <summary>Pages in a folder: written, served, and damaged.</summary>
[Collection(nameof(DemoServer))]
public sealed class DashboardTests(DemoServer live) : IDisposable
{
    private static readonly string[] Compared =
    [
        "frac_nonzero", "pos_str", "pos_values", "neg_str", "freq_hist_data_bar_heights", "maxActApprox", "topkCosSimIndices",
        "activations", "modelId", "explanations",
    ];

    private static ReadOnlySpan<byte> Nulls =>
        """{"modelId":"demo","layer":"a","source":"a","index":"1738","activations":[null],"kernelscope":{},"pos_str":null}"""u8;

    private readonly string _root = Directory.CreateTempSubdirectory("kernelscope-web-tests-").FullName;

    [Fact]
    public async Task Stored_pages_are_served_as_those_that_are_computed()
    {
        string folder = await DashboardFolders.WriteAsync(live, At("pages"), [0, 7, 320, 1738]);
        DemoServer server = await StartAsync(folder);
        await using var end = new Ending(server);
        foreach (int feature in (int[])[7, 320, 1738])
        {
            JsonNode stored = await GetAsync(server, feature), computed = await GetAsync(live, feature);
            Assert.Equal(computed["kernelscope"]!["co_firing"]!.ToJsonString(), stored["kernelscope"]!["co_firing"]!.ToJsonString());
            foreach (string name in Compared)
                Assert.Equal(computed[name]!.ToJsonString(), stored[name]!.ToJsonString());
        }

        // A feature without a page is computed.
        Assert.Equal("8", (string?)(await GetAsync(server, 8))["index"]);
        JsonNode rows = await server.PostAsync("/api/features", new JsonArray(
            new JsonObject { ["modelId"] = "demo", ["layer"] = DemoServer.Source, ["index"] = "320", ["maxActsToReturn"] = 2 }));
        Assert.Equal(2, rows[0]!["activations"]!.AsArray().Count);
        JsonNode stored320 = await server.PostAsync(
            "/api/activation/get", new JsonObject { ["modelId"] = "demo", ["source"] = DemoServer.Source, ["index"] = "320" });
        Assert.All(stored320.AsArray(), a => Assert.True(a!["binContains"] is null || a["binContains"]!.GetValue<double>() >= 0));
        using HttpResponseMessage page = await server.Client.GetAsync(new Uri($"/demo/{DemoServer.Source}/320", UriKind.Relative));
        Assert.Equal(HttpStatusCode.OK, page.StatusCode);
        JsonNode set = JsonNode.Parse(await server.Client.GetStringAsync(new Uri("/api/source-set/demo/demo-res-2k", UriKind.Relative)))!;
        Assert.Contains(set["sources"]!.AsArray(), s => (bool)s!["hasDashboards"]!);
    }

    [Fact]
    public async Task Densities_of_stored_pages_filter_a_search()
    {
        string folder = await DashboardFolders.WriteAsync(live, At("pages"), [320, 523, 562, 1443, 1738]);
        DemoServer server = await StartAsync(folder);
        await using var end = new Ending(server);
        var body = new JsonObject { ["modelId"] = "demo", ["source"] = DemoServer.Source, ["text"] = DemoServer.Text };
        body["densityThreshold"] = 0.2;
        using HttpResponseMessage response = await server.SendAsync("/api/search-topk-by-token", body.ToJsonString());
        Assert.False(response.Headers.Contains("X-KernelScope-Density"));
        using DashboardFolder stored = DashboardFolder.Open(folder);
        JsonNode answer = JsonNode.Parse(await response.Content.ReadAsStringAsync())!;
        int[] shown = [.. answer["results"]!.AsArray().SelectMany(r => r!["topFeatures"]!.AsArray()).Select(f => (int)f!["featureIndex"]!)];
        Assert.Equal([523, 562, 1443], Enumerable.Range(0, 2048).Where(f => stored.Has(f) && stored.Density(f) > 0.2));
        Assert.Contains(1738, shown);
        Assert.DoesNotContain(shown, f => f is 523 or 562 or 1443);
    }

    [Theory]
    [InlineData("missing")]
    [InlineData("no index")]
    [InlineData("cut index")]
    [InlineData("changed index")]
    [InlineData("cut pages")]
    [InlineData("other format")]
    [InlineData("no json")]
    [InlineData("wrong types")]
    [InlineData("huge")]
    [InlineData("other source")]
    [InlineData("other width")]
    [InlineData("other model")]
    public async Task A_folder_that_cannot_be_is_refused_at_the_start(string how)
    {
        string folder = await DashboardFolders.WriteAsync(live, At("pages"), [0, 7]);
        string info = Path.Combine(folder, "dash.json"), index = Path.Combine(folder, "features.idx");
        string bin = Path.Combine(folder, "features.bin");
        const string Width = "\"features\": 2048";
        switch (how)
        {
            case "missing":
                File.Delete(info);
                break;
            case "no index":
                File.Delete(index);
                break;
            case "cut index":
                File.WriteAllBytes(index, File.ReadAllBytes(index)[..^9]);
                break;
            case "changed index":
                Flip(index, -20_000);
                break;
            case "cut pages":
                File.WriteAllBytes(bin, File.ReadAllBytes(bin)[..^9]);
                break;
            case "other format":
                Edit(info, "\"format\": 1", "\"format\": 2");
                break;
            case "no json":
                File.WriteAllText(info, File.ReadAllText(info)[..50]);
                break;
            case "wrong types":
                Edit(info, Width, "\"features\": [[[[[[[[[[]]]]]]]]]]");
                break;
            case "huge":
                Edit(info, Width, "\"features\": 2000000000");
                break;
            case "other source":
                Edit(info, DemoServer.Source, "9-none");
                break;
            case "other width":
                Edit(info, Width, "\"features\": 2047");
                break;
            default:
                Edit(info, "\"model_id\": \"demo\"", "\"model_id\": \"gemma\"");
                break;
        }

        InvalidDataException refused = await Assert.ThrowsAsync<InvalidDataException>(() => StartAsync(folder));
        Assert.StartsWith(folder, refused.Message, StringComparison.Ordinal);
        Assert.EndsWith(".", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Message);
    }

    [Theory]
    [InlineData("bits")]
    [InlineData("bomb")]
    [InlineData("text")]
    [InlineData("other feature")]
    [InlineData("other shape")]
    [InlineData("other sources")]
    [InlineData("no sources")]
    [InlineData("no masked ids")]
    [InlineData("nulls")]
    [InlineData("deep")]
    [InlineData("empty object")]
    public async Task A_page_that_is_damaged_is_an_error_of_its_own(string how)
    {
        string folder = await DashboardFolders.WriteAsync(live, At("pages"), [0, 1738], member => how switch
        {
            "bits" => [.. member.Select((b, i) => i == member.Length / 2 ? (byte)(b ^ 4) : b)],
            "bomb" => PackedFeature.Compress(new byte[20 << 20]),
            "text" => PackedFeature.Compress("no row"u8),
            "other feature" => Changed(member, "\"index\":\"1738\"", "\"index\":\"1739\""),
            "other shape" => Changed(member, "\"values\":[", "\"values\":[1,"),
            "other sources" => Changed(member, "\"dfaValues\":[]", "\"dfaValues\":[1]"),
            "no sources" => Changed(member, "\"dfaValues\":[]", "\"dfaValues\":null"),
            "no masked ids" => Changed(member, "\"masked_ids\":[0,1,2]", "\"masked_ids\":null"),
            "nulls" => PackedFeature.Compress(Nulls),
            "deep" => PackedFeature.Compress(Encoding.UTF8.GetBytes($"{{\"activations\":{new string('[', 100_000)}")),
            _ => PackedFeature.Compress("{}"u8),
        });
        DemoServer server = await StartAsync(folder);
        await using var end = new Ending(server);
        var page = new Uri($"/api/feature/demo/{DemoServer.Source}/1738", UriKind.Relative);
        using HttpResponseMessage response = await server.Client.GetAsync(page);
        string answer = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.InternalServerError, $"{(int)response.StatusCode}: {answer}");
        Assert.Contains("damaged", (string?)JsonNode.Parse(answer)!["error"], StringComparison.Ordinal);
        Assert.DoesNotContain(_root, answer, StringComparison.Ordinal);
        Assert.Equal("0", (string?)(await GetAsync(server, 0))["index"]);
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private static byte[] Changed(byte[] member, string from, string to)
    {
        using var gzip = new GZipStream(new MemoryStream(member), CompressionMode.Decompress);
        string text = new StreamReader(gzip).ReadToEnd();
        Assert.Contains(from, text, StringComparison.Ordinal);
        return PackedFeature.Compress(Encoding.UTF8.GetBytes(text.Replace(from, to, StringComparison.Ordinal)));
    }

    private static void Edit(string path, string from, string to)
    {
        string text = File.ReadAllText(path);
        Assert.Contains(from, text, StringComparison.Ordinal);
        File.WriteAllText(path, text.Replace(from, to, StringComparison.Ordinal));
    }

    private static void Flip(string path, int at)
    {
        byte[] bytes = File.ReadAllBytes(path);
        bytes[at < 0 ? bytes.Length + at : at] ^= 1;
        File.WriteAllBytes(path, bytes);
    }

    private async Task<DemoServer> StartAsync(string folder)
    {
        var options = new KernelScopeWebOptions { ModelId = "demo", MaxPromptTokens = 256, MaxNewTokens = 64 };
        options.Dashboards.Add(folder);
        var server = new DemoServer { HasCorpus = false, Options = options, Shared = live.Engine };
        await server.InitializeAsync();
        return server;
    }

    private static async Task<JsonNode> GetAsync(DemoServer server, int feature) => JsonNode.Parse(
        await server.Client.GetStringAsync(new Uri($"/api/feature/demo/{DemoServer.Source}/{feature}", UriKind.Relative)))!;

    private string At(string name) => Path.Combine(_root, name);

    private sealed class Ending(DemoServer server) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync() => await server.DisposeAsync();
    }
}

/// <summary>Folders of the pages that a server computes.</summary>
internal static class DashboardFolders
{
    // The corpus is read once for all tests, which run one after the other.
    private static readonly Dictionary<int, FeatureRow> Rows = [];
    private static readonly Dictionary<string, string> Pieces = [];
    private static Sources.ServedModel? _model;

    public static async Task<string> WriteAsync(DemoServer server, string folder, int[] features, Func<byte[], byte[]>? change = null)
    {
        _model ??= new Sources.ServedModel(server.Engine, server.Options);
        Sources.ServedSource source = _model.Source(DemoServer.Source);
        var packed = new List<PackedFeature>();
        foreach (int feature in features)
        {
            if (!Rows.TryGetValue(feature, out FeatureRow? row))
                Rows[feature] = row = AsStored(_model, await FeatureRows.FullAsync(_model, source, feature, default));
            PackedFeature one = PackedFeature.Create(feature, row, (float)row.MaxActApprox!, DashboardExports.None);
            packed.Add(change is null || feature == 0 ? one : one with { Member = change(one.Member) });
        }

        long counted = Rows[features[0]].Kernelscope!.CountedPositions;
        using DashboardWriter writer = DashboardWriter.Create(folder, Info(source, counted), DashboardExports.None, 6, 896);
        packed.ForEach(writer.Add);
        writer.Commit();
        return folder;
    }

    /// <summary>Files have pieces of the vocabulary where answers have texts, and −1 where they have null.</summary>
    private static FeatureRow AsStored(Sources.ServedModel model, FeatureRow row)
    {
        if (Pieces.Count == 0)
        {
            for (int id = 0; id < model.Tokenizer.PieceCount; id++)
                Pieces.TryAdd(model.TokenText(id), model.Tokenizer.Contains(id) ? model.Tokenizer.Piece(id) : $"<{id}>");
        }

        return row with
        {
            Activations = [.. row.Activations.Select(a => a with
            {
                Tokens = [.. a.Tokens.Select(t => Pieces[t])],
                BinMin = a.BinContains is null ? -1 : a.BinMin,
                BinMax = a.BinContains is null ? row.MaxActApprox : a.BinMax,
                BinContains = a.BinContains ?? -1,
            })],
        };
    }

    private static DashboardInfo Info(Sources.ServedSource source, long counted) => new()
    {
        Model = "demo",
        ModelId = "demo",
        Source = source.Id,
        SourceSet = source.SourceSet,
        Sae = "res.3.2k.l0_19",
        SaeSha256 = new string('0', 64),
        Site = source.Sae.Site.ToString(),
        HookName = source.HookName,
        Layer = source.Sae.Site.Layer,
        Features = source.FeatureCount,
        Written = 0,
        Run = new string('1', 64),
        Dataset = "demo",
        CountedPositions = counted,
        Positions = counted + 100,
        Sequences = 100,
        MaskedIds = [0, 1, 2],
        BosPolicy = "first of each sequence",
        Precision = "exact",
        Binning = "quantile",
        Window = 128,
        Top = 20,
        Examples = 5,
        Seed = 0,
        Version = "0",
    };
}
