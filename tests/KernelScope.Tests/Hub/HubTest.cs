using KernelScope.Files;
using KernelScope.Hub;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Hub;

/// <summary>A hub, a cache in a folder of its own, and a client between them.</summary>
public abstract class HubTest : IDisposable
{
    private protected const string Sae = "layer_20/width_16k/average_l0_71/params.npz",
        SaeName = "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71";
    private protected const string Token = "hf_secretOfTheTests";

    private protected TempFolder Folder { get; } = new();

    private protected LocalHub Storage { get; } = new();

    private protected LocalHub Hub { get; }

    private protected HubTest()
    {
        Hub = new LocalHub(storage: Storage);
        Hub.Files[Sae] = Random(300_000);
    }

    private protected string Cache => Folder.At("cache");

    private protected string Entry => Path.Combine(Cache, "models--google--gemma-scope-2b-pt-res");

    private protected string SnapshotFile => Path.Combine(Entry, "snapshots", LocalHub.Commit, Sae);

    private protected string Blob => Path.Combine(Entry, "blobs", LocalHub.EtagOf(Sae, Hub.Files[Sae]));

    private protected HubOptions Options =>
        new()
        {
            Endpoint = Hub.Address,
            CacheRoot = Cache,
            Token = Token,
            RetryDelay = TimeSpan.FromMilliseconds(1),
            Timeout = TimeSpan.FromSeconds(20)
        };

    private protected string? Environment(string name) => name switch { "HF_HUB_CACHE" => Cache, "HOME" => Folder.At("home"), _ => null };

    private protected async Task<HubSnapshot> PullAsync(HubOptions? options = null, IProgress<HubProgress>? progress = null,
        string file = Sae, CancellationToken cancellationToken = default)
    {
        using var client = new HubClient(options ?? Options);
        return await client.PullAsync(Hub.Repository, "main", [file], progress, cancellationToken);
    }

    /// <summary>The pull fails with one sentence, which does not hold the token.</summary>
    private protected async Task<string> RefusalAsync<T>(HubOptions? options = null) where T : Exception
    {
        Exception e = await Assert.ThrowsAnyAsync<T>(() => PullAsync(options));
        Sentences.Check(e.Message, Hub.Repository);
        Assert.DoesNotContain(Token, e.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain("secret", e.Message, StringComparison.Ordinal);
        return e.Message;
    }

    /// <summary>Nothing stands in the cache that a reader could take for the file.</summary>
    private protected void AssertNothingKept()
    {
        Assert.Null(HubCache.FindFile(Hub.Repository, Sae, Environment));
        Assert.Empty(FilesUnder(Path.Combine(Entry, "blobs")));
        Assert.Empty(FilesUnder(Path.Combine(Entry, "refs")));
    }

    private protected void AssertWhole()
    {
        Assert.Equal(Hub.Files[Sae], File.ReadAllBytes(SnapshotFile));
        Assert.Equal([Blob], FilesUnder(Path.Combine(Entry, "blobs")));
    }

    private protected static string[] FilesUnder(string folder) =>
        Directory.Exists(folder) ? Directory.GetFiles(folder, "*", SearchOption.AllDirectories) : [];

    private protected static byte[] Random(int length)
    {
        byte[] bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        return bytes;
    }

    public void Dispose()
    {
        Hub.Dispose();
        Storage.Dispose();
        Folder.Dispose();
        GC.SuppressFinalize(this);
    }
}
