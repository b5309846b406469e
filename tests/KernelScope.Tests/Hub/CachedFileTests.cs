using KernelScope.Files;
using KernelScope.Hub;

namespace KernelScope.Tests.Hub;

/// <summary>What lies in the cache is believed only as it was when it was last compared with its checksum, and nothing outside is written through a link.</summary>
public sealed class CachedFileTests : HubTest
{
    [Theory]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public async Task A_damaged_file_of_the_right_length_is_fetched_or_copied_anew(bool links, bool sameTime)
    {
        HubOptions options = Options with { UseLinks = links };
        await PullAsync(options);
        string damaged = links ? Blob : SnapshotFile;
        DateTime time = File.GetLastWriteTimeUtc(damaged);
        Damage(damaged);
        if (sameTime)
            File.SetLastWriteTimeUtc(damaged, time);
        await PullAsync(options with { Verify = sameTime });
        Assert.Equal(Hub.Files[Sae], File.ReadAllBytes(SnapshotFile));
        Assert.Equal(Hub.Files[Sae], File.ReadAllBytes(Blob));
    }

    [Fact]
    public async Task A_damaged_blob_behind_a_good_copy_is_fetched_anew()
    {
        HubOptions options = Options with { UseLinks = false };
        await PullAsync(options);
        Damage(Blob);
        await PullAsync(options);
        Assert.Equal(Hub.Files[Sae], File.ReadAllBytes(Blob));
    }

    [Fact]
    public async Task What_another_program_left_is_compared_once()
    {
        byte[] other = [.. Hub.Files[Sae]];
        other[^1] ^= 1;
        Folder.Write(Path.GetRelativePath(Folder.Path, Blob), other);
        await PullAsync();
        AssertWhole();
        int requests = Storage.Contents.Count();
        await PullAsync();
        Assert.Equal(requests, Storage.Contents.Count());
    }

    [Theory]
    [InlineData("refs/main")]
    [InlineData("blobs")]
    [InlineData("snapshots")]
    [InlineData("refs")]
    [InlineData("../.locks")]
    [InlineData("../.locks/models--google--gemma-scope-2b-pt-res")]
    [InlineData("snapshots/" + LocalHub.Commit + "/layer_20")]
    [InlineData("")]
    public async Task Nothing_outside_is_written_through_a_link(string place)
    {
        string outside = Folder.At("outside"), target = Folder.Write("outside/target", "precious"),
            link = Path.GetFullPath(Path.Combine(Entry, place));
        link = Path.TrimEndingDirectorySeparator(link);
        Directory.CreateDirectory(Path.GetDirectoryName(link)!);
        File.CreateSymbolicLink(link, place == "refs/main" ? target : outside);
        if (place == "refs/main")
            await PullAsync();
        else
            Assert.Contains("is a link", (await Assert.ThrowsAnyAsync<HubException>(() => PullAsync())).Message, StringComparison.Ordinal);
        Assert.Equal([target], FilesUnder(outside));
        Assert.Equal("precious", File.ReadAllText(target));
    }

    [Theory]
    [InlineData("blob")]
    [InlineData("lock")]
    [InlineData("note")]
    [InlineData("file")]
    public async Task A_link_in_the_place_of_a_file_is_replaced(string what)
    {
        string target = Folder.Write("target", "precious"),
            locks = Path.Combine(Cache, ".locks", Path.GetFileName(Entry), Path.GetFileName(Blob));
        string link = what switch { "blob" => Blob, "lock" => locks + ".lock", "note" => locks + ".checked", _ => SnapshotFile };
        Directory.CreateDirectory(Path.GetDirectoryName(link)!);
        File.CreateSymbolicLink(link, target);
        await PullAsync();
        AssertWhole();
        Assert.Equal("precious", File.ReadAllText(target));
    }

    [Fact]
    public async Task What_a_killed_pull_left_beside_the_file_goes()
    {
        Directory.CreateDirectory(Path.GetDirectoryName(SnapshotFile)!);
        File.CreateSymbolicLink(TemporaryName.For(SnapshotFile), "../nowhere");
        await PullAsync();
        Assert.Equal([SnapshotFile], FilesUnder(Path.GetDirectoryName(SnapshotFile)!));
    }

    private static void Damage(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        bytes.AsSpan(1000, 400).Clear();
        File.WriteAllBytes(path, bytes);
    }
}
