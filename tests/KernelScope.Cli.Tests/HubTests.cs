using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json;
using KernelScope.Tests.Hub;

namespace KernelScope.Cli.Tests;

/// <summary>catalog, pull, and --sae and --model by name, against a hub on 127.0.0.1.</summary>
public sealed partial class HubTests : IDisposable
{
    private const string Sae = "layer_3/width_16k/average_l0_59/params.npz", SaeName = "gemma-scope-2b-pt-res/layer_3/width_16k/canonical";
    private const string Token = "hf_secretOfTheTests";
    private readonly TempFolder _folder = new();
    private readonly LocalHub _storage = new();
    private readonly LocalHub _hub;

    public HubTests()
    {
        _hub = new LocalHub(storage: _storage);
        // An SAE of the demo in the place of a published one: the path says layer 3 of the stream, which it is.
        _hub.Files[Sae] = File.ReadAllBytes(Path.Combine(Fixtures.DemoSaes, "res", "layer_3", "width_2k", "average_l0_19", "params.npz"));
    }

    [Fact]
    public void A_pulled_SAE_is_found_by_every_name_that_it_has()
    {
        JsonElement pulled = Run("pull", SaeName, "--json").Json();
        JsonElement row = Assert.Single(pulled.GetProperty("pulled").EnumerateArray());
        string path = row.GetProperty("path").GetString()!;
        Assert.Equal(_hub.Files[Sae], File.ReadAllBytes(path));
        Assert.Equal((LocalHub.Commit, "main", _hub.Files[Sae].Length),
            (row.GetProperty("commit").GetString(), row.GetProperty("revision").GetString(),
                row.GetProperty("files")[0].GetProperty("received").GetInt32()));
        Assert.All(_storage.Requests, r => Assert.Null(r["Authorization"]));

        JsonElement expected = Program.Json("features", "And the king said", "--sae", "res.3.2k.l0_19");
        foreach (string name in new[] { SaeName, "google/gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_59",
            "gemma-2-2b/3-gemmascope-res-16k" })
        {
            JsonElement found = Run("features", "And the king said", "--sae", name, "--json").Json();
            Assert.Equal((name, "resid_post.3"), (found.GetProperty("sae").GetString(), found.GetProperty("site").GetString()));
            // What is known of the demo's features is not known of a file's.
            Assert.Equal(MeaningPattern().Replace(expected.GetProperty("tokens").GetRawText(), ""),
                found.GetProperty("tokens").GetRawText());
        }

        Outcome again = Run("pull", SaeName);
        Assert.Equal((0, path + "\n"), (again.ExitCode, again.Output));
        Assert.Contains("there already", again.Error, StringComparison.Ordinal);
        JsonElement listed = Run("catalog", "--layer", "3", "--width", "16k", "--site", "res", "--model", "2b", "--canonical", "--json")
            .Json();
        Assert.Equal(path, Assert.Single(listed.EnumerateArray()).GetProperty("cached").GetString());
        Assert.Equal(5, Run("inspect", SaeName, "--json").Json()[0].GetProperty("tensors").GetArrayLength());
    }

    [System.Text.RegularExpressions.GeneratedRegex(",?\"meaning\":\"[^\"]*\"")]
    private static partial System.Text.RegularExpressions.Regex MeaningPattern();

    [Fact]
    public void A_pulled_model_runs_by_its_name()
    {
        using var hub = new LocalHub("someone/gemma-2-tiny", _storage);
        string folder = Fixtures.Path("gemma2", "models", "sharded");
        foreach (string file in Directory.GetFiles(folder)
            .Where(f => Path.GetFileName(f) == "config.json" || Path.GetFileName(f).StartsWith("model", StringComparison.Ordinal)))
            hub.Files[Path.GetFileName(file)] = File.ReadAllBytes(file);
        Assert.Equal(0, RunAt(hub, "pull", "someone/gemma-2-tiny").ExitCode);
        string[] arguments = ["run", "--tokens", "2,5,7", "--json", "--model"];
        Assert.Equal(Program.Run([.. arguments, folder]).Output, RunAt(hub, [.. arguments, "someone/gemma-2-tiny"]).Output);
    }

    [Fact]
    public void What_is_not_in_the_cache_is_said_with_the_command_that_fetches_it()
    {
        Run("features", "x", "--sae", SaeName)
            .AssertFailed(1, SaeName, _folder.Path, "kernelscope pull gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_59");
        Run("features", "x", "--sae", "gemma-scope-2b-pt-res/layer_3/width_17k/canonical")
            .AssertFailed(1, "no such SAE", "gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_59");
        Assert.Empty(_hub.Requests);
    }

    [Theory]
    [InlineData("gemma-2-2b", "google/gemma-2-2b")]
    [InlineData("google/gemma-scope-2b-pt-res", "316 SAEs")]
    [InlineData("gemma-2-2b/3-gemascope-res-16k/x/../y", "not a path")]
    [InlineData("nonsense", "owner/name")]
    public void A_name_that_is_none_is_refused(string name, string words)
    {
        Run("pull", name).AssertFailed(1, words);
        Assert.Empty(_hub.Requests);
    }

    [Fact]
    public void A_refusal_is_one_sentence_without_the_token()
    {
        _hub.Alter = (_, _) => new HubReply(403, []);
        Outcome outcome = Run("pull", "google/gemma-2-2b");
        outcome.AssertFailed(1, "accept the licence", "google/gemma-2-2b", "HF_TOKEN");
        Assert.DoesNotContain(Token, outcome.Error, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Ctrl_C_ends_a_pull_and_the_next_one_goes_on()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "signals are sent by number");
        using var end = new CancellationTokenSource();
        _storage.Alter = (r, reply) => r.IsContent ? reply with { Pause = Task.Delay(Timeout.Infinite, end.Token) } : reply;
        // As in InterruptTests: a job of a shell ignores SIGINT.
        using Process process =
            Program.Start(new ProcessStartInfo("env", ["--default-signal=INT", Program.Host, "exec", Program.Assembly, "pull", SaeName]),
                Environment(_hub));
        string blobs = Path.Combine(_folder.Path, "models--google--gemma-scope-2b-pt-res", "blobs");
        int half = _hub.Files[Sae].Length / 2;
        var watch = Stopwatch.StartNew();
        while (!(Directory.Exists(blobs) && Directory.GetFiles(blobs) is [string partial] && new FileInfo(partial).Length == half)
            && watch.Elapsed < TimeSpan.FromSeconds(60))
            Thread.Sleep(10);
        Assert.Equal(0, Kill(process.Id, 2));
        Outcome ended = Program.Finish(process);
        Assert.Equal(130, ended.ExitCode);
        Assert.Contains(" in all\n", ended.Error, StringComparison.Ordinal);
        Assert.EndsWith("kernelscope: interrupted.\n", ended.Error, StringComparison.Ordinal);
        end.Cancel();
        _storage.Alter = null;
        Assert.Equal(_hub.Files[Sae].Length - half,
            Run("pull", SaeName, "--json").Json().GetProperty("pulled")[0].GetProperty("files")[0].GetProperty("received").GetInt32());
    }

    [Fact]
    public void The_catalogue_is_listed_and_filtered()
    {
        Assert.Equal(2430, Run("catalog", "--json").Json().GetArrayLength());
        JsonElement row =
            Assert.Single(Run("catalog", "gemmascope-mlp", "--model", "9b", "--layer", "20", "--width", "16k", "--canonical", "--json")
                .Json().EnumerateArray());
        Assert.Equal("gemma-scope-9b-pt-mlp/layer_20/width_16k/average_l0_108", row.GetProperty("name").GetString());
        Assert.Equal(("mlp_out_post.20", 3584, 16384),
            (row.GetProperty("site").GetString(), row.GetProperty("d_in").GetInt32(), row.GetProperty("d_sae").GetInt32()));
        Assert.Contains("layer_20/width_16k/average_l0_71 ", Run("catalog", "--model", "2b", "--site", "res", "--layer", "20").Output,
            StringComparison.Ordinal);
        Run("catalog", "--site", "nowhere").AssertFailed(2, "--site");
        Run("catalog", "--model", "3b").AssertFailed(2, "3b");
    }

    public void Dispose()
    {
        _hub.Dispose();
        _storage.Dispose();
        _folder.Dispose();
    }

    [SkippableFact]
    public void A_disk_that_takes_no_more_is_said_with_the_file_that_was_received()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "a shell sets the limit");
        const string Limit = "trap '' XFSZ; ulimit -f 100; export DOTNET_EnableWriteXorExecute=0; ";
        using Process process = Program.Start(
            new ProcessStartInfo("bash", ["-c", $"{Limit}exec '{Program.Host}' exec '{Program.Assembly}' pull {SaeName}"]),
            Environment(_hub));
        process.StandardInput.Close();
        Outcome outcome = Program.Finish(process);
        Assert.Equal(1, outcome.ExitCode);
        Assert.Matches($"cannot be written .*{Sae}: ", outcome.Error);
    }

    private Outcome Run(params string[] arguments) => RunAt(_hub, arguments);

    private Outcome RunAt(LocalHub hub, params string[] arguments) => Program.RunWith(null, Environment(hub), arguments);

    private Dictionary<string, string> Environment(LocalHub hub) =>
        new()
        {
            ["HF_ENDPOINT"] = hub.Address.AbsoluteUri,
            ["HF_TOKEN"] = Token,
            ["HF_HUB_CACHE"] = _folder.Path,
            ["HF_HOME"] = _folder.At("home"),
            ["HF_HUB_OFFLINE"] = ""
        };

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int process, int signal);
}
