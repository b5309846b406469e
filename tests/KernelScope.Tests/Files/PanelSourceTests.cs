using System.IO.MemoryMappedFiles;
using System.Text.Json;
using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Tests.Files;

/// <summary>Panels are used if, and only if, they were made from the bytes that the weights have now; damage is seen before a product reads it.</summary>
public sealed class PanelSourceTests : IDisposable
{
    // On a disk where there is one: the times of files in memory do not tell.
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("kernelscope-tests-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Theory]
    [InlineData("touched")]
    [InlineData("copied")]
    [InlineData("header")]
    [InlineData("nothing")]
    public void The_same_bytes_under_other_times_are_the_same_weights(string change)
    {
        string model = Copy("bf16", settled: change == "nothing"), weights = Path.Combine(model, "model.safetensors"), panels = Pack(model);
        if (change == "touched")
            File.SetLastWriteTimeUtc(weights, DateTime.UtcNow.AddMinutes(-5));
        if (change == "copied")
            model = TempFolderCopy(model);
        if (change == "header")
            LengthenHeader(weights);
        Assert.Null(Problem(model, panels));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_value_that_changed_is_seen_although_the_time_was_put_back(bool settled)
    {
        string model = Copy("bf16", settled), weights = Path.Combine(model, "model.safetensors"), panels = Pack(model);
        DateTime time = File.GetLastWriteTimeUtc(weights);
        using (FileStream file = File.Open(weights, FileMode.Open))
        {
            file.Position = file.Length - 12_345;
            int value = file.ReadByte();
            file.Position--;
            file.WriteByte((byte)(value ^ 1));
        }

        File.SetLastWriteTimeUtc(weights, time);
        Assert.Contains("other weights", Problem(model, panels), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2100)]
    public void A_store_through_a_mapping_that_was_dirty_before_packing_is_seen(int milliseconds)
    {
        string model = Copy("bf16", settled: false), weights = Path.Combine(model, "model.safetensors");
        using var map = MemoryMappedFile.CreateFromFile(weights, FileMode.Open);
        using MemoryMappedViewAccessor view = map.CreateViewAccessor();
        long at = new FileInfo(weights).Length - 5000;
        view.Write(at, (byte)(view.ReadByte(at) ^ 1));
        Thread.Sleep(milliseconds);
        string panels = Pack(model);
        Assert.Null(Problem(model, panels));
        view.Write(at + 2, (byte)(view.ReadByte(at + 2) ^ 1));
        Assert.Contains("other weights", Problem(model, panels), StringComparison.Ordinal);
    }

    [Fact]
    public void An_index_that_takes_a_tensor_from_another_shard_makes_other_weights()
    {
        string model = Copy("bf16", settled: true), first = Path.Combine(model, "a.safetensors"),
            second = Path.Combine(model, "b.safetensors");
        File.Move(Path.Combine(model, "model.safetensors"), first);
        byte[] bytes = File.ReadAllBytes(first);
        for (int at = (int)BitConverter.ToInt64(bytes) + 8; at < bytes.Length; at += 2)
            bytes[at] ^= 1;
        File.WriteAllBytes(second, bytes);
        string[] names;
        using (SafetensorsFile file = SafetensorsFile.Open(first))
            names = [.. file.Contents.Select(t => t.Name)];
        void Index(string other) => File.WriteAllText(
            Path.Combine(model, "model.safetensors.index.json"),
            JsonSerializer.Serialize(new { weight_map = names.ToDictionary(n => n, n => n == other ? "b.safetensors" : "a.safetensors") }));
        string down = names.First(n => n.Contains("down_proj", StringComparison.Ordinal)),
            norm = names.First(n => n.Contains("layernorm", StringComparison.Ordinal));
        // A shard that nothing is read from is not opened; both are, by a norm, which is not a matrix.
        Index(norm);
        Thread.Sleep(2100);
        string panels = Pack(model);
        Assert.Null(Problem(model, panels));
        Index(down);
        Assert.Contains("other weights", Problem(model, panels), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(40)]
    public void A_damaged_panel_of_any_matrix_is_refused_by_the_first_product_that_reads_it_and_by_the_next(int rows)
    {
        string model = Copy("bf16", settled: false), panels = Pack(model);
        using var device = new CpuDevice(2);
        int[] tokens = [.. Enumerable.Range(2, rows)];
        using PanelFile file = PanelFile.Open(panels);
        foreach (TensorInfo matrix in file.Matrices)
        {
            foreach (long at in (long[])[0, matrix.ByteLength / 2, matrix.ByteLength - 1])
            {
                Flip(panels, file.Stored.OffsetOf(matrix.Name) + at);
                Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model);
                ModelPanels.Use(device.Panels, checkpoint, PanelFile.Open(panels));
                using Gemma2Model loaded = Gemma2Model.Load(device, checkpoint);
                for (int i = 0; i < 2; i++)
                {
                    using Session session = loaded.NewSession();
                    string message = Assert.Throws<InvalidDataException>(() => session.Prefill(tokens)).Message;
                    Assert.Contains(BadFile.Quote(matrix.Name), message, StringComparison.Ordinal);
                    Assert.Contains(panels, message, StringComparison.Ordinal);
                }

                Flip(panels, file.Stored.OffsetOf(matrix.Name) + at);
            }
        }
    }

    [Fact]
    public unsafe void Tables_that_say_where_values_go_are_copied_out_of_the_mapping()
    {
        string model = Copy("bf16", settled: false), panels = Pack(model);
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model);
        using PanelFile file = PanelFile.Open(panels);
        TensorView matrix = checkpoint.Files[0].Tensors.First(t => checkpoint.MatrixNames.Contains(t.Name) && file[t].IsCompact);
        PanelView view = file[matrix];
        PanelWindow before = view.Windows[0];
        Flip(panels, file.Stored.OffsetOf(matrix.Name + ".exceptions"));
        Assert.Equal(before, view.Windows[0]);
        Assert.Equal(before, file[matrix].Windows[0]);
        using PanelFile again = PanelFile.Open(panels);
        Assert.Contains("damaged", Assert.Throws<InvalidDataException>(() => again[matrix]).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("model.safetensors")]
    [InlineData("config.json")]
    [InlineData("../model/model.safetensors")]
    public void Panels_are_not_written_over_what_they_are_made_from(string name)
    {
        string model = Copy("bf16", settled: false), weights = Path.Combine(model, "model.safetensors");
        byte[] before = File.ReadAllBytes(weights), config = File.ReadAllBytes(Path.Combine(model, "config.json"));
        using (Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model))
            Assert.Contains("is read from", Assert.Throws<IOException>(
                () => ModelPanels.Write(checkpoint, Path.Combine(model, name))).Message, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(weights));
        Assert.Equal(config, File.ReadAllBytes(Path.Combine(model, "config.json")));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(32)]
    [InlineData(384)]
    [InlineData(110_592)]
    public void The_checksum_of_a_panel_sees_every_flipped_bit(int length)
    {
        byte[] bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        uint sum = PanelChecksum.Of(bytes);
        for (int bit = 0; bit < length * 8; bit += Math.Max(1, length / 50))
        {
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.NotEqual(sum, PanelChecksum.Of(bytes));
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
        }

        Assert.Equal(sum, PanelChecksum.Of(bytes));
    }

    private static string? Problem(string model, string path)
    {
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model);
        using var panels = PanelFile.Open(path);
        try
        {
            ModelPanels.Check(checkpoint, panels);
            return null;
        }
        catch (InvalidDataException e)
        {
            return e.Message;
        }
    }

    private static void Flip(string path, long at)
    {
        using FileStream file = File.Open(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        file.Position = at;
        int value = file.ReadByte();
        file.Position = at;
        file.WriteByte((byte)(value ^ 1));
    }

    // Eight more spaces behind the JSON: the same tensors in a longer file.
    private static void LengthenHeader(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        long header = BitConverter.ToInt64(bytes);
        File.WriteAllBytes(path, [.. BitConverter.GetBytes(header + 8), .. bytes.AsSpan(8, (int)header), .. "        "u8,
            .. bytes.AsSpan(8 + (int)header)]);
    }

    private static string Pack(string model)
    {
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model);
        string path = model + ".panels";
        ModelPanels.Write(checkpoint, path);
        return path;
    }

    private string TempFolderCopy(string model)
    {
        string copy = Path.Combine(_folder.FullName, "copy");
        TempFolder.CopyFolder(model, copy);
        return copy;
    }

    /// <summary>A copy of a model, new or old enough for its times to tell.</summary>
    private string Copy(string name, bool settled)
    {
        string folder = Path.Combine(_folder.FullName, "model");
        TempFolder.CopyFolder(Fixtures.Path("gemma2", "models", name), folder);
        if (settled)
            Thread.Sleep(2100);
        return folder;
    }
}
