using System.Diagnostics;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>eval</c> as a user runs it; the numbers themselves are held in the library's tests.</summary>
public sealed class EvalTests
{
    private static readonly string Folder = Fixtures.Path("sae", "evaluation");
    private static readonly string[] Model = ["--model", Path.Combine(Folder, "model")];
    private static readonly string[] Tokens = ["--tokens-file", Path.Combine(Folder, "tokens.json")];
    private static readonly string[] Residual = ["--sae", Path.Combine(Folder, "sae-resid_post.2"), "--site", "resid_post.2"];

    [Theory]
    [InlineData("sae-resid_post.2", "resid_post.2", null)]
    [InlineData("sae-mlp_in_unit.1-to-mlp_out_post.1", "mlp_in_unit.1", "mlp_out_post.1")]
    public void The_document_has_the_names_and_numbers_of_the_reference(string name, string site, string? siteOut)
    {
        using var folder = new TempFolder();
        string[] place = siteOut is null ? ["--site", site] : ["--site", site, "--site-out", siteOut];
        JsonElement actual =
            Program.Json(
                ["eval", .. Model, .. Tokens, "--sae", Path.Combine(Folder, name), .. place, "--out", folder.At("arrays.npz"),
                    "--report", folder.At("report.html")]);
        JsonElement expected = Fixtures.Json("sae", "evaluation", name, "expected.json");
        foreach (string key in new[] { "site", "site_out", "special_ids", "sequences", "length", "counts" })
            Assert.True(JsonElement.DeepEquals(expected.GetProperty(key), actual.GetProperty(key)), key);
        foreach (JsonProperty metric in expected.GetProperty("metrics").EnumerateObject())
        {
            if (metric.Value.ValueKind == JsonValueKind.Number && metric.Name != "sae_plus_error_max_logit_difference")
                Assert.Equal(metric.Value.GetDouble(), actual.GetProperty("metrics").GetProperty(metric.Name).GetDouble(),
                    metric.Name.StartsWith("r_L0", StringComparison.Ordinal) ? 1e-5 : 1e-6 * Math.Max(1, metric.Value.GetDouble()));
        }

        static double Delta(JsonElement root) => root.GetProperty("metrics").GetProperty("splices").GetProperty("sae/keep_bos")
            .GetProperty("delta").GetProperty("default").GetDouble();
        Assert.Equal(Delta(expected), Delta(actual), 2e-6);
        Assert.Equal(["arrays.npz", "report.html"], folder.Files);
        using var arrays = new Arrays(folder.At("arrays.npz"));
        Assert.Superset(new HashSet<string> { "firing_frequency", "grad_own", "r_L0", "r_L0_summed" }, new HashSet<string>(arrays.Names));
    }

    [Fact]
    public void Without_gradients_their_numbers_are_left_out()
    {
        using var folder = new TempFolder();
        string[] arguments =
            ["eval", .. Model, .. Tokens, .. Residual, "--resamples", "10", "--no-gradients", "--out", folder.At("arrays.npz"),
                "--report", folder.At("report.html")];
        JsonElement metrics = Program.Json(arguments).GetProperty("metrics");
        Assert.DoesNotContain(metrics.EnumerateObject(), m => m.Name.StartsWith("r_L0", StringComparison.Ordinal));
        using var arrays = new Arrays(folder.At("arrays.npz"));
        Assert.DoesNotContain(arrays.Names, name => name is "grad_own" or "r_L0" or "r_L0_summed");
        Assert.Contains("x", arrays.Names);
        Assert.DoesNotContain("r_L0", Program.Run(arguments).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_text_is_cut_into_sequences_that_begin_with_BOS()
    {
        using var folder = new TempFolder();
        string text = folder.Write("text.txt", System.Text.Encoding.UTF8.GetBytes("\uFEFF" + Fixtures.DemoText("tale")));
        int[] ids = Program.Json("tokenize", Fixtures.DemoText("tale")).Ints("ids");
        JsonElement result =
            Program.Json("eval", "--text-file", text, "--length", "9", "--out", folder.At("arrays.npz"), "--arrays", "positions");
        using var arrays = new Arrays(folder.At("arrays.npz"));
        int[][] rows = [.. ids.Where(id => id != 2).Chunk(8).Select(chunk => (int[])[2, .. chunk, .. new int[8 - chunk.Length]])];
        Assert.Equal(rows.SelectMany(r => r), arrays.Ints("ids"));
        Assert.Equal(rows.Length, result.GetProperty("sequences").GetInt32());
        Assert.DoesNotContain("x", arrays.Names);
    }

    [Fact]
    public void A_run_that_is_killed_ten_times_gives_what_an_unbroken_one_gives()
    {
        if (!OperatingSystem.IsLinux())
            return;
        using var folder = new TempFolder();
        string sequences =
            string.Join(',',
                Enumerable.Repeat(Fixtures.Json("sae", "evaluation", "tokens.json").GetProperty("sequences").EnumerateArray()
                    .Select(s => s.ToString()), 4).SelectMany(s => s));
        string tokens = folder.Write("tokens.json", System.Text.Encoding.UTF8.GetBytes($"[{sequences}]"));
        string[] Arguments(string arrays) =>
            ["eval", .. Model, .. Residual, "--tokens-file", tokens, "--device", "reference", "--json", "--out", folder.At(arrays)];
        Outcome unbroken = Program.Run(Arguments("unbroken.npz"));
        unbroken.Json();

        var random = new Random(11);
        string resume = folder.At("resume");
        string[] resumed = [.. Arguments("resumed.npz"), "--resume", resume];
        int kills = 0;
        long length = 0;
        while (kills < 10)
        {
            using Process process = Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly, .. resumed]));
            // Killed at any time after there is something to lose, or after a good part of a second.
            var watch = Stopwatch.StartNew();
            while (!process.HasExited && watch.ElapsedMilliseconds < 20_000
                && (!File.Exists(resume) || new FileInfo(resume).Length <= length))
                Thread.Sleep(1);
            Thread.Sleep(random.Next(120));
            Assert.False(process.HasExited, "it ended before it was killed ten times");
            process.Kill();
            process.WaitForExit();
            length = File.Exists(resume) ? new FileInfo(resume).Length : 0;
            kills++;
        }

        Outcome outcome = Program.Run(resumed);
        Assert.Equal(unbroken.Output, outcome.Output);
        Assert.True(File.ReadAllBytes(folder.At("unbroken.npz")).AsSpan().SequenceEqual(File.ReadAllBytes(folder.At("resumed.npz"))),
            "the arrays differ");
        Assert.Equal(["resume", "resumed.npz", "tokens.json", "unbroken.npz"], folder.Files);
    }

    [Fact]
    public void Several_SAEs_make_a_list_and_a_table()
    {
        string[] arguments =
            ["eval", .. Model, .. Tokens, .. Residual, "--sae", Path.Combine(Folder, "sae-resid_post.2"), "--resamples", "10"];
        Assert.Equal(2, Program.Json(arguments).GetProperty("saes").GetArrayLength());
        Outcome table = Program.Run(arguments);
        Assert.Equal(0, table.ExitCode);
        Assert.Contains("delta loss", table.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Bad_input_is_one_sentence_and_overwrites_nothing()
    {
        using var folder = new TempFolder();
        string kept = folder.Write("kept", "kept"u8);
        Program.Run(["eval", .. Model, .. Tokens]).AssertFailed(2, "an SAE is missing");
        Program.Run(["eval", .. Model, .. Residual]).AssertFailed(2, "what to evaluate on is missing");
        Program.Run(["eval", .. Model, .. Residual, .. Tokens, "--length", "8"]).AssertFailed(2, "--length cuts a text");
        Program.Run(["eval", .. Model, .. Residual, .. Tokens, "--arrays", "some"]).AssertFailed(2, "'some' is not a choice of arrays");
        Program.Run(["eval", .. Model, .. Residual, "--tokens-file", folder.Write("a.json", "[[2,300]]"u8)])
            .AssertFailed(1, "a.json", "position 1", "the id 300 is outside the vocabulary");
        Program.Run(["eval", .. Model, .. Residual, "--tokens-file", folder.Write("b.json", "[[2],[2,1]]"u8)])
            .AssertFailed(1, "b.json", "No position counts");
        Program.Run(["eval", .. Model, .. Residual, "--tokens-file", folder.Write("c.json", "{}"u8)])
            .AssertFailed(1, "c.json", "sequences");
        Program.Run(["eval", .. Model, .. Residual, "--tokens-file", folder.At("none.json")]).AssertFailed(1, "none.json");
        Program.Run(["eval", .. Model, .. Tokens, "--sae", Path.Combine(Folder, "sae-resid_post.2")]).AssertFailed(1, "give --site");
        Program.Run(["eval", .. Model, .. Tokens, .. Residual[..2], "--site", "z.1"]).AssertFailed(1, "48", "64");
        Program.Run(["eval", .. Model, .. Residual, .. Tokens, "--resume", kept]).AssertFailed(1, "not a resume file");
        Program.Run(["eval", .. Model, .. Residual, .. Tokens, "--out", folder.At(Path.Combine("no", "folder.npz"))])
            .AssertFailed(1, "folder.npz");
        Program.Run(["eval", .. Model, .. Residual, .. Tokens, "--out", folder.At("f"), "--report", folder.At("f")])
            .AssertFailed(2, "name the same file");
        Program.Run(["eval", .. Model, .. Residual, .. Tokens, "--special-ids", "2,300"])
            .AssertFailed(1, "--special-ids: 300 is outside the vocabulary");
        Assert.Equal("kept", File.ReadAllText(kept));
        Assert.Equal(["a.json", "b.json", "c.json", "kept"], folder.Files);
    }
}
