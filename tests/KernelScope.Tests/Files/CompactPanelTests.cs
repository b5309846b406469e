using System.Buffers.Binary;
using KernelScope.Cpu;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Tests.Files;

/// <summary>Compact panels hold every bit of every value, and products from them are products of those values.</summary>
public sealed class CompactPanelTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(1, 1, false)]
    [InlineData(32, 8, true)]
    [InlineData(33, 17, false)]
    [InlineData(100, 255, true)]
    [InlineData(70, 1030, false)]
    [InlineData(64, 2304, false)]
    public void Every_value_is_kept_bit_for_bit(int outputs, int inputs, bool transposed)
    {
        ushort[] values = Values(outputs * inputs, special: outputs * inputs / 1000);
        using SafetensorsFile file = Write(values, transposed ? [inputs, outputs] : [outputs, inputs]);
        using var packed = new PackedMatrix(file["w"], transposed);
        Assert.True(packed.View.IsCompact);
        for (int j = 0; j < outputs; j++)
        {
            for (int i = 0; i < inputs; i++)
                Assert.Equal(values[transposed ? (i * outputs) + j : (j * inputs) + i], Read(packed.View, j, i));
        }
    }

    [Fact]
    public void A_matrix_of_ordinary_weights_takes_three_quarters_of_its_bytes()
    {
        using SafetensorsFile file = Write(Values(256 * 2304, special: 0), [256, 2304]);
        using var packed = new PackedMatrix(file["w"]);
        Assert.True(packed.View.IsCompact);
        Assert.InRange(packed.ByteLength / (256 * 2304 * 2.0), 0.75, 0.752);
    }

    [Theory]
    [InlineData("zeros")]
    [InlineData("wide")]
    public void A_matrix_with_many_exceptions_is_packed_in_pairs(string kind)
    {
        var random = new Random(3);
        ushort[] values = Values(64 * 256, special: 0);
        for (int n = 0; n < values.Length; n++)
        {
            if (random.Next(100) == 0)
                values[n] = kind == "zeros" ? (ushort)0 : (ushort)random.Next(1 << 16);
        }

        using SafetensorsFile file = Write(values, [64, 256]);
        using var packed = new PackedMatrix(file["w"]);
        Assert.False(packed.View.IsCompact);
    }

    [Fact]
    public void A_product_adds_infinite_and_missing_weights_as_they_are()
    {
        ushort[] values = Values(64 * 1024, special: 0);
        values[(5 * 1024) + 77] = 0x7F80;
        values[(37 * 1024) + 1023] = 0xFF80;
        values[(40 * 1024) + 3] = 0x7FC0;
        float[] x = [.. Enumerable.Range(0, 1024).Select(i => (i % 5) + 0.5f)];
        foreach (float[] y in Products(values, 64, 1024, x, 1, Precision.Exact))
        {
            Assert.Equal(float.PositiveInfinity, y[5]);
            Assert.Equal(float.NegativeInfinity, y[37]);
            Assert.True(float.IsNaN(y[40]));
            Assert.Equal(61, y.Count(float.IsFinite));
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(40)]
    public void Products_agree_with_the_plain_sum(int rows)
    {
        const int Outputs = 130, Inputs = 1001;
        // At most so many float32 sums follow each other before a block's sum joins the others.
        const double Rounding = 384 * 5.97e-8;
        var random = new Random(7);
        // All of nearly one size, the smallest that the window has: what the code of an exception adds by itself is as large as a weight.
        ushort[] values = [.. Enumerable.Range(0, Outputs * Inputs)
            .Select(_ => ((BFloat16)((0.01f + (0.005f * random.NextSingle())) * ((2 * random.Next(2)) - 1))).Bits)];
        for (int n = 0; n < 200; n++)
            values[random.Next(values.Length)] = new ushort[] { 0, 0x8000, 0x0001, 0x1234, 0x4000 }[n % 5];
        // Whole numbers of few bits, so that fast and exact see the same x.
        float[] x = [.. Enumerable.Range(0, rows * Inputs).Select(_ => random.Next(-8, 9) / 4f)];
        foreach (Precision precision in (Precision[])[Precision.Exact, Precision.Fast])
        {
            foreach (float[] y in Products(values, Outputs, Inputs, x, rows, precision))
            {
                for (int t = 0; t < rows; t++)
                {
                    for (int j = 0; j < Outputs; j++)
                    {
                        double sum = 0, size = 0;
                        for (int i = 0; i < Inputs; i++)
                        {
                            double term = (double)x[(t * Inputs) + i] * Widen(values[(j * Inputs) + i]);
                            sum += term;
                            size += Math.Abs(term);
                        }

                        Assert.InRange(y[(t * Outputs) + j], sum - (Rounding * size), sum + (Rounding * size));
                    }
                }
            }
        }
    }

    [Theory]
    [InlineData("input")]
    [InlineData("output")]
    [InlineData("order")]
    [InlineData("window")]
    [InlineData("count")]
    public unsafe void A_table_out_of_range_or_out_of_order_is_refused(string damage)
    {
        ushort[] values = Values(64 * 1024, special: 40);
        using SafetensorsFile file = Write(values, [64, 1024]);
        using var packed = new PackedMatrix(file["w"]);
        long bytes = packed.ByteLength - (2 * PanelLayout.CompactPanelBytes(1024));
        var table = new CompactTable(packed.View.Windows, 2);
        Assert.True(table.IsSound(bytes, 1024));
        Span<PanelException> exceptions = table.ExceptionsOf(0);
        Assert.InRange(exceptions.Length, 3, 60);
        switch (damage)
        {
            case "input": exceptions[^1] = exceptions[^1] with { Input = 1024 }; break;
            case "output": exceptions[^1] = exceptions[^1] with { Output = 32 }; break;
            case "order": (exceptions[0], exceptions[1]) = (exceptions[1], exceptions[0]); break;
            case "window": packed.View.Windows[1] = packed.View.Windows[1] with { Exponent = 239 }; break;
            default: packed.View.Windows[2] = packed.View.Windows[2] with { FirstException = 100_000 }; break;
        }

        Assert.False(table.IsSound(bytes, 1024));
    }

    /// <summary>Values as trained weights have them; some of them anything: zeros, subnormals, huge ones.</summary>
    private static ushort[] Values(int count, int special)
    {
        var random = new Random(count);
        ushort[] values = [.. Enumerable.Range(0, count)
            .Select(
            _ => ((BFloat16)(float)(0.02 * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(
            2 * Math.PI * random.NextDouble()))).Bits)];
        ushort[] kinds = [0x0000, 0x8000, 0x0001, 0x807F, 0x4480, 0xC500, 0x1234];
        for (int n = 0; n < special; n++)
            values[random.Next(count)] = kinds[n % kinds.Length];
        return values;
    }

    private IEnumerable<float[]> Products(ushort[] values, int outputs, int inputs, float[] x, int rows, Precision precision)
    {
        foreach (bool transposed in (bool[])[false, true])
        {
            ushort[] stored = transposed ? [.. Enumerable.Range(0, values.Length)
                .Select(n => values[((n % outputs) * inputs) + (n / outputs)])] : values;
            using SafetensorsFile file = Write(stored, transposed ? [inputs, outputs] : [outputs, inputs]);
            using var packed = new PackedMatrix(file["w"], transposed);
            Assert.True(packed.View.IsCompact);
            using var device = new CpuDevice(2, precision);
            using Weight weight = device.CreateWeight("w", new WeightPart(file["w"], transposed) { Pack = true });
            Mat input = device.CreateMat(rows, inputs, "x"), output = device.CreateMat(rows, outputs, "y");
            device.Write(x, input);
            device.Linear(input, weight, output);
            var y = new float[rows * outputs];
            device.Read(output, y);
            input.Buffer.Dispose();
            output.Buffer.Dispose();
            yield return y;
        }
    }

    /// <summary>A value by the words of <see cref="PanelLayout"/>.</summary>
    private static unsafe ushort Read(PanelView panels, int output, int input)
    {
        int panel = output / 32, j = output % 32, pair = input % 8 / 2, half = input % 2;
        byte* table = (byte*)panels.Windows;
        int windows = (panels.Outputs + 31) / 32;
        uint begin = *(uint*)(table + (panel * 8) + 4), end = *(uint*)(table + ((panel + 1) * 8) + 4);
        for (uint e = begin; e < end; e++)
        {
            byte* entry = table + ((windows + 1 + e) * 8);
            if (*(uint*)entry == input && *(ushort*)(entry + 4) == j)
                return *(ushort*)(entry + 6);
        }

        byte* lines = panels.Pointer + ((((long)panel * ((panels.Inputs + 7) / 8)) + (input / 8)) * 384);
        ushort Half(int line) => *(ushort*)(lines + (line * 128) + (j * 4) + (half * 2));
        int sign, exponent, fraction;
        if (pair < 3)
        {
            int bits = Half(pair);
            (sign, exponent, fraction) = (bits >> 15, (bits >> 7) & 15, bits & 127);
        }
        else
        {
            int first = (Half(0) >> 11) & 15, second = (Half(1) >> 11) & 15, third = (Half(2) >> 11) & 15;
            (sign, exponent, fraction) = (third >> 3, first, (second << 3) | (third & 7));
        }

        return (ushort)((sign << 15) | ((exponent + *(int*)(table + (panel * 8))) << 7) | fraction);
    }

    private static float Widen(ushort bits) => BitConverter.Int32BitsToSingle(bits << 16);

    private SafetensorsFile Write(ushort[] values, long[] shape)
    {
        string path = _folder.At($"{Guid.NewGuid():n}.safetensors");
        byte[] bytes = new byte[values.Length * 2];
        for (int n = 0; n < values.Length; n++)
            BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(2 * n), values[n]);
        using (var writer = new SafetensorsWriter(path, [new TensorInfo("w", DType.BF16, shape)]))
        {
            writer.AppendBytes(bytes);
            writer.Commit();
        }

        return SafetensorsFile.Open(path);
    }
}
