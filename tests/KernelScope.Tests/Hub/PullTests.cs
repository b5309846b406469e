using KernelScope.Files;
using KernelScope.Hub;
using KernelScope.Hub.Catalog;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Hub;

/// <summary>What a download leaves in the cache, and who can read it there.</summary>
public sealed class PullTests : HubTest
{
    [Fact]
    public async Task An_SAE_is_laid_out_as_the_hubs_library_does()
    {
        HubSnapshot snapshot = await PullAsync();
        AssertWhole();
        Assert.Equal("../../../../../blobs/" + Path.GetFileName(Blob), new FileInfo(SnapshotFile).LinkTarget);
        Assert.Equal(LocalHub.Commit, File.ReadAllText(Path.Combine(Entry, "refs", "main")));
        Assert.Equal((LocalHub.Commit, 300_000L, SnapshotFile), (snapshot.Commit, snapshot.Files[0].Received, snapshot.Files[0].Path));
        Assert.Equal(SnapshotFile, HubCache.FindFile(Hub.Repository, Sae, Environment));
    }

    [Fact]
    public async Task What_is_there_is_not_received_again()
    {
        await PullAsync();
        int before = Hub.Contents.Count() + Storage.Contents.Count();
        HubSnapshot again = await PullAsync();
        Assert.Equal(0, again.Files[0].Received);
        // Another path with the same blob is only linked.
        Hub.Files["copy/params.npz"] = Hub.Files[Sae];
        Assert.Equal(0, (await PullAsync(file: "copy/params.npz")).Files[0].Received);
        Assert.Equal(before, Hub.Contents.Count() + Storage.Contents.Count());
        Assert.Equal(Hub.Files[Sae], File.ReadAllBytes(Path.Combine(Entry, "snapshots", LocalHub.Commit, "copy", "params.npz")));
    }

    [Fact]
    public async Task A_real_SAE_knows_its_site_and_its_model_in_the_cache()
    {
        Hub.Files[Sae] = File.ReadAllBytes(Fixtures.Path("sae", "saes", "gs-48x96", "params.npz"));
        await PullAsync();
        Assert.True(ReleaseCatalog.TryParse("gemma-2-2b/20-gemmascope-res-16k", out ReleasedSae? sae));
        using SaeCheckpoint checkpoint = SaeCheckpoint.Open(HubCache.FindFile(sae.Repository, sae.File, Environment)!);
        Assert.Equal(("resid_post.20", "gemma-2-2b", 48),
            (checkpoint.Config.Site, checkpoint.Config.ModelName, checkpoint.Config.InputDim));
    }

    [Theory]
    [InlineData("base")]
    [InlineData("sharded")]
    public async Task A_model_is_pulled_without_what_it_does_not_need(string model)
    {
        using var hub = new LocalHub("google/gemma-2-tiny", Storage);
        string[] wanted =
            [.. Directory.GetFiles(Fixtures.Path("gemma2", "models", model)).Select(f => Path.GetFileName(f)!)
                .Where(n => n == "config.json" || n.StartsWith("model", StringComparison.Ordinal)).Append("tokenizer.model")
                .Order(StringComparer.Ordinal)];
        foreach (string name in wanted)
            hub.Files[name] = File.ReadAllBytes(name == "tokenizer.model" ? Fixtures.Path("text", "demo.model")
                : Fixtures.Path("gemma2", "models", model, name));
        foreach (string name in new[] { "README.md", "pytorch_model.bin", "gemma.gguf", "original/model.safetensors",
            "consolidated.safetensors" })
            hub.Files[name] = Random(100);
        using var client = new HubClient(Options with { Endpoint = hub.Address });
        HubSnapshot snapshot = await client.PullModelAsync(hub.Repository, "main");
        Assert.Equal(wanted, FilesUnder(snapshot.Path).Select(f => Path.GetRelativePath(snapshot.Path, f)).Order(StringComparer.Ordinal));
        Assert.Equal(snapshot.Path, ModelFolder.Resolve(hub.Repository, Environment).Path);
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(snapshot.Path);
        Assert.NotNull(checkpoint.TokenizerPath);
    }

    [Fact]
    public async Task A_repository_without_a_model_is_refused()
    {
        using var client = new HubClient(Options);
        string message = (await Assert.ThrowsAsync<InvalidDataException>(() => client.PullModelAsync(Hub.Repository, "main"))).Message;
        Sentences.Check(message, Hub.Repository);
        Hub.Files["config.json"] = Random(10);
        Assert.Contains("no model.safetensors",
            (await Assert.ThrowsAsync<InvalidDataException>(() => client.PullModelAsync(Hub.Repository, "main"))).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task Where_links_cannot_be_made_there_are_copies()
    {
        HubOptions options = Options with { UseLinks = false };
        await PullAsync(options);
        Assert.Null(new FileInfo(SnapshotFile).LinkTarget);
        AssertWhole();
        Assert.Equal(0, (await PullAsync(options)).Files[0].Received);
    }

    [Fact]
    public async Task A_small_file_is_checked_by_gits_hash()
    {
        Hub.Files["a/cfg.json"] = Random(500);
        HubSnapshot snapshot = await PullAsync(file: "a/cfg.json");
        Assert.Equal(40, snapshot.Files[0].Blob.Length);
        Assert.Equal(Hub.Files["a/cfg.json"], File.ReadAllBytes(snapshot.Files[0].Path));
        Hub.Files["empty.json"] = [];
        Assert.Empty(File.ReadAllBytes((await PullAsync(file: "empty.json")).Files[0].Path));
    }

    [Fact]
    public async Task Two_pulls_of_one_blob_receive_it_once()
    {
        var gate = new TaskCompletionSource();
        Storage.Alter = (request, reply) => request.IsContent ? reply with { Pause = gate.Task } : reply;
        var waits = new TaskCompletionSource();
        Task<HubSnapshot> first = PullAsync();
        while (!Storage.Contents.Any())
            await Task.Delay(5);
        Task<HubSnapshot> second = PullAsync(progress: new Watch(p =>
        {
            if (p.Step == HubStep.Waiting)
                waits.TrySetResult();
        }));
        await waits.Task.WaitAsync(TimeSpan.FromSeconds(30));
        gate.SetResult();
        Assert.Equal(300_000, (await first).Files[0].Received + (await second).Files[0].Received);
        Assert.Single(Storage.Contents);
        AssertWhole();
    }

    [Fact]
    public async Task Progress_is_told()
    {
        var seen = new List<HubProgress>();
        await PullAsync(progress: new Watch(seen.Add));
        Assert.Equal(new HubProgress(Sae, HubStep.Done, 300_000, 300_000), seen[^1]);
        Assert.Equal(new HubProgress(Hub.Repository, HubStep.Planned, 0, 300_000), seen[0]);
        Assert.Contains(seen, p => p.Step == HubStep.Receiving && p.Done <= p.Total);
    }

    [Fact]
    public async Task A_commit_is_a_revision_too_and_needs_no_reference()
    {
        using var client = new HubClient(Options);
        await client.PullAsync(Hub.Repository, LocalHub.Commit, [Sae]);
        Assert.Empty(FilesUnder(Path.Combine(Entry, "refs")));
        Assert.Equal(SnapshotFile, HubCache.FindFile(Hub.Repository, Sae, Environment));
    }

    [Fact]
    public async Task The_file_is_found_in_an_older_snapshot_when_the_branch_has_moved()
    {
        await PullAsync();
        string newer = new('f', 40);
        File.WriteAllText(Path.Combine(Entry, "refs", "main"), newer);
        Assert.Equal(SnapshotFile, HubCache.FindFile(Hub.Repository, Sae, Environment));
        // Two others with different bytes: nobody can say which is meant.
        foreach (string commit in new[] { new string('a', 40), new string('b', 40) })
            Folder.Write(Path.Combine("cache", "models--google--gemma-scope-2b-pt-res", "snapshots", commit, Sae), commit);
        Sentences.Check(Assert.Throws<InvalidDataException>(() => HubCache.FindFile(Hub.Repository, Sae, Environment)).Message, Entry);
    }

    private sealed class Watch(Action<HubProgress> see) : IProgress<HubProgress>
    {
        public void Report(HubProgress value) => see(value);
    }
}
