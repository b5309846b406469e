using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Tests.Files;

/// <summary>Panels hold what their layout says, and a panel file is used for its own weights or not at all.</summary>
public sealed class PanelTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<DType, int, int, bool> Shapes()
    {
        var data = new TheoryData<DType, int, int, bool>();
        foreach (DType type in (DType[])[DType.F32, DType.BF16, DType.F16])
        {
            // A single bfloat16 would be a compact panel; bits at random have every exponent.
            foreach ((int outputs, int inputs) in (ReadOnlySpan<(int, int)>)[type == DType.BF16 ? (1, 9) : (1, 1), (31, 7), (32, 2),
                (33, 129), (64, 300), (100, 255)])
            {
                data.Add(type, outputs, inputs, false);
                data.Add(type, outputs, inputs, true);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public unsafe void Panels_hold_every_value_where_the_layout_says_and_zeros_beside(DType type, int outputs, int inputs, bool transposed)
    {
        int size = type.ByteSize();
        byte[] values = new byte[outputs * inputs * size];
        new Random(outputs + inputs).NextBytes(values);
        using SafetensorsFile file = SafetensorsFile.Open(
            Write("w.safetensors", type, transposed ? [inputs, outputs] : [outputs, inputs], values));
        using var packed = new PackedMatrix(file["w"], transposed);
        Assert.Equal(PanelLayout.Bytes(type, outputs, inputs), packed.ByteLength);
        var panels = new ReadOnlySpan<byte>(packed.View.Pointer, (int)packed.ByteLength);
        byte[] expected = new byte[panels.Length];
        int step = 4 / size;
        for (int j = 0; j < outputs; j++)
        {
            for (int i = 0; i < inputs; i++)
            {
                int to = (j / 32 * (int)PanelLayout.PanelBytes(type, inputs)) + (i / step * 128) + (j % 32 * 4) + (i % step * size);
                int from = (transposed ? (i * outputs) + j : (j * inputs) + i) * size;
                values.AsSpan(from, size).CopyTo(expected.AsSpan(to));
            }
        }

        Assert.True(panels.SequenceEqual(expected));
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("f16")]
    [InlineData("base")]
    [InlineData("sharded")]
    [InlineData("mqa-odd")]
    public unsafe void A_panel_file_holds_the_panels_of_every_matrix(string name)
    {
        using Gemma2Checkpoint model = Open(name);
        string path = _folder.At("model.panels");
        ModelPanels.Write(model, path);
        using PanelFile file = PanelFile.Open(path);
        file.Verify();
        Assert.Equal(model.MatrixNames, file.Matrices.Select(m => m.Name));
        foreach (TensorView matrix in model.Files.SelectMany(f => f.Tensors).Where(t => model.MatrixNames.Contains(t.Name)))
        {
            using var packed = new PackedMatrix(matrix);
            PanelView view = file[matrix];
            Assert.Equal(0, (long)view.Pointer % 64);
            Assert.Equal(packed.View.IsCompact, view.IsCompact);
            long bytes = PanelLayout.PanelCount(view.Outputs) * (view.IsCompact ? PanelLayout.CompactPanelBytes(view.Inputs)
                : PanelLayout.PanelBytes(view.DType, view.Inputs));
            Assert.True(new ReadOnlySpan<byte>(view.Pointer, (int)bytes)
                .SequenceEqual(new ReadOnlySpan<byte>(packed.View.Pointer, (int)bytes)), matrix.Name);
            long table = packed.ByteLength - bytes;
            Assert.True(new ReadOnlySpan<byte>(view.Windows, (int)table)
                .StartsWith(new ReadOnlySpan<byte>(packed.View.Windows,
                (int)(PanelLayout.PanelCount(view.Outputs) * (view.IsCompact ? 8 : 0)))), matrix.Name);
        }

        using var device = new CpuDevice(1);
        ModelPanels.Use(device.Panels, model, PanelFile.Open(path));
        using Weight weight = device.CreateWeight("head", new WeightPart(model.OutputHead));
        Assert.True(weight.IsPacked);
    }

    [Fact]
    public void Every_flipped_byte_of_the_header_and_the_table_is_seen()
    {
        string path = Packed(out string folder);
        byte[] bytes = File.ReadAllBytes(path);
        int header = (int)BitConverter.ToInt64(bytes) + 8, table;
        using (PanelFile file = PanelFile.Open(path))
            table = bytes.Length - ControlBytes(file);
        // All of the table; of the header every third byte, so that every kind of place is among them.
        foreach (int at in Enumerable.Range(0, header).Where(i => i % 3 == 0).Concat(Enumerable.Range(table, bytes.Length - table)))
        {
            bytes[at] ^= 0x04;
            string damaged = _folder.Write("damaged.panels", bytes);
            Assert.Contains(damaged, Assert.Throws<InvalidDataException>(() => PanelFile.Open(damaged).Dispose()).Message,
                StringComparison.Ordinal);
            bytes[at] ^= 0x04;
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(7)]
    [InlineData(200)]
    [InlineData(5000)]
    [InlineData(-1)]
    [InlineData(-4096)]
    public void A_truncated_file_is_refused(int length)
    {
        byte[] bytes = File.ReadAllBytes(Packed(out _));
        string path = _folder.Write("short.panels", bytes.AsSpan(0, length < 0 ? bytes.Length + length : length));
        Assert.Contains(path, Assert.Throws<InvalidDataException>(() => PanelFile.Open(path).Dispose()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Another_layout_is_refused_by_its_number()
    {
        string path = Packed(out _);
        byte[] bytes = File.ReadAllBytes(path);
        using (PanelFile file = PanelFile.Open(path))
            bytes[^ControlBytes(file)] = 9;
        string other = _folder.Write("other.panels", bytes);
        Assert.Contains("layout 9", Assert.Throws<InvalidDataException>(() => PanelFile.Open(other).Dispose()).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Some_other_safetensors_file_is_no_panel_file()
    {
        string path = _folder.Write("x.panels", File.ReadAllBytes(Fixtures.Path("gemma2", "models", "bf16", "model.safetensors")));
        Assert.Contains("not a file of packed weights", Assert.Throws<InvalidDataException>(() => PanelFile.Open(path).Dispose()).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void A_damaged_panel_is_found_by_the_checksums_and_named()
    {
        string path = Packed(out _);
        byte[] bytes = File.ReadAllBytes(path);
        bytes[(int)BitConverter.ToInt64(bytes) + 8 + 77] ^= 1;
        using PanelFile file = PanelFile.Open(_folder.Write("damaged.panels", bytes));
        Assert.Contains(file.Matrices[0].Name, Assert.Throws<InvalidDataException>(() => file.Verify()).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("value")]
    [InlineData("shape")]
    public void Panels_of_other_weights_are_refused(string change)
    {
        string path = Packed(out string folder), weights = Path.Combine(folder, "model.safetensors");
        DateTime time = File.GetLastWriteTimeUtc(weights);
        byte[] bytes = File.ReadAllBytes(weights);
        if (change == "value")
        {
            bytes[(int)BitConverter.ToInt64(bytes) + 8 + 100] ^= 1;
            File.WriteAllBytes(weights, bytes);
        }
        else
        {
            foreach (string file in (string[])["config.json", "model.safetensors"])
                File.Copy(Fixtures.Path("gemma2", "models", "f16", file), Path.Combine(folder, file), overwrite: true);
        }

        File.SetLastWriteTimeUtc(weights, time);
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(folder);
        using PanelFile panels = PanelFile.Open(path);
        using var device = new CpuDevice(1);
        Assert.Contains("other weights", Assert.Throws<InvalidDataException>(() => ModelPanels.Use(device.Panels, model, panels)).Message,
            StringComparison.Ordinal);
        using Weight weight = device.CreateWeight("head", new WeightPart(model.OutputHead));
        Assert.False(weight.IsPacked);
    }

    [Fact]
    public void A_cancelled_or_failed_packing_leaves_nothing()
    {
        using Gemma2Checkpoint model = Open("bf16");
        using var cancelled = new CancellationTokenSource();
        int reports = 0;
        var progress = new Reports(_ =>
        {
            if (++reports == 5)
                cancelled.Cancel();
        });
        Assert.Throws<OperationCanceledException>(() => ModelPanels.Write(model, _folder.At("model.panels"), progress, cancelled.Token));
        Assert.Equal(5, reports);
        Assert.Empty(Directory.GetFiles(_folder.Path));
        Assert.ThrowsAny<IOException>(() => ModelPanels.Write(model, _folder.At("no", "such", "folder", "model.panels")));
    }

    [Fact]
    public void Each_folder_has_one_file_in_the_cache()
    {
        using Gemma2Checkpoint bf16 = Open("bf16"), f16 = Open("f16");
        string Of(Gemma2Checkpoint model, string? cache = null) =>
            PanelCache.CachePath(model, name => name == "XDG_CACHE_HOME" ? cache : name == "HOME" ? "/home/user" : null);
        Assert.NotEqual(Of(bf16), Of(f16));
        Assert.Equal(Of(bf16), Of(bf16));
        Assert.StartsWith(Path.Combine("/elsewhere", "kernelscope", "panels", "bf16-"), Of(bf16, "/elsewhere"), StringComparison.Ordinal);
        if (OperatingSystem.IsLinux())
            Assert.StartsWith("/home/user/.cache/kernelscope/panels/bf16-", Of(bf16), StringComparison.Ordinal);
    }

    private static int ControlBytes(PanelFile file) =>
        PanelFile.ControlBytes(file.Parts.Sum(p => (long)PanelFile.UnitsOf(p)), System.Text.Encoding.UTF8.GetByteCount(file.SourcePath));

    private static Gemma2Checkpoint Open(string name) => Gemma2Checkpoint.Open(Fixtures.Path("gemma2", "models", name));

    /// <summary>A copy of a small model, and a panel file of it.</summary>
    private string Packed(out string folder)
    {
        folder = _folder.At("model");
        TempFolder.CopyFolder(Fixtures.Path("gemma2", "models", "bf16"), folder);
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(folder);
        ModelPanels.Write(model, _folder.At("model.panels"));
        return _folder.At("model.panels");
    }

    private string Write(string name, DType type, long[] shape, byte[] values)
    {
        string path = _folder.At(name);
        using var writer = new SafetensorsWriter(path, [new TensorInfo("w", type, shape)]);
        writer.AppendBytes(values);
        writer.Commit();
        return path;
    }

    private sealed class Reports(Action<double> report) : IProgress<double>
    {
        public void Report(double value) => report(value);
    }
}
