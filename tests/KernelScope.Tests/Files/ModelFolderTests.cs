using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Tests.Files;

/// <summary>Finding a model: folders, hub-cache entries with their links, hub ids, and what is said when there is none.</summary>
public sealed class ModelFolderTests
{
    private const string Revision = "c5ebcd40d208330abc697524c919956e692655cf";

    [Fact]
    public void A_folder_is_a_model()
    {
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(HostileFiles.Path("model/valid"));
        Assert.EndsWith("tokenizer.model", model.TokenizerPath, StringComparison.Ordinal);
        Assert.Equal(new FileInfo(HostileFiles.Path("model/valid/model.safetensors")).Length, model.TotalBytes);
        Assert.Equal("model.safetensors: model.layers.1.mlp.down_proj.weight BF16 [8, 16]", model.Layer(1).Down.Describe());
    }

    [Theory]
    [InlineData("HF_HUB_CACHE", "")]
    [InlineData("HF_HOME", "hub")]
    [InlineData("HOME", ".cache/huggingface/hub")]
    public void A_hub_id_is_found_in_the_cache(string variable, string below)
    {
        using var folder = new TempFolder();
        string entry = MakeEntry(Path.Combine(folder.Path, below), "google/gemma-2-2b", "model/valid-sharded", withRefs: true);
        string? Environment(string name) => name == variable ? folder.Path : name == "HOME" ? folder.At("nobody") : null;
        ModelFolder found = ModelFolder.Resolve("google/gemma-2-2b", Environment);
        Assert.Equal(Path.Combine(entry, "snapshots", Revision), found.Path);
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(found);
        Assert.Equal(2, model.Files.Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_cache_entry_is_a_model_by_its_path(bool withRefs)
    {
        using var folder = new TempFolder();
        string entry = MakeEntry(folder.Path, "google/gemma-2-2b", "model/valid", withRefs);
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(entry);
        Assert.Equal(8, model.Config.ModelDim);
        using Gemma2Checkpoint snapshot = Gemma2Checkpoint.Open(Path.Combine(entry, "snapshots", Revision));
        Assert.Equal(model.TotalBytes, snapshot.TotalBytes);
    }

    [Fact]
    public void An_entry_with_two_snapshots_needs_refs_main()
    {
        using var folder = new TempFolder();
        string entry = MakeEntry(folder.Path, "a/b", "model/valid", withRefs: true);
        Directory.CreateDirectory(Path.Combine(entry, "snapshots", "other"));
        Assert.EndsWith(Revision, ModelFolder.Resolve(entry).Path, StringComparison.Ordinal);
        File.Delete(Path.Combine(entry, "refs", "main"));
        Assert.Contains("2 snapshots", Refusal(entry), StringComparison.Ordinal);
        File.WriteAllText(Path.Combine(entry, "refs", "main"), "../../../etc");
        Assert.Contains("which is not one", Refusal(entry), StringComparison.Ordinal);
        File.WriteAllText(Path.Combine(entry, "refs", "main"), "absent");
        Assert.Contains("incomplete", Refusal(entry), StringComparison.Ordinal);
    }

    [Fact]
    public void An_unknown_model_says_where_it_was_looked_for()
    {
        var variables = new Dictionary<string, string> { ["HF_HUB_CACHE"] = "/one", ["HF_HOME"] = "/two", ["HOME"] = "/three" };
        var e = Assert.Throws<InvalidDataException>(() => ModelFolder.Resolve("google/gemma-9-9b", variables.GetValueOrDefault));
        Sentences.Check(e.Message, "google/gemma-9-9b");
        foreach (string place in new[] { "/one/models--google--gemma-9-9b", "/two/hub/models--google--gemma-9-9b",
            "/three/.cache/huggingface/hub/models--google--gemma-9-9b" })
            Assert.Contains(place, e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("models--", Refusal("nowhere"), StringComparison.Ordinal);
        Assert.DoesNotContain("models--", Refusal("../up/down"), StringComparison.Ordinal);
        Sentences.Check(Refusal(HostileFiles.Path("model/valid/config.json")), HostileFiles.Path("model/valid/config.json"));
    }

    [Fact]
    public void A_missing_blob_is_named()
    {
        using var folder = new TempFolder();
        string entry = MakeEntry(folder.Path, "a/b", "model/valid-sharded", withRefs: true);
        File.Delete(Path.Combine(entry, "blobs", "model-00002-of-00002.safetensors.blob"));
        string message = Assert.Throws<InvalidDataException>(() => Gemma2Checkpoint.Open(entry)).Message;
        Assert.Contains("model-00002-of-00002.safetensors: this is a link to '../../blobs/", message, StringComparison.Ordinal);
    }

    private static string Refusal(string path) => Assert.Throws<InvalidDataException>(() => ModelFolder.Resolve(path, _ => null)).Message;

    // blobs/ holds the files, snapshots/REVISION/ links to them, refs/main names the revision.
    private static string MakeEntry(string cache, string id, string from, bool withRefs)
    {
        string entry = Path.Combine(cache, "models--" + id.Replace("/", "--", StringComparison.Ordinal)),
            snapshot = Path.Combine(entry, "snapshots", Revision);
        Directory.CreateDirectory(snapshot);
        Directory.CreateDirectory(Path.Combine(entry, "blobs"));
        foreach (string file in Directory.GetFiles(HostileFiles.Path(from)))
        {
            string name = Path.GetFileName(file);
            File.Copy(file, Path.Combine(entry, "blobs", name + ".blob"));
            File.CreateSymbolicLink(Path.Combine(snapshot, name), $"../../blobs/{name}.blob");
        }
        if (!withRefs)
            return entry;
        Directory.CreateDirectory(Path.Combine(entry, "refs"));
        File.WriteAllText(Path.Combine(entry, "refs", "main"), Revision);
        return entry;
    }
}
