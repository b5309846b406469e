namespace KernelScope.Cli.Tests;

/// <summary>Folders appear whole, and replace an old one only when they are complete.</summary>
public sealed class FolderInProgressTests
{
    [Fact]
    public void The_old_folder_stays_until_the_new_one_is_complete()
    {
        using var folder = new TempFolder();
        string target = folder.At("copy"), old = Path.Combine(target, "old.txt");
        Directory.CreateDirectory(target);
        File.WriteAllText(old, "old");
        using (FolderInProgress stopped = FolderInProgress.Create(target, MayReplace))
            File.WriteAllText(stopped.At("new.txt"), "new");
        Assert.Equal("old", File.ReadAllText(old));
        using (FolderInProgress written = FolderInProgress.Create(target, MayReplace))
        {
            File.WriteAllText(written.At("new.txt"), "new");
            Assert.Equal("old", File.ReadAllText(old));
            written.Commit();
        }

        Assert.Equal([Path.Combine(target, "new.txt")], Directory.EnumerateFileSystemEntries(target));
        Assert.Equal([target], Directory.EnumerateFileSystemEntries(folder.At(".")).Select(Path.GetFullPath));
    }

    [Fact]
    public void What_somebody_put_there_meanwhile_stays()
    {
        using var folder = new TempFolder();
        string target = folder.At("copy"), theirs = Path.Combine(target, "notes.txt");
        using (FolderInProgress written = FolderInProgress.Create(target, MayReplace))
        {
            Directory.CreateDirectory(target);
            File.WriteAllText(theirs, "mine");
            Assert.Contains("meanwhile", Assert.Throws<WorkException>(written.Commit).Message, StringComparison.Ordinal);
        }

        Assert.Equal("mine", File.ReadAllText(theirs));
        Assert.Single(Directory.EnumerateFileSystemEntries(folder.At(".")));
        Assert.Contains("not empty", Assert.Throws<WorkException>(() => FolderInProgress.Create(target, MayReplace)).Message,
            StringComparison.Ordinal);
        Assert.Contains("not empty", Assert.Throws<WorkException>(() => FolderInProgress.Create(target)).Message, StringComparison.Ordinal);
    }

    private static bool MayReplace(string path) => File.Exists(Path.Combine(path, "old.txt"));
}
