using System.Buffers.Binary;
using System.Runtime.InteropServices;
using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Numerics;

namespace KernelScope.Tests.Files;

/// <summary>Matrices of float32 whose values are all bfloat16 take the panels of bfloat16 and give its bits; others keep every bit, or are rounded where that is asked for.</summary>
public sealed class NarrowPanelTests : IDisposable
{
    // Zeros, subnormals, infinities and NaNs of bfloat16, with payloads that an arithmetic conversion would lose.
    private static readonly uint[] Special =
    [
        0x0000_0000, 0x8000_0000, 0x0001_0000, 0x8001_0000, 0x007F_0000, 0x7F7F_0000,
        0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x7F81_0000, 0xFFA5_0000, 0xFFFF_0000,
    ];

    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(15)]
    [InlineData(16)]
    [InlineData(70_001)]
    public unsafe void Values_are_rounded_as_their_type_says_and_those_that_change_are_counted(int count)
    {
        var random = new Random(count);
        uint[] bits = [.. Enumerable.Range(0, count).Select(n => (n % 3) switch
        {
            0 => Special[n / 3 % Special.Length],
            1 => (uint)random.NextInt64(1L << 32),
            _ => (uint)random.Next(1 << 16) << 16,
        })];
        bits[^1] = 0xFF80_0001;
        Half[] halves = [.. bits.Select(b => BitConverter.UInt16BitsToHalf((ushort)(b >> 16)))];
        ushort[] narrow = new ushort[count];
        fixed (ushort* to = narrow)
        {
            fixed (uint* from = bits)
                Assert.Equal(bits.LongCount(b => (b & 0xFFFF) != 0), Bf16Narrowing.Narrow(DType.F32, (byte*)from, count, to));
            Assert.Equal(bits.Select(Rounded), narrow);
            uint[] widened = [.. halves.Select(h => BitConverter.SingleToUInt32Bits((float)h))];
            fixed (Half* from = halves)
                Assert.Equal(widened.LongCount(b => (b & 0xFFFF) != 0), Bf16Narrowing.Narrow(DType.F16, (byte*)from, count, to));
            Assert.Equal(widened.Select(Rounded), narrow);
        }
    }

    [Fact]
    public void A_float32_model_of_bfloat16_values_is_packed_in_the_bytes_of_the_bfloat16_model_and_gives_its_bits()
    {
        string narrow = Fixtures.Path("gemma2", "models", "bf16"), wide = Widened(narrow);
        IReadOnlyList<PackedMatrixInfo> ofNarrow = Pack(narrow, "narrow.panels"), ofWide = Pack(wide, "wide.panels");
        Assert.Equal(ofNarrow.Select(m => m.Bits), ofWide.Select(m => m.Bits));
        Assert.All(ofWide, m => Assert.Equal((DType.F32, (long?)0), (m.Matrix.DType, m.NotBf16)));
        Assert.Contains(12, ofWide.Select(m => m.Bits));
        using (PanelFile a = PanelFile.Open(_folder.At("narrow.panels")), b = PanelFile.Open(_folder.At("wide.panels")))
        {
            foreach (TensorInfo part in a.Parts)
                Assert.Equal(Bytes(a.Stored, part.Name), Bytes(b.Stored, part.Name));
            b.Verify();
        }

        foreach (int rows in (int[])[1, 5, 40])
            Assert.Equal(Logits(narrow, "narrow.panels", rows), Logits(wide, "wide.panels", rows));
    }

    [Theory]
    [InlineData(0x3F80_0001)]
    [InlineData(0x7F80_0001)]
    [InlineData(0x0000_0001)]
    [InlineData(0x8000_0001)]
    public void One_value_that_is_no_bfloat16_keeps_its_matrix_in_float32(uint bits)
    {
        string wide = Widened(Fixtures.Path("gemma2", "models", "bf16"));
        string changed = Change(wide, bits, at: 41);
        IReadOnlyList<PackedMatrixInfo> packed = Pack(wide, "wide.panels");
        PackedMatrixInfo matrix = Assert.Single(packed, m => m.Bits == 32);
        Assert.Equal((changed, (long?)1), (matrix.Matrix.Name, matrix.NotBf16));
        using PanelFile panels = PanelFile.Open(_folder.At("wide.panels"));
        // Output 0, input 41 of the plain float32 layout.
        Assert.Equal(bits, BinaryPrimitives.ReadUInt32LittleEndian(Bytes(panels.Stored, changed).AsSpan(41 * 128)));
    }

    /// <summary>The query projection is in float32, the key projection beside it in the same product in bfloat16.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(12)]
    [InlineData(40)]
    public void A_product_of_both_kinds_is_that_of_the_weights(int rows)
    {
        string wide = Widened(Fixtures.Path("gemma2", "models", "bf16"));
        string changed = Change(wide, 0x3C00_0001, at: 5, "model.layers.0.self_attn.q_proj.weight");
        Assert.Equal(changed, Assert.Single(Pack(wide, "wide.panels"), m => m.Bits == 32).Matrix.Name);
        float[] expected = Logits(wide, null, rows), actual = Logits(wide, "wide.panels", rows);
        float largest = expected.Max(Math.Abs);
        Assert.All(expected.Zip(actual), l => Assert.InRange(Math.Abs(l.First - l.Second), 0, 2e-5f * largest));
    }

    [Fact]
    public void Special_values_survive_to_the_bit()
    {
        string wide = Widened(Fixtures.Path("gemma2", "models", "bf16"));
        string name = "";
        for (int n = 0; n < Special.Length; n++)
            name = Change(wide, Special[n], at: 40 + n);
        PackedMatrixInfo matrix = Assert.Single(Pack(wide, "wide.panels"), m => m.Matrix.Name == name);
        Assert.True(matrix.Bits <= 16);
        using PanelFile panels = PanelFile.Open(_folder.At("wide.panels"));
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(wide);
        model.Weights.TryGet(name, out TensorView tensor);
        PanelView view = panels[tensor];
        for (int n = 0; n < Special.Length; n++)
            Assert.Equal(Special[n] >> 16, (uint)Read(view, 40 + n));
    }

    [Fact]
    public void Matrices_of_other_values_keep_their_bits_and_the_count_is_theirs()
    {
        string model = Fixtures.Path("gemma2", "models", "base");
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model);
        foreach (PackedMatrixInfo matrix in Pack(model, "base.panels"))
        {
            checkpoint.Weights.TryGet(matrix.Matrix.Name, out TensorView tensor);
            uint[] bits = MemoryMarshal.Cast<byte, uint>(Bytes((SafetensorsFile)tensor.Owner, tensor.Name)).ToArray();
            Assert.Equal((32, bits.Length, (long?)bits.Count(b => (b & 0xFFFF) != 0)), (matrix.Bits, (int)matrix.Values, matrix.NotBf16));
        }
    }

    [Theory]
    [InlineData("base")]
    [InlineData("f16")]
    public void Rounded_weights_are_those_of_the_rounded_model_and_are_used_only_where_they_are_asked_for(string name)
    {
        string model = Fixtures.Path("gemma2", "models", name), rounded = Rounded(model);
        using (Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model))
        {
            IReadOnlyList<PackedMatrixInfo> matrices = ModelPanels.WriteRounded(checkpoint, _folder.At("own.panels"));
            Assert.All(matrices, m => Assert.InRange(m.Bits, 12, 16));
            Assert.True(matrices.Sum(m => m.NotBf16) > 0);
        }

        Pack(rounded, "rounded.panels");
        Assert.Equal(Logits(rounded, "rounded.panels", 5), Logits(model, "own.panels", 5, rounded: true));
        Assert.Contains("rounded to bfloat16", Refusal(model, "own.panels", rounded: false), StringComparison.Ordinal);
        Pack(model, "exact.panels");
        Assert.Contains("not rounded", Refusal(model, "exact.panels", rounded: true), StringComparison.Ordinal);
    }

    [Fact]
    public void Rounded_weights_have_places_of_their_own()
    {
        using Gemma2Checkpoint model = Gemma2Checkpoint.Open(Copy(Fixtures.Path("gemma2", "models", "base"), "model"));
        string? Home(string name) => name == "XDG_CACHE_HOME" ? _folder.At("cache") : null;
        string exact = PanelCache.BesidePath(model), rounded = PanelCache.BesidePath(model, rounded: true);
        Assert.EndsWith(".bf16.panels", rounded, StringComparison.Ordinal);
        Assert.EndsWith(".bf16.panels", PanelCache.CachePath(model, Home, rounded: true), StringComparison.Ordinal);
        ModelPanels.WriteRounded(model, rounded);
        Assert.Null(PanelCache.Find(model, Home));
        Assert.Equal(rounded, PanelCache.Find(model, Home, rounded: true));
        ModelPanels.Write(model, exact);
        Assert.Equal(exact, PanelCache.Find(model, Home));
    }

    private string Copy(string model, string name)
    {
        string copy = _folder.At(name);
        TempFolder.CopyFolder(model, copy);
        return copy;
    }

    private static ushort Rounded(uint bits) =>
        (bits & 0xFFFF) == 0 ? (ushort)(bits >> 16) : ((BFloat16)BitConverter.UInt32BitsToSingle(bits)).Bits;

    private string Refusal(string model, string panels, bool rounded)
    {
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model);
        using PanelFile file = PanelFile.Open(_folder.At(panels));
        return Assert.Throws<InvalidDataException>(() => ModelPanels.Check(checkpoint, file, rounded)).Message;
    }

    private IReadOnlyList<PackedMatrixInfo> Pack(string model, string name)
    {
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model);
        return ModelPanels.Write(checkpoint, _folder.At(name));
    }

    private float[] Logits(string model, string? panels, int rows, bool rounded = false)
    {
        using var device = new CpuDevice(2);
        Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model);
        if (panels is not null)
            ModelPanels.Use(device.Panels, checkpoint, PanelFile.Open(_folder.At(panels)), rounded);
        using Gemma2Model loaded = Gemma2Model.Load(device, checkpoint);
        using Session session = loaded.NewSession();
        var logits = new float[loaded.Config.VocabSize * rows];
        device.Read(loaded.Forward([.. Enumerable.Range(2, rows)], session, LogitRows.All), logits);
        Assert.All(logits, l => Assert.True(float.IsFinite(l)));
        return logits;
    }

    /// <summary>The model with every value widened to float32.</summary>
    private string Widened(string model) => Convert(model, "wide", t => [(t.Name, DType.F32)]);

    /// <summary>The model with its matrices rounded to bfloat16; what is looked up or multiplied with elementwise is not, so the embedding and the head are two.</summary>
    private string Rounded(string model) => Convert(model, "rounded", t => t.Name == "model.embed_tokens.weight"
        ? [(t.Name, DType.F32), ("lm_head.weight", DType.BF16)]
        : [(t.Name, t.Shape.Length == 2 ? DType.BF16 : DType.F32)]);

    private string Convert(string model, string name, Func<TensorInfo, (string Name, DType Type)[]> copies)
    {
        string copy = Copy(model, name), path = Path.Combine(copy, "model.safetensors");
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(model);
        TensorInfo[] all = [.. checkpoint.Files.SelectMany(f => f.Contents)];
        IEnumerable<TensorInfo> targets = all.SelectMany(t => copies(t).Select(c => new TensorInfo(c.Name, c.Type, t.Shape)));
        using (var writer = new SafetensorsWriter(path + ".new", targets))
        {
            foreach (TensorInfo t in all)
            {
                checkpoint.Weights.TryGet(t.Name, out TensorView view);
                foreach ((_, DType type) in copies(t))
                    writer.AppendBytes([.. Widen(view).SelectMany(v => BytesOf((float)v, type))]);
            }

            writer.Commit();
        }

        File.Move(path + ".new", path, overwrite: true);
        return copy;
    }

    private static byte[] BytesOf(float value, DType type) =>
        type == DType.F32 ? BitConverter.GetBytes(value) : BitConverter.GetBytes(((BFloat16)value).Bits);

    private static double[] Widen(TensorView tensor)
    {
        byte[] bytes = Bytes((SafetensorsFile)tensor.Owner, tensor.Name);
        return tensor.DType switch
        {
            DType.F32 => [.. MemoryMarshal.Cast<byte, float>(bytes).ToArray().Select(v => (double)v)],
            DType.F16 => [.. MemoryMarshal.Cast<byte, Half>(bytes).ToArray().Select(v => (double)v)],
            _ => [.. MemoryMarshal.Cast<byte, ushort>(bytes).ToArray().Select(v => (double)(float)new BFloat16(v))],
        };
    }

    /// <summary>Sets a value of a matrix; gives the matrix's name.</summary>
    private static string Change(string model, uint bits, int at, string name = "model.layers.0.mlp.down_proj.weight")
    {
        string path = Path.Combine(model, "model.safetensors");
        long offset;
        using (SafetensorsFile file = SafetensorsFile.Open(path))
            offset = file.OffsetOf(name) + (4L * at);
        using FileStream stream = File.OpenWrite(path);
        stream.Position = offset;
        stream.Write(BitConverter.GetBytes(bits));
        return name;
    }

    private static byte[] Bytes(SafetensorsFile file, string name)
    {
        Assert.True(file.TryGet(name, out TensorView tensor));
        var bytes = new byte[tensor.ByteLength];
        file.Raw.Read(file.OffsetOf(name), bytes);
        return bytes;
    }

    /// <summary>Output 0 of an input, by the words of <see cref="PanelLayout"/>.</summary>
    private static unsafe ushort Read(PanelView panels, int input)
    {
        if (!panels.IsCompact)
            return *(ushort*)(panels.Pointer + (input / 2 * 128) + (input % 2 * 2));
        foreach (PanelException e in new CompactTable(panels.Windows, (panels.Outputs + 31) / 32).ExceptionsOf(0))
        {
            if (e.Input == input && e.Output == 0)
                return e.Bits;
        }

        byte* lines = panels.Pointer + (input / 8 * 384);
        int pair = input % 8 / 2, half = input % 2;
        ushort Half(int line) => *(ushort*)(lines + (line * 128) + (half * 2));
        int last = ((Half(0) & 0x7800) >> 4) | ((Half(1) & 0x7800) >> 8) | ((Half(2) & 0x4000) << 1) | ((Half(2) & 0x3800) >> 11);
        int bits = pair < 3 ? Half(pair) & 0x87FF : last;
        return (ushort)((bits & 0x807F) | ((((bits >> 7) & 15) + panels.Windows[0].Exponent) << 7));
    }
}
