using System.Runtime.InteropServices;
using KernelScope.Kernels;
using KernelScope.Numerics;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>Embedding, norms, elementwise ops and RoPE against their equations, in every form in which they run.</summary>
public sealed class RowKernelTests
{
    private const int Rows = 2;

    public static TheoryData<LabKind> Labs => [LabKind.Sm80, LabKind.Sm75, LabKind.CSharp];

    public static TheoryData<LabKind, string> LabsAndWeights
    {
        get
        {
            var data = new TheoryData<LabKind, string>();
            foreach (LabKind kind in Enum.GetValues<LabKind>())
            {
                foreach (string dtype in new[] { "bf16", "f16", "f32" })
                    data.Add(kind, dtype);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(LabsAndWeights))]
    public void Embed_scales_rows_of_the_table(LabKind kind, string dtype)
    {
        using KernelLab lab = KernelLab.Create(kind);
        (byte[] bytes, double[] table) = Data.Weights(dtype, 5 * 37, 1);
        LabBuffer y = lab.EmptyFloats(3 * 40);
        lab.Run("embed_" + dtype, new Dim3(3, 1), lab.Ints(4, 0, 4), lab.Write(bytes), y, 6.1f, 37, 40);
        float[] actual = Data.Rows(lab.ReadFloats(y), 3, 37, 40);
        double[] expected =
            [.. new[] { 4, 0, 4 }.SelectMany(t => table.AsSpan(t * 37, 37).ToArray()).Select(v => (double)((float)v * 6.1f))];
        Data.Close("embed", expected, actual, 0);
    }

    /// <summary>Rows in registers, and rows of which a part is read twice; by four values, and one by one.</summary>
    public static TheoryData<LabKind, int, int> NormShapes => new()
    {
        { LabKind.Sm80, 2304, 1 }, { LabKind.Sm80, 8456, 1 }, { LabKind.Sm80, 301, 0 },
        { LabKind.Sm75, 4608, 1 }, { LabKind.Sm75, 6147, 0 },
        { LabKind.CSharp, 300, 1 }, { LabKind.CSharp, 301, 0 },
    };

    [Theory]
    [MemberData(nameof(NormShapes))]
    public void Norms_follow_their_equation(LabKind kind, int columns, int wide)
    {
        int stride = columns + 4;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(Rows * stride, 1, 3), gain = Data.Normal(columns, 2);
        LabBuffer xs = lab.Floats(x), unit = lab.EmptyFloats(Rows * columns), y = lab.EmptyFloats(Rows * columns);
        lab.Run("rms_normalize", new Dim3(Rows), xs, unit, 1e-6f, columns, stride, columns, wide);
        lab.Run("rms_norm", new Dim3(Rows), xs, lab.Floats(gain), y, 1e-6f, columns, stride, columns, wide);
        double[] units = Normalize(Data.Rows(x, Rows, columns, stride), columns);
        Data.Close("normalize", units, lab.ReadFloats(unit), 3e-7);
        Data.Close("norm", [.. units.Select((u, i) => u * (1 + (double)gain[i % columns]))], lab.ReadFloats(y), 5e-7, 1e-7);
    }

    [Theory]
    [InlineData(2304)]
    [InlineData(8456)]
    public void A_norm_has_the_same_bits_by_four_values_and_one_by_one(int columns)
    {
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] x = Data.Normal(Rows * columns, 1, 3);
        LabBuffer gain = lab.Floats(Data.Normal(columns, 2)), wide = lab.EmptyFloats(Rows * columns),
            single = lab.EmptyFloats(Rows * columns);
        lab.Run("rms_norm", new Dim3(Rows), lab.Floats(x), gain, wide, 1e-6f, columns, columns, columns, 1);
        lab.Run("rms_norm", new Dim3(Rows), lab.Floats(x), gain, single, 1e-6f, columns, columns, columns, 0);
        Assert.Equal(lab.ReadFloats(wide), lab.ReadFloats(single));
    }

    [Fact]
    public void The_naive_norm_of_the_ladder_agrees_with_the_shipped_one()
    {
        const int Columns = 70;
        using var lab = new CSharpLab();
        LabBuffer x = lab.Floats(Data.Normal(Rows * Columns, 1, 3)), gain = lab.Floats(Data.Normal(Columns, 2));
        LabBuffer naive = lab.EmptyFloats(Rows * Columns), shipped = lab.EmptyFloats(Rows * Columns);
        lab.Run(typeof(RmsNorm).GetMethod(nameof(RmsNorm.Naive))!, 1, new Dim3(Rows), x, gain, naive, 1e-6f, Columns);
        lab.Run("rms_norm", new Dim3(Rows), x, gain, shipped, 1e-6f, Columns, Columns, Columns, 0);
        Data.Close("naive", [.. lab.ReadFloats(shipped).Select(v => (double)v)], lab.ReadFloats(naive), 1e-6);
    }

    [Theory]
    [MemberData(nameof(NormShapes))]
    public void The_fused_norms_give_the_bits_of_the_plain_ones(LabKind kind, int columns, int wide)
    {
        using KernelLab lab = KernelLab.Create(kind);
        float[] branch = Data.Normal(Rows * columns, 1, 3), stream = Data.Normal(Rows * columns, 2, 20);
        LabBuffer post = lab.Floats(Data.Normal(columns, 3)), next = lab.Floats(Data.Normal(columns, 4));
        LabBuffer b = lab.Floats(branch), resid = lab.Floats(stream), normed = lab.EmptyFloats(Rows * columns);
        lab.Run("rms_add_normed_then_norm", new Dim3(Rows), b, post, next, resid, normed, 1e-6f, columns, columns, columns, columns, wide);

        LabBuffer plainResid = lab.Floats(stream), plain = lab.EmptyFloats(Rows * columns), added = lab.EmptyFloats(Rows * columns);
        lab.Run("rms_normalize", new Dim3(Rows), b, added, 1e-6f, columns, columns, columns, wide);
        lab.Run("apply_gain", new Dim3(Rows, (columns + 255) / 256), added, post, added, columns, columns, columns);
        lab.Run("add_scaled", new Dim3(Rows, (columns + 255) / 256), added, plainResid, 1f, columns, columns, columns);
        lab.Run("rms_norm", new Dim3(Rows), plainResid, next, plain, 1e-6f, columns, columns, columns, wide);
        Assert.Equal(lab.ReadFloats(plainResid), lab.ReadFloats(resid));
        Assert.Equal(lab.ReadFloats(plain), lab.ReadFloats(normed));
        Assert.NotEqual(stream, lab.ReadFloats(resid));
    }

    [Theory]
    [MemberData(nameof(Labs))]
    public void Elementwise_ops_follow_their_equations(LabKind kind)
    {
        const int Columns = 70, Stride = 75;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(Rows * Stride, 1, 20), y = Data.Normal(Rows * Stride, 2);
        float[] extremes =
            [0f, -0f, 1e-8f, -1e-20f, 0.624f, 0.626f, 1e4f, -1e4f, float.PositiveInfinity, float.NegativeInfinity, float.NaN, 700f];
        extremes.CopyTo(x, 0);
        LabBuffer capped = lab.Floats(x), copied = lab.EmptyFloats(Rows * Columns), added = lab.Floats(y),
            gated = lab.EmptyFloats(Rows * 30);
        lab.Run("softcap", new Dim3(Rows, 1), capped, 30f, Columns, Stride);
        lab.Run("copy", new Dim3(Rows, 1), lab.Floats(x), copied, Columns, Stride, Columns);
        lab.Run("add_scaled", new Dim3(Rows, 1), lab.Floats(x), added, 0.3f, Columns, 0, Stride);
        lab.Run("gelu_multiply", new Dim3(Rows, 1), lab.Floats(x), gated, 30, Stride, 30);

        LabBuffer rounded = lab.EmptyFloats(Rows * Columns);
        lab.Run("round_to_bf16", new Dim3(Rows, 1), lab.Floats(x), rounded, Columns, Stride, Columns);

        float[] cappedRows = Data.Rows(lab.ReadFloats(capped), Rows, Columns, Stride), xRows = Data.Rows(x, Rows, Columns, Stride);
        Data.Close("softcap", [.. xRows.Select(v => Data.Cap(v, 30))], cappedRows, 3e-7);
        float[] nearest = [.. xRows.Select(v => float.IsNaN(v) ? v : BitConverter.Int32BitsToSingle(Data.RoundToBFloat16(v) << 16))];
        Assert.Equal(nearest, lab.ReadFloats(rounded));
        Data.Close("copy", [.. xRows.Select(v => (double)v)], lab.ReadFloats(copied), 0);
        double[] sums =
            [.. Enumerable.Range(0, Rows * Columns)
                .Select(i => (double)(y[(i / Columns * Stride) + (i % Columns)] + (0.3f * x[i % Columns])))];
        Data.Close("add scaled", sums, Data.Rows(lab.ReadFloats(added), Rows, Columns, Stride), 0);
        double[] products =
            [.. Enumerable.Range(0, Rows * 30)
                .Select(i => Data.Gelu(x[(i / 30 * Stride) + (i % 30)]) * x[(i / 30 * Stride) + 30 + (i % 30)])];
        Data.Close("gelu", products, lab.ReadFloats(gated), 2e-6, 1e-12);
    }

    [Theory]
    [MemberData(nameof(Labs))]
    public void Rope_then_store_gives_the_bits_of_rope_and_store(LabKind kind)
    {
        const int Heads = 3, KvHeads = 2, HeadDim = 12, Capacity = 5, Position = 4, Width = (Heads + (2 * KvHeads)) * HeadDim;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(Rows * Width, 1), cosSin = Table(Position + Rows, HeadDim);
        LabBuffer position = lab.Ints(Position), table = lab.Floats(cosSin);
        LabBuffer qkv = lab.Floats(x), keys = lab.Floats(new float[KvHeads * Capacity * HeadDim]),
            values = lab.Floats(new float[KvHeads * Capacity * HeadDim]);
        lab.Run("rope_rotate_then_store", new Dim3(Rows, 1), qkv, table, position, keys, values, Heads, KvHeads, HeadDim, Capacity, Width);

        LabBuffer rotated = lab.Floats(x), k2 = lab.Floats(new float[KvHeads * Capacity * HeadDim]),
            v2 = lab.Floats(new float[KvHeads * Capacity * HeadDim]);
        lab.Run("rope_rotate", new Dim3(Rows, 1), rotated, table, position, HeadDim, (Heads + KvHeads) * HeadDim / 2, Width);
        float[] rows = lab.ReadFloats(rotated);
        LabBuffer k = lab.Floats(Columns(rows, Width, Heads * HeadDim, KvHeads * HeadDim)),
            v = lab.Floats(Columns(rows, Width, (Heads + KvHeads) * HeadDim, KvHeads * HeadDim));
        lab.Run("rope_store", new Dim3(Rows, 1), k, v, position, k2, v2, HeadDim, KvHeads * HeadDim / 2, Capacity, KvHeads * HeadDim,
            KvHeads * HeadDim);

        Assert.Equal(rows, lab.ReadFloats(qkv));
        Assert.Equal(lab.ReadFloats(k2), lab.ReadFloats(keys));
        Assert.Equal(lab.ReadFloats(v2), lab.ReadFloats(values));
        Data.Close("rope", Rotate(x, cosSin, Position, Width, HeadDim, Heads + KvHeads), rows, 1e-6, 1e-7);
        float[] cache = lab.ReadFloats(keys);
        int slot = (Position + 1) % Capacity;
        Assert.Equal(rows.AsSpan(Width + ((Heads + 1) * HeadDim), HeadDim).ToArray(), cache.AsSpan(((Capacity + slot) * HeadDim), HeadDim)
            .ToArray());
    }

    [Theory]
    [MemberData(nameof(Labs))]
    public void Rope_then_store_of_rows_of_several_sequences_gives_the_bits_of_each_alone(LabKind kind)
    {
        const int Heads = 3, KvHeads = 2, HeadDim = 12, Width = (Heads + (2 * KvHeads)) * HeadDim;
        (int Row, int Position, int Capacity)[] sequences = [(1, 6, 5), (2, 0, 3), (0, 2, 8)];
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(3 * Width, 1);
        int[] lengths = [.. sequences.Select(s => KvHeads * s.Capacity * HeadDim)];
        LabBuffer table = lab.Floats(Table(8, HeadDim)), qkv = lab.Floats(x), keys = lab.Floats(new float[lengths.Sum()]),
            values = lab.Floats(new float[lengths.Sum()]);
        LabBuffer places =
            lab.Longs([.. sequences.SelectMany(
                (s, n) => (long[])[s.Row, s.Position, s.Capacity, 0, lengths.Take(n).Sum(), lengths.Take(n).Sum()])]);
        lab.Run("rope_rows_rotate_then_store", new Dim3(3, 1), qkv, table, places, keys, values, Heads, KvHeads, HeadDim, Width);
        float[] rotated = lab.ReadFloats(qkv), allKeys = lab.ReadFloats(keys), allValues = lab.ReadFloats(values);
        for (int n = 0; n < sequences.Length; n++)
        {
            (int row, int position, int capacity) = sequences[n];
            LabBuffer own = lab.Floats(x[(row * Width)..((row + 1) * Width)]), k = lab.Floats(new float[lengths[n]]),
                v = lab.Floats(new float[lengths[n]]);
            lab.Run("rope_rotate_then_store", new Dim3(1, 1), own, table, lab.Ints(position), k, v, Heads, KvHeads, HeadDim,
                capacity, Width);
            int start = lengths.Take(n).Sum();
            Assert.Equal(lab.ReadFloats(own), rotated[(row * Width)..((row + 1) * Width)]);
            Assert.Equal(lab.ReadFloats(k), allKeys[start..(start + lengths[n])]);
            Assert.Equal(lab.ReadFloats(v), allValues[start..(start + lengths[n])]);
        }
    }

    [Theory]
    [MemberData(nameof(Labs))]
    public void A_bf16_cache_gets_what_a_float32_cache_gets_rounded_to_nearest_even(LabKind kind)
    {
        const int Heads = 3, KvHeads = 2, HeadDim = 12, Capacity = 5, Position = 4, Width = (Heads + (2 * KvHeads)) * HeadDim;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(Rows * Width, 1);
        // Values are stored as they come: ties, too large, too small, and a NaN whose fraction lies in the lower half.
        int first = (Heads + KvHeads) * HeadDim;
        (x[first], x[first + 1], x[first + 2], x[first + 3], x[first + 4]) =
            (1 + (1f / 256), 1 + (3f / 256), float.MaxValue, -float.Epsilon, BitConverter.Int32BitsToSingle(0x7F800001));
        LabBuffer position = lab.Ints(Position), table = lab.Floats(Table(Position + Rows, HeadDim)),
            places = lab.Longs([.. Enumerable.Range(0, Rows).SelectMany(t => (long[])[t, Position + t, Capacity, 0, 0, 0])]);
        (float[] Qkv, float[] Keys, float[] Values) Run(string kernel, LabBuffer where, params object[] capacity)
        {
            bool narrow = kernel.Contains("bf16", StringComparison.Ordinal);
            LabBuffer qkv = lab.Floats(x), keys = lab.Write(new byte[KvHeads * Capacity * HeadDim * (narrow ? 2 : 4)]),
                values = lab.Write(new byte[KvHeads * Capacity * HeadDim * (narrow ? 2 : 4)]);
            lab.Run(kernel, new Dim3(Rows, 1), [qkv, table, where, keys, values, Heads, KvHeads, HeadDim, .. capacity, Width]);
            return (lab.ReadFloats(qkv), Stored(keys), Stored(values));
            float[] Stored(LabBuffer buffer) => narrow
                ? [.. MemoryMarshal.Cast<float, BFloat16>(lab.ReadFloats(buffer)).ToArray().Select(v => (float)v)]
                : [.. lab.ReadFloats(buffer).Select(v => (float)(BFloat16)v)];
        }

        var expected = Run("rope_rotate_then_store", position, Capacity);
        Assert.Contains(expected.Values, float.IsPositiveInfinity);
        Assert.Contains(expected.Values, float.IsNaN);
        var alone = Run("rope_bf16_rotate_then_store", position, Capacity);
        foreach (var actual in new[] { alone, Run("rope_bf16_rows_rotate_then_store", places) })
        {
            Assert.Equal(expected.Qkv, actual.Qkv);
            Assert.Equal(expected.Keys, actual.Keys);
            Assert.Equal(expected.Values, actual.Values);
        }

        LabBuffer k = lab.Floats(Columns(expected.Qkv, Width, Heads * HeadDim, KvHeads * HeadDim)),
            v = lab.Floats(Columns(expected.Qkv, Width, first, KvHeads * HeadDim)),
            k2 = lab.Write(new byte[KvHeads * Capacity * HeadDim * 2]),
            v2 = lab.Write(new byte[KvHeads * Capacity * HeadDim * 2]);
        lab.Run("rope_bf16_store", new Dim3(Rows, 1), k, v, position, k2, v2, HeadDim, KvHeads * HeadDim / 2, Capacity, KvHeads * HeadDim,
            KvHeads * HeadDim);
        Assert.Equal(expected.Keys, MemoryMarshal.Cast<float, BFloat16>(lab.ReadFloats(k2)).ToArray().Select(value => (float)value));
        Assert.Equal(expected.Values, MemoryMarshal.Cast<float, BFloat16>(lab.ReadFloats(v2)).ToArray().Select(value => (float)value));
    }

    private static float[] Columns(float[] x, int width, int from, int count) =>
        [.. Enumerable.Range(0, Rows).SelectMany(t => x.AsSpan((t * width) + from, count).ToArray())];

    private static float[] Table(int positions, int headDim) =>
    [
        .. Enumerable.Range(0, positions * headDim).Select(n =>
        {
            double angle = n / headDim * Math.Pow(10000, -2.0 * (n % (headDim / 2)) / headDim);
            return (float)(n % headDim < headDim / 2 ? Math.Cos(angle) : Math.Sin(angle));
        }),
    ];

    private static double[] Rotate(float[] x, float[] cosSin, int position, int width, int headDim, int heads)
    {
        double[] y = [.. x.Select(v => (double)v)];
        for (int t = 0; t < Rows; t++)
        {
            for (int h = 0; h < heads; h++)
            {
                for (int i = 0; i < headDim / 2; i++)
                {
                    int a = (t * width) + (h * headDim) + i, b = a + (headDim / 2);
                    double cos = cosSin[((position + t) * headDim) + i], sin = cosSin[((position + t) * headDim) + (headDim / 2) + i];
                    y[a] = (x[a] * cos) - (x[b] * sin);
                    y[b] = (x[b] * cos) + (x[a] * sin);
                }
            }
        }

        return y;
    }

    private static double[] Normalize(float[] x, int columns)
    {
        double[] y = new double[x.Length];
        for (int t = 0; t < x.Length / columns; t++)
        {
            double mean = x.Skip(t * columns).Take(columns).Average(v => (double)v * v);
            for (int j = 0; j < columns; j++)
                y[(t * columns) + j] = x[(t * columns) + j] / Math.Sqrt(mean + 1e-6f);
        }

        return y;
    }
}
