using System.Diagnostics;
using System.Text;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary><c>train</c> as a process.</summary>
public sealed class TrainTests
{
    private static readonly string Data = Fixtures.Path("sae", "frontier", "data.npz");

    private static string[] Recipe(string folder, int steps, params string[] more) =>
    [
        "train", "--from", Data, "--key", "train", "--width", "128", "--sparsity", "0.01", "--steps", $"{steps}", "--batch", "128", "--lr",
        "0.005", "--lr-warm-up", "20", "--sparsity-warm-up", "50",
        "--bandwidth", "0.1", "--theta", "0.1", "--site", "resid_post.3", "--out", folder, "--device", "cpu", .. more,
    ];

    [Fact]
    public void It_writes_both_layouts_a_log_and_a_summary()
    {
        using var folder = new TempFolder();
        JsonElement result = Program.Json(Recipe(folder.At("sae"), 200, "--log-every", "50"));
        string[] export = [.. result.GetProperty("export").EnumerateArray().Select(p => p.GetString()!)];
        Assert.Equal(2, export.Length);
        Assert.Equal(export[0], result.GetProperty("sae").GetString());
        Assert.Equal((200, 200 * 128, "resid_post.3"), (result.GetProperty("steps").GetInt32(), result.GetProperty("rows").GetInt32(),
            result.GetProperty("site").GetString()));
        double l0 = result.GetProperty("l0").GetDouble();
        Assert.Contains($"res/layer_3/width_128/average_l0_{Math.Round(l0)}/params.npz", export[0].Replace('\\', '/'),
            StringComparison.Ordinal);
        string[] log = File.ReadAllLines(result.GetProperty("log").GetString()!);
        Assert.StartsWith("{\"options\":", log[0], StringComparison.Ordinal);
        Assert.Contains("\"export\":", log[^1], StringComparison.Ordinal);
        Assert.Equal(4, log.Count(line => line.StartsWith("{\"step\":", StringComparison.Ordinal)));
        JsonElement summary = JsonElement.Parse(File.ReadAllBytes(folder.At("sae/training.json")));
        Assert.Equal(l0, summary.GetProperty("validation").GetProperty("l0").GetDouble());
        JsonElement[] encoded = [.. export.Select(path => Program.Json("encode", Data, "--key", "test", "--sae", path))];
        Assert.Equal(encoded[0].GetProperty("l0").GetDouble(), encoded[1].GetProperty("l0").GetDouble());
        Assert.Equal(result.GetProperty("fvu").GetDouble(), encoded[0].GetProperty("fvu").GetDouble(), 0.05);
    }

    /// <summary>The sparsity that a target led to is in the result, beside the L0.</summary>
    [Fact]
    public void A_target_for_L0_is_reached_and_reported()
    {
        using var folder = new TempFolder();
        string[] recipe = Recipe(folder.At("sae"), 600, "--lr-decay-last", "120", "--target-l0", "6");
        int given = Array.IndexOf(recipe, "--sparsity");
        JsonElement result = Program.Json([.. recipe[..given], .. recipe[(given + 2)..]]);
        Assert.InRange(result.GetProperty("l0").GetDouble(), 5.4, 6.6);
        Assert.Equal(6, result.GetProperty("target_l0").GetDouble());
        JsonElement summary = JsonElement.Parse(File.ReadAllBytes(folder.At("sae/training.json")));
        Assert.Equal(summary.GetProperty("sparsity").GetDouble(), result.GetProperty("sparsity").GetDouble());
    }

    /// <summary>The process is killed at a moment of its own, again and again, until it gets through.</summary>
    [Fact]
    [Trait("Category", "Slow")]
    public void Killed_and_resumed_it_writes_what_it_would_have_written()
    {
        using var folder = new TempFolder();
        string[] every = ["--checkpoint-every", "25", "--log-every", "10", "--resume"];
        Program.Json(Recipe(folder.At("whole"), 3000, every));
        var random = new Random(3);
        for (int n = 0; n < 20; n++)
        {
            using Process process = Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly,
                .. Recipe(folder.At("broken"), 3000, every)]));
            if (!process.WaitForExit(random.Next(300, 1500)))
                process.Kill();
            process.WaitForExit();
        }

        Program.Json(Recipe(folder.At("broken"), 3000, every));
        foreach (string file in (string[])["saelens/sae_weights.safetensors", "checkpoints/step-000003000/parameters.safetensors",
            "checkpoints/step-000003000/adam.safetensors"])
            Assert.Equal(File.ReadAllBytes(folder.At($"whole/{file}")), File.ReadAllBytes(folder.At($"broken/{file}")));
        Assert.Equal(WithoutTimes(folder.At("whole/log.jsonl")), WithoutTimes(folder.At("broken/log.jsonl")));
    }

    /// <summary>Rows that the model makes as they are wanted are those of a harvest: the same SAE, the same log, from a transcoder's two
    /// sites too, and in whichever way it goes on from a checkpoint.</summary>
    [Fact]
    public void Live_it_learns_what_it_learns_from_a_harvest()
    {
        using var folder = new TempFolder();
        string[] plan = ["--text-file", "demo", "--sites", "mlp_in_unit.3,mlp_out_post.3", "--context", "32", "--shard-sequences", "3"];
        Program.Json(["plan", "--out", folder.At("planned"), .. plan]);
        Program.Json(["harvest", "--out", folder.At("stored"), .. plan]);
        string[] recipe = ["--site", "mlp_in_unit.3", "--site-out", "mlp_out_post.3", "--width", "64", "--sparsity", "0.002", "--batch",
            "64", "--lr", "0.002", "--bandwidth", "0.05", "--theta", "0.05", "--bucket", "150", "--validation", "0.3", "--log-every", "10",
            "--checkpoint-every", "7", "--resume"];
        string[] Of(string run, string sae, int steps) => ["train", "--from", folder.At(run), "--out", folder.At(sae), .. recipe, "--steps",
            $"{steps}", .. run == "planned" ? ["--live"] : Array.Empty<string>()];
        JsonElement whole = Program.Json(Of("stored", "whole", 30));
        Program.Json(Of("planned", "live", 10));
        JsonElement live = Program.Json(Of("planned", "live", 30));
        Program.Json(Of("stored", "mixed", 10));
        Program.Json(Of("planned", "mixed", 30));
        foreach (string sae in (string[])["live", "mixed"])
            Assert.Equal(File.ReadAllBytes(folder.At("whole/saelens/sae_weights.safetensors")),
                File.ReadAllBytes(folder.At($"{sae}/saelens/sae_weights.safetensors")));
        Assert.Equal(whole.GetProperty("delta_loss").GetDouble(), live.GetProperty("delta_loss").GetDouble());
        Assert.False(Directory.Exists(folder.At("planned", "acts")));
        Program.Run(Of("planned", "other", 30)[..^1]).AssertFailed(1, "not complete");
        Program.Run(["train", "--from", folder.At("planned"), "--out", folder.At("other"), .. recipe, "--live", "--trust"])
            .AssertFailed(2, "--trust");
    }

    /// <summary>The last chunk of a sequence is shorter than the others: what the chunk before it kept does not count.</summary>
    [Fact]
    public void Live_rows_of_sequences_longer_than_a_chunk_are_those_of_a_harvest()
    {
        using var folder = new TempFolder();
        static string Sequence(int length) => $"[2,{string.Join(',', Enumerable.Range(0, length - 1).Select(i => 600 + (i * 37 % 3000)))}]";
        string[] plan = ["--tokens-file", folder.Write("tokens.json",
            Encoding.UTF8.GetBytes($"[{Sequence(300)},{Sequence(270)},{Sequence(20)}]")),
            "--sites", "resid_post.0", "--context", "512"];
        Program.Json(["plan", "--out", folder.At("planned"), .. plan]);
        Program.Json(["harvest", "--out", folder.At("stored"), .. plan]);
        string[] Of(string run, params string[] more) => ["train", "--from", folder.At(run), "--out", folder.At(run + ".sae"), "--site",
            "resid_post.0", "--width", "16", "--sparsity", "0.01", "--steps", "6", "--batch", "128", "--validation", "0", .. more];
        Program.Json(Of("stored"));
        Program.Json(Of("planned", "--live"));
        byte[][] made = [.. new[] { "stored", "planned" }
            .Select(run => File.ReadAllBytes(folder.At(run + ".sae/saelens/sae_weights.safetensors")))];
        Assert.Equal(made[0], made[1]);
    }

    [Theory]
    [InlineData(2, "--sparsity is missing", "--width", "64")]
    [InlineData(2, "one of the two decides", "--width", "64", "--sparsity", "1", "--target-l0", "8")]
    [InlineData(2, "--target-l0 does nothing", "--width", "64", "--activation", "topk", "--k", "4", "--target-l0", "8")]
    [InlineData(2, "--target-l0 does nothing", "--width", "64", "--activation", "batchtopk", "--target-l0", "8")]
    [InlineData(2, "must be above 0", "--width", "64", "--target-l0", "0")]
    [InlineData(2, "below the width", "--width", "64", "--target-l0", "64")]
    [InlineData(2, "a shorter warm-up", "--width", "64", "--target-l0", "8", "--steps", "100")]
    [InlineData(2, "--k is missing", "--width", "64", "--activation", "topk")]
    [InlineData(2, "--sparsity does nothing", "--width", "64", "--activation", "topk", "--k", "4", "--sparsity", "1")]
    [InlineData(2, "--k does nothing", "--width", "64", "--sparsity", "1", "--k", "4")]
    [InlineData(2, "--sparsity needs a number; 'inf'", "--width", "64", "--sparsity", "inf")]
    [InlineData(2, "--seed needs a whole number; '1e5'", "--width", "64", "--sparsity", "1", "--seed", "1e5")]
    [InlineData(2, "within the range of float32", "--width", "64", "--sparsity", "1e300")]
    [InlineData(2, "--skip does nothing", "--width", "64", "--sparsity", "1", "--skip")]
    [InlineData(2, "--bucket does nothing", "--width", "64", "--sparsity", "1", "--bucket", "5")]
    [InlineData(2, "--site-out does nothing", "--width", "64", "--sparsity", "1", "--site-out", "z.1")]
    [InlineData(2, "not an activation", "--width", "64", "--sparsity", "1", "--activation", "gelu")]
    [InlineData(2, "k is 65", "--width", "64", "--activation", "batchtopk", "--k", "65")]
    [InlineData(1, "--key is needed", "--width", "64", "--sparsity", "1")]
    public void What_makes_no_sense_is_refused_in_a_sentence(int code, string words, params string[] arguments)
    {
        using var folder = new TempFolder();
        Program.Run(["train", "--from", Data, "--out", folder.At("sae"), .. arguments]).AssertFailed(code, words);
    }

    [Fact]
    public void More_than_the_disk_holds_is_known_before_the_first_step()
    {
        using var folder = new TempFolder();
        string[] recipe = [.. Recipe(folder.At("sae"), 2)];
        recipe[Array.IndexOf(recipe, "--steps") + 1] = "1000000000000";
        string[] every = ["--checkpoint-every", "1", "--keep-every", "1"];
        Program.Run([.. recipe, .. every]).AssertFailed(1, "this takes about", "are free there");
        Program.Run([.. recipe, .. every, "--resume"]).AssertFailed(1, "this takes about", "are free there");
        Assert.False(Directory.Exists(folder.At("sae")));
    }

    [SkippableTheory]
    [InlineData("sae", "none/log.jsonl", "none/log.jsonl: the file cannot be written (there is no folder")]
    [InlineData("sae", "", "the file cannot be written (it is a folder)")]
    [InlineData("sae", "/dev/full", "it is a device")]
    [InlineData("log.jsonl/sae", null, "log.jsonl/sae: the folder cannot be made")]
    [InlineData("taken", null, "taken/log.jsonl: the file cannot be written")]
    public void A_place_that_cannot_be_written_is_named_with_the_reason(string sae, string? log, string words)
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "devices and paths are Linux'");
        using var folder = new TempFolder();
        Directory.CreateDirectory(folder.At("taken", "log.jsonl"));
        folder.Write("log.jsonl", "mine"u8);
        Program.Run(Recipe(folder.At(sae), 2, log is null ? [] : ["--log", Path.Combine(folder.Path, log)])).AssertFailed(1, words);
        Assert.Equal("mine", File.ReadAllText(folder.At("log.jsonl")));
    }

    [Fact]
    public void A_missing_file_and_a_folder_in_use_are_refused()
    {
        using var folder = new TempFolder();
        Program.Run("train", "--from", folder.At("none.npz"), "--width", "64", "--sparsity", "1", "--out", folder.At("sae")).AssertFailed(1,
            "none.npz");
        Program.Json(Recipe(folder.At("sae"), 10));
        byte[] before = File.ReadAllBytes(folder.At("sae/saelens/sae_weights.safetensors"));
        Program.Run(Recipe(folder.At("sae"), 10)).AssertFailed(1, "has ended");
        // It left no checkpoint, so that going on would be beginning anew.
        Program.Run(Recipe(folder.At("sae"), 20, "--resume")).AssertFailed(1, "has ended");
        File.Delete(folder.At("sae/training.json"));
        File.Delete(folder.At("sae/log.jsonl"));
        Program.Run(Recipe(folder.At("sae"), 10)).AssertFailed(1, "is there already");
        Directory.Move(folder.At("sae/saelens"), folder.At("elsewhere"));
        Program.Run(Recipe(folder.At("sae"), 10, "--resume")).AssertFailed(1, "params.npz is an SAE");
        Assert.Equal(before, File.ReadAllBytes(folder.At("elsewhere/sae_weights.safetensors")));
    }

    /// <summary>Killed between its exports and its summary, before any checkpoint: its own files are no obstacle.</summary>
    [Fact]
    public void What_it_left_unfinished_is_gone_over_with_resume()
    {
        using var folder = new TempFolder();
        Program.Json(Recipe(folder.At("sae"), 10));
        byte[] before = File.ReadAllBytes(folder.At("sae/saelens/sae_weights.safetensors"));
        File.Delete(folder.At("sae/training.json"));
        Program.Json(Recipe(folder.At("sae"), 10, "--resume"));
        Assert.Equal(before, File.ReadAllBytes(folder.At("sae/saelens/sae_weights.safetensors")));
    }

    /// <summary>The only array of a file needs no --key, and its name says where its rows come from all the same.</summary>
    [Fact]
    public void The_name_of_the_only_array_says_where_the_rows_come_from()
    {
        using var folder = new TempFolder();
        Write(folder.At("acts.npz"), "resid_post.1", n => MathF.Sin(n));
        JsonElement result = Program.Json(Short(folder, "acts.npz", "--target-l0", "4"));
        Assert.Equal("resid_post.1", result.GetProperty("site").GetString());
        Assert.Contains("res/layer_1/width_24/", result.GetProperty("sae").GetString()!.Replace('\\', '/'), StringComparison.Ordinal);
        JsonElement about = JsonElement.Parse(File.ReadAllBytes(folder.At("sae/saelens/cfg.json"))).GetProperty("metadata");
        Assert.Equal("blocks.1.hook_resid_post", about.GetProperty("hook_name").GetString());
    }

    /// <summary>Rows without variance have no FVU; the rounding of its sums made it -10¹².</summary>
    [Fact]
    public void Rows_that_are_all_the_same_have_no_FVU()
    {
        using var folder = new TempFolder();
        Write(folder.At("acts.npz"), "x", _ => 1.1f);
        JsonElement result = Program.Json(Short(folder, "acts.npz", "--sparsity", "0.1"));
        Assert.Equal(JsonValueKind.Null, result.GetProperty("fvu").ValueKind);
        Assert.All(File.ReadLines(folder.At("sae/log.jsonl")).Where(line => line.Contains("\"fvu\"", StringComparison.Ordinal)),
            line => Assert.Contains("\"fvu\":null", line, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("the gradient of threshold is out of range", "--sparsity", "1e30")]
    [InlineData("must stay above 0 and finite", "--sparsity", "0.1", "--parameter", "log_theta", "--lr", "500", "--lr-warm-up", "0")]
    public void What_leaves_its_range_ends_in_a_sentence(string words, params string[] more)
    {
        using var folder = new TempFolder();
        Write(folder.At("acts.npz"), "x", n => MathF.Sin(n));
        AssertStops(words, Short(folder, "acts.npz", more));
        Assert.False(Directory.Exists(folder.At("sae/saelens")));
    }

    /// <summary>A log is not where the summary goes, and one that is missing is not made before that is said.</summary>
    [Fact]
    public void A_log_in_a_wrong_place_is_refused()
    {
        using var folder = new TempFolder();
        Write(folder.At("acts.npz"), "x", n => MathF.Sin(n));
        string[] recipe = Short(folder, "acts.npz", "--sparsity", "0.1", "--checkpoint-every", "10");
        Program.Run([.. recipe, "--log", folder.At("sae/training.json")]).AssertFailed(2, "name the same file");
        Program.Json(recipe);
        AssertStops("the log has 0 bytes", [.. recipe, "--resume", "--log", folder.At("other.jsonl")]);
        Assert.False(File.Exists(folder.At("other.jsonl")));
    }

    /// <summary>[positions, heads, d_head] cannot be told from [sequences, positions, d].</summary>
    [Fact]
    public void Heads_that_may_have_been_taken_for_rows_are_warned_of()
    {
        using var folder = new TempFolder();
        foreach ((string name, long[] shape, bool expected) in (ReadOnlySpan<(string, long[], bool)>)[("z.1", [100, 2, 7], true),
            ("z.1", [200, 7], false), ("resid_post.1", [100, 2, 7], false)])
        {
            using (var writer = new NpzWriter(folder.At("acts.npz")))
            {
                writer.Add(name, [.. Enumerable.Range(0, 200 * 7).Select(n => MathF.Sin(n))], shape);
                writer.Commit();
            }

            Outcome outcome = Program.Run(Short(folder, "acts.npz", "--sparsity", "0.001"));
            Assert.Equal(0, outcome.ExitCode);
            Assert.Equal(expected, outcome.Error.Contains("read as rows of 7 numbers", StringComparison.Ordinal));
            Directory.Delete(folder.At("sae"), recursive: true);
        }
    }

    /// <summary>Where no rows are kept back, the path has the L0 of the last steps: also where none is left to do.</summary>
    [Fact]
    public void Resumed_after_its_last_step_it_writes_to_the_same_path()
    {
        using var folder = new TempFolder();
        Write(folder.At("acts.npz"), "x", n => MathF.Sin(n));
        string[] recipe = Short(folder, "acts.npz", "--sparsity", "0.001", "--validation", "0", "--checkpoint-every", "10");
        string path = Program.Json(recipe).GetProperty("sae").GetString()!;
        Assert.DoesNotContain("average_l0_0", path, StringComparison.Ordinal);
        File.Delete(folder.At("sae/training.json"));
        Assert.Equal(path, Program.Json([.. recipe, "--resume"]).GetProperty("sae").GetString());
    }

    /// <summary>In a sentence, after it said how many rows there are.</summary>
    private static void AssertStops(string words, string[] arguments)
    {
        Outcome outcome = Program.Run(arguments);
        Assert.True(outcome.ExitCode == 1, $"exit {outcome.ExitCode}: {outcome.Error}");
        string[] lines = outcome.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(2, lines.Length);
        Assert.StartsWith("kernelscope: ", lines[1], StringComparison.Ordinal);
        Assert.Contains(words, lines[1], StringComparison.Ordinal);
    }

    private static void Write(string path, string name, Func<int, float> value)
    {
        using var writer = new NpzWriter(path);
        writer.Add(name, [.. Enumerable.Range(0, 200 * 7).Select(value)], [200, 7]);
        writer.Commit();
    }

    private static string[] Short(TempFolder folder, string rows, params string[] more)
    {
        (string Option, string Value)[] common = [("--width", "24"), ("--steps", "30"), ("--batch", "20"), ("--lr", "0.002"),
            ("--lr-warm-up", "5"), ("--sparsity-warm-up", "10"), ("--bandwidth", "0.05"), ("--theta", "0.05"), ("--validation", "0.2"),
            ("--log-every", "10"), ("--device", "cpu")];
        return ["train", "--from", folder.At(rows), "--out", folder.At("sae"), .. more,
            .. common.Where(c => !more.Contains(c.Option)).SelectMany(c => new[] { c.Option, c.Value })];
    }

    private static string[] WithoutTimes(string path) => [.. File.ReadLines(path).Select(line => line.Split(",\"seconds\"")[0])];
}
