using System.Diagnostics;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>suite</c> as a process, on one small run of the demo.</summary>
public sealed class SuiteTests : IClassFixture<SuiteTests.SmallRun>
{
    private const string Options =
        """
        "options": {"batch": 64, "lr": 0.002, "lr_warm_up": 10, "sparsity_warm_up": 20, "bandwidth": 0.05, "theta": 0.05, "bucket": 500, "validation": 0.3}
        """;

    private const string Two =
        """
        {"sites": ["resid_post", {"site": "mlp_in_unit", "site_out": "mlp_out_post", "sparsities": [0.01]}], "layers": [3],
        "widths": [64, 128], "sparsities": [0.002, 0.02], "steps": 40, "evaluate_sequences": 2,
        """ + Options + "}";

    private readonly SmallRun _run;

    public SuiteTests(SmallRun run) => _run = run;

    [Fact]
    public void It_trains_what_single_trainings_give_and_reports_it()
    {
        using var folder = new TempFolder();
        string suite = Write(folder, Two), report = folder.At("report.html");
        JsonElement result = Suite(folder, suite, "out", "--report", report, "--workers", "2");
        JsonElement[] items = [.. result.GetProperty("items").EnumerateArray()];
        Assert.Equal(6, items.Length);
        Assert.All(items, i => Assert.Equal("done", i.GetProperty("state").GetString()));
        Assert.All(items, i => Assert.Equal(JsonValueKind.Number, i.GetProperty("delta_loss").ValueKind));
        Assert.Equal(6, items.Select(i => i.GetProperty("id").GetString()).Distinct().Count());

        JsonElement transcoder = items.Single(i => i.GetProperty("name").GetString() == "mlp_in_unit.3-mlp_out_post.3.w128.l0.01.s0");
        string recipe = "--width 128 --sparsity 0.01 --steps 40 --batch 64 --lr 0.002 --lr-warm-up 10 --sparsity-warm-up 20 " +
            "--bandwidth 0.05 --theta 0.05 --bucket 500 --validation 0.3";
        JsonElement single = Program.Json(["train", "--from", _run.Path, "--site", "mlp_in_unit.3", "--site-out", "mlp_out_post.3",
            .. recipe.Split(' '), "--loss-sequences", "2", "--out", folder.At("single")]);
        Assert.Equal(single.GetProperty("fvu").GetDouble(), transcoder.GetProperty("fvu").GetDouble());
        Assert.Equal(single.GetProperty("l0").GetDouble(), transcoder.GetProperty("l0").GetDouble());
        // The trainer runs whole sequences, and the evaluation from the site up: the order of sums differs.
        Assert.Equal(transcoder.GetProperty("delta_loss").GetDouble(), single.GetProperty("delta_loss").GetDouble(), 1e-5);
        Assert.Equal(File.ReadAllBytes(single.GetProperty("sae").GetString()!),
            File.ReadAllBytes(transcoder.GetProperty("path").GetString()!));

        string html = File.ReadAllText(report);
        Assert.DoesNotContain("http", html.Replace("http://www.w3.org", "", StringComparison.Ordinal), StringComparison.Ordinal);
        foreach (string words in (string[])["resid_post.3: delta loss", "resid_post.3: FVU", "FVU by width", "FVU by position",
            "how often features fire", "uniformity", "0.002, s0", "<title>", "<desc>", "prefers-color-scheme:dark", "<caption>",
            "BOS is the first of each sequence"])
            Assert.Contains(words, html, StringComparison.Ordinal);
        Assert.DoesNotContain("not here yet", html, StringComparison.Ordinal);
        JsonElement table = JsonElement.Parse(File.ReadAllBytes(folder.At("report.json")));
        string[] csv = File.ReadAllLines(folder.At("report.csv"));
        Assert.Equal((6, 7), (table.GetProperty("items").GetArrayLength(), csv.Length));
        Assert.All(csv, line => Assert.Equal(csv[0].Count(c => c == ','), line.Count(c => c == ',')));
        string id = transcoder.GetProperty("id").GetString()!;
        Assert.Equal(transcoder.GetProperty("delta_loss").GetDouble(), table.GetProperty("items").EnumerateArray()
            .Single(i => i.GetProperty("id").GetString() == id).GetProperty("delta_loss").GetDouble());
        Assert.Contains(table.GetProperty("items").EnumerateArray(), i => i.GetProperty("on_frontier").GetBoolean());
    }

    [Fact]
    public void Killed_at_any_moment_it_ends_with_the_same_bytes()
    {
        using var folder = new TempFolder();
        string suite = Write(folder, Two.Replace("\"steps\": 40", "\"steps\": 120", StringComparison.Ordinal));
        Suite(folder, suite, "whole", "--checkpoint-every", "20");
        var random = new Random(5);
        for (int n = 0; n < 4; n++)
        {
            using Process process = Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly, "suite", suite, "--from",
                _run.Path, "--out", folder.At("broken"), "--checkpoint-every", "20"]));
            if (!process.WaitForExit(random.Next(1000, 6000)))
                process.Kill();
            process.WaitForExit();
        }

        JsonElement result = Suite(folder, suite, "broken", "--checkpoint-every", "20");
        foreach (JsonElement item in result.GetProperty("items").EnumerateArray())
        {
            string name = item.GetProperty("name").GetString()!;
            foreach (string file in (string[])["result.json", "saelens/sae_weights.safetensors"])
                Assert.Equal(File.ReadAllBytes(folder.At($"whole/items/{name}/{file}")),
                    File.ReadAllBytes(folder.At($"broken/items/{name}/{file}")));
        }
    }

    /// <summary>Those of one site share a reader and an evaluation; one diverges, and the process is killed: each has the bytes that it has
    /// alone.</summary>
    [Fact]
    public void Together_each_has_the_bytes_that_it_has_alone()
    {
        using var folder = new TempFolder();
        string suite = Write(folder, Two.Replace("\"steps\": 40", "\"steps\": 60", StringComparison.Ordinal)
            .Replace("[0.002, 0.02]", "[0.002, 0.02, 1e30]", StringComparison.Ordinal));
        string[] arguments = ["suite", suite, "--from", _run.Path, "--checkpoint-every", "20"];
        Assert.Equal(1, Program.Run([.. arguments, "--out", folder.At("alone")]).ExitCode);
        using (Process process = Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly, .. arguments, "--together",
            "4", "--out", folder.At("together")])))
        {
            process.BeginErrorReadLine();
            process.BeginOutputReadLine();
            string first = folder.At("together", "items", "resid_post.3.w64.l0.002.s0", "checkpoints", "step-000000020");
            for (var watch = Stopwatch.StartNew(); !Directory.Exists(first) && !process.HasExited && watch.Elapsed.TotalSeconds < 60;
                Thread.Sleep(1))
            {
            }

            // Some have that checkpoint, and others do not yet.
            process.Kill();
            process.WaitForExit();
        }

        Outcome outcome = Program.Run([.. arguments, "--together", "4", "--out", folder.At("together")]);
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("Memory: ", outcome.Error, StringComparison.Ordinal);
        foreach (string item in Directory.GetDirectories(folder.At("alone", "items")).Select(d => Path.GetFileName(d)))
        {
            string alone = folder.At("alone", "items", item), together = folder.At("together", "items", item);
            Assert.Equal(File.Exists(Path.Combine(alone, "failed.json")), File.Exists(Path.Combine(together, "failed.json")));
            foreach (string file in (string[])["result.json", "failed.json", "saelens/sae_weights.safetensors"])
            {
                if (File.Exists(Path.Combine(alone, file)))
                    Assert.Equal(File.ReadAllBytes(Path.Combine(alone, file)), File.ReadAllBytes(Path.Combine(together, file)));
            }
        }

        Assert.Equal(6, Directory.GetFiles(folder.At("together"), "result.json", SearchOption.AllDirectories).Length);
    }

    /// <summary>Each is what a single training with its target gives; λ is what that took, and needs no pilot.</summary>
    [Fact]
    public void Targets_may_stand_in_place_of_sparsities()
    {
        using var folder = new TempFolder();
        string suite = Write(folder, "{\"sites\": [\"resid_post\"], \"layers\": [3], \"widths\": [128], \"steps\": 60, " +
            "\"target_l0s\": [8, 24], " + Options + "}");
        JsonElement[] items = [.. Suite(folder, suite, "out", "--no-model", "--report", folder.At("report.html"))
            .GetProperty("items").EnumerateArray()];
        Assert.Equal(["resid_post.3.w128.t8.s0", "resid_post.3.w128.t24.s0"], items.Select(i => i.GetProperty("name").GetString()));
        Assert.True(items[0].GetProperty("sparsity").GetDouble() > items[1].GetProperty("sparsity").GetDouble());
        string recipe = "--width 128 --target-l0 24 --steps 60 --batch 64 --lr 0.002 --lr-warm-up 10 --sparsity-warm-up 20 " +
            "--bandwidth 0.05 --theta 0.05 --bucket 500 --validation 0.3 --loss-sequences 0";
        JsonElement single = Program.Json(["train", "--from", _run.Path, "--site", "resid_post.3", .. recipe.Split(' '), "--out",
            folder.At("single")]);
        Assert.Equal(File.ReadAllBytes(single.GetProperty("sae").GetString()!),
            File.ReadAllBytes(items[1].GetProperty("path").GetString()!));
        Assert.Equal(single.GetProperty("sparsity").GetDouble(), items[1].GetProperty("sparsity").GetDouble());
        JsonElement[] table = [.. JsonElement.Parse(File.ReadAllBytes(folder.At("report.json"))).GetProperty("items").EnumerateArray()];
        Assert.Equal([8, 24], table.Select(i => i.GetProperty("target_l0").GetDouble()));
        Assert.Equal(items[0].GetProperty("sparsity").GetDouble(), table[0].GetProperty("sparsity").GetDouble());
        Assert.False(Directory.Exists(folder.At("out", "pilots")));
        foreach (string both in (string[])["\"sparsities\": [0.01], \"target_l0s\": [8]", "\"target_l0s\": [0]",
            "\"target_l0s\": [128]", "\"target_l0s\": []"])
            Program.Run("suite", Write(folder, "{\"sites\": [\"resid_post\"], \"layers\": [3], \"widths\": [128], \"steps\": 60, " +
                both + ", " + Options + "}"), "--from", _run.Path, "--dry-run").AssertFailed(1, "target");
    }

    /// <summary>A pilot scales the default ladder; without one it is as the help has it.</summary>
    [Fact]
    public void Without_sparsities_a_pilot_finds_some()
    {
        using var folder = new TempFolder();
        string suite = Write(folder, "{\"sites\": [\"resid_post\"], \"widths\": [64], \"steps\": 30, " + Options + "}");
        JsonElement[] scaled = [.. Suite(folder, suite, "on", "--no-model").GetProperty("items").EnumerateArray()];
        Assert.Equal(5, scaled.Length);
        double scale = JsonElement.Parse(File.ReadAllBytes(folder.At("on/pilots/resid_post.3.w64/pilot.json")))
            .GetProperty("scale").GetDouble();
        Assert.Equal(6e-4 * scale, scaled[2].GetProperty("sparsity").GetDouble(), 1e-12);
        Assert.Equal(JsonValueKind.Null, scaled[2].GetProperty("delta_loss").ValueKind);
        JsonElement dry = Suite(folder, suite, "off", "--pilot", "off", "--dry-run");
        Assert.Equal("missing", dry.GetProperty("items")[0].GetProperty("state").GetString());
        Assert.True(dry.GetProperty("estimate_seconds").GetDouble() > 0);
        Assert.False(Directory.Exists(folder.At("off")));
    }

    [Fact]
    public void A_report_of_a_suite_that_is_not_finished_says_what_is_missing()
    {
        using var folder = new TempFolder();
        string suite = Write(folder, Two), report = folder.At("report.html");
        Outcome outcome = Program.Run("suite", suite, "--from", _run.Path, "--out", folder.At("out"), "--report", report, "--report-only");
        Assert.Equal(0, outcome.ExitCode);
        string html = File.ReadAllText(report);
        Assert.Contains("6 of 6 SAEs are not here yet", html, StringComparison.Ordinal);
        Assert.Contains("resid_post.3.w64.l0.002.s0", html, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("'sparsitys' is not a key", "{\"sites\": [\"resid_post\"], \"widths\": [8], \"sparsitys\": [1]}")]
    [InlineData("'options.learning_rate' is not a key",
        "{\"sites\": [\"resid_post\"], \"widths\": [8], \"options\": {\"learning_rate\": 1}}")]
    [InlineData("widths is missing", "{\"sites\": [\"resid_post\"]}")]
    [InlineData("widths[0] is", "{\"sites\": [\"resid_post\"], \"widths\": [0]}")]
    [InlineData("sites[0] is", "{\"sites\": [\"resid\"], \"widths\": [8]}")]
    [InlineData("sites is an empty list", "{\"sites\": [], \"widths\": [8]}")]
    [InlineData("layers: the run has no rows of resid_post.2", "{\"sites\": [\"resid_post\"], \"layers\": [2], \"widths\": [8]}")]
    [InlineData("at no layer", "{\"sites\": [\"z\"], \"widths\": [8]}")]
    [InlineData("steps and rows", "{\"sites\": [\"resid_post\"], \"widths\": [8], \"steps\": 1, \"rows\": 1}")]
    [InlineData("ks does nothing", "{\"sites\": [\"resid_post\"], \"widths\": [8], \"ks\": [2]}")]
    [InlineData("ks is missing", "{\"sites\": [\"resid_post\"], \"widths\": [8], \"options\": {\"activation\": \"topk\"}}")]
    [InlineData("twice", "{\"sites\": [\"resid_post\"], \"widths\": [8, 8], \"sparsities\": [1]}")]
    [InlineData("run is 'abc'", "{\"run\": \"abc\", \"sites\": [\"resid_post\"], \"widths\": [8]}")]
    [InlineData("sparsity is -1", "{\"sites\": [\"resid_post\"], \"widths\": [8], \"sparsities\": [-1]}")]
    public void A_bad_suite_file_is_refused_in_a_sentence_that_names_the_key(string words, string text)
    {
        using var folder = new TempFolder();
        Program.Run("suite", Write(folder, text), "--from", _run.Path, "--out", folder.At("out")).AssertFailed(1, words);
        Assert.False(Directory.Exists(folder.At("out")));
    }

    [Theory]
    [InlineData("suite.html", "one of the inputs")]
    [InlineData("run/run.html", "the run's own files")]
    [InlineData("run/shards/000000.html", "the run's own files")]
    [InlineData("table.json", "tables go beside it")]
    [InlineData("table.csv", "tables go beside it")]
    public void A_report_whose_tables_would_be_written_over_something_is_refused(string report, string words)
    {
        using var folder = new TempFolder();
        string suite = Write(folder, Two), before = File.ReadAllText(Path.Combine(_run.Path, "run.json"));
        string path = report.StartsWith("run/", StringComparison.Ordinal) ? Path.Combine(_run.Path, report[4..]) : folder.At(report);
        Program.Run("suite", suite, "--from", _run.Path, "--out", folder.At("out"), "--report", path, "--report-only")
            .AssertFailed(2, words);
        Assert.Equal(Two, File.ReadAllText(suite));
        Assert.Equal(before, File.ReadAllText(Path.Combine(_run.Path, "run.json")));
    }

    /// <summary>Whoever is killed between an item's result and the end of its work leaves nothing: nobody looks at it again.</summary>
    [Fact]
    public void What_only_the_training_needs_is_gone_before_an_item_is_done()
    {
        using var folder = new TempFolder();
        string suite = Write(folder, "{\"sites\": [\"resid_post\"], \"layers\": [3], \"widths\": [32], \"sparsities\": [0.02], " +
            "\"steps\": 10, \"evaluate_sequences\": 1, " + Options + "}");
        string item = folder.At("out", "items", "resid_post.3.w32.l0.02.s0");
        // A result that cannot be written is where it ends.
        Directory.CreateDirectory(Path.Combine(item, "result.json"));
        Program.Run("suite", suite, "--from", _run.Path, "--out", folder.At("out"), "--checkpoint-every", "2");
        Assert.True(File.Exists(Path.Combine(item, "training.json")));
        Assert.False(Directory.Exists(Path.Combine(item, "checkpoints")));
        Assert.Empty(Directory.GetFiles(item, "*.journal"));
        Directory.Delete(Path.Combine(item, "result.json"));
        Assert.Equal("done", Suite(folder, suite, "out").GetProperty("items")[0].GetProperty("state").GetString());
    }

    [Fact]
    public void A_report_that_cannot_be_written_is_known_before_anything_is_trained()
    {
        using var folder = new TempFolder();
        Program.Run("suite", Write(folder, Two), "--from", _run.Path, "--out", folder.At("out"), "--no-model", "--report",
            folder.At("none", "r.html")).AssertFailed(1, "r.html: the file cannot be written", "there is no folder");
        Assert.False(Directory.Exists(folder.At("out")));
    }

    /// <summary>Times are measured with two steps, which one of these does not have and the other does not survive.</summary>
    [Theory]
    [InlineData("\"steps\": 1", 0)]
    [InlineData("\"steps\": 30", 1)]
    public void What_has_one_step_or_diverges_keeps_no_suite_from_starting(string steps, int expected)
    {
        using var folder = new TempFolder();
        string options = expected == 0 ? "\"batch\": 64" : "\"batch\": 64, \"lr\": 1e30, \"lr_warm_up\": 0, \"sparsity_warm_up\": 0";
        string suite = Write(folder, "{\"sites\": [\"resid_post\"], \"layers\": [3], \"widths\": [16], \"sparsities\": [0.1], " +
            $"{steps}, \"options\": {{{options}}}}}");
        Outcome outcome = Program.Run("suite", suite, "--from", _run.Path, "--out", folder.At("out"), "--no-model");
        Assert.Equal(expected, outcome.ExitCode);
        Assert.DoesNotContain("defect", outcome.Error, StringComparison.Ordinal);
        Assert.Equal(expected == 1, outcome.Output.Contains("failed", StringComparison.Ordinal));
    }

    [Fact]
    public void A_suite_that_was_trained_without_the_model_is_measured_when_it_comes()
    {
        using var folder = new TempFolder();
        string suite = Write(folder, "{\"sites\": [\"resid_post\"], \"layers\": [3], \"widths\": [32], \"sparsities\": [0.02], " +
            "\"steps\": 10, \"evaluate_sequences\": 1, " + Options + "}");
        JsonElement without = Suite(folder, suite, "late", "--no-model").GetProperty("items")[0];
        JsonElement late = Suite(folder, suite, "late").GetProperty("items")[0];
        JsonElement whole = Suite(folder, suite, "whole").GetProperty("items")[0];
        Assert.Equal(JsonValueKind.Null, without.GetProperty("delta_loss").ValueKind);
        Assert.Equal(whole.GetProperty("delta_loss").GetDouble(), late.GetProperty("delta_loss").GetDouble());
    }

    [SkippableFact]
    public void Two_workers_and_a_queue_give_the_bytes_of_one()
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        using var folder = new TempFolder();
        using var server = new NatsServer(folder.At("nats"));
        string suite = Write(folder, Two);
        Suite(folder, suite, "one", "--no-model");
        using Process other = Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly, "suite", suite, "--from",
            _run.Path, "--out", folder.At("two"), "--queue", server.Url, "--ack-wait", "2", "--no-model"]));
        JsonElement result = Suite(folder, suite, "two", "--queue", server.Url, "--ack-wait", "2", "--no-model");
        Assert.Equal(0, Program.Finish(other).ExitCode);
        foreach (JsonElement item in result.GetProperty("items").EnumerateArray())
        {
            Assert.Equal("done", item.GetProperty("state").GetString());
            string file = $"items/{item.GetProperty("name").GetString()}/result.json";
            Assert.Equal(File.ReadAllBytes(folder.At($"one/{file}")), File.ReadAllBytes(folder.At($"two/{file}")));
        }
    }

    private JsonElement Suite(TempFolder folder, string suite, string name, params string[] more) =>
        Program.Json(["suite", suite, "--from", _run.Path, "--out", folder.At(name), .. more]);

    private static string Write(TempFolder folder, string text) => folder.Write("suite.json", System.Text.Encoding.UTF8.GetBytes(text));

    /// <summary>The demo's corpus at three sites of one layer.</summary>
    public sealed class SmallRun : IDisposable
    {
        private readonly TempFolder _folder = new();

        public SmallRun() => Assert.Equal(0, Program.Run("harvest", "--out", Path, "--text-file", "demo", "--sites",
            "resid_post.3,mlp_in_unit.3,mlp_out_post.3", "--context", "32").ExitCode);

        public string Path => _folder.At("run");

        public void Dispose() => _folder.Dispose();
    }
}
