using System.Diagnostics;
using System.Globalization;
using System.IO.Compression;
using System.Net.Http.Json;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>The verbs around feature pages: the server as a process, pages over a corpus, labels.</summary>
public sealed class ServeTests
{
    private const string Text = "More than anything she wished for a golden ring.";

    [SkippableFact]
    public async Task A_server_gives_what_the_verbs_give_and_ends_by_a_signal()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "env of other systems cannot undo an ignored signal");
        // As in InterruptTests: a job of a shell ignores SIGINT.
        using Process process = Program.Start(new ProcessStartInfo(
            "env",
            ["--default-signal=INT", Program.Host, "exec", Program.Assembly, "serve", "--urls", "http://127.0.0.1:0", "--json"]));
        process.StandardInput.Close();
        Task<string> error = process.StandardError.ReadToEndAsync();
        JsonElement started = JsonDocument.Parse((await process.StandardOutput.ReadLineAsync())!).RootElement;
        Assert.Equal("demo", started.GetProperty("model").GetString());
        Assert.Equal(12, started.GetProperty("sources").GetArrayLength());
        using var client = new HttpClient { BaseAddress = new Uri(started.GetProperty("urls")[0].GetString()!) };
        var body = new StringContent($$"""{"model":"demo","prompt":"{{Text}}","source":"3-demo-res-2k__l0-19","ignoreBos":false,"topK":8}""", null, "application/json");
        using HttpResponseMessage response = await client.PostAsync("/v1/activation/topk-by-token", body);
        JsonElement served = await response.Content.ReadFromJsonAsync<JsonElement>();
        JsonElement printed = Program.Json("features", Text, "--top", "8");
        for (int t = 0; t < printed.GetProperty("tokens").GetArrayLength(); t++)
        {
            JsonElement ours = printed.GetProperty("tokens")[t].GetProperty("features"), theirs = served.GetProperty("results")[t]
                .GetProperty("topFeatures");
            for (int k = 0; k < ours.GetArrayLength(); k++)
            {
                Assert.Equal(ours[k].GetProperty("index").GetRawText(), theirs[k].GetProperty("featureIndex").GetRawText());
                // To the last digit.
                Assert.Equal(ours[k].GetProperty("activation").GetRawText(), theirs[k].GetProperty("activationValue").GetRawText());
            }
        }

        await RequireTextOfGenerateAsync(client);
        using (Process kill = Process.Start("kill", ["-INT", process.Id.ToString(CultureInfo.InvariantCulture)]))
            kill.WaitForExit();
        Assert.True(process.WaitForExit(TimeSpan.FromSeconds(60)));
        Assert.Equal(0, process.ExitCode);
        Assert.DoesNotContain("golden ring", await error, StringComparison.Ordinal);
    }

    [Fact]
    public void An_sae_of_which_nothing_says_where_it_reads_takes_site()
    {
        const int Width = 224, Features = 8;
        using var folder = new TempFolder();
        string sae = folder.At("own.npz");
        using (var writer = new NpzWriter(sae))
        {
            writer.Add<float>("W_enc", [.. Enumerable.Repeat(0.1f, Width * Features)], Width, Features);
            writer.Add<float>("W_dec", [.. Enumerable.Repeat(0.1f, Width * Features)], Features, Width);
            writer.Add<float>("b_enc", new float[Features], Features);
            writer.Add<float>("b_dec", new float[Width], Width);
            writer.Add<float>("threshold", [.. Enumerable.Repeat(0.1f, Features)], Features);
            writer.Commit();
        }

        using var taken = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        taken.Start();
        // Where it would listen is taken, so that it ends; that it gets so far says that the SAE was taken.
        string[] serve = ["serve", "--urls", $"http://{taken.LocalEndpoint}", "--sae", sae, "--sae", "res.3.2k.l0_19"];
        Program.Run(serve).AssertFailed(1, "give --site");
        Program.Run([.. serve, "--site", "resid_post.2"]).AssertFailed(1, "--urls");
    }

    private static async Task RequireTextOfGenerateAsync(HttpClient client)
    {
        var body = new StringContent(
            """
            {"model":"demo","prompt":"There was once a","types":["STEERED"],"features":[{"model":"demo","source":"3-demo-res-2k__l0-19","index":1652,"strength":10}],
            "strengthMultiplier":1,"nCompletionTokens":12,"temperature":1,"freqPenalty":0,"seed":7,"steerMethod":"SIMPLE_ADDITIVE","normalizeSteering":false}
            """, null, "application/json");
        using HttpResponseMessage response = await client.PostAsync("/v1/steer/completion", body);
        JsonElement steered = await response.Content.ReadFromJsonAsync<JsonElement>();
        JsonElement printed = Program.Json("generate", "There was once a", "--steer", "1652=+10", "--edit-at", "all",
            "--max-new-tokens", "12", "--temperature", "1", "--seed", "7");
        Assert.Equal(printed.GetProperty("text").GetString(), steered.GetProperty("outputs")[0].GetProperty("output").GetString());
    }

    [Theory]
    [InlineData("http://0.0.0.0:3000")]
    [InlineData("http://0.0.0.0:3000", "--allow-remote")]
    [InlineData("https://127.0.0.1:3000")]
    [InlineData("nonsense")]
    // This machine to .NET, and all addresses to Kestrel.
    [InlineData("http://user:word@127.0.0.1:0")]
    public void Addresses_that_were_not_allowed_are_bad_usage(string url, params string[] more) =>
        Assert.Equal(2, Program.Run(["serve", "--urls", url, .. more]).ExitCode);

    /// <summary>Another name of localhost to .NET, and all addresses to Kestrel, which picks no port for localhost.</summary>
    [Fact]
    public void Loopback_is_localhost() => Program.Run("serve", "--urls", "http://loopback:0").AssertFailed(1, "localhost");

    [Fact]
    public void An_address_of_another_machine_is_named() =>
        Program.Run("serve", "--urls", "http://192.0.2.1:3000", "--allow-remote", "--secret", "word")
            .AssertFailed(1, "http://192.0.2.1:3000", "--urls");

    [Fact]
    public void A_port_that_is_taken_is_named()
    {
        using var taken = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        taken.Start();
        Outcome outcome = Program.Run("serve", "--urls", $"http://{taken.LocalEndpoint}");
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("--urls", outcome.Error, StringComparison.Ordinal);
        Assert.Contains(taken.LocalEndpoint.ToString()!, outcome.Error, StringComparison.Ordinal);
        Assert.Single(outcome.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Fact]
    public void A_page_needs_nothing_else_and_two_runs_give_the_same_bytes()
    {
        using var folder = new TempFolder();
        string labels = folder.Write("labels.jsonl", """{"modelId":"demo","layer":"3-demo-res-2k__l0-19","index":"320","description":"<b>thou</b>"}"""u8.ToArray());
        string[] arguments = ["dash", "--features", "1738,320,0-2", "--text-file", "demo", "--labels", labels, "--text", Text];
        foreach (string name in (string[])["a.html", "b.html"])
            Assert.Equal(0, Program.Run([.. arguments, "--html", folder.At(name)]).ExitCode);
        string page = File.ReadAllText(folder.At("a.html"));
        Assert.Equal(page, File.ReadAllText(folder.At("b.html")));
        Assert.DoesNotContain("<script", page, StringComparison.Ordinal);
        Assert.DoesNotContain("src=", page, StringComparison.Ordinal);
        Assert.DoesNotContain("<b>thou</b>", page, StringComparison.Ordinal);
        Assert.Contains("&lt;b&gt;thou&lt;/b&gt;", page, StringComparison.Ordinal);
    }

    [Fact]
    public void Statistics_agree_with_top()
    {
        JsonElement dash = Program.Json("dash", "--features", "1738", "--text-file", "demo", "--top", "3").GetProperty("features")[0];
        JsonElement top = Program.Json("top", "1738", "--text-file", "demo", "--contexts", "1");
        Assert.Equal(top.GetProperty("active").GetInt64(), dash.GetProperty("firing_positions").GetInt64());
        Assert.Equal(top.GetProperty("counted").GetInt64(), dash.GetProperty("counted_positions").GetInt64());
        Assert.Equal(top.GetProperty("contexts")[0].GetProperty("activation").GetRawText(), dash.GetProperty("max_act").GetRawText());
        Assert.Equal(dash.GetProperty("max_act").GetRawText(), dash.GetProperty("top")[0].GetProperty("activation").GetRawText());
    }

    [Fact]
    public void A_run_gives_what_its_tokens_give()
    {
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json",
            "[[2,1590,857,475,983,690,840,475,2390],[2,300,45,4000,9,77,5,900,31,8],[2,512,1910,1531,1937]]"u8.ToArray()),
            run = folder.At("run");
        Assert.Equal(0, Program.Run("harvest", "--out", run, "--tokens-file", tokens, "--sae", "res.3.2k.l0_19", "--codes-only").ExitCode);
        JsonElement ofRun = Program.Json("dash", "--features", "0-63", "--run", run),
            ofTokens = Program.Json("dash", "--features", "0-63", "--tokens-file", tokens);
        Assert.Equal(ofTokens.GetProperty("features").GetRawText(), ofRun.GetProperty("features").GetRawText());
        Assert.StartsWith("run ", ofRun.GetProperty("corpus").GetString(), StringComparison.Ordinal);
        Assert.Equal(2, Program.Run("dash", "--features", "1", "--run", run, "--sae", "res.3.2k.l0_57", "--json").ExitCode);
        Assert.Equal(2, Program.Run("dash", "--features", "1", "--run", run, "--length", "9", "--json").ExitCode);
    }

    [Fact]
    public void Labels_are_imported_found_and_shown()
    {
        using var folder = new TempFolder();
        string path = folder.Write("in.jsonl",
            """
            {"modelId":"demo","layer":"3-demo-res-2k__l0-19","index":"562","description":"begins a limerick","embedding":[1,2]}
            no label
            """u8.ToArray());
        Outcome imported = Program.Run("labels", "import", path, "--out", folder.At("out.jsonl"), "--json");
        Assert.Equal((1, 1), (imported.Json().GetProperty("labels").GetInt32(), imported.Json().GetProperty("rejected").GetInt32()));
        Assert.Contains("line 2", imported.Error, StringComparison.Ordinal);
        Assert.Equal(562, Program.Json("labels", "search", "limerick", "--labels", folder.At("out.jsonl")).GetProperty("matches")[0]
            .GetProperty("index").GetInt32());
        Assert.Equal(0, Program.Run("labels", "import", path, "--out-dir", folder.At("store")).ExitCode);
        string stored = folder.At("store/demo/3-demo-res-2k__l0-19.labels");
        Assert.Equal(562, Program.Json("labels", "search", "limerick", "--labels", folder.At("store")).GetProperty("matches")[0]
            .GetProperty("index").GetInt32());
        byte[] bytes = File.ReadAllBytes(stored);
        bytes[^1] ^= 1;
        File.WriteAllBytes(stored, bytes);
        Program.Run("labels", "search", "limerick", "--labels", stored).AssertFailed(1, "it is damaged; import the labels anew");
        Assert.Equal(1738, Program.Json("labels", "search", "girl").GetProperty("matches")[0].GetProperty("index").GetInt32());
        Assert.Contains("begins a limerick", Program.Run("features", "She loved the river", "--dense", "--labels",
            folder.At("out.jsonl")).Output, StringComparison.Ordinal);
        Program.Run("labels", "search", "girl", "--labels", folder.At("none")).AssertFailed(1, "there is no such file or folder of labels");
        string odd = folder.Write("odd.jsonl", """
            {"modelId":"demo","layer":"../..","index":"1","description":"x"}
            {"modelId":"demo","layer":"3-s","index":"1","description":"x"}
            """u8.ToArray());
        Outcome some = Program.Run("labels", "import", odd, "--out-dir", folder.At("some"));
        Assert.Equal(0, some.ExitCode);
        Assert.Contains(
            $"1 entry is not a label; the first: {odd}, line 1: '../..' cannot be the name", some.Error, StringComparison.Ordinal);
        Assert.Equal([folder.At("some/demo/3-s.labels")], Directory.GetFiles(folder.At("some"), "*", SearchOption.AllDirectories));
        if (OperatingSystem.IsLinux())
            Program.Run("labels", "import", "/dev/zero").AssertFailed(1, "/dev/zero: this is a device; a file or folder");
        Outcome empty = Program.Run("labels", "import", folder.Write("bad.jsonl", "{}"u8.ToArray()));
        Assert.Equal(1, empty.ExitCode);
        Assert.Contains("modelId is missing", empty.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Labels_whose_gzip_ends_too_early_are_refused()
    {
        using var folder = new TempFolder();
        using var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionLevel.NoCompression, leaveOpen: true))
        {
            ReadOnlySpan<byte> line = """{"modelId":"demo","layer":"3-demo-res-2k__l0-19","index":"562","description":"x"}"""u8;
            for (int i = 0; i < 100; i++)
            {
                gzip.Write(line);
                gzip.Write("\n"u8);
            }
        }

        string path = folder.Write("cut.jsonl.gz", packed.ToArray().AsSpan(..^40));
        Program.RunAlone("labels", "import", path).AssertFailed(1, "its end is missing");
    }
}
