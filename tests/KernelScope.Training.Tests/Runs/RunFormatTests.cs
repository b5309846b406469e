using System.Text;
using System.Text.RegularExpressions;
using KernelScope.Cpu;
using KernelScope.Hooks;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Tests.Runs;

/// <summary>What is on disk: the same bytes for the same content, and files of strangers.</summary>
public sealed class RunFormatTests
{
    [Fact]
    public void A_plan_reads_back_with_its_id()
    {
        using var run = new SyntheticRun(2, 3, 5, 2);
        var read = RunPlan.Read(run.Folder);
        Assert.Equal(run.Plan.Id, read.Id);
        Assert.Equal(run.Plan.ToBytes(), File.ReadAllBytes(run.Folder.PlanPath));
        Assert.DoesNotContain(" :", Encoding.UTF8.GetString(run.Plan.ToBytes()), StringComparison.Ordinal);
        Assert.NotEqual(run.Plan.Id, (run.Plan with { Seed = 8 }).Id);
    }

    [Theory]
    [InlineData("\"format\":1", "\"format\":2", "format 2")]
    [InlineData("\"format\":1", "\"format\":0", "format 0")]
    [InlineData("\"dtype\":\"f32\"", "\"dtype\":\"f8\"", "dtype is the text 'f8'")]
    [InlineData("\"sites\":[\"resid_post.0\"]", "\"sites\":[\"../../x\"]", "sites[0]")]
    [InlineData("\"sites\":[\"resid_post.0\"]", "\"sites\":[\"attn_scores.0\"]", "sites[0]")]
    [InlineData("\"id\":\"sae\"", "\"id\":\"..\"", "id")]
    [InlineData("\"id\":\"sae\"", "\"id\":\"a/b\"", "id")]
    [InlineData("\"first_sequence\":3", "\"first_sequence\":4", "shard_table[1]")]
    [InlineData("\"rows\":15", "\"rows\":-1", "rows")]
    [InlineData("\"context\":6", "\"context\":6.5", "context")]
    [InlineData("\"context\":6", "\"context\": 6", "its bytes are not those")]
    [InlineData("\"widths\":[2]", "\"widths\":[2,2]", "sites and widths")]
    [InlineData("\"seed\":7", "\"seed\":7,\"seed\":7", "not valid JSON")]
    [InlineData("\"bos\":", "\"boss\":", "bos is missing")]
    public void A_plan_that_is_something_else_is_refused_with_its_place(string from, string to, string words)
    {
        using var run = new SyntheticRun(2, 3, 5, 2);
        string text = File.ReadAllText(run.Folder.PlanPath);
        Assert.Contains(from, text, StringComparison.Ordinal);
        File.WriteAllText(run.Folder.PlanPath, text.Replace(from, to, StringComparison.Ordinal));
        string message = Assert.Throws<InvalidDataException>(() => RunPlan.Read(run.Folder)).Message;
        Assert.Contains(words, message, StringComparison.Ordinal);
        Assert.Contains("run.json", message, StringComparison.Ordinal);
    }

    /// <summary>Sums that no rows have: of the manifest, or of the scale that follows from it.</summary>
    [Theory]
    [InlineData("-5", "expected a number of at least 0")]
    [InlineData("1e308", "mean squared norm")]
    [InlineData("1e-300", "mean squared norm")]
    [InlineData("0", "mean squared norm")]
    public void Sums_that_give_no_scale_are_refused(string sum, string words)
    {
        using var run = new SyntheticRun(2, 3, 5, 2);
        foreach (int shard in (int[])[0, 1])
        {
            string path = run.Folder.At(RunFolder.Manifest(shard)), text = File.ReadAllText(path);
            File.WriteAllText(path, Regex.Replace(text, "\"sum_squared_norm\":[^,}]+", $"\"sum_squared_norm\":{sum}"));
        }

        string message = Assert.Throws<InvalidDataException>(() =>
        {
            using RunRows rows = RunRows.Open(run.Folder.Path, HookPoint.Parse("resid_post.0"));
            using var device = new CpuDevice();
            using var trainer = new SaeTrainer(device, rows, new TrainingOptions { Width = 4, Sparsity = 0.1, Batch = 2, Steps = 1 });
        }).Message;
        Assert.Contains(words, message, StringComparison.Ordinal);
    }

    /// <summary>Damaged bytes of every file give one sentence, never anything else.</summary>
    [Fact]
    public void Damaged_plans_and_manifests_are_refused()
    {
        using var run = new SyntheticRun(2, 3, 5, 2);
        var random = new Random(5);
        foreach ((string path, Action read) in new (string, Action)[]
        {
            (run.Folder.PlanPath, () => RunPlan.Read(run.Folder)), (run.Folder.At(RunFolder.Manifest(1)), () =>
                ShardManifest.Read(run.Folder, run.Plan, 1)),
            (run.Folder.At(RunFolder.Tokens(1)), () => TokenShard.Read(run.Folder, run.Plan, 1)),
        })
        {
            byte[] whole = File.ReadAllBytes(path);
            int refused = 0;
            for (int i = 0; i < 300; i++)
            {
                byte[] damaged = i % 3 == 0 ? whole[..random.Next(whole.Length)] : [.. whole];
                if (i % 3 != 0)
                    damaged[random.Next(whole.Length)] = (byte)random.Next(256);
                File.WriteAllBytes(path, damaged);
                try
                {
                    read();
                }
                catch (InvalidDataException)
                {
                    refused++;
                }
            }

            Assert.True(refused > 150, $"{path}: {refused}");
            File.WriteAllBytes(path, whole);
            read();
        }
    }

    [Fact]
    public void A_file_never_replaces_another()
    {
        string folder = Directory.CreateTempSubdirectory("kernelscope-placed-").FullName;
        try
        {
            string path = Path.Combine(folder, "a", "file");
            StoredFile first = PlacedFile.Write(path, "one"u8);
            Assert.Equal(first, PlacedFile.Write(path, "one"u8));
            ShardConflictException conflict = Assert.Throws<ShardConflictException>(() => PlacedFile.Write(path, "two"u8));
            Assert.Equal(first, conflict.Found);
            Assert.Equal("one", File.ReadAllText(path));
            using (PlacedFile left = PlacedFile.Create(path + "2"))
                left.Stream.Write("never placed"u8);
            Assert.Equal([path], Directory.GetFiles(Path.GetDirectoryName(path)!));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Unfinished_files_of_dead_workers_are_swept_and_those_of_living_ones_stay()
    {
        string folder = Directory.CreateTempSubdirectory("kernelscope-sweep-").FullName;
        try
        {
            using var dead = System.Diagnostics.Process.Start("true");
            dead.WaitForExit();
            string Temporary(string host, int process) => Path.Combine(folder, $".tmp-{host}-{process}-{Guid.NewGuid():N}");
            string own = Temporary(WorkerName.Host, Environment.ProcessId), elsewhere = Temporary("elsewhere", 1),
                old = Temporary("elsewhere", 2), ended = Temporary(WorkerName.Host, dead.Id);
            foreach (string path in new[] { own, elsewhere, old, ended })
                File.WriteAllText(path, "x");
            File.SetLastWriteTimeUtc(old, DateTime.UtcNow.AddDays(-2));
            Assert.Equal(2, WorkerName.Sweep(folder));
            Assert.Equal(new[] { own, elsewhere }.Order(StringComparer.Ordinal), Directory.GetFiles(folder).Order(StringComparer.Ordinal));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
