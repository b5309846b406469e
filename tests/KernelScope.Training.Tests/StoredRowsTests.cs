using KernelScope.Cpu;
using KernelScope.Files;

namespace KernelScope.Training.Tests;

/// <summary>Odd arguments, damaged states and values, of rows of a stored array and of a training over them.</summary>
public sealed class StoredRowsTests : IDisposable
{
    private const int Count = 100, Width = 3;
    private readonly TemporaryFolder _folder = new();
    private readonly string _path;

    public StoredRowsTests() => _path = Write("rows.safetensors", _ => 1);

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Arguments_that_mean_nothing_are_refused()
    {
        foreach (double share in (double[])[double.NaN, -0.1, 1, 2])
            Assert.Throws<ArgumentOutOfRangeException>(() => StoredRows.Open(_path, null, validation: share));
        Assert.Contains("3 values say which of the 100 rows count", Assert.Throws<ArgumentException>(() =>
            StoredRows.Open(_path, null, counted: (_, _) => new bool[3])).Message, StringComparison.Ordinal);
        using StoredRows rows = Open();
        Assert.Throws<ArgumentException>(() => rows.Next(new float[Width + 1], []));
        Assert.Throws<ArgumentException>(() => rows.Next(new float[Width], new float[Width]));
        Assert.Throws<ArgumentOutOfRangeException>(() => rows.ReadValidation(-1, new float[Width], []));
        Assert.Throws<ArgumentOutOfRangeException>(() => rows.ReadValidation(rows.ValidationRows, new float[Width], []));
        Assert.Equal(0, rows.Position);
    }

    /// <summary>A generator whose state is 0 made the next epoch's order for ever.</summary>
    [Fact]
    public void A_damaged_state_is_refused()
    {
        using StoredRows rows = Open();
        rows.Next(new float[7 * Width], []);
        using var saved = new MemoryStream();
        rows.SaveState(saved);
        byte[] state = saved.ToArray(), negative = [.. state];
        negative[7] ^= 0x80;
        foreach (byte[] bad in (byte[][])[[], state[..^1], new byte[state.Length], negative])
            Assert.Throws<InvalidDataException>(() => rows.LoadState(new MemoryStream(bad)));
        rows.LoadState(new MemoryStream(state));
        Assert.Equal(7, rows.Position);
    }

    /// <summary>One that is kept back would make the FVU of every validation a NaN.</summary>
    [Fact]
    public void A_value_that_is_not_finite_is_found_in_rows_that_are_kept_back_too()
    {
        for (int bad = 0; bad < 20; bad++)
        {
            string path = Write($"bad-{bad}.safetensors", row => row == bad ? float.NaN : 1);
            var e = Assert.Throws<InvalidDataException>(() => StoredRows.Open(path, null, validation: 0.3));
            Assert.Contains($"row {bad} of", e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_training_refuses_numbers_of_steps_and_names_that_mean_nothing()
    {
        using StoredRows rows = Open();
        using var device = new CpuDevice(1);
        using var trainer = new SaeTrainer(device, rows, Frontier.Small());
        var good = new TrainingFiles { Folder = _folder["out"] };
        foreach (TrainingFiles files in (TrainingFiles[])[good with { LogEvery = 0 }, good with { ValidateEvery = -1 },
            good with { CheckpointEvery = -1 }, good with { KeepEvery = -1 }, good with { Folder = "" }, good with { Log = "" }])
            Assert.Throws<ArgumentException>(() => new TrainingRun(trainer, files));
        Assert.Throws<ArgumentNullException>(() => new TrainingRun(trainer, good with { Place = null! }));
        Assert.False(Directory.Exists(_folder["out"]));
    }

    /// <summary>A second time, its log would have begun anew, without the lines of the steps that were done.</summary>
    [Fact]
    public void A_training_run_is_executed_once()
    {
        using StoredRows rows = Open();
        using var device = new CpuDevice(1);
        using var trainer = new SaeTrainer(device, rows, Frontier.Small(steps: 6));
        using var run = new TrainingRun(trainer, new TrainingFiles { Folder = _folder["out"], LogEvery = 1 });
        run.Execute();
        string log = File.ReadAllText(Path.Combine(_folder["out"], "log.jsonl"));
        Assert.Contains("TrainingFiles.Resume", Assert.Throws<InvalidOperationException>(() => run.Execute()).Message,
            StringComparison.Ordinal);
        Assert.Equal(log, File.ReadAllText(Path.Combine(_folder["out"], "log.jsonl")));
        Assert.Throws<ArgumentException>(() => (Frontier.Small() with { Activation = (TrainingActivation)9 }).Require());
        Assert.Throws<ArgumentException>(() => (Frontier.Small() with { Parameter = (ThresholdParameter)9 }).Require());
    }

    private StoredRows Open() => StoredRows.Open(_path, null, validation: 0.3);

    private string Write(string name, Func<int, float> value)
    {
        using var writer = new SafetensorsWriter(_folder[name], [new TensorInfo("x", DType.F32, [Count, Width])]);
        writer.Append<float>([.. Enumerable.Range(0, Count * Width).Select(i => value(i / Width) * (i + 1))]);
        writer.Commit();
        return _folder[name];
    }
}
