using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary><c>harvest</c>, <c>plan</c>, <c>work</c>, <c>status</c> and <c>merge</c> as a user runs them.</summary>
public sealed class HarvestTests
{
    private const string Sae = "res.3.2k.l0_19";

    /// <summary>Sequences of token ids, the first longer than a chunk of the model.</summary>
    private static byte[] Tokens(params int[] lengths)
    {
        var random = new Random(3);
        return Encoding.UTF8.GetBytes(JsonSerializer.Serialize(lengths.Select(n => Enumerable.Range(0, n)
            .Select(t => t == 0 ? 2 : random.Next(3, 4096)))));
    }

    [Fact]
    public void Rows_of_all_sites_are_those_of_run_bit_for_bit()
    {
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json", Tokens(300, 17, 2));
        Assert.Equal(0, Program.Run("run", "--tokens-file", tokens, "--capture", "all", "--out", folder.At("acts.npz")).ExitCode);
        JsonElement result = Program.Json("harvest", "--out", folder.At("run"), "--tokens-file", tokens, "--sites", "all", "--keep-special",
            "--shard-sequences", "2");
        Assert.Equal((2, 2, 319), (result.GetProperty("shards").GetInt32(), result.GetProperty("done").GetInt32(),
            result.GetProperty("rows").GetInt32()));
        using var expected = new Arrays(folder.At("acts.npz"));
        string[] sites = [.. result.GetProperty("sites").EnumerateArray().Select(s => s.GetProperty("site").GetString()!)];
        Assert.Equal(expected.Names.Where(n => n is not ("tokens" or "text_start")).Order(StringComparer.Ordinal),
            sites.Order(StringComparer.Ordinal));
        foreach (string site in sites)
        {
            float[] rows = [.. new[] { "000000", "000001" }.SelectMany(n =>
                Floats(folder.At("run", "acts", site, $"{n}.safetensors"), "x"))];
            Assert.True(expected.Floats(site).AsSpan().SequenceEqual(rows), site);
        }

        Assert.Equal(Enumerable.Range(0, 300).Concat(Enumerable.Range(0, 17)),
            Ints(folder.At("run", "acts", "z.1", "000000.safetensors"), "position"));
        Assert.Equal([2, 2], Ints(folder.At("run", "acts", "z.1", "000001.safetensors"), "sequence"));
        string[] files = Directory.GetFiles(folder.At("run"), "*.safetensors", SearchOption.AllDirectories);
        Assert.All(Program.Json(["inspect", .. files]).EnumerateArray(), f => Assert.True(f.GetProperty("ok").GetBoolean(), f.ToString()));
    }

    [Fact]
    public void Codes_are_those_of_features_and_the_run_does_not_depend_on_threads_or_workers()
    {
        using var folder = new TempFolder();
        string[] Arguments(string run) => ["harvest", "--out", folder.At(run), "--jsonl", "demo", "--documents", "separate", "--sites",
            "resid_post.3", "--sae", Sae, "--shard-sequences", "1"];
        string id = Program.Json([.. Arguments("a"), "--threads", "1"]).GetProperty("run").GetString()!;
        Assert.Equal(id, Program.Json([.. Arguments("b"), "--threads", "2"]).GetProperty("run").GetString());
        Assert.Equal(id, Program.Json([.. Arguments("c"), "--workers", "2"]).GetProperty("run").GetString());
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(folder.At("a", "run.json")))), id);
        Dictionary<string, string> files = Hashes(folder.At("a"));
        Assert.Equal(files, Hashes(folder.At("b")));
        Assert.Equal(files, Hashes(folder.At("c")));

        string text = Encoding.UTF8.GetString(Demo.Corpus).Split('\n')[0];
        JsonElement[] features = [.. Program.Json("features", text, "--sae", Sae, "--top",
            "4096").GetProperty("tokens").EnumerateArray().Skip(1)];
        string codes = folder.At("a", "codes", Sae, "000000.safetensors");
        long[] start = Longs(codes, "row_ptr");
        int[] feature = Ints(codes, "feature");
        float[] value = Floats(codes, "value");
        Assert.Equal(features.Length + 1, start.Length);
        for (int r = 0; r < features.Length; r++)
        {
            var expected = features[r].GetProperty("features").EnumerateArray()
                .Select(f => (f.GetProperty("index").GetInt32(), f.GetProperty("activation").GetSingle())).OrderBy(f => f.Item1);
            Assert.Equal(expected, Enumerable.Range((int)start[r], (int)(start[r + 1] - start[r])).Select(i => (feature[i], value[i])));
        }

        Assert.Equal(feature.Length, Longs(folder.At("a", "codes", Sae, "000000.firing.safetensors"), "firing").Sum());
    }

    [Theory]
    [InlineData("f32")]
    [InlineData("bf16")]
    [InlineData("f16")]
    public void What_is_excluded_has_no_row_and_is_counted(string type)
    {
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json", "[[2,5,7,5,1,9,0],[2,9,9],[5,5,5,5]]"u8);
        Program.Json("harvest", "--out", folder.At("run"), "--tokens-file", tokens, "--sites", "resid_post.0", "--exclude-ids", "9",
            "--skip-first", "2", "--dtype", type);
        string path = folder.At("run", "acts", "resid_post.0", "000000.safetensors");
        Assert.Equal([7, 5, 5, 5], Ints(path, "token"));
        Assert.Equal([2, 3, 2, 3], Ints(path, "position"));
        Assert.Equal([0, 0, 2, 2], Ints(path, "sequence"));
        JsonElement manifest = JsonElement.Parse(File.ReadAllBytes(folder.At("run", "shards", "000000.json")));
        Assert.Equal(14, manifest.GetProperty("rows").GetInt64() + manifest.GetProperty("excluded").EnumerateObject().Sum(e =>
            e.Value.GetInt64()));
        Assert.Equal(3, manifest.GetProperty("excluded").GetProperty("9").GetInt64());
        using var file = SafetensorsFile.Open(path);
        Assert.Equal(type, file["x"].DType.SafetensorsName().ToLowerInvariant());
        float[] x = file["x"].ToFloats();
        JsonElement site = manifest.GetProperty("sites").GetProperty("resid_post.0");
        for (int j = 0; j < 224; j++)
            Assert.Equal(Enumerable.Range(0, 4).Sum(r => (double)x[(r * 224) + j]), site.GetProperty("sum_x")[j].GetDouble(), type == "f32"
                ? 1e-9 : 0.5);
        Assert.Equal(Enumerable.Range(0, 4).Max(r => Math.Sqrt(x.AsSpan(r * 224, 224).ToArray().Sum(v => (double)v * v))),
            site.GetProperty("max_norm").GetDouble(), type == "f32" ? 1e-9 : 0.5);
    }

    [Fact]
    public void Documents_are_packed_or_one_a_sequence()
    {
        using var folder = new TempFolder();
        Directory.CreateDirectory(folder.At("texts"));
        File.WriteAllText(folder.At("texts", "b.txt"), "The second one is here.");
        File.WriteAllText(folder.At("texts", "a.txt"), "\uFEFFOnce upon a time there was a king.");
        int[] first = Program.Json("tokenize", "Once upon a time there was a king.").Ints("ids"),
            second = Program.Json("tokenize", "The second one is here.").Ints("ids");
        int[] all = [.. first.Where(i => i != 2), .. second.Where(i => i != 2)];
        Program.Json("harvest", "--out", folder.At("packed"), "--text-file", folder.At("texts"), "--sites", "embed", "--context", "5");
        string packed = folder.At("packed", "tokens", "000000.safetensors");
        Assert.Equal(all.Chunk(4).SelectMany(c => (int[])[2, .. c, .. new int[4 - c.Length]]), Ints(packed, "tokens"));
        Program.Json("harvest", "--out", folder.At("separate"), "--text-file", folder.At("texts"), "--sites", "embed", "--context", "64",
            "--documents", "separate");
        string separate = folder.At("separate", "tokens", "000000.safetensors");
        Assert.Equal([first.Count(i => i != 2) + 1, second.Count(i => i != 2) + 1], Ints(separate, "length"));
        Assert.Equal([0, 1], Longs(separate, "document"));
        // The same documents as lines, and as ids.
        string lines = folder.Write("lines.jsonl",
            Encoding.UTF8.GetBytes("\"Once upon a time there was a king.\"\n\n{\"text\": \"The second one is here.\"}\n"));
        Program.Json("harvest", "--out", folder.At("lines"), "--jsonl", lines, "--sites", "embed", "--context", "64", "--documents",
            "separate");
        Assert.Equal(File.ReadAllBytes(separate), File.ReadAllBytes(folder.At("lines", "tokens", "000000.safetensors")));
        JsonElement few = Program.Json("harvest", "--out", folder.At("few"), "--text-file", folder.At("texts"), "--sites", "embed",
            "--context", "5", "--sequences", "2");
        Assert.Equal(8, few.GetProperty("rows").GetInt32());
        Assert.Equal(4, Program.Json("harvest", "--out", folder.At("fewer"), "--text-file", folder.At("texts"), "--sites", "embed",
            "--context", "5", "--rows", "3").GetProperty("rows").GetInt32());
    }

    [Fact]
    public void A_dry_run_writes_nothing_and_says_what_it_takes()
    {
        using var folder = new TempFolder();
        Outcome outcome = Program.Run("harvest", "--out", folder.At("run"), "--text-file", "demo", "--sites", "resid_post.*", "--context",
            "64", "--dry-run", "--json");
        JsonElement result = outcome.Json();
        Assert.False(Directory.Exists(folder.At("run")));
        Assert.Contains("on disk", outcome.Error, StringComparison.Ordinal);
        JsonElement real = Program.Json("harvest", "--out", folder.At("run"), "--text-file", "demo", "--sites", "resid_post.*", "--context",
            "64");
        Assert.Equal(result.GetProperty("run").GetString(), real.GetProperty("run").GetString());
        Assert.InRange(real.GetProperty("bytes").GetDouble() / result.GetProperty("bytes").GetDouble(), 0.9, 1.3);
    }

    [Fact]
    public void Shards_by_number_by_variable_by_xargs_and_by_an_array_give_the_bytes_of_one_process()
    {
        if (OperatingSystem.IsWindows())
            return;
        using var folder = new TempFolder();
        string[] what = ["--jsonl", "demo", "--documents", "separate", "--sites", "resid_post.3", "--sae", Sae, "--shard-sequences", "2"];
        Program.Json(["harvest", "--out", folder.At("whole"), .. what]);
        Dictionary<string, string> expected = Hashes(folder.At("whole"));
        foreach (string run in new[] { "numbers", "array", "xargs" })
            Program.Json(["plan", "--out", folder.At(run), .. what]);
        int shards = Program.Json("plan", folder.At("numbers")).GetProperty("missing").GetInt32();
        for (int n = shards - 1; n >= 0; n--)
        {
            string number = n.ToString(System.Globalization.CultureInfo.InvariantCulture);
            JsonElement done = n != 1 ? Program.Json("work", folder.At("numbers"), "--shard", number)
                : Program.RunWith(null, new Dictionary<string, string> { ["JOB_COMPLETION_INDEX"] = number }, "work", folder.At("numbers"),
                    "--index-env", "JOB_COMPLETION_INDEX", "--json").Json();
            Assert.False(done.GetProperty("done")[0].GetProperty("reused").GetBoolean());
        }

        Assert.True(Program.Json("work", folder.At("numbers"), "--shard", "0").GetProperty("done")[0].GetProperty("reused").GetBoolean());
        Assert.Equal(expected, Hashes(folder.At("numbers")));
        Shell(folder, "tools/cluster/local.sh", folder.At("xargs"), "2", "--threads", "1");
        Assert.Equal(expected, Hashes(folder.At("xargs")));
        // A stand-in for Slurm: it runs the tasks of an array one after the other, as --array=0-N%M says.
        Script(folder, "sbatch", "array=${1#--array=}; script=$2; shift 2\nfor i in $(seq ${array%%-*} $(echo ${array#*-} | cut -d% " +
            "-f1)); do SLURM_ARRAY_TASK_ID=$i bash \"$script\" \"$@\" || exit 1; done\n");
        Shell(folder, "tools/cluster/submit-slurm.sh", folder.At("array"));
        Assert.Equal(expected, Hashes(folder.At("array")));
        foreach (string kind in new[] { "statistics", "density", "examples", "transpose" })
        {
            string[] hashes = [.. new[] { "whole", "numbers", "array" }.Select(run =>
                Program.Json("merge", folder.At(run), "--what", kind).GetProperty("sha256").GetString()!)];
            Assert.Single(hashes.Distinct());
        }

        Assert.Equal(0, Program.Run("status", folder.At("array")).ExitCode);
    }

    [Fact]
    public void The_job_for_Kubernetes_has_the_fields_that_its_schema_asks_for()
    {
        JsonElement job = JsonElement.Parse(File.ReadAllBytes(Path.Combine(Fixtures.Root, "tools", "cluster", "kubernetes-job.json"))),
            spec = job.GetProperty("spec");
        Assert.Equal(("batch/v1", "Job", "Indexed"), (job.GetProperty("apiVersion").GetString(), job.GetProperty("kind").GetString(),
            spec.GetProperty("completionMode").GetString()));
        Assert.Equal(3, spec.GetProperty("backoffLimitPerIndex").GetInt32());
        Assert.InRange(spec.GetProperty("parallelism").GetInt32(), 1, spec.GetProperty("completions").GetInt32());
        JsonElement pod = spec.GetProperty("template").GetProperty("spec"), container = pod.GetProperty("containers")[0],
            rule = spec.GetProperty("podFailurePolicy").GetProperty("rules")[0];
        Assert.Equal("Never", pod.GetProperty("restartPolicy").GetString());
        Assert.Equal(("FailIndex", 2, container.GetProperty("name").GetString()),
            (rule.GetProperty("action").GetString(), rule.GetProperty("onExitCodes").GetProperty("values")[0].GetInt32(),
            rule.GetProperty("onExitCodes").GetProperty("containerName").GetString()));
        Assert.Contains("JOB_COMPLETION_INDEX", container.GetProperty("command").EnumerateArray().Select(c => c.GetString()));
        Assert.Equal(pod.GetProperty("volumes")[0].GetProperty("name").GetString(),
            container.GetProperty("volumeMounts")[0].GetProperty("name").GetString());
    }

    [Fact]
    public void A_run_that_is_killed_again_and_again_has_the_bytes_of_an_unbroken_one()
    {
        if (!OperatingSystem.IsLinux())
            return;
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json", Tokens([.. Enumerable.Repeat(20, 12)]));
        string[] Arguments(string run) => ["harvest", "--out", folder.At(run), "--tokens-file", tokens, "--sites", "resid_post.3,z.*",
            "--sae", Sae, "--shard-sequences", "1", "--device", "reference"];
        Program.Json(Arguments("whole"));
        var random = new Random(8);
        int kills = 0;
        // A part of the run each time: from its start to well after its first shards.
        for (int trial = 0; trial < 6; trial++)
        {
            using Process process = Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly, .. Arguments("killed")]));
            int wanted = Math.Min(11, random.Next(4) + (2 * trial));
            var watch = Stopwatch.StartNew();
            while (!process.HasExited && watch.Elapsed < TimeSpan.FromMinutes(1) && Count(folder.At("killed", "shards")) < wanted)
                Thread.Sleep(1);
            Thread.Sleep(random.Next(30));
            kills += process.HasExited ? 0 : 1;
            process.Kill();
            process.WaitForExit();
        }

        Assert.True(kills >= 3, $"it was killed {kills} times");
        JsonElement result = Program.Json(Arguments("killed"));
        Assert.Equal(12, result.GetProperty("done").GetInt32());
        Assert.Equal(Hashes(folder.At("whole")), Hashes(folder.At("killed")));
        Assert.Empty(Directory.GetFiles(folder.At("killed"), ".tmp-*",
            new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 }));
    }

    [Theory]
    [InlineData("INT", 130)]
    [InlineData("TERM", 143)]
    public void A_signal_ends_a_harvest_between_two_shards_without_a_trace(string signal, int exitCode)
    {
        if (!OperatingSystem.IsLinux())
            return;
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json", Tokens([.. Enumerable.Repeat(40, 12)]));
        string[] arguments = ["harvest", "--out", folder.At("run"), "--tokens-file", tokens, "--sites", "resid_post.3", "--shard-sequences",
            "1", "--device", "reference"];
        using Process process = Program.Start(new ProcessStartInfo("env",
            ["--default-signal=INT,TERM", Program.Host, "exec", Program.Assembly, .. arguments]));
        var watch = Stopwatch.StartNew();
        while (!process.HasExited && watch.Elapsed < TimeSpan.FromMinutes(1) && Count(folder.At("run", "shards")) < 2)
            Thread.Sleep(1);
        using (var kill = Process.Start("kill", [$"-{signal}", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]))
            kill.WaitForExit();
        Outcome outcome = Program.Finish(process);
        Assert.Equal(exitCode, outcome.ExitCode);
        Assert.EndsWith("kernelscope: interrupted.\n", outcome.Error, StringComparison.Ordinal);
        int done = Count(folder.At("run", "shards"));
        Assert.InRange(done, 2, 11);
        Assert.Equal(done, Directory.GetFiles(folder.At("run", "acts", "resid_post.3"), "*",
            new EnumerationOptions { AttributesToSkip = 0 }).Length);
    }

    [Fact]
    public void Damage_is_found_taken_back_and_made_again()
    {
        using var folder = new TempFolder();
        string[] what = ["--jsonl", "demo", "--documents", "separate", "--sites", "resid_post.3", "--shard-sequences", "1"];
        Program.Json(["harvest", "--out", folder.At("run"), .. what]);
        Dictionary<string, string> expected = Hashes(folder.At("run"));
        string path = folder.At("run", "acts", "resid_post.3", "000002.safetensors");
        byte[] bytes = File.ReadAllBytes(path);
        bytes[^100] ^= 1;
        File.WriteAllBytes(path, bytes);
        Outcome plan = Program.Run("plan", folder.At("run"), "--verify", "--json");
        Assert.Equal(1, plan.Json().GetProperty("missing").GetInt32());
        Assert.Contains("shard 2 is damaged", plan.Error, StringComparison.Ordinal);
        Assert.Equal(2, Program.Json("work", folder.At("run")).GetProperty("done")[0].GetProperty("shard").GetInt32());
        Assert.Equal(expected, Hashes(folder.At("run")));
        // A file that was cut short is seen without reading it.
        File.WriteAllBytes(path, bytes[..500]);
        Assert.Equal(0, Program.Run("work", folder.At("run"), "--shard", "2").ExitCode);
        Assert.Equal(expected, Hashes(folder.At("run")));
    }

    [Fact]
    public void What_cannot_work_is_one_sentence_and_the_exit_code_that_says_whether_to_try_again()
    {
        using var folder = new TempFolder();
        string[] what = ["--jsonl", "demo", "--documents", "separate", "--sites", "resid_post.3", "--shard-sequences", "1"];
        string run = folder.At("run");
        Program.Json(["plan", "--out", run, .. what]);
        Program.Run("work", run, "--device", "reference").AssertFailed(2, "class");
        Program.Run("work", run, "--model", Fixtures.Path("sae", "evaluation", "model")).AssertFailed(2, "another model");
        Program.Run("work", run, "--precision", "fast").AssertFailed(2, "--precision");
        Program.Run("work", run, "--shard", "99").AssertFailed(2, "shards 0 to");
        Program.Run("work", run, "--index-env", "NO_SUCH_VARIABLE_HERE").AssertFailed(2, "NO_SUCH_VARIABLE_HERE");
        Program.Run("work", folder.At("none")).AssertFailed(2, "run.json");
        Program.Run("merge", run, "--what", "statistics").AssertFailed(1, "the run is not complete", "--partial");
        Program.Run("merge", run, "--what", "statistics", "--partial").AssertFailed(1, "no shard is there");
        Program.Run(["harvest", "--out", run, .. what, "--seed", "5"]).AssertFailed(1, "another run is in this folder", "seed");
        Program.Run(["harvest", "--out", folder.At("x"), .. what[..2]]).AssertFailed(2, "--sites");
        Program.Run("harvest", "--out", folder.At("x"), "--sites", "resid_post.3").AssertFailed(2, "the corpus is missing");
        Program.Run("harvest", "--out", folder.At("x"), "--text-file", "demo", "--sites", "resid_post.9").AssertFailed(1, "resid_post.9");
        Program.Run("harvest", "--out", folder.At("x"), "--text-file", "demo", "--sites", "attn_scores.1").AssertFailed(1,
            "no fixed width");
        Program.Run("harvest", "--out", folder.At("x"), "--tokens-file", folder.Write("t.json", "[[2,99999]]"u8), "--sites",
            "z.1").AssertFailed(1, "99999");
        Assert.False(Directory.Exists(folder.At("x")));
        // A shard whose tokens are damaged: trying again cannot help, and status says that it failed for good.
        string tokens = folder.At("run", "tokens", "000001.safetensors");
        byte[] bytes = File.ReadAllBytes(tokens);
        bytes[^9] ^= 1;
        File.WriteAllBytes(tokens, bytes);
        Outcome poison = Program.Run("work", run);
        Assert.Equal(2, poison.ExitCode);
        Assert.Contains("shard 1: ", poison.Error, StringComparison.Ordinal);
        Outcome status = Program.Run("status", run);
        Assert.Equal(1, status.ExitCode);
        Assert.Contains("shard 1 failed", status.Output, StringComparison.Ordinal);
        Assert.True(File.Exists(folder.At("run", "failed", "000001.1.json")));
        Assert.False(File.Exists(folder.At("run", "acts", "resid_post.3", "000001.safetensors")));
        string plan = folder.At("run", "run.json");
        File.WriteAllText(plan, File.ReadAllText(plan).Replace("\"format\":1", "\"format\":0", StringComparison.Ordinal));
        Program.Run("work", run).AssertFailed(2, "format 0");
    }

    [Fact]
    public void A_run_whose_model_is_not_here_says_how_to_name_it_and_rows_are_trained_on_without()
    {
        using var folder = new TempFolder();
        string run = folder.At("run"), model = folder.At("modeltogo"), fixture = Fixtures.Path("sae", "evaluation", "model");
        Directory.CreateDirectory(model);
        foreach (string file in Directory.GetFiles(fixture))
            File.Copy(file, Path.Combine(model, Path.GetFileName(file)));
        string sequences = $"[{string.Join(',', Enumerable.Repeat("[2,5,9,7,11,4,3]", 20))}]";
        Program.Json("harvest", "--out", run, "--model", model, "--tokens-file", folder.Write("t.json", Encoding.UTF8.GetBytes(sequences)),
            "--sites", "resid_post.2");
        Directory.Delete(model, recursive: true);
        Outcome train = Program.Run("train", "--from", run, "--site", "resid_post.2", "--width", "8", "--sparsity", "1e-3", "--steps", "2",
            "--batch", "4", "--validation", "0.3", "--out", folder.At("sae"));
        Assert.True(train.ExitCode == 0, train.Error);
        Assert.Contains("Delta loss is not measured: the run's model 'modeltogo' is not found here", train.Error, StringComparison.Ordinal);
        string[] sae = ["--sae", Fixtures.Path("sae", "evaluation", "sae-resid_post.2"), "--site", "resid_post.2"];
        Program.Run(["eval", "--run", run, .. sae]).AssertFailed(2, "'modeltogo' is not found here; --model DIR");
        Program.Run(["dash", "--run", run, .. sae, "--features", "1", "--json", "--model", fixture]).AssertFailed(2, "it has none.");
        Program.Run("merge", run, "--what", "density").AssertFailed(1, "the run holds no codes: 'harvest --sae PATH'");
        File.Delete(folder.At("run", "shards", "000000.json"));
        Program.Run("work", run).AssertFailed(2, "'modeltogo' is not found here; --model DIR");
    }

    [Theory]
    [InlineData("--tokens-file", "[[]]", "corpus: there is no token in it")]
    [InlineData("--text-file", "", "corpus: there is no token in it")]
    [InlineData("--jsonl", "\"\"\n[]\n", "corpus: there is no token in it")]
    [InlineData("--jsonl", "\"fine\"\n\"\\ud800 half\"", "corpus: line 2 has a text with half of a surrogate pair")]
    public void A_corpus_without_a_token_or_with_half_a_character_is_named(string option, string text, string words)
    {
        using var folder = new TempFolder();
        Program.Run("harvest", "--out", folder.At("x"), "--sites", "embed", option, folder.Write("corpus", Encoding.UTF8.GetBytes(text)))
            .AssertFailed(1, words);
    }

    /// <summary>Files of a folder are read once each, whatever links are in it.</summary>
    [SkippableFact]
    public void A_folder_of_texts_is_read_once_and_what_cannot_be_read_is_named()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "links and pipes are Linux'");
        using var folder = new TempFolder();
        string texts = folder.At("texts"), below = folder.At("texts", "below");
        Directory.CreateDirectory(below);
        Directory.CreateDirectory(folder.At("elsewhere"));
        File.WriteAllText(Path.Combine(texts, "a.txt"), "The king.");
        File.WriteAllText(folder.At("elsewhere", "b.txt"), "The second one is here.");
        Directory.CreateSymbolicLink(Path.Combine(below, "linked"), folder.At("elsewhere"));
        string[] harvest = ["harvest", "--out", folder.At("x"), "--sites", "embed", "--documents", "separate", "--text-file", texts];
        string loop = Path.Combine(below, "loop"), lost = Path.Combine(below, "lost.txt"), pipe = Path.Combine(below, "pipe.txt");
        Directory.CreateSymbolicLink(loop, texts);
        Program.Run(harvest).AssertFailed(1, loop, "leads to a folder above it");
        Directory.Delete(loop);
        File.CreateSymbolicLink(lost, "nowhere");
        Program.Run(harvest).AssertFailed(1, $"{lost}: ");
        File.Delete(lost);
        using (var mkfifo = System.Diagnostics.Process.Start("mkfifo", [pipe]))
            mkfifo.WaitForExit();
        Program.Run(harvest).AssertFailed(1, pipe, "this is a pipe");
        File.Delete(pipe);
        Program.Json(harvest);
        Assert.Equal([0, 1], Longs(folder.At("x", "tokens", "000000.safetensors"), "document"));
    }

    [Fact]
    public void A_merge_spares_the_runs_own_files_and_a_damaged_count_is_named()
    {
        using var folder = new TempFolder();
        string run = folder.At("run");
        Program.Json("harvest", "--out", run, "--tokens-file", folder.Write("tokens.json", Tokens(9, 9)), "--sites", "resid_post.3");
        byte[] plan = File.ReadAllBytes(folder.At("run", "run.json"));
        foreach (string own in new[] { "run.json", "shards/000000.json", "acts/resid_post.3/x.json", "../run/run.json" })
            Program.Run("merge", run, "--what", "statistics", "--out", Path.Combine(run, own)).AssertFailed(2, "--out", "the run's own");
        Assert.Equal(plan, File.ReadAllBytes(folder.At("run", "run.json")));
        Program.Json("merge", run, "--what", "statistics", "--out", folder.At("run", "statistics.json"));
        Program.Run("train", "--from", run, "--site", "resid_post.3", "--width", "8", "--sparsity", "1e-3", "--steps", "2", "--batch",
            "2000", "--out", folder.At("sae")).AssertFailed(1, "--batch is 2000", "--bucket");
        Assert.False(Directory.Exists(folder.At("sae")));
        string manifest = folder.At("run", "shards", "000000.json"), whole = File.ReadAllText(manifest);
        foreach (string id in new[] { "x", "-2", "99999999999" })
        {
            File.WriteAllText(manifest, whole.Replace("\"excluded\":{\"2\"", $"\"excluded\":{{\"{id}\"", StringComparison.Ordinal));
            Program.Run("status", run).AssertFailed(1, "000000.json", $"excluded.{id}", "token id");
        }
    }

    /// <summary>A folder of codes by feature is whole: no file of an earlier one stays in it, and nothing of anybody else's goes.</summary>
    [Fact]
    public void A_transpose_takes_the_place_of_a_transpose_and_of_nothing_else()
    {
        using var folder = new TempFolder();
        string run = folder.At("run"), path = folder.At("above", "transpose");
        Program.Json("harvest", "--out", run, "--tokens-file", folder.Write("tokens.json", Tokens(9, 9)), "--sae", "res.3.2k.l0_19",
            "--codes-only");
        string[] merge = ["merge", run, "--what", "transpose", "--out"];
        string hash = Program.Json([.. merge, path]).GetProperty("sha256").GetString()!;
        byte[] whole = File.ReadAllBytes(Path.Combine(path, "000000.safetensors"));
        // As an SAE with more features would have left it.
        File.WriteAllBytes(Path.Combine(path, "000001.safetensors"), whole);
        Assert.Equal((hash, path), (Program.Json([.. merge, path]).GetProperty("sha256").GetString()!,
            Program.Json([.. merge, path]).GetProperty("file").GetString()));
        Assert.Equal(["000000.safetensors"], Directory.GetFileSystemEntries(path).Select(Path.GetFileName));
        Assert.Equal([path], Directory.GetFileSystemEntries(folder.At("above")));
        Dictionary<string, string> before = Hashes(run);
        File.Copy(folder.At("run", "tokens", "000000.safetensors"), folder.At("above", "000000.safetensors"));
        foreach (string taken in (string[])[run, folder.At("above")])
            Program.Run([.. merge, taken]).AssertFailed(1, taken, "the folder is not empty");
        Program.Run([.. merge, folder.At("tokens.json")]).AssertFailed(1, "tokens.json: there is a file of that name");
        Assert.Equal(before, Hashes(run));
    }

    /// <summary>Whatever writes beside what it reads from a run: not over the run itself, by whichever path.</summary>
    [Fact]
    public void No_verb_writes_over_the_files_of_the_run_that_it_reads()
    {
        using var folder = new TempFolder();
        string run = folder.At("run"), link = folder.At("link");
        Program.Json("harvest", "--out", run, "--tokens-file", folder.Write("tokens.json", Tokens(9, 9)), "--sites", "resid_post.3",
            "--sae", "res.3.2k.l0_19");
        string suite = folder.Write("suite.json", "{\"sites\": [\"resid_post\"], \"widths\": [8], \"sparsities\": [0.1], \"steps\": 2}"u8);
        string[] train = ["train", "--from", run, "--site", "resid_post.3", "--width", "8", "--sparsity", "1e-3", "--steps", "2", "--batch",
            "4"], eval = ["eval", "--run", run, "--sae", "res.3.2k.l0_19"], dash = ["dash", "--run", run, "--sae", "res.3.2k.l0_19"];
        Directory.CreateSymbolicLink(link, run);
        Dictionary<string, string> before = Hashes(run);
        byte[] plan = File.ReadAllBytes(folder.At("run", "run.json"));
        foreach (string own in (string[])[Path.Combine(run, "run.json"), Path.Combine(link, "run.json"),
            Path.Combine(link, "shards", "000000.json")])
        {
            Program.Run([.. train, "--out", folder.At("sae"), "--log", own]).AssertFailed(2, "--log", "the run's own");
            Program.Run([.. train, "--out", own]).AssertFailed(2, "--out", "the run's own");
            foreach (string option in (string[])["--out", "--report", "--resume"])
                Program.Run([.. eval, option, own]).AssertFailed(2, option, "the run's own");
            Program.Run([.. dash, "--features", "1", "--html", own]).AssertFailed(2, "--html", "the run's own");
            Program.Run([.. dash, "--out", own]).AssertFailed(2, "--out", "the run's own");
            Program.Run("suite", suite, "--from", run, "--out", own).AssertFailed(2, "--out", "the run's own");
            Program.Run("merge", run, "--what", "statistics", "--out", own).AssertFailed(2, "--out", "the run's own");
        }

        Assert.Equal(before, Hashes(run));
        Assert.Equal(plan, File.ReadAllBytes(folder.At("run", "run.json")));
    }

    [Theory]
    [InlineData("shards/000000.json")]
    [InlineData("acts/resid_post.3/000000.safetensors")]
    public void A_folder_in_the_place_of_a_file_is_named_and_stays(string file)
    {
        using var folder = new TempFolder();
        string run = folder.At("run"), path = Path.Combine(run, file);
        Program.Json("harvest", "--out", run, "--tokens-file", folder.Write("tokens.json", Tokens(9, 9)), "--sites", "resid_post.3");
        byte[] bytes = File.ReadAllBytes(path);
        File.Delete(path);
        Directory.CreateDirectory(path);
        Program.Run("plan", run, "--verify").AssertFailed(1, file, "this is a folder");
        Outcome work = Program.Run("work", run, "--shard", "0");
        Assert.Equal(2, work.ExitCode);
        Assert.Contains("this is a folder", work.Error, StringComparison.Ordinal);
        Directory.Delete(path);
        File.WriteAllBytes(path, bytes);
        Assert.Equal(1, Program.Json("plan", run, "--verify").GetProperty("done").GetInt32());
    }

    [Fact]
    public void A_full_disk_leaves_no_file_with_a_final_name()
    {
        if (!OperatingSystem.IsLinux())
            return;
        using var folder = new TempFolder();
        Program.Json("plan", "--out", folder.At("run"), "--text-file", "demo", "--sites", "resid_post.3,logits", "--context", "64");
        // A limit on a file's size is what a full disk is to the program: writing fails in the middle.
        Outcome outcome = Shell(folder, 1, "/bin/sh", "-c",
            $"trap '' XFSZ; ulimit -f 600; export DOTNET_EnableWriteXorExecute=0; exec '{Program.Host}' exec '{Program.Assembly}' work " +
                $"'{folder.At("run")}'");
        Assert.Contains("cannot be written", outcome.Error, StringComparison.Ordinal);
        Assert.Equal(0, Count(folder.At("run", "shards")));
        Assert.Empty(Directory.Exists(folder.At("run", "acts", "logits")) ? Directory.GetFiles(folder.At("run", "acts", "logits")) : []);
        Assert.Equal(0, Program.Run("work", folder.At("run")).ExitCode);
    }

    /// <summary>Stored codes are taken only for the SAE that made them, and give the numbers that encoding gives.</summary>
    [Fact]
    public void An_evaluation_of_rows_takes_the_codes_of_the_run()
    {
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json", Tokens(40, 33, 40));
        string[] harvest = ["harvest", "--tokens-file", tokens, "--sites", "resid_post.3", "--shard-sequences", "2"];
        Program.Json([.. harvest, "--out", folder.At("rows")]);
        Program.Json([.. harvest, "--sae", Sae, "--out", folder.At("codes")]);
        string[] eval = ["--no-model", "--resamples", "20", "--sae"];
        JsonElement encoded = Program.Json(["eval", "--run", folder.At("rows"), .. eval, Sae]),
            stored = Program.Json(["eval", "--run", folder.At("codes"), .. eval, Sae]);
        Assert.True(JsonElement.DeepEquals(encoded.GetProperty("metrics"), stored.GetProperty("metrics")));

        string path = folder.At("codes", "codes", Sae, "000001.safetensors");
        byte[] bytes = File.ReadAllBytes(path);
        bytes[^1] ^= 1;
        File.WriteAllBytes(path, bytes);
        Program.Run(["eval", "--run", folder.At("codes"), .. eval, Sae]).AssertFailed(1, "000001.safetensors");
        Assert.Equal(0, Program.Run(["eval", "--run", folder.At("codes"), .. eval, "res.3.2k.l0_57"]).ExitCode);
    }

    [Fact]
    public void An_evaluation_over_a_run_gives_the_numbers_of_its_tokens()
    {
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json", Tokens(40, 33, 40));
        Program.Json("harvest", "--out", folder.At("run"), "--tokens-file", tokens, "--sites", "resid_post.3,mlp_in_unit.3,mlp_out_post.3",
            "--shard-sequences", "2");
        string[] options = ["--sae", Sae, "--resamples", "20", "--no-gradients"];
        JsonElement plain = Program.Json(["eval", "--tokens-file", tokens, .. options]),
            run = Program.Json(["eval", "--run", folder.At("run"), .. options]);
        Assert.True(JsonElement.DeepEquals(plain.GetProperty("metrics"), run.GetProperty("metrics")));
        Assert.NotEqual("", run.GetProperty("run").GetString());
        foreach (string sae in new[] { Sae, "transcoder.3.1k.l0_20" })
        {
            JsonElement model = Program.Json("eval", "--tokens-file", tokens, "--sae", sae, "--resamples", "20", "--no-gradients");
            JsonElement rows = Program.Json("eval", "--run", folder.At("run"), "--no-model", "--sae", sae, "--resamples", "20");
            Assert.Equal(("run", "f32"), (rows.GetProperty("mean_source").GetString(), rows.GetProperty("rows_dtype").GetString()));
            foreach (string metric in new[] { "L0", "L0_median", "fvu", "fvu_median", "mse", "cosine", "alive", "explained_variance" })
                Assert.Equal(model.GetProperty("metrics").GetProperty(metric).GetDouble(),
                    rows.GetProperty("metrics").GetProperty(metric).GetDouble());
            Assert.True(JsonElement.DeepEquals(model.GetProperty("firing_frequency_histogram"),
                rows.GetProperty("firing_frequency_histogram")));
            Assert.Equal(JsonValueKind.Null,
                rows.GetProperty("metrics").GetProperty("splices").GetProperty("sae/keep_bos").GetProperty("kl").ValueKind);
        }

        Program.Run("eval", "--run", folder.At("run"), "--no-model", "--sae", "res.1.1k.l0_26").AssertFailed(1, "no rows of it");
        Program.Run("eval", "--run", folder.At("run"), "--text-file", "demo").AssertFailed(2, "--text-file");
        Program.Run("eval", "--text-file", "demo", "--no-model").AssertFailed(2, "--no-model");
    }

    private static int Count(string folder) => Directory.Exists(folder) ? Directory.GetFiles(folder, "*.json").Length : 0;

    /// <summary>
    /// The hashes of all files of a run whose bytes must not depend on who made them: all but manifests, which hold times.
    /// </summary>
    private static Dictionary<string, string> Hashes(string run) => Directory.GetFiles(run, "*", SearchOption.AllDirectories)
        .Select(f => Path.GetRelativePath(run, f)).Where(f => f.StartsWith("acts", StringComparison.Ordinal)
            || f.StartsWith("codes", StringComparison.Ordinal) || f.StartsWith("tokens", StringComparison.Ordinal) || f == "run.json")
        .Order(StringComparer.Ordinal)
            .ToDictionary(f => f, f => Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(Path.Combine(run, f)))));

    private static void Script(TempFolder folder, string name, string body)
    {
        if (OperatingSystem.IsWindows())
            throw new PlatformNotSupportedException();
        Directory.CreateDirectory(folder.At("bin"));
        File.WriteAllText(folder.At("bin", name), $"#!/usr/bin/env bash\n{body}");
        File.SetUnixFileMode(folder.At("bin", name), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    private static void Shell(TempFolder folder, string script, params string[] arguments) =>
        Shell(folder, 0, "bash", [Path.Combine(Fixtures.Root, script), .. arguments]);

    /// <summary>Runs a command with the program on the path.</summary>
    private static Outcome Shell(TempFolder folder, int exitCode, string command, params string[] arguments)
    {
        Script(folder, "kernelscope", $"exec '{Program.Host}' exec '{Program.Assembly}' \"$@\"\n");
        using Process process = Program.Start(new ProcessStartInfo(command, arguments), new Dictionary<string,
            string>
        { ["PATH"] = $"{folder.At("bin")}:{Environment.GetEnvironmentVariable("PATH")}" });
        process.StandardInput.Close();
        Outcome outcome = Program.Finish(process);
        Assert.True(outcome.ExitCode == exitCode, $"exit {outcome.ExitCode}: {outcome.Error}{outcome.Output}");
        return outcome;
    }

    private static float[] Floats(string path, string name)
    {
        using var file = SafetensorsFile.Open(path);
        return file[name].ToFloats();
    }

    private static long[] Longs(string path, string name)
    {
        using var file = SafetensorsFile.Open(path);
        return file[name].ToInt64s();
    }

    private static int[] Ints(string path, string name) => Array.ConvertAll(Longs(path, name), v => (int)v);
}
