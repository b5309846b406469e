using System.Buffers.Binary;
using System.Diagnostics;
using KernelScope.Cli.Inspection;
using KernelScope.Files;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Inspection;

/// <summary>What no archive can store: pipes, folders in the place of files, links, files without permission, files that shrink, and headers that are really long.</summary>
public sealed class SpecialFilesTests
{
    private static readonly string[] Names =
        ["a.safetensors", "params.npz", "acts.npz", "config.json", "cfg.json", "tokenizer.model", "model.safetensors.index.json",
            "generation_config.json", "a.txt"];

    public static TheoryData<string> FileNames() => [.. Names];

    [SkippableTheory]
    [MemberData(nameof(FileNames))]
    public void A_pipe_is_refused_without_waiting(string name)
    {
        using var folder = new TempFolder();
        string path = folder.At(name);
        Skip.IfNot(MakePipe(path), "there is no mkfifo here");
        Refuses(path);
        Directory.CreateDirectory(folder.At("sub"));
        File.CreateSymbolicLink(folder.At("sub", name), path);
        Refuses(folder.At("sub", name));
    }

    [Theory]
    [MemberData(nameof(FileNames))]
    public void A_folder_in_the_place_of_a_file_is_refused(string name)
    {
        using var folder = new TempFolder();
        Directory.CreateDirectory(folder.At(name));
        Refuses(folder.At(name));
        Directory.CreateDirectory(folder.At("sub"));
        File.CreateSymbolicLink(folder.At("sub", name), folder.At(name));
        Refuses(folder.At("sub", name));
        string message = Assert.Throws<InvalidDataException>(() => NpzFile.Open(folder.At("sub", name))).Message;
        Assert.Contains("folder", message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(FileNames))]
    public void Links_that_lead_nowhere_or_round_and_missing_files_are_refused(string name)
    {
        using var folder = new TempFolder();
        Refuses(folder.At(name));
        File.CreateSymbolicLink(folder.At(name), "absent");
        Refuses(folder.At(name));
        File.Delete(folder.At(name));
        File.CreateSymbolicLink(folder.At(name), name);
        Refuses(folder.At(name));
    }

    [SkippableFact]
    public void Devices_are_refused()
    {
        Skip.If(OperatingSystem.IsWindows());
        using var folder = new TempFolder();
        foreach (string device in new[] { "/dev/zero", "/dev/null" })
        {
            string path = folder.At(Path.GetFileName(device) + ".npz");
            File.CreateSymbolicLink(path, device);
            Refuses(path);
        }
    }

    [SkippableFact]
    public void A_file_without_permission_is_refused()
    {
        Skip.If(OperatingSystem.IsWindows() || Environment.IsPrivilegedProcess, "nothing is unreadable here");
        using var folder = new TempFolder();
        string path = folder.Write("a.safetensors", "{}");
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(path, UnixFileMode.None);
        Assert.Contains("permission", Refuses(path), StringComparison.Ordinal);
    }

    [Fact]
    public void Names_that_act_on_a_terminal_are_made_harmless()
    {
        InspectionResult result = Inspector.Inspect("no\u001b[2Jsuch\nfile.npz", new InspectOptions());
        Assert.False(result.Ok);
        Assert.StartsWith("no\\u001B[2Jsuch\\u000Afile.npz: ", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("\0")]
    [InlineData("a\0.npz")]
    public void Texts_that_are_no_paths_are_refused(string path) => Assert.False(Inspector.Inspect(path, new InspectOptions()).Ok);

    [Fact]
    public void A_very_long_path_is_refused() =>
        Assert.False(Inspector.Inspect(new string('a', 100_000) + ".npz", new InspectOptions()).Ok);

    [Fact]
    public void A_header_over_a_hundred_megabytes_is_refused_unread()
    {
        using var folder = new TempFolder();
        string path = folder.At("a.safetensors");
        using (FileStream stream = File.Create(path))
        {
            byte[] length = new byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(length, 100_000_001);
            stream.Write(length);
            stream.Write("{"u8);
            stream.SetLength(8 + 100_000_001);
        }
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Contains("100000001", Refuses(path), StringComparison.Ordinal);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
    }

    [SkippableFact]
    public void A_file_that_shrinks_between_opening_and_reading_gives_a_sentence()
    {
        using var folder = new TempFolder();
        string path = folder.Write("acts.npz", File.ReadAllBytes(HostileFiles.Path("npz/valid/params.npz")));
        using NpzFile file = NpzFile.Open(path);
        // Another program: .NET's own streams respect the lock that the reader holds.
        Skip.IfNot(Run("truncate", "-s", "500", path), "there is no truncate here");
        Sentences.Check(Assert.Throws<InvalidDataException>(() => file.Verify()).Message, path);
    }

    [Fact]
    public void Inspection_can_be_cancelled()
    {
        using var source = new CancellationTokenSource();
        source.Cancel();
        Assert.Throws<OperationCanceledException>(
            () => Inspector.Inspect(HostileFiles.Path("npz/valid/params.npz"), new InspectOptions(), source.Token));
    }

    [Fact]
    public void Statistics_are_those_of_the_values()
    {
        using var folder = new TempFolder();
        string path = folder.At("a.npz");
        using (var writer = new NpzWriter(path))
        {
            writer.Add("x", [1f, float.NaN, -3f, 5f], 2, 2);
            writer.Add("n", [float.NaN], 1);
            writer.Add("i", [-7L, 3], 2);
            writer.Add("b", [true], 1);
            // Over several buffers.
            writer.Add("long", [.. Enumerable.Range(0, 300_001).Select(v => (double)v)], 300_001);
            writer.Commit();
        }
        InspectionResult result = Inspector.Inspect(path, new InspectOptions { Statistics = true });
        Assert.True(result.Ok, result.Error);
        Assert.Equal(
            [new TensorRange(-3, 5, 1, 1), new TensorRange(double.NaN, double.NaN, double.NaN, 1), new TensorRange(-7, 3, -2, 0),
                null, new TensorRange(0, 300_000, 150_000, 0)], result.Tensors.Select(t => t.Range));
        Assert.Equal(["F32", "F32", "I64", "BOOL", "F64"], result.Tensors.Select(t => t.DType));
        Assert.Equal([2L, 2], result.Tensors[0].Shape);
        Assert.All(Inspector.Inspect(path, new InspectOptions()).Tensors, t => Assert.Null(t.Range));
    }

    [Theory]
    [InlineData("model/valid", "model", 24)]
    [InlineData("model/valid-sharded/model.safetensors.index.json", "index", 24)]
    [InlineData("model/valid/model.safetensors", "safetensors", 24)]
    [InlineData("npz/valid/params.npz", "gemma_scope_sae", 5)]
    [InlineData("npz/valid", "gemma_scope_sae", 5)]
    [InlineData("npz/plain-arrays/acts.npz", "npz", 2)]
    [InlineData("saelens/valid", "saelens_sae", 5)]
    [InlineData("saelens/valid/cfg.json", "saelens_sae", 5)]
    [InlineData("config/valid/config.json", "config", 0)]
    [InlineData("tokenizer/valid/tokenizer.model", "tokenizer", 0)]
    public void The_format_is_named_and_the_tensors_listed(string file, string format, int count)
    {
        InspectionResult result = Inspector.Inspect(HostileFiles.Path(file), new InspectOptions { Statistics = true });
        Assert.Equal((format, true, count), (result.Format, result.Ok, result.Tensors.Count));
    }

    private static string Refuses(string path)
    {
        var watch = Stopwatch.StartNew();
        InspectionResult result = Inspector.Inspect(path, new InspectOptions());
        Assert.False(result.Ok);
        Sentences.Check(result.Error!, path);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(10));
        return result.Error!;
    }

    private static bool MakePipe(string path) => Run("mkfifo", path);

    private static bool Run(string program, params string[] arguments)
    {
        if (OperatingSystem.IsWindows())
            return false;
        try
        {
            using Process process = Process.Start(program, arguments);
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }
}
