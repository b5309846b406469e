using KernelScope.Bench;
using KernelScope.Bench.Models;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Measuring;
using KernelScope.Model;

namespace KernelScope.Tests.Bench;

/// <summary>The folder of random weights: made once, used again, never mistaken for somebody's files; and the weights themselves.</summary>
public sealed class WeightsFolderTests : IDisposable
{
    private static readonly Gemma2Config Tiny = ModelSizes.Create(64, 128, layers: 4, heads: 4, kvHeads: 2, headDim: 16, queryScalar: 16)
        with
    { VocabSize = 512, ContextLength = 64, SlidingWindow = 8 };
    private readonly string _root = Directory.CreateTempSubdirectory("kernelscope-tests-").FullName;

    private string Place => Path.Combine(_root, "weights");

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void Weights_are_written_once_and_removed_at_the_end()
    {
        using (var folder = new WeightsFolder(Place, Tiny, keep: false))
        {
            Assert.False(folder.IsValid());
            Open(folder);
            Assert.True(folder.IsValid());
            Age();
            OpenPacked(folder);
            Assert.False(WasWritten());
            Assert.True(new FileInfo(folder.Gguf(new Progress(), default)).Length > 2 * ModelSizes.Weights(Tiny));
            Assert.False(WasWritten());
        }

        Assert.False(Directory.Exists(Place));
    }

    [Fact]
    public void Kept_weights_are_used_by_the_next_run()
    {
        using (var first = new WeightsFolder(Place, Tiny, keep: true))
            OpenPacked(first);
        Age();
        using var second = new WeightsFolder(Place, Tiny, keep: false);
        OpenPacked(second);
        Assert.False(WasWritten());
    }

    [Fact]
    public void Weights_that_are_not_used_stay()
    {
        using (var first = new WeightsFolder(Place, Tiny, keep: true))
            Open(first);
        new WeightsFolder(Place, Tiny, keep: false).Dispose();
        Assert.True(File.Exists(RandomModel.WeightsPath(Place)));
    }

    [Fact]
    public void Damaged_weights_are_written_anew()
    {
        using var folder = new WeightsFolder(Place, Tiny, keep: true);
        OpenPacked(folder);
        using (FileStream file = File.OpenWrite(RandomModel.WeightsPath(Place)))
            file.SetLength(file.Length - 1);
        Assert.False(folder.IsValid());
        OpenPacked(folder);
        Assert.True(folder.IsValid());
    }

    [Fact]
    public void A_folder_of_other_files_is_neither_written_to_nor_removed()
    {
        Directory.CreateDirectory(Place);
        string theirs = Path.Combine(Place, "model.safetensors");
        File.WriteAllText(theirs, "theirs");
        using (var folder = new WeightsFolder(Place, Tiny, keep: false))
            Assert.Contains("did not write", Assert.Throws<IOException>(() => folder.Open(new Progress(), default)).Message,
                StringComparison.Ordinal);
        Assert.Equal([theirs], Directory.GetFiles(Place));
        Assert.Equal("theirs", File.ReadAllText(theirs));
    }

    [Fact]
    public void A_file_beside_the_weights_is_not_removed()
    {
        string theirs = Path.Combine(Place, "notes.md");
        using (var folder = new WeightsFolder(Place, Tiny, keep: false))
        {
            Open(folder);
            File.WriteAllText(theirs, "theirs");
            File.WriteAllText(Path.Combine(Place, "load.panels.k2x.tmp"), "of a process that was killed");
        }

        Assert.Equal([theirs], Directory.GetFiles(Place));
    }

    [Fact]
    public void Weights_of_another_shape_are_not_used()
    {
        using (var folder = new WeightsFolder(Place, Tiny, keep: true))
            Open(folder);
        using var other = new WeightsFolder(Place, Tiny with { LayerCount = 2 }, keep: false);
        Assert.Contains("another shape", Assert.Throws<IOException>(() => other.Open(new Progress(), default)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Cancelled_weights_are_not_valid()
    {
        using var folder = new WeightsFolder(Place, Tiny, keep: false);
        Assert.Throws<OperationCanceledException>(() => folder.Open(new Progress(), new CancellationToken(canceled: true)));
        Assert.False(folder.IsValid());
    }

    [Fact]
    public void Values_have_the_deviation_of_trained_weights_and_do_not_repeat()
    {
        var normal = new NormalValues();
        const int Count = 1 << 20;
        var values = new Numerics.BFloat16[Count];
        normal.Fill(values, Count, 0);
        double mean = values.Average(v => (double)(float)v), deviation = Math.Sqrt(values.Average(v => (double)(float)v * (float)v));
        Assert.InRange(mean, -1e-4, 1e-4);
        Assert.InRange(deviation, 0.0195, 0.0205);
        // Of normal values 4.55 % lie beyond two deviations.
        Assert.InRange(values.Count(v => Math.Abs((float)v) > 2 * NormalValues.Deviation) / (double)Count, 0.04, 0.051);
        var later = new Numerics.BFloat16[Count / 2];
        normal.Fill(later, later.Length, Count / 2);
        Assert.Equal(values[(Count / 2)..], later);
        Assert.NotEqual(values[..later.Length], later);
    }

    /// <summary>Through all layers logits stay of size √d·σ, as normed rows give them.</summary>
    [Fact]
    public void Values_neither_vanish_nor_blow_up_over_the_layers()
    {
        using var folder = new WeightsFolder(Place, Tiny with { LayerCount = 26 }, keep: false);
        using var device = new CpuDevice(1);
        using var model = new OurModel(device, folder.Open(new Progress(), default), 32);
        model.Prefill(OurModel.Ids(32, Tiny.VocabSize));
        float[] prefilled = model.Logits();
        model.Reset();
        model.Decode(OurModel.Ids(32, Tiny.VocabSize));
        float[] decoded = model.Logits();
        double expected = Math.Sqrt(Tiny.ModelDim) * NormalValues.Deviation, size = Math.Sqrt(decoded.Average(v => (double)v * v));
        Assert.InRange(size, 0.7 * expected, 1.4 * expected);
        Assert.Null(Agreement.Within(1e-4)(decoded, prefilled));
    }

    private static void Open(WeightsFolder folder) => folder.Open(new Progress(), default).Dispose();

    private static void OpenPacked(WeightsFolder folder)
    {
        using var device = new CpuDevice(1);
        using Gemma2Checkpoint checkpoint = folder.OpenPacked(device.Panels, new Progress(), default);
        using Weight weight = device.CreateWeight("head", new WeightPart(checkpoint.OutputHead));
        Assert.True(weight.IsPacked);
    }

    /// <summary>Sets back the time of the weights' last write, so that a new one is seen.</summary>
    private void Age() => File.SetLastWriteTimeUtc(RandomModel.WeightsPath(Place), DateTime.UnixEpoch);

    private bool WasWritten() => File.GetLastWriteTimeUtc(RandomModel.WeightsPath(Place)) != DateTime.UnixEpoch;
}
