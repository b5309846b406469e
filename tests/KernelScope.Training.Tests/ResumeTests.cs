using KernelScope.Cpu;

namespace KernelScope.Training.Tests;

/// <summary>Killed at any step and resumed: the same bits as unbroken.</summary>
public class ResumeTests
{
    [Theory]
    [InlineData(TrainingActivation.JumpRelu)]
    [InlineData(TrainingActivation.TopK)]
    [InlineData(TrainingActivation.BatchTopK)]
    [InlineData(TrainingActivation.Relu)]
    public void A_run_that_was_stopped_at_random_steps_is_the_unbroken_one(TrainingActivation activation)
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(2);
        UnbrokenAndStopped(device, folder, Frontier.Small(activation));
    }

    /// <summary>λ, too, goes on from where it was.</summary>
    [Theory]
    [InlineData(TrainingActivation.JumpRelu)]
    [InlineData(TrainingActivation.Relu)]
    public void So_it_is_where_the_sparsity_is_steered(TrainingActivation activation)
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(2);
        TrainingOptions options = TargetL0Tests.Steered(activation, 6, 120);
        UnbrokenAndStopped(device, folder, options);
        var e = Assert.Throws<InvalidDataException>(() => Run(device, options with { Steps = 240 }, folder["broken"], long.MaxValue));
        Assert.Contains("other options", e.Message, StringComparison.Ordinal);
    }

    /// <summary>Two trainers in one folder would spoil each other's checkpoints and log.</summary>
    [Fact]
    public void A_second_training_in_a_folder_is_refused_while_the_first_runs()
    {
        using var folder = new TemporaryFolder();
        using (var first = new TrainingLog(folder["log.jsonl"], 0))
        {
            first.Write(json => json.WriteNumberValue(1));
            var e = Assert.Throws<IOException>(() => new TrainingLog(folder["log.jsonl"], 0));
            Assert.StartsWith($"{folder["log.jsonl"]}: the file cannot be written (", e.Message, StringComparison.Ordinal);
        }

        Assert.Equal("1\n", File.ReadAllText(folder["log.jsonl"]));
        new TrainingLog(folder["log.jsonl"], 0).Dispose();
    }

    private static void UnbrokenAndStopped(CpuDevice device, TemporaryFolder folder, TrainingOptions options)
    {
        Run(device, options, folder["whole"], long.MaxValue);
        var random = new Random(7);
        long at = 0;
        foreach (int _ in Enumerable.Range(0, 5))
        {
            at = Math.Min(at + random.Next(1, 40), options.Steps);
            Run(device, options, folder["broken"], at);
        }

        Run(device, options, folder["broken"], long.MaxValue);
        AssertSame(folder["whole"], folder["broken"]);
    }

    /// <summary>The process may go at any moment: what counts is the last checkpoint, whatever was logged after it.</summary>
    [Fact]
    public void A_run_that_was_killed_at_any_of_twenty_steps_is_the_unbroken_one()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(2);
        TrainingOptions options = Frontier.Small(steps: 60);
        Run(device, options, folder["whole"], long.MaxValue);
        foreach (int kill in Enumerable.Range(0, 20).Select(n => 1 + ((n * 37) % 59)))
        {
            string broken = folder[$"broken-{kill}"];
            Assert.Throws<KilledException>(() => Run(device, options, broken, long.MaxValue, kill));
            Run(device, options, broken, long.MaxValue);
            AssertSame(folder["whole"], broken);
        }
    }

    /// <summary>A byte, the end, or all of a file of the newest checkpoint is lost: it goes on from the one before, and says so.</summary>
    [Theory]
    [InlineData("adam.safetensors", "is not what SHA256SUMS says")]
    [InlineData("parameters.safetensors", "is not what SHA256SUMS says")]
    [InlineData("rows.state", "is not what SHA256SUMS says")]
    [InlineData("state.json", "is not what SHA256SUMS says")]
    [InlineData("SHA256SUMS", "")]
    public void From_a_damaged_checkpoint_it_falls_back_to_the_one_before(string file, string words)
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        TrainingOptions options = Frontier.Small(steps: 50);
        Run(device, options, folder["whole"], long.MaxValue);
        foreach (Action<string> damage in (Action<string>[])[FlipByte, path => File.WriteAllBytes(path, File.ReadAllBytes(path)[..^9]),
            File.Delete])
        {
            string broken = folder[Guid.NewGuid().ToString("N")];
            Run(device, options, broken, 25);
            damage(Path.Combine(broken, "checkpoints", "step-000000025", file));
            List<string> said = Run(device, options, broken, long.MaxValue);
            string sentence = Assert.Single(said);
            Assert.Contains("step-000000025", sentence, StringComparison.Ordinal);
            Assert.Contains("goes on from step-000000020", sentence, StringComparison.Ordinal);
            if (damage == FlipByte)
                Assert.Contains(words, sentence, StringComparison.Ordinal);
            AssertSame(folder["whole"], broken);
            Assert.True(Directory.Exists(Path.Combine(broken, "checkpoints", "step-000000025.damaged")));
        }
    }

    /// <summary>Training never begins anew in silence.</summary>
    [Fact]
    public void Where_no_checkpoint_is_whole_it_stops_and_touches_nothing()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        Run(device, Frontier.Small(), folder["run"], 25);
        string[] states = Directory.GetFiles(folder["run"], "rows.state", SearchOption.AllDirectories);
        Assert.Equal(2, states.Length);
        Array.ForEach(states, FlipByte);
        var e = Assert.Throws<InvalidDataException>(() => Run(device, Frontier.Small(), folder["run"], long.MaxValue));
        Assert.Contains("no checkpoint in it is whole", e.Message, StringComparison.Ordinal);
        Assert.Equal(states, Directory.GetFiles(folder["run"], "rows.state", SearchOption.AllDirectories));
    }

    private static void FlipByte(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        bytes[bytes.Length / 2] ^= 1;
        File.WriteAllBytes(path, bytes);
    }

    [Fact]
    public void A_checkpoint_of_other_options_is_refused()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        Run(device, Frontier.Small(), folder["run"], 30);
        var e = Assert.Throws<InvalidDataException>(
            () => Run(device, Frontier.Small() with { LearningRate = 0.004 }, folder["run"], long.MaxValue));
        Assert.Contains("other options", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_with_checkpoints_is_not_trained_over()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        Run(device, Frontier.Small(), folder["run"], 30);
        using StoredRows rows = Frontier.Rows();
        using var trainer = new SaeTrainer(device, rows, Frontier.Small());
        Assert.Throws<ArgumentException>(() => new TrainingRun(trainer, new TrainingFiles { Folder = folder["run"] }));
    }

    /// <summary>A checkpoint for which there was no room takes none; one that a kill left unfinished goes when training goes on.</summary>
    [Fact]
    public void Of_a_checkpoint_that_was_not_finished_nothing_stays()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        string checkpoints = Path.Combine(folder["run"], "checkpoints"), left = Path.Combine(checkpoints, "step-000000020.tmp");
        using (var rows = new FailingRows(Frontier.Rows(), long.MaxValue) { Saving = () => throw new IOException("no room") })
        using (var trainer = new SaeTrainer(device, rows, Frontier.Small()))
        using (var run = new TrainingRun(trainer, new TrainingFiles { Folder = folder["run"], CheckpointEvery = 10 }))
            Assert.Throws<IOException>(() => run.Execute());
        Assert.Empty(Directory.GetFileSystemEntries(checkpoints));
        Directory.CreateDirectory(left);
        Run(device, Frontier.Small(steps: 5), folder["run"], long.MaxValue);
        Assert.False(Directory.Exists(left));
    }

    [Fact]
    public void Any_number_of_threads_gives_the_same_bits()
    {
        using var folder = new TemporaryFolder();
        foreach (int threads in (int[])[1, 2, 3])
        {
            using var device = new CpuDevice(threads);
            Run(device, Frontier.Small(steps: 30), folder[$"{threads}"], long.MaxValue);
        }

        AssertSame(folder["1"], folder["2"]);
        AssertSame(folder["1"], folder["3"]);
    }

    /// <summary>Runs or goes on until a step, where it is interrupted, or until the rows fail, which stands for a kill.</summary>
    /// <returns>What was warned of.</returns>
    private static List<string> Run(CpuDevice device, TrainingOptions options, string folder, long until, int kill = int.MaxValue)
    {
        var said = new List<string>();
        using var rows = new FailingRows(Frontier.Rows(), (long)kill * options.Batch);
        using var trainer = new SaeTrainer(device, rows, options);
        var run = new TrainingRun(
            trainer, new TrainingFiles
            {
                Folder = folder,
                LogEvery = 7,
                ValidateEvery = 25,
                CheckpointEvery = 10,
                Resume = true,
                Warn = said.Add
            });
        using var source = new CancellationTokenSource();
        rows.Served = position =>
        {
            if (position >= until * options.Batch)
                source.Cancel();
        };
        if (until > options.Steps)
            run.Execute();
        else
            Assert.ThrowsAny<OperationCanceledException>(() => run.Execute(cancellationToken: source.Token));
        return said;
    }

    private static void AssertSame(string expected, string actual)
    {
        string[] files =
            [.. Directory.EnumerateFiles(expected, "*", SearchOption.AllDirectories).Select(path => Path.GetRelativePath(expected, path))
                .Where(path => !path.StartsWith("checkpoints", StringComparison.Ordinal))];
        Assert.Contains(files, path => path.EndsWith("sae_weights.safetensors", StringComparison.Ordinal));
        foreach (string file in files)
        {
            if (file.EndsWith("log.jsonl", StringComparison.Ordinal))
                Assert.Equal(WithoutTimes(Path.Combine(expected, file)), WithoutTimes(Path.Combine(actual, file)));
            else if (!file.EndsWith("training.json", StringComparison.Ordinal))
                Assert.Equal(File.ReadAllBytes(Path.Combine(expected, file)), File.ReadAllBytes(Path.Combine(actual, file)));
        }

        string newest = Directory.EnumerateDirectories(Path.Combine(expected, "checkpoints")).Max(StringComparer.Ordinal)!;
        foreach (string name in (string[])["parameters.safetensors", "adam.safetensors", "rows.state"])
            Assert.Equal(File.ReadAllBytes(Path.Combine(newest, name)),
                File.ReadAllBytes(Path.Combine(actual, "checkpoints", Path.GetFileName(newest), name)));
    }

    private static string[] WithoutTimes(string path) => [.. File.ReadLines(path).Select(line => line.Split(",\"seconds\"")[0])];

    private sealed class KilledException : Exception;

    private sealed class FailingRows(ITrainingRows inner, long failAt) : ITrainingRows
    {
        public Action<long>? Served { get; set; }

        public Action? Saving { get; set; }

        public string Identity => inner.Identity;

        public int Width => inner.Width;

        public int? TargetWidth => inner.TargetWidth;

        public long EpochRows => inner.EpochRows;

        public long Position => inner.Position;

        public double MeanSquaredNorm => inner.MeanSquaredNorm;

        public long ValidationRows => inner.ValidationRows;

        public void Next(Span<float> inputs, Span<float> targets)
        {
            if (inner.Position >= failAt)
                throw new KilledException();
            inner.Next(inputs, targets);
            Served?.Invoke(inner.Position);
        }

        public void ReadValidation(long firstRow, Span<float> inputs, Span<float> targets) =>
            inner.ReadValidation(firstRow, inputs, targets);

        public void SaveState(Stream destination)
        {
            Saving?.Invoke();
            inner.SaveState(destination);
        }

        public void LoadState(Stream source) => inner.LoadState(source);

        public void Dispose() => inner.Dispose();
    }
}
