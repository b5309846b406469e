using KernelScope.Files;

namespace KernelScope.Tests.Files;

/// <summary>A file appears whole or not at all.</summary>
public sealed class WriterTests
{
    [Theory]
    [InlineData("a.npz")]
    [InlineData("a.safetensors")]
    public void Without_a_commit_nothing_is_left_and_the_old_file_stays(string name)
    {
        using var folder = new TempFolder();
        string path = folder.Write(name, "old");
        using (IDisposable writer = Start(path)) Assert.Single(Directory.GetFiles(folder.Path, "*.tmp"));
        Assert.Equal([path], Directory.GetFiles(folder.Path));
        Assert.Equal("old", File.ReadAllText(path));
    }

    [Fact]
    public void A_commit_replaces_the_old_file_and_leaves_no_other()
    {
        using var folder = new TempFolder();
        string path = folder.Write("a.npz", "old");
        WriteOne(path);
        Assert.Equal([path], Directory.GetFiles(folder.Path));
        using NpzFile file = NpzFile.Open(path);
        Assert.Equal([1f, 2f], file["x"].ToFloats());
    }

    [Fact]
    public void A_link_stays_a_link()
    {
        using var folder = new TempFolder();
        string target = folder.Write("real.npz", "old"), link = folder.At("link.npz");
        File.CreateSymbolicLink(link, "real.npz");
        WriteOne(link);
        Assert.Equal("real.npz", new FileInfo(link).LinkTarget);
        using NpzFile file = NpzFile.Open(target);
        Assert.Single(file.Contents);
    }

    [Fact]
    public void The_same_arrays_give_the_same_bytes()
    {
        using var folder = new TempFolder();
        WriteOne(folder.At("a.npz"));
        WriteOne(folder.At("b.npz"));
        Assert.Equal(File.ReadAllBytes(folder.At("a.npz")), File.ReadAllBytes(folder.At("b.npz")));
    }

    [SkippableFact]
    public void A_place_that_cannot_be_written_is_named()
    {
        using var folder = new TempFolder();
        foreach (string path in new[] { folder.At("absent", "a.npz"), folder.Path })
        {
            var e = Assert.Throws<IOException>(() => new NpzWriter(path));
            Sentences.Check(e.Message, path);
        }
        Skip.If(OperatingSystem.IsWindows());
        Assert.Contains("device", Assert.Throws<IOException>(() => new NpzWriter("/dev/null")).Message, StringComparison.Ordinal);
        Assert.True(File.Exists("/dev/null"));
    }

    [Fact]
    public void Misuse_is_refused()
    {
        using var folder = new TempFolder();
        using var npz = new NpzWriter(folder.At("a.npz"));
        npz.Add("x", [1f, 2f], 2);
        Assert.Throws<ArgumentException>(() => npz.Add("x", [1f], 1));
        Assert.Throws<ArgumentException>(() => npz.Add("y", [1f], 2));
        Assert.Throws<ArgumentException>(() => npz.Begin(new TensorInfo("z", DType.BF16, [1])));
        npz.Begin(new TensorInfo("w", DType.F32, [2]));
        Assert.Throws<ArgumentException>(() => npz.Append([1.0]));
        Assert.Throws<InvalidOperationException>(npz.End);
        Assert.Throws<InvalidOperationException>(npz.Commit);
        Assert.Throws<ArgumentException>(
            () => new SafetensorsWriter(folder.At("a.safetensors"),
                [new TensorInfo("x", DType.F32, [1]), new TensorInfo("x", DType.F32, [1])]));
        using var safetensors = new SafetensorsWriter(folder.At("a.safetensors"), [new TensorInfo("x", DType.F32, [2])]);
        safetensors.Append([1f]);
        Assert.Throws<ArgumentException>(() => safetensors.Append([1]));
        Assert.Throws<ArgumentException>(() => safetensors.Append([1f, 2f]));
        Assert.Throws<InvalidOperationException>(safetensors.Commit);
        Assert.Throws<ArgumentException>(() => new TensorInfo("x", DType.F32, [-1]));
        Assert.Throws<ArgumentException>(() => new TensorInfo("x", DType.F32, [long.MaxValue / 2]));
    }

    private static IDisposable Start(string path)
    {
        if (path.EndsWith(".safetensors", StringComparison.Ordinal))
            return new SafetensorsWriter(path, [new TensorInfo("x", DType.F32, [1])]);
        var writer = new NpzWriter(path);
        writer.Add("x", [1f], 1);
        return writer;
    }

    private static void WriteOne(string path)
    {
        using var writer = new NpzWriter(path);
        writer.Add("x", [1f, 2f], 2);
        writer.Commit();
    }
}
