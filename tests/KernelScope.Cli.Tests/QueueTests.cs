using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary>Shards from a real NATS server, with workers, planner and server as processes that die.</summary>
public sealed partial class QueueTests
{
    private const int SigStop = 19, SigCont = 18;
    private const int Shards = 12, Workers = 3;
    private const string AckWait = "2", Sae = "res.3.2k.l0_19";
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(4);

    [SkippableFact]
    public void A_queue_is_filled_worked_off_and_repaired()
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        using var folder = new TempFolder();
        using var server = new NatsServer(folder.At("nats"));
        string[] queue = ["--queue", server.Url, "--ack-wait", AckWait];
        string run = folder.At("run");
        JsonElement plan = Program.Json(["plan", "--out", run, .. What(folder), .. queue]);
        Assert.Equal((Shards, Shards), (plan.GetProperty("missing").GetInt32(), plan.GetProperty("queued").GetInt32()));
        // What is queued already is refused by the server, and that is fine.
        Assert.Equal(0, Program.Json(["plan", run, .. queue]).GetProperty("queued").GetInt32());
        JsonElement status = Program.Json(["status", run, .. queue]);
        Assert.Equal((0, Shards, 0, 0), (status.GetProperty("done").GetInt32(), status.GetProperty("queued").GetInt32(),
            status.GetProperty("leased").GetInt32(), status.GetProperty("missing").GetInt32()));
        Assert.Equal(Shards, Program.Json(["work", run, .. queue, "--idle", "2"]).GetProperty("done").GetArrayLength());
        status = Program.Json(["status", run, .. queue]);
        Assert.Equal((Shards, 0, 0), (status.GetProperty("done").GetInt32(), status.GetProperty("queued").GetInt32(),
            status.GetProperty("stuck").GetInt32()));
        // Taken back and put in again at once: the server does not remember that it was there.
        File.Delete(folder.At("run", "shards", "000003.json"));
        Assert.Equal(1, Program.Json(["plan", run, .. queue]).GetProperty("queued").GetInt32());
        Assert.Equal(3, Program.Json(["work", run, .. queue, "--idle", "2"]).GetProperty("done")[0].GetProperty("shard").GetInt32());
        Program.Run("plan", run, "--queue", "nats://127.0.0.1:1").AssertFailed(1, "127.0.0.1:1", "the queue");
        Program.Run("work", run, "--queue", "http://x").AssertFailed(2, "--queue");
        Program.Run("work", run, "--ack-wait", "3").AssertFailed(2, "--ack-wait");
    }

    /// <summary>What somebody else put into the stream is taken out, and is no failure of the run.</summary>
    [SkippableFact]
    public void Messages_that_name_no_shard_of_the_run_are_taken_out()
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        using var folder = new TempFolder();
        using var server = new NatsServer(folder.At("nats"));
        string run = folder.At("run");
        string[] queue = ["--queue", server.Url, "--ack-wait", AckWait];
        string id = Program.Json(["plan", "--out", run, .. What(folder), .. queue]).GetProperty("run").GetString()![..12];
        foreach ((string subject, string text) in (ReadOnlySpan<(string, string)>)[("000099", "99"), ("2147483647", "2147483647"),
            ("000050", "7"), ("7", "7"), ("x", ""), ("99999999999", "99999999999")])
            server.Publish($"ks.{id}.shard.{subject}", text);
        JsonElement status = Program.Json(["status", run, .. queue]);
        Assert.Equal((Shards, 0), (status.GetProperty("queued").GetInt32(), status.GetProperty("missing").GetInt32()));
        JsonElement work = Program.Json(["work", run, .. queue, "--idle", "5"]);
        Assert.Equal((Shards, 0), (work.GetProperty("done").GetArrayLength(), work.GetProperty("failed").GetArrayLength()));
        Assert.False(Directory.Exists(folder.At("run", "failed")));
        File.Delete(folder.At("run", "shards", "000003.json"));
        Assert.Equal(1, Program.Json(["plan", run, .. queue, "--requeue"]).GetProperty("queued").GetInt32());
    }

    /// <summary>What a worker has not been given is not done: scripts go by the exit code.</summary>
    [SkippableFact]
    public void A_worker_whose_queue_is_silent_or_empty_does_not_say_that_nothing_is_missing()
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        using var folder = new TempFolder();
        string run = folder.At("run"), silent = "nats://me:hush@127.0.0.1:1";
        Program.Json(["plan", "--out", run, .. What(folder)]);
        Outcome worker = Program.Run("work", run, "--queue", silent, "--idle", "1");
        Assert.Equal(1, worker.ExitCode);
        Assert.Contains("does not answer (", worker.Error, StringComparison.Ordinal);
        Assert.Contains($"{Shards} of {Shards} shards are missing", worker.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("Nothing is missing", worker.Output, StringComparison.Ordinal);
        using (var server = new NatsServer(folder.At("nats")))
        {
            worker = Program.Run("work", run, "--queue", server.Url, "--idle", "1");
            Assert.Equal(1, worker.ExitCode);
            Program.Json("status", run, "--queue", server.Url);
            worker = Program.Run("work", run, "--queue", server.Url, "--idle", "1");
            Assert.Equal(0, worker.ExitCode);
            Assert.Contains($"{Shards} of {Shards} shards are missing", worker.Output, StringComparison.Ordinal);
        }

        Program.Json("work", run);
        // With all there, it does not matter who answers.
        Assert.Equal("Nothing is missing.\n", Program.Run("work", run, "--queue", silent, "--idle", "1").Output);
    }

    /// <summary>Messages end in logs that others read.</summary>
    [Theory]
    [InlineData("nats://me:hush@127.0.0.1:1", 1)]
    [InlineData("nats://hush@127.0.0.1:1", 1)]
    [InlineData("me:hush@127.0.0.1:99999", 2)]
    [InlineData("http://me:hush@127.0.0.1", 2)]
    [InlineData("", 2)]
    [InlineData("nats://", 2)]
    public void A_message_about_a_queue_does_not_tell_its_password(string url, int exitCode)
    {
        using var folder = new TempFolder();
        Program.Json(["plan", "--out", folder.At("run"), .. What(folder)]);
        Outcome plan = Program.Run("plan", folder.At("run"), "--queue", url);
        plan.AssertFailed(exitCode, "queue");
        Assert.DoesNotContain("hush", plan.Error, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void The_shard_of_a_dead_worker_is_handed_out_again_in_time()
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        using var folder = new TempFolder();
        using var server = new NatsServer(folder.At("nats"));
        string run = folder.At("run");
        // One shard that takes long: it is being computed when its worker dies.
        Program.Json("plan", "--out", run, "--tokens-file", folder.Write("tokens.json", Tokens(10, 60)), "--sites", "resid_post.5",
            "--device", "reference", "--queue", server.Url, "--ack-wait", AckWait);
        using Process first = Work(run, server.Url);
        WaitFor(() => Directory.Exists(folder.At("run", "acts", "resid_post.5"))
            && Directory.GetFiles(folder.At("run", "acts", "resid_post.5"), ".tmp-*", All).Length > 0);
        using Process second = Work(run, server.Url);
        WaitFor(() => server.Clients == 2);
        Thread.Sleep(1500);
        first.Kill();
        var watch = Stopwatch.StartNew();
        first.WaitForExit();
        int before = first.Id;
        WaitFor(() => Directory.GetFiles(folder.At("run", "acts", "resid_post.5"), ".tmp-*", All).Any(f =>
            !f.Contains($"-{before}-", StringComparison.Ordinal)));
        // The bar is AckWait + 5 s; another 10 s for a machine that does something else meanwhile.
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(2 + 5 + 10), $"{watch.Elapsed}");
        second.Kill();
    }

    [SkippableFact]
    public void A_shard_whose_workers_all_died_is_stuck_until_it_is_queued_anew()
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        using var folder = new TempFolder();
        using var server = new NatsServer(folder.At("nats"));
        string run = folder.At("run");
        string[] queue = ["--queue", server.Url, "--ack-wait", AckWait];
        string tokens = folder.Write("tokens.json", Tokens(4, 60));
        Program.Json(["plan", "--out", run, "--tokens-file", tokens, "--sites", "resid_post.5", "--device", "reference", .. queue]);
        // As often as a message is delivered.
        for (int delivery = 0; delivery < 4; delivery++)
        {
            using Process worker = Work(run, server.Url);
            WaitFor(() => Directory.Exists(folder.At("run", "acts")) && Directory.GetFiles(folder.At("run", "acts"),
                $".tmp-*-{worker.Id}-*", All).Length > 0);
            worker.Kill();
            worker.WaitForExit();
        }

        // The server takes it from its last, dead worker when the next one asks for a shard, and gives that one nothing.
        Thread.Sleep(2500);
        Assert.Equal(0, Program.Json(["work", run, .. queue, "--idle", "4"]).GetProperty("done").GetArrayLength());
        JsonElement status = Program.Json(["status", run, .. queue]);
        Assert.Equal(0, status.GetProperty("leased").GetInt32());
        Assert.Equal((1, 0, 0), (status.GetProperty("stuck").GetInt32(), status.GetProperty("queued").GetInt32(),
            status.GetProperty("missing").GetInt32()));
        Assert.Equal(0, Program.Json(["plan", run, .. queue]).GetProperty("queued").GetInt32());
        Assert.Equal(1, Program.Json(["plan", run, .. queue, "--requeue"]).GetProperty("queued").GetInt32());
        Program.Run(["plan", run, .. queue, "--requeue"]).AssertFailed(1, "still at work");
        Assert.Equal(1, Program.Json(["work", run, .. queue, "--idle", "3"]).GetProperty("done").GetArrayLength());
    }

    [SkippableFact]
    public void A_poison_shard_fails_for_good_and_stops_nobody()
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        using var folder = new TempFolder();
        using var server = new NatsServer(folder.At("nats"));
        string run = folder.At("run");
        string[] queue = ["--queue", server.Url, "--ack-wait", AckWait];
        Program.Json(["plan", "--out", run, .. What(folder), .. queue]);
        string tokens = folder.At("run", "tokens", "000004.safetensors");
        byte[] whole = File.ReadAllBytes(tokens);
        File.WriteAllBytes(tokens, [.. whole[..^8], (byte)(whole[^8] ^ 1), .. whole[^7..]]);
        Outcome work = Program.Run(["work", run, .. queue, "--idle", "2"]);
        Assert.Equal(2, work.ExitCode);
        Outcome status = Program.Run(["status", run, .. queue, "--json"]);
        Assert.Equal(1, status.ExitCode);
        JsonElement json = JsonElement.Parse(status.Output);
        Assert.Equal((Shards - 1, 1, 0, 0), (json.GetProperty("done").GetInt32(), json.GetProperty("failed").GetInt32(),
            json.GetProperty("missing").GetInt32(), json.GetProperty("stuck").GetInt32()));
        // Mended, it is put in again and done.
        File.WriteAllBytes(tokens, whole);
        Assert.Equal(1, Program.Json(["plan", run, .. queue]).GetProperty("queued").GetInt32());
        Assert.Equal(0, Program.Run(["work", run, .. queue, "--idle", "2"]).ExitCode);
        Assert.Equal(0, Program.Run(["status", run, .. queue]).ExitCode);
    }

    [SkippableFact]
    [Trait("Category", "Slow")]
    public void A_thousand_short_shards_are_each_done_once()
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        const int Shards = 1000;
        using var folder = new TempFolder();
        using var server = new NatsServer(folder.At("nats"));
        string[] what = ["--tokens-file", folder.Write("tokens.json", Tokens(Shards, 7)), "--sites", "resid_post.3", "--shard-sequences",
            "1"];
        Program.Json(["harvest", "--out", folder.At("whole"), .. what]);
        Program.Json(["plan", "--out", folder.At("run"), .. what, "--queue", server.Url]);
        Process[] workers = [.. Enumerable.Range(0, Workers).Select(_ => Program.Start(new ProcessStartInfo(Program.Host, ["exec",
            Program.Assembly, "work", folder.At("run"), "--queue", server.Url, "--idle", "3", "--threads", "1", "--json"])))];
        Task<string>[] outputs = [.. workers.Select(w => w.StandardOutput.ReadToEndAsync())];
        foreach (Process worker in workers)
        {
            worker.BeginErrorReadLine();
            Assert.True(worker.WaitForExit(Patience));
            worker.Dispose();
        }

        JsonElement[] done = [.. outputs.SelectMany(o => JsonElement.Parse(o.GetAwaiter().GetResult()).GetProperty("done")
            .EnumerateArray()).Where(d => !d.GetProperty("reused").GetBoolean())];
        Assert.Equal(Enumerable.Range(0, Shards), done.Select(d => d.GetProperty("shard").GetInt32()).Order());
        AssertWhole(folder, "a thousand", Shards);
    }

    /// <summary>The cable of the first host is pulled while it computes, for longer than a lease lasts: the second host goes on with its
    /// shard, and the first finishes late. Then the cable is plugged in again and the second host dies: the first does the rest.</summary>
    [SkippableFact]
    public void Two_hosts_of_which_one_is_cut_off_for_a_while_make_the_bytes_of_one()
    {
        Skip.If(TwoHosts.Missing is not null, TwoHosts.Missing);
        using var folder = new TempFolder();
        string run = folder.At("run");
        const int Shards = 30;
        string[] what = What(folder, Shards, 30);
        Program.Json(["harvest", "--out", folder.At("whole"), .. what]);
        Program.Json(["plan", "--out", run, .. what]);
        using var hosts = new TwoHosts(folder.At("nats"));
        string[] Queue(int host) => ["--queue", TwoHosts.Url(host), "--ack-wait", AckWait];
        using (Process planner = hosts.Run(1, ["plan", run, .. Queue(1)]))
        {
            Assert.True(planner.WaitForExit(Patience));
            Assert.Equal(0, planner.ExitCode);
        }

        void WaitFor(Func<bool> happened)
        {
            for (var watch = Stopwatch.StartNew(); !happened(); Thread.Sleep(2))
                Assert.True(watch.Elapsed < Patience, $"it did not happen in time; {hosts.Said}");
        }

        int DoneBy(int host) => ManifestsOf(run).Count(m => m.GetProperty("host").GetString() == TwoHosts.HostName(host));
        using Process first = hosts.Run(0, ["work", run, .. Queue(0), "--idle", "20"]),
            second = hosts.Run(1, ["work", run, .. Queue(1), "--idle", "20"]);
        WaitFor(() => DoneBy(0) >= 1 && DoneBy(1) >= 1);
        hosts.Plug(0, isIn: false);
        int before = DoneBy(1);
        var watch = Stopwatch.StartNew();
        WaitFor(() => watch.Elapsed > TimeSpan.FromSeconds(4) && DoneBy(1) >= before + 2);
        hosts.Plug(0, isIn: true);
        second.Kill(entireProcessTree: true);
        second.WaitForExit();
        before = DoneBy(0);
        Assert.True(before + DoneBy(1) < Shards, "nothing was left for the host that came back");
        WaitFor(() => ManifestsOf(run).Length == Shards);
        first.Kill(entireProcessTree: true);
        Assert.True(DoneBy(0) > before);
        JsonElement status = Program.Json("status", run);
        Assert.Equal([TwoHosts.HostName(0), TwoHosts.HostName(1)],
            status.GetProperty("hosts").EnumerateArray().Select(h => h.GetProperty("host").GetString()));
        // The second host left what it was writing; to another host it might still be alive, so only time or its own 'plan' removes it.
        foreach (string file in Directory.GetFiles(run, $".tmp-{TwoHosts.HostName(1)}-*", All))
            File.Delete(file);
        AssertWhole(folder, "two hosts", Shards);
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    public void Whatever_dies_the_run_has_the_bytes_of_one_undisturbed_worker(int seed) => Trial(seed);

    [SkippableTheory]
    [Trait("Category", "Slow")]
    [MemberData(nameof(Hundred))]
    public void A_hundred_trials(int seed) => Trial(seed);

    public static TheoryData<int> Hundred => [.. Enumerable.Range(100, 100)];

    private static void Trial(int seed)
    {
        Skip.If(NatsServer.Missing is not null, NatsServer.Missing);
        using var folder = new TempFolder();
        string run = folder.At("run");
        string[] what = What(folder);
        Program.Json(["harvest", "--out", folder.At("whole"), .. what]);
        using var server = new NatsServer(folder.At("nats"));
        string[] queue = ["--queue", server.Url, "--ack-wait", AckWait];
        var random = new Random(seed);
        Program.Json(["plan", "--out", run, .. what, .. queue]);
        var workers = new List<Process>();
        try
        {
            for (int w = 0; w < Workers; w++)
                workers.Add(Work(run, server.Url));
            for (int step = 0; step < 3; step++)
            {
                Disturb(random, folder, server, workers, what);
                AssertStatus(folder, step == 1 ? queue : []);
            }
        }
        finally
        {
            foreach (Process worker in workers)
            {
                _ = Kill(worker.Id, SigCont);
                worker.Kill();
                worker.WaitForExit();
                worker.Dispose();
            }
        }

        int done = Done(folder);
        Assert.Equal(done, AssertStatus(folder, []));
        Program.Json(["plan", run, .. queue, "--verify"]);
        WorkDry(run, queue);
        Program.Json("plan", run);
        AssertWhole(folder, $"seed {seed}");
    }

    /// <summary>The folder is the truth at every moment, also while workers work and die: what status says is what is there.</summary>
    /// <returns>Shards that are done.</returns>
    private static int AssertStatus(TempFolder folder, string[] queue)
    {
        int before = Done(folder);
        JsonElement status = Program.Json(["status", folder.At("run"), .. queue]);
        int Number(string name) => status.GetProperty(name).GetInt32();
        Assert.InRange(Number("done"), before, Done(folder));
        Assert.Equal(Shards, Number("done") + Number("leased") + Number("queued") + Number("stuck") + Number("missing"));
        Assert.Equal((0, 0), (Number("failed"), Number("conflicts")));
        return Number("done");
    }

    /// <summary>Until nothing is missing: a message whose worker died may have to wait until it is handed out again, or be stuck.</summary>
    private static void WorkDry(string run, string[] queue)
    {
        for (int round = 0; ; round++)
        {
            Outcome work = Program.Run(["work", run, .. queue, "--idle", "4"]);
            Assert.True(work.ExitCode == 0, work.Error);
            JsonElement status = JsonElement.Parse(Program.Run(["status", run, .. queue, "--json"]).Output);
            if (status.GetProperty("done").GetInt32() == Shards)
                return;
            Assert.True(round < 10, status.ToString());
            Program.Run(["plan", run, .. queue, .. status.GetProperty("stuck").GetInt32() > 0 ? ["--requeue"] : Array.Empty<string>()]);
        }
    }

    private static void Disturb(Random random, TempFolder folder, NatsServer server, List<Process> workers, string[] what)
    {
        int which = random.Next(workers.Count), kind = random.Next(7), done = Done(folder);
        // At some time after the next shard is done, or in the middle of one.
        for (var watch = Stopwatch.StartNew(); watch.ElapsedMilliseconds < 4000 && Done(folder) == done
            && Done(folder) < Shards; Thread.Sleep(1))
        {
        }

        Thread.Sleep(random.Next(200));
        switch (kind)
        {
            case 0 or 1:
                workers[which].Kill();
                workers[which].WaitForExit();
                workers[which] = Work(folder.At("run"), server.Url);
                break;
            case 2:
                Assert.Equal(0, Kill(workers[which].Id, SigStop));
                Thread.Sleep(2500);
                _ = Kill(workers[which].Id, SigCont);
                break;
            case 3:
                server.Kill();
                Thread.Sleep(random.Next(1000));
                server.Start();
                break;
            case 4:
                server.LoseDisk();
                Program.Run("plan", folder.At("run"), "--queue", server.Url, "--ack-wait", AckWait);
                break;
            case 5:
                using (Process planner = Program.Start(new ProcessStartInfo(Program.Host,
                    ["exec", Program.Assembly, "plan", "--out", folder.At("run"), .. what, "--queue", server.Url, "--ack-wait", AckWait])))
                {
                    Thread.Sleep(200 + random.Next(1000));
                    planner.Kill();
                    planner.WaitForExit();
                }

                break;
            default:
                // On a busy machine no worker may have begun.
                string acts = folder.At("run", "acts");
                string[] there = Directory.Exists(acts) ? Directory.GetFiles(acts, "0*.safetensors", SearchOption.AllDirectories) : [];
                string[] files = [.. there.Where(f =>
                    File.Exists(folder.At("run", "shards", $"{Path.GetFileNameWithoutExtension(f)}.json")))];
                if (files.Length == 0)
                    break;
                string path = files[random.Next(files.Length)];
                byte[] bytes = File.ReadAllBytes(path);
                bytes[random.Next(bytes.Length)] ^= 0x40;
                File.WriteAllBytes(path, bytes);
                break;
        }
    }

    private static void AssertWhole(TempFolder folder, string trial, int shards = Shards)
    {
        Dictionary<string, string> expected = Hashes(folder.At("whole")), actual = Hashes(folder.At("run"));
        Assert.True(expected.SequenceEqual(actual), $"{trial}: {string.Join(", ", expected.Except(actual).Select(f => f.Key))}");
        // What is merged of codes needs an SAE.
        foreach (string kind in (string[])["statistics", .. Directory.Exists(folder.At("run", "codes")) ? ["density", "examples"]
            : Array.Empty<string>()])
            Assert.Equal(Program.Json("merge", folder.At("whole"), "--what", kind).GetProperty("sha256").GetString(),
                Program.Json("merge", folder.At("run"), "--what", kind).GetProperty("sha256").GetString());
        Assert.Equal(shards, Directory.GetFiles(folder.At("run", "shards"), "*.json").Length);
        Assert.Empty(Directory.GetFiles(folder.At("run"), ".tmp-*", All));
        Assert.False(Directory.Exists(folder.At("run", "conflicts")));
    }

    private static EnumerationOptions All => new() { RecurseSubdirectories = true, AttributesToSkip = 0 };

    private static string[] What(TempFolder folder, int shards = Shards, int length = 20) =>
        ["--tokens-file", folder.Write("tokens.json", Tokens(shards, length)), "--sites", "resid_post.3,z.1", "--sae", Sae,
            "--shard-sequences", "1", "--device", "reference"];

    private static byte[] Tokens(int sequences, int length)
    {
        var random = new Random(3);
        return Encoding.UTF8.GetBytes(JsonSerializer.Serialize(Enumerable.Range(0, sequences)
            .Select(_ => Enumerable.Range(0, length).Select(t => t == 0 ? 2 : random.Next(3, 4096)))));
    }

    /// <summary>The manifests that are there. One that is just being renamed has its name only when it is whole.</summary>
    private static JsonElement[] ManifestsOf(string run) => !Directory.Exists(Path.Combine(run, "shards")) ? []
        : [.. Directory.GetFiles(Path.Combine(run, "shards"), "0*.json").Select(f => JsonElement.Parse(File.ReadAllBytes(f)))];

    private static int Done(TempFolder folder) => Directory.Exists(folder.At("run", "shards"))
        ? Directory.GetFiles(folder.At("run", "shards"), "*.json").Length : 0;

    private static Process Work(string run, string url)
    {
        Process process = Program.Start(new ProcessStartInfo(Program.Host,
            ["exec", Program.Assembly, "work", run, "--queue", url, "--ack-wait", AckWait, "--idle", "60"]));
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        return process;
    }

    private static void WaitFor(Func<bool> happened)
    {
        for (var watch = Stopwatch.StartNew(); !happened(); Thread.Sleep(2))
            Assert.True(watch.Elapsed < Patience, "it did not happen in time");
    }

    private static Dictionary<string, string> Hashes(string run) => Directory.GetFiles(run, "*.safetensors", SearchOption.AllDirectories)
        .Append(Path.Combine(run, "run.json"))
        .Where(f => !Path.GetFileName(f).StartsWith(".tmp-", StringComparison.Ordinal) && !f.Contains("/merged/", StringComparison.Ordinal))
            .Order(StringComparer.Ordinal)
        .ToDictionary(f => Path.GetRelativePath(run, f), f => Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(f))));

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);
}
