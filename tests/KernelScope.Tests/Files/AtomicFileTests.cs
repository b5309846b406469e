using System.Diagnostics;
using KernelScope.Files;

namespace KernelScope.Tests.Files;

/// <summary>What is written appears whole or not at all, in the place that was meant, and nothing else is touched.</summary>
public sealed class AtomicFileTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void What_a_killed_process_left_goes_with_the_next_write_of_the_same_file()
    {
        string path = _folder.At("a.npz"), left = TemporaryName.For(path), other = TemporaryName.For(_folder.At("b.npz"));
        File.WriteAllText(left, "half");
        File.WriteAllText(other, "half");
        Write(path);
        Assert.Equal([path, other], Directory.GetFiles(_folder.Path).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void What_another_process_is_writing_stays()
    {
        string path = _folder.At("a.npz");
        using var first = AtomicFile.Create(path);
        first.Stream.WriteByte(1);
        Write(path);
        first.Commit();
        Assert.Equal([1], File.ReadAllBytes(path));
    }

    [Theory]
    [InlineData("a.npz.tmp")]
    [InlineData("a.npz.0123456789abcdef.tmp")]
    [InlineData("a.npz.old.tmp")]
    [InlineData("a.npz.k3xqvfqx.0jd.tmp")]
    [InlineData(".a.npz.tmp")]
    public void A_strangers_file_stays(string name)
    {
        string stranger = _folder.Write(name, "mine");
        Write(_folder.At("a.npz"));
        Assert.Equal("mine", File.ReadAllText(stranger));
    }

    [Fact]
    public void A_link_is_followed_and_stays_a_link()
    {
        string target = _folder.Write("target", "old"), link = _folder.At("link");
        File.CreateSymbolicLink(link, "target");
        Write(link);
        Assert.Equal("target", new FileInfo(link).LinkTarget);
        Assert.Equal("new", File.ReadAllText(target));
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_pipe_stays_a_pipe(bool byLink)
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        string pipe = _folder.At("pipe"), link = _folder.At("link");
        using (var make = Process.Start("mkfifo", pipe))
            make.WaitForExit();
        File.CreateSymbolicLink(link, "pipe");
        Assert.Contains("a pipe", Assert.Throws<IOException>(() => AtomicFile.Create(byLink ? link : pipe)).Message,
            StringComparison.Ordinal);
        Assert.Equal("a pipe", FileStatus.Of(pipe)!.Value.OddKind);
    }

    [SkippableTheory]
    [InlineData("/dev/null")]
    [InlineData("/dev/full")]
    public void A_device_stays_a_device(string path)
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        Assert.Contains("a device", Assert.Throws<IOException>(() => AtomicFile.Create(path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("a", "a", true)]
    [InlineData("a", "./a", true)]
    [InlineData("link", "a", true)]
    [InlineData("folder/a", "other/a", true)]
    [InlineData("missing", "folder/../missing", true)]
    [InlineData("a", "b", false)]
    [InlineData("folder/a", "a", false)]
    public void Two_paths_are_one_file_however_they_are_written(string one, string other, bool same)
    {
        Directory.CreateDirectory(_folder.At("folder"));
        Directory.CreateSymbolicLink(_folder.At("other"), "folder");
        _folder.Write("a", "");
        File.CreateSymbolicLink(_folder.At("link"), "a");
        if (!OperatingSystem.IsLinux() && one.Contains('/', StringComparison.Ordinal))
            return;
        Assert.Equal(same, FilePlace.IsSame(_folder.At(one), _folder.At(other)));
    }

    private static void Write(string path)
    {
        using var file = AtomicFile.Create(path);
        file.Stream.Write("new"u8);
        file.Commit();
    }
}
