using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary>An evaluation whose shards are done by workers: the bytes of <c>eval --run</c>, whoever dies.</summary>
public sealed class EvaluationRunTests
{
    private const string Sae = "res.3.2k.l0_19", Other = "transcoder.3.1k.l0_20";

    [Fact]
    public void Shards_merge_to_the_document_of_an_evaluation_over_the_run()
    {
        using var folder = new TempFolder();
        string run = Plan(folder, 20, 9, 14);
        string[] what = ["work", run, "--what", "eval", "--sae", Sae, "--sae", Other];
        Assert.Equal(2, Program.Json([.. what, "--shard", "2"]).GetProperty("done")[0].GetProperty("shard").GetInt32());
        Program.Run("merge", run, "--what", "eval").AssertFailed(1, "not complete", "2 of 3", "all are needed");
        Assert.Equal([0, 1], Program.Json(what).GetProperty("done").EnumerateArray().Select(d => d.GetProperty("shard").GetInt32()));
        Assert.Equal(0, Program.Json(what).GetProperty("done").GetArrayLength());
        JsonElement merged = Program.Json("merge", run, "--what", "eval", "--out", folder.At("eval.json"));
        Outcome whole = Program.Run("eval", "--run", run, "--sae", Sae, "--sae", Other, "--json");
        Assert.Equal(whole.Output, File.ReadAllText(folder.At("eval.json")));
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(whole.Output))),
            merged.GetProperty("sha256").GetString());
    }

    [Fact]
    public void Damage_is_named_taken_back_and_made_again()
    {
        using var folder = new TempFolder();
        string run = Plan(folder, 8, 9);
        string[] what = ["work", run, "--what", "eval", "--sae", Sae, "--no-gradients"];
        Program.Json(what);
        string evaluation = Assert.Single(Directory.GetDirectories(folder.At("run", "evals")));
        Dictionary<string, string> before = Hashes(evaluation);
        foreach (string file in (string[])["scores/000001.safetensors", "sums.safetensors"])
        {
            string path = Path.Combine(evaluation, file);
            byte[] bytes = File.ReadAllBytes(path);
            bytes[^3] ^= 0x10;
            File.WriteAllBytes(path, bytes);
        }

        Program.Run("merge", run, "--what", "eval").AssertFailed(1, "000001.safetensors", "damaged");
        Assert.Equal(1, Program.Json("plan", evaluation, "--verify").GetProperty("missing").GetInt32());
        Assert.Equal(1, Program.Json("work", evaluation).GetProperty("done")[0].GetProperty("shard").GetInt32());
        Assert.Equal(before, Hashes(evaluation));
        Assert.Equal((2, 0), (Program.Json("status", run, "--what", "eval").GetProperty("done").GetInt32(),
            Program.Json("status", evaluation).GetProperty("conflicts").GetInt32()));
    }

    [Fact]
    public void What_does_not_fit_is_refused_in_a_sentence()
    {
        using var folder = new TempFolder();
        string run = Plan(folder, 8);
        Program.Run("work", run, "--what", "eval").AssertFailed(2, "no evaluation over this run", "--sae");
        Program.Run("status", run, "--what", "eval").AssertFailed(1, "no evaluation over this run");
        Program.Run("work", run, "--site", "resid_post.3").AssertFailed(2, "--site");
        Program.Run("merge", run, "--what", "eval", "--partial").AssertFailed(2, "--partial");
        Program.Json("plan", "--out", folder.At("skipping"), "--tokens-file", Tokens(folder, 8), "--sites", "resid_post.3", "--skip-first",
            "2");
        Program.Run("work", folder.At("skipping"), "--what", "eval", "--sae", Sae).AssertFailed(1, "leaves out the first 2 positions");
    }

    /// <summary>Machines see the same files by different paths.</summary>
    [Fact]
    public void Another_path_to_an_sae_is_the_same_evaluation()
    {
        using var folder = new TempFolder();
        string run = Plan(folder, 40, 30);
        Program.Json("work", run);
        Program.Json("train", "--from", run, "--site", "resid_post.3", "--width", "16", "--sparsity", "0.01", "--steps", "2", "--batch",
            "16", "--bandwidth", "0.05", "--theta", "0.05", "--validation", "0", "--out", folder.At("sae"));
        Directory.CreateSymbolicLink(folder.At("elsewhere"), folder.At("sae", "saelens"));
        Program.Json("work", run, "--what", "eval", "--sae", folder.At("sae", "saelens"), "--shard", "0", "--no-gradients");
        JsonElement rest = Program.Json("work", run, "--what", "eval", "--sae", folder.At("elsewhere"), "--no-gradients");
        Assert.Equal(1, rest.GetProperty("done")[0].GetProperty("shard").GetInt32());
        Assert.Single(Directory.GetDirectories(folder.At("run", "evals")));
        Assert.Equal(2, Program.Json("merge", run, "--what", "eval").GetProperty("shards").GetInt32());
    }

    /// <summary>A folder whose shards are of a plan that is no longer there.</summary>
    [Fact]
    public void Shards_of_another_run_are_not_taken_for_done()
    {
        using var folder = new TempFolder();
        string run = Plan(folder, 8, 9);
        Program.Json("work", run);
        string plan = Path.Combine(run, "run.json");
        File.WriteAllText(plan, File.ReadAllText(plan).Replace("\"seed\":0", "\"seed\":1", StringComparison.Ordinal));
        Program.Run("work", run).AssertFailed(2, "belongs to the run");
    }

    /// <summary>Workers and the server are killed while they evaluate: the bytes are those of one undisturbed worker.</summary>
    [SkippableFact]
    [Trait("Category", "Slow")]
    public void Killed_workers_with_a_queue_leave_the_bytes_of_one()
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        using var folder = new TempFolder();
        using var server = new NatsServer(folder.At("nats"));
        string run = Plan(folder, [.. Enumerable.Range(0, 8).Select(n => 10 + n)]);
        string[] what = ["--what", "eval", "--sae", Sae], queue = ["--queue", server.Url, "--ack-wait", "2", "--idle", "4"];
        var random = new Random(5);
        for (int kill = 0; kill < 4; kill++)
        {
            using Process worker = Program.Start(new ProcessStartInfo(Program.Host,
                ["exec", Program.Assembly, "work", run, .. what, .. queue]));
            if (!worker.WaitForExit(random.Next(1000, 2500)))
                worker.Kill();
            worker.WaitForExit();
        }

        server.Kill();
        server.Start();
        for (int round = 0; Program.Json("status", run, "--what", "eval").GetProperty("missing").GetInt32() > 0; round++)
        {
            Assert.True(round < 5);
            string evaluation = Assert.Single(Directory.GetDirectories(folder.At("run", "evals")));
            if (Program.Json(["status", evaluation, .. queue[..4]]).GetProperty("stuck").GetInt32() > 0)
                Program.Json(["plan", evaluation, .. queue[..4], "--requeue"]);
            Program.Json(["work", run, .. what, .. queue]);
        }

        Program.Json("merge", run, "--what", "eval", "--out", folder.At("eval.json"));
        Assert.Equal(Program.Run("eval", "--run", run, "--sae", Sae, "--json").Output, File.ReadAllText(folder.At("eval.json")));
    }

    private static string Plan(TempFolder folder, params int[] lengths)
    {
        Program.Json("plan", "--out", folder.At("run"), "--tokens-file", Tokens(folder, lengths), "--sites", "resid_post.3",
            "--shard-sequences", "1");
        return folder.At("run");
    }

    private static string Tokens(TempFolder folder, params int[] lengths)
    {
        var random = new Random(3);
        return folder.Write("tokens.json", Encoding.UTF8.GetBytes(JsonSerializer.Serialize(lengths.Select(n => Enumerable.Range(0, n)
            .Select(t => t == 0 ? 2 : random.Next(3, 4096))))));
    }

    private static Dictionary<string, string> Hashes(string run) => Directory.GetFiles(run, "*.safetensors", SearchOption.AllDirectories)
        .ToDictionary(f => Path.GetRelativePath(run, f), f => Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(f))));
}
