using System.Runtime.InteropServices;
using KernelScope.Kernels;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>SAE encode to ordered lists, decode and edits against their equations.</summary>
public sealed class SaeTests
{
    private static readonly string[] Dtypes = ["bf16", "f16", "f32"];

    /// <summary>Form of the encoder, rows of its tile (0: few rows), features of its tile.</summary>
    public static TheoryData<LabKind, string, int> Encoders
    {
        get
        {
            var data = new TheoryData<LabKind, string, int>();
            foreach (string dtype in Dtypes)
            {
                foreach (LabKind kind in new[] { LabKind.Sm80, LabKind.Sm75 })
                {
                    data.Add(kind, "sae_encode_plain_" + dtype, 3);
                    data.Add(kind, "sae_encode_tile_" + dtype, 67);
                    data.Add(kind, $"sae_encode_{dtype}_1row", 1);
                    data.Add(kind, $"sae_encode_{dtype}_2rows", 2);
                    data.Add(kind, $"sae_encode_{dtype}_4rows", 3);
                    data.Add(kind, $"sae_encode_{dtype}_8rows", 8);
                }

                data.Add(LabKind.Sm80, $"sae_encode_tensor_{dtype}_exact", 67);
                data.Add(LabKind.Sm80, $"sae_encode_tensor_{dtype}_fast", 131);
            }

            data.Add(LabKind.CSharp, "sae_encode_tile_f32", 2);
            data.Add(LabKind.CSharp, "sae_encode_f32_2rows", 2);
            return data;
        }
    }

    public static TheoryData<LabKind, string> Decoders
    {
        get
        {
            var data = new TheoryData<LabKind, string>();
            foreach (LabKind kind in Enum.GetValues<LabKind>())
            {
                foreach (string dtype in Dtypes)
                    data.Add(kind, dtype);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Encoders))]
    public void Encode_gives_ordered_lists_of_what_lies_above_the_threshold(LabKind kind, string kernel, int rows)
    {
        int columns = kind == LabKind.CSharp ? 8 : 72, features = kind == LabKind.CSharp ? 70 : 333;
        string dtype = Dtypes.Single(d => kernel.Split('_').Contains(d));
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(rows * columns, 1), bias = Data.Normal(features, 2),
            threshold = [.. Data.Normal(features, 3).Select(Math.Abs)];
        x.AsSpan(0, columns).Clear();
        (byte[] bytes, double[] w) = Data.Weights(dtype, features * columns, 4, 0.15);
        Encoded codes = Encode(lab, kernel, x, bytes, bias, threshold, rows, columns, features);

        double[] products = Data.Multiply(x, w, rows, columns, features, columns).Product;
        double tolerance = kernel.Contains("fast", StringComparison.Ordinal) ? 0.03 : 2e-6;
        int active = 0;
        for (int t = 0; t < rows; t++)
        {
            var list = codes.Row(t);
            Assert.Equal(list.Keys.Order(), list.Keys);
            for (int f = 0; f < features; f++)
            {
                double a = products[(t * features) + f] + bias[f];
                if (Math.Abs(a - threshold[f]) < tolerance)
                    continue;
                Assert.Equal(a > threshold[f] && a > 0, list.ContainsKey(f));
                if (list.TryGetValue(f, out float value))
                    Assert.Equal(a, value, tolerance);
                active += list.ContainsKey(f) ? 1 : 0;
            }
        }

        Assert.InRange(active, 1, rows * features / 2);
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("f32")]
    public void The_lists_do_not_depend_on_the_tiles(string dtype)
    {
        const int TestRows = 3, Columns = 72, Features = 333;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] x = Data.Normal(TestRows * Columns, 1), bias = Data.Normal(Features, 2), threshold = new float[Features];
        byte[] w = Data.Weights(dtype, Features * Columns, 4).Bytes;
        Encoded narrow = Encode(lab, $"sae_encode_{dtype}_4rows", x, w, bias, threshold, TestRows, Columns, Features, tile: 16);
        Encoded wide = Encode(lab, $"sae_encode_{dtype}_4rows", x, w, bias, threshold, TestRows, Columns, Features, tile: 64);
        Assert.Equal(wide.Start, narrow.Start);
        Assert.Equal(wide.Feature, narrow.Feature);
        Assert.Equal(wide.Value, narrow.Value);
    }

    [Fact]
    public void A_second_run_of_rows_follows_the_first()
    {
        const int Columns = 8, Features = 130;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] x = Data.Normal(5 * Columns, 1), bias = Data.Normal(Features, 2), threshold = new float[Features];
        byte[] w = Data.Weights("f32", Features * Columns, 4).Bytes;
        Encoded all = Encode(lab, "sae_encode_plain_f32", x, w, bias, threshold, 5, Columns, Features);
        Encoded pieces = Encode(lab, "sae_encode_plain_f32", x, w, bias, threshold, 5, Columns, Features, piece: 2);
        Assert.Equal(all.Start, pieces.Start);
        Assert.Equal(all.Feature, pieces.Feature);
        Assert.Equal(all.Value, pieces.Value);
    }

    [Fact]
    public void Lists_beyond_the_room_are_counted_and_not_written()
    {
        const int Columns = 8, Features = 130;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] x = Data.Normal(5 * Columns, 1), bias = Data.Normal(Features, 2), threshold = new float[Features];
        byte[] w = Data.Weights("f32", Features * Columns, 4).Bytes;
        Encoded all = Encode(lab, "sae_encode_tile_f32", x, w, bias, threshold, 5, Columns, Features);
        Encoded cut = Encode(lab, "sae_encode_tile_f32", x, w, bias, threshold, 5, Columns, Features, room: 100);
        Assert.True(all.Start[5] > 100);
        Assert.Equal(all.Start, cut.Start);
        Assert.Equal(all.Start[5], cut.Cursor);
    }

    [Fact]
    public void The_order_in_which_tiles_take_their_room_does_not_show_in_the_lists()
    {
        const int Rows = 130, Columns = 8, Features = 400;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] x = Data.Normal(Rows * Columns, 1), bias = Data.Normal(Features, 2), threshold = new float[Features];
        byte[] w = Data.Weights("f32", Features * Columns, 4).Bytes;
        Encoded first = Encode(lab, "sae_encode_tensor_f32_exact", x, w, bias, threshold, Rows, Columns, Features);
        for (int run = 0; run < 3; run++)
        {
            Encoded again = Encode(lab, "sae_encode_tensor_f32_exact", x, w, bias, threshold, Rows, Columns, Features);
            Assert.Equal(first.Start, again.Start);
            Assert.Equal(first.Feature, again.Feature);
            Assert.Equal(first.Value, again.Value);
        }
    }

    [Theory]
    [MemberData(nameof(Decoders))]
    public void Decode_adds_the_rows_of_active_features(LabKind kind, string dtype)
    {
        const int Features = 40, Outputs = 70;
        using KernelLab lab = KernelLab.Create(kind);
        // The first list is longer than what is staged at once, and no multiple of what is in flight.
        int[] feature = [.. Enumerable.Range(0, 83).Select(i => i * 7 % Features), 3];
        float[] value = Data.Normal(feature.Length, 1, 0.1), bias = Data.Normal(Outputs, 2);
        long[] start = [0, 83, 83, 84];
        (byte[] bytes, double[] w) = Data.Weights(dtype, Features * Outputs, 3);
        LabBuffer y = lab.EmptyFloats(3 * Outputs);
        lab.Run("sae_decode_" + dtype, new Dim3(3, 2), lab.Longs(start), lab.Ints(feature), lab.Floats(value), lab.Write(bytes),
            lab.Floats(bias), y, Outputs, Outputs);
        double[] expected = [.. Enumerable.Range(0, 3 * Outputs).Select(i =>
            bias[i % Outputs] + Enumerable.Range((int)start[i / Outputs], (int)(start[(i / Outputs) + 1] - start[i / Outputs]))
                .Sum(n => value[n] * w[(feature[n] * Outputs) + (i % Outputs)]))];
        float[] decoded = lab.ReadFloats(y);
        Data.Close("decode", expected, decoded, 1e-6, 1e-6);
        float[] before = Data.Normal(3 * Outputs, 9, 10);
        LabBuffer kept = lab.Floats(before);
        lab.Run("sae_decode_plus_error_" + dtype, new Dim3(3, 2), lab.Longs(start), lab.Ints(feature), lab.Floats(value),
            lab.Write(bytes), lab.Floats(bias), kept, Outputs, Outputs);
        Assert.Equal(before.Select((b, i) => (float)((float)(b - decoded[i]) + decoded[i])), lab.ReadFloats(kept));
        if (lab is not CSharpLab simulator)
            return;
        LabBuffer plain = lab.EmptyFloats(3 * Outputs);
        Type weight = dtype switch { "bf16" => typeof(BF16), "f16" => typeof(F16), _ => typeof(F32) };
        simulator.Run(typeof(SaeDecode).GetMethod(nameof(SaeDecode.Plain))!.MakeGenericMethod(weight), SaeDecode.GroupSize, new Dim3(3, 2),
            lab.Longs(start), lab.Ints(feature), lab.Floats(value), lab.Write(bytes), lab.Floats(bias), plain, Outputs, Outputs);
        Assert.Equal(lab.ReadFloats(plain), lab.ReadFloats(y));
    }

    [Theory]
    [MemberData(nameof(Decoders))]
    public void Edits_steer_and_clamp_in_order(LabKind kind, string dtype)
    {
        const int Rows = 2, Columns = 40, Features = 9, Outputs = 50, Edits = 5;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(Rows * Columns, 1), bias = Data.Normal(Features, 2),
            threshold = [.. Data.Normal(Features, 3).Select(Math.Abs)], y = Data.Normal(Rows * Outputs, 4);
        int[] features = [3, 8, 3, 0, 5], kinds = [0, 1, 1, 0, 1];
        float[] targets = [2f, 0f, 1.5f, 0f, -1f];
        (byte[] encoder, double[] we) = Data.Weights(dtype, Features * Columns, 5);
        (byte[] decoder, double[] wd) = Data.Weights(dtype, Features * Outputs, 6);
        LabBuffer coefficients = lab.EmptyFloats(Rows * Edits), edited = lab.Floats(y), which = lab.Ints(features);
        lab.Run("sae_edit_coefficients_" + dtype, new Dim3(2, Rows), lab.Floats(x), lab.Write(encoder), lab.Floats(bias),
            lab.Floats(threshold), which, lab.Ints(kinds),
            lab.Floats(targets), coefficients, Columns, Edits, Columns);
        lab.Run("sae_edit_apply_" + dtype, new Dim3(Rows, 1), coefficients, which, lab.Write(decoder), edited, Edits, Outputs, Outputs);

        double[] products = Data.Multiply(x, we, Rows, Columns, Features, Columns).Product;
        double[] c = [.. Enumerable.Range(0, Rows * Edits).Select(i =>
        {
            int f = features[i % Edits];
            double a = products[(i / Edits * Features) + f] + bias[f];
            return targets[i % Edits] - (kinds[i % Edits] == 1 && a > threshold[f] && a > 0 ? a : 0);
        })];
        Data.Close("coefficients", c, lab.ReadFloats(coefficients), 1e-5, 1e-5);
        double[] expected = [.. Enumerable.Range(0, Rows * Outputs).Select(i =>
            y[i] + Enumerable.Range(0, Edits).Sum(e => c[(i / Outputs * Edits) + e] * wd[(features[e] * Outputs) + (i % Outputs)]))];
        Data.Close("edit", expected, lab.ReadFloats(edited), 1e-5, 2e-5);
    }

    [Fact]
    public void Edits_without_effect_change_no_bit()
    {
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] y = [-0f, 1f, float.NaN, -1e-40f];
        LabBuffer edited = lab.Floats(y);
        lab.Run("sae_edit_apply_f32", new Dim3(1, 1), lab.Floats(0f, -0f), lab.Ints(0, 1), lab.Floats(Data.Normal(8, 1)), edited, 2, 4, 4);
        Assert.Equal(MemoryMarshal.Cast<float, int>(y).ToArray(), MemoryMarshal.Cast<float, int>(lab.ReadFloats(edited)).ToArray());
    }

    [Fact]
    public void Features_of_the_widest_sae_are_addressed_beyond_the_range_of_an_int()
    {
        const int Feature = 1_048_575, Outputs = 2304;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] row = Data.Normal(Outputs, 1);
        LabBuffer real = lab.Floats(row), y = lab.EmptyFloats(Outputs), edited = lab.Floats(new float[Outputs]);
        // The last row is all that exists: the matrix begins 9.6 GB before it.
        var matrix = new LabBuffer(real.Bytes, real.Address - (4UL * Feature * Outputs), null);
        lab.Run("sae_decode_f32", new Dim3(1, Outputs / 64), lab.Longs(0, 1), lab.Ints(Feature), lab.Floats(1f), matrix,
            lab.Floats(new float[Outputs]), y, Outputs, Outputs);
        lab.Run("sae_edit_apply_f32", new Dim3(1, Outputs / 128), lab.Floats(1f), lab.Ints(Feature), matrix, edited, 1, Outputs, Outputs);
        Assert.Equal(row, lab.ReadFloats(y));
        Assert.Equal(row, lab.ReadFloats(edited));
    }

    private static Encoded Encode(
        KernelLab lab, string kernel, float[] x, byte[] weight, float[] bias, float[] threshold, int rows, int columns,
        int features, int piece = int.MaxValue, int room = int.MaxValue, int tile = 16)
    {
        bool tiled = kernel.Contains("tile", StringComparison.Ordinal) || kernel.Contains("tensor", StringComparison.Ordinal);
        bool plain = kernel.Contains("plain", StringComparison.Ordinal);
        bool tensor = kernel.Contains("tensor", StringComparison.Ordinal);
        KernelEntry entry = Catalog.All.Single(k => k.Name == kernel);
        int width = !tiled && !plain ? tile : entry.TileColumns;
        int tiles = (features + width - 1) / width, most = Math.Min(room, rows * tiles * width);
        LabBuffer w = lab.Write(weight), b = lab.Floats(bias), theta = lab.Floats(threshold), start = lab.Empty(8 * (rows + 1)),
            cursor = lab.Longs(0);
        LabBuffer feature = lab.Empty(4 * rows * features), value = lab.Empty(4 * rows * features);
        for (int first = 0; first < rows; first += Math.Min(piece, rows))
        {
            int n = Math.Min(piece, rows - first);
            float[] some = x[(first * columns)..((first + n) * columns)];
            LabBuffer xs = !tensor ? lab.Floats(some)
                : lab.Write(Data.Planes(some, n, columns, columns, kernel.EndsWith("exact", StringComparison.Ordinal) ? 3 : 1));
            LabBuffer counts = lab.Empty(4 * n * tiles), offsets = lab.Empty(8 * n * tiles), places = lab.Empty(4 * n * tiles),
                totals = lab.Empty(4 * n);
            LabBuffer tileFeatures = lab.Empty(4 * most), tileValues = lab.Empty(4 * most);
            object[] lists = [xs, w, b, theta, counts, offsets, tileFeatures, tileValues];
            if (tiled)
                lab.Run(kernel, new Dim3(tiles, (n + entry.TileRows - 1) / entry.TileRows), [.. lists, cursor, (long)most, n, columns,
                    features, .. tensor ? Array.Empty<object>() : [columns]]);
            else if (plain)
                lab.Run(kernel, new Dim3(tiles, n), [.. lists, columns, features, columns]);
            else
                lab.Run(kernel, new Dim3(tiles), [.. lists, n, columns, features, columns, width]);
            lab.Run("codes_scan_tiles", new Dim3(n), counts, places, totals, tiles);
            lab.Run("codes_scan_rows", new Dim3(1), totals, start, first, n);
            lab.Run("codes_gather", new Dim3((tiles + 7) / 8, n), counts, places, offsets, tileFeatures, tileValues, start, feature, value,
                (long)most, (long)rows * features, first, tiles);
        }

        long[] starts = lab.ReadLongs(start);
        int count = (int)starts[rows];
        return new Encoded(starts, lab.ReadInts(feature)[..count], lab.ReadFloats(value)[..count], lab.ReadLongs(cursor)[0]);
    }

    private sealed record Encoded(long[] Start, int[] Feature, float[] Value, long Cursor)
    {
        public Dictionary<int, float> Row(int t) =>
            Enumerable.Range((int)Start[t], (int)(Start[t + 1] - Start[t])).ToDictionary(i => Feature[i], i => Value[i]);
    }
}
