using System.Runtime.InteropServices;
using KernelScope.Numerics;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>Attention in parts and in tiles against the softmax in double.</summary>
public sealed class AttendTests
{
    /// <summary>rows, position, heads, kv heads, head size, capacity, window, cap.</summary>
    private static readonly int[][] Shapes =
    [
        [1, 0, 2, 1, 8, 16, 0, 0],
        [1, 70, 4, 2, 64, 80, 0, 50],
        [2, 37, 4, 2, 12, 24, 20, 50],
        [1, 19, 3, 3, 256, 32, 8, 30],
        [3, 2, 2, 1, 128, 8, 4, 0],
        [2, 6, 2, 1, 12, 8, 6, 50],
    ];

    private static readonly int[][] TileShapes =
    [
        [1, 0, 2, 1, 8, 16, 0, 0],
        [70, 5, 4, 2, 64, 80, 0, 50],
        [40, 37, 4, 2, 12, 64, 20, 50],
        [33, 3, 2, 2, 256, 48, 8, 30],
        [35, 40, 2, 1, 128, 80, 33, 50],
        [3, 9, 2, 1, 12, 8, 6, 50],
    ];

    private static readonly int[][] TensorShapes =
    [
        [1, 0, 2, 1, 8, 16, 0, 0],
        [70, 5, 4, 2, 64, 80, 0, 50],
        [70, 69, 4, 2, 24, 100, 20, 50],
        [33, 3, 2, 2, 256, 48, 8, 30],
        [35, 40, 2, 1, 128, 80, 33, 50],
        [130, 50, 2, 1, 136, 190, 0, 2],
        [3, 9, 2, 1, 8, 8, 6, 50],
    ];

    public static TheoryData<LabKind, int> Decodes => Cases(Shapes.Length);

    public static TheoryData<LabKind, int> Prefills => Cases(TileShapes.Length);

    public static TheoryData<LabKind, int> TensorPrefills => Cases(TensorShapes.Length, LabKind.Sm75, LabKind.CSharp);

    [Theory]
    [MemberData(nameof(Decodes))]
    public void Parts_and_their_merge_are_softmax_attention(LabKind kind, int shape)
    {
        var s = new Shape(Shapes[shape]);
        using KernelLab lab = KernelLab.Create(kind);
        (float[] q, LabBuffer keys, LabBuffer values, double[] expected) = Prepare(lab, s);
        foreach (int heads in s.Heads / s.KvHeads % 2 == 0 ? new[] { 1, 2 } : [1])
        {
            foreach (string form in s.HeadDim % 4 == 0 ? new[] { "part", "wide_part" } : ["part"])
            {
                const int Splits = 3, KeysPerSplit = 4;
                LabBuffer parts = lab.EmptyFloats(s.Rows * s.Heads * Splits * (s.HeadDim + 2)), z = lab.EmptyFloats(q.Length);
                string suffix = heads == 1 ? "1head" : "2heads";
                lab.Run($"attend_{form}_{suffix}", new Dim3(Splits, s.Heads / heads, s.Rows), lab.Floats(q), keys, values,
                    lab.Ints(s.Position), parts,
                    s.Heads, s.KvHeads, s.HeadDim, s.Capacity, s.Window, KeysPerSplit, s.Scale, (float)s.Cap, s.Heads * s.HeadDim);
                lab.Run("attend_merge", new Dim3(s.Heads, s.Rows), parts, lab.Ints(s.Position), z, Splits, s.Window, KeysPerSplit,
                    s.HeadDim, s.Heads * s.HeadDim);
                Data.Close($"{form} {heads}", expected, lab.ReadFloats(z), 2e-6, 1e-6);
                if (form == "part")
                    continue;
                // In one launch, twice: the tickets are 0 again.
                LabBuffer whole = lab.EmptyFloats(q.Length), tickets = lab.Ints(new int[s.Rows * s.Heads / heads]);
                for (int n = 0; n < 2; n++)
                    lab.Run($"attend_wide_whole_{suffix}", new Dim3(Splits, s.Heads / heads, s.Rows), lab.Floats(q), keys, values,
                        lab.Ints(s.Position), parts, tickets, whole,
                        s.Heads, s.KvHeads, s.HeadDim, s.Capacity, s.Window, KeysPerSplit, s.Scale, (float)s.Cap,
                        s.Heads * s.HeadDim, s.Heads * s.HeadDim);
                Assert.Equal(lab.ReadFloats(z), lab.ReadFloats(whole));
            }
        }
    }

    /// <summary>
    /// Rows in any order, rings of different capacities (one wrapped) that lie one after the other, each with its own number of splits.
    /// </summary>
    [Theory]
    [InlineData(LabKind.Sm80)]
    [InlineData(LabKind.Sm75)]
    [InlineData(LabKind.CSharp)]
    public void Rows_of_several_sequences_get_the_bits_that_they_get_alone(LabKind kind)
    {
        const int HeadDim = 12, Window = 20, MostSplits = 3, KeysPerSplit = 8;
        int heads = kind == LabKind.CSharp ? 2 : 4, kvHeads = heads / 2, width = heads * HeadDim;
        (int Row, int Position, int Capacity, int Splits)[] sequences = [(2, 37, 24, 3), (0, 5, 20, 1), (3, 19, 64, 2)];
        using KernelLab lab = KernelLab.Create(kind);
        float[] q = Data.Normal(4 * width, 1, 3);
        float[][] keys = [.. sequences.Select((s, n) => Data.Normal(kvHeads * s.Capacity * HeadDim, 10 + n))],
            values = [.. sequences.Select((s, n) => Data.Normal(kvHeads * s.Capacity * HeadDim, 20 + n))];
        long[] starts = [.. sequences.Select((_, n) => (long)keys.Take(n).Sum(k => k.Length))];
        LabBuffer places =
            lab.Longs([.. sequences.SelectMany((s, n) => (long[])[s.Row, s.Position, s.Capacity, s.Splits, starts[n], starts[n]])]);
        LabBuffer allKeys = lab.Floats([.. keys.SelectMany(k => k)]), allValues = lab.Floats([.. values.SelectMany(v => v)]);
        foreach (string form in Forms(kind))
        {
            int groups = form.EndsWith("2heads", StringComparison.Ordinal) ? heads / 2 : heads;
            LabBuffer parts = lab.EmptyFloats(sequences.Length * heads * MostSplits * (HeadDim + 2)), z = lab.Floats(new float[q.Length]);
            lab.Run("attend_rows_" + form, new Dim3(MostSplits, groups, sequences.Length), lab.Floats(q), allKeys, allValues, places,
                parts, heads, kvHeads, HeadDim, Window, KeysPerSplit, 0.25f, 50f, width);
            lab.Run("attend_rows_merge", new Dim3(heads, sequences.Length), parts, places, z, MostSplits, Window, KeysPerSplit, HeadDim,
                width);
            float[] together = lab.ReadFloats(z);
            Assert.All(together.AsSpan(width, width).ToArray(), value => Assert.Equal(0, value));
            for (int n = 0; n < sequences.Length; n++)
            {
                (int row, int position, int capacity, int splits) = sequences[n];
                LabBuffer own = lab.EmptyFloats(heads * splits * (HeadDim + 2)), alone = lab.EmptyFloats(width);
                lab.Run("attend_" + form, new Dim3(splits, groups), lab.Floats(q[(row * width)..((row + 1) * width)]),
                    lab.Floats(keys[n]), lab.Floats(values[n]), lab.Ints(position), own,
                    heads, kvHeads, HeadDim, capacity, Window, KeysPerSplit, 0.25f, 50f, width);
                lab.Run("attend_merge", new Dim3(heads, 1), own, lab.Ints(position), alone, splits, Window, KeysPerSplit, HeadDim, width);
                Assert.Equal(lab.ReadFloats(alone), together[(row * width)..((row + 1) * width)]);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Prefills))]
    public void Tiles_are_softmax_attention(LabKind kind, int shape)
    {
        var s = new Shape(TileShapes[shape]);
        using KernelLab lab = KernelLab.Create(kind);
        (float[] q, LabBuffer keys, LabBuffer values, double[] expected) = Prepare(lab, s);
        LabBuffer z = lab.EmptyFloats(q.Length);
        string bound = s.HeadDim <= 64 ? "64" : s.HeadDim <= 128 ? "128" : "256";
        lab.Run("attend_tile_" + bound, new Dim3((s.Rows + 31) / 32, s.Heads), lab.Floats(q), keys, values, lab.Ints(s.Position), z,
            s.Rows, s.KvHeads, s.HeadDim, s.Capacity, s.Window, s.Scale, (float)s.Cap, s.Heads * s.HeadDim, s.Heads * s.HeadDim);
        // Scores here reach 15, where one rounding of a sum of 256 products is 10⁻⁶ of a weight.
        Data.Close("tile", expected, lab.ReadFloats(z), 4e-6, 4e-6);
    }

    /// <summary>A row's bits come from its position and its keys: not from where its launch begins, nor from the ring's size.</summary>
    [Theory]
    [InlineData(LabKind.Sm80, 20, 50)]
    [InlineData(LabKind.Sm80, 33, 0)]
    [InlineData(LabKind.Sm80, 6, 0)]
    [InlineData(LabKind.Sm80, 0, 50)]
    [InlineData(LabKind.Sm75, 20, 50)]
    [InlineData(LabKind.CSharp, 6, 0)]
    public void A_row_of_tiles_has_the_same_bits_whatever_rows_are_beside_it(LabKind kind, int window, int cap)
    {
        const int HeadDim = 12, Heads = 2;
        const int Width = Heads * HeadDim;
        int total = kind == LabKind.CSharp ? 44 : 101;
        using KernelLab lab = KernelLab.Create(kind);
        float[] q = Data.Normal(total * Width, 1, 3), k = Data.Normal(total * HeadDim, 2), v = Data.Normal(total * HeadDim, 3);
        float[] Run(int from, int rows)
        {
            // The ring holds what these rows see; its other slots hold NaN.
            int last = from + rows, first = window > 0 ? Math.Max(0, from - window + 1) : 0, capacity = last - first + 3;
            float[] keys = [.. Enumerable.Repeat(float.NaN, capacity * HeadDim)], values = [.. keys];
            for (int j = first; j < last; j++)
            {
                k.AsSpan(j * HeadDim, HeadDim).CopyTo(keys.AsSpan(j % capacity * HeadDim));
                v.AsSpan(j * HeadDim, HeadDim).CopyTo(values.AsSpan(j % capacity * HeadDim));
            }

            LabBuffer z = lab.EmptyFloats(rows * Width);
            lab.Run("attend_tile_64", new Dim3((rows + 31) / 32, Heads), lab.Floats(q[(from * Width)..(last * Width)]), lab.Floats(keys),
                lab.Floats(values), lab.Ints(from), z, rows, 1, HeadDim, capacity, window, 0.25f, (float)cap, Width, Width);
            return lab.ReadFloats(z);
        }

        float[] whole = Run(0, total);
        foreach (int piece in kind == LabKind.CSharp ? (int[])[33] : [1, 9, 20, 33, 40, 64])
        {
            float[] pieces = [.. Enumerable.Range(0, (total + piece - 1) / piece)
                .SelectMany(n => Run(n * piece, Math.Min(piece, total - (n * piece))))];
            Assert.Equal(whole.Select(BitConverter.SingleToInt32Bits), pieces.Select(BitConverter.SingleToInt32Bits));
        }
    }

    [Theory]
    [MemberData(nameof(TensorPrefills))]
    public void Tiles_on_tensor_cores_are_softmax_attention(LabKind kind, int shape)
    {
        var s = new Shape(TensorShapes[shape]);
        using KernelLab lab = KernelLab.Create(kind);
        (float[] q, LabBuffer keys, LabBuffer values, double[] expected) = Prepare(lab, s);
        Data.Close("exact", expected, Tensor(lab, "attend_tensor_exact", s, q, keys, values), 4e-6, 4e-6);
        // Scores up to 15 are some 0.02 off where queries and keys are rounded to 8 bits.
        Data.Close("fast", expected, Tensor(lab, "attend_tensor_fast", s, q, keys, values), 0.05, 0.05);
    }

    /// <summary>A context of 2,048 keys, under both models of how tensor cores sum.</summary>
    [Theory]
    [InlineData(MatrixModel.Ampere)]
    [InlineData(MatrixModel.Hopper)]
    public void Tiles_on_tensor_cores_are_near_to_the_softmax_in_double_at_2048_keys(MatrixModel model)
    {
        var s = new Shape([16, 2032, 2, 1, 256, 2048, 0, 50]);
        using var lab = new PtxLab("sm_80") { Model = model };
        (float[] q, LabBuffer keys, LabBuffer values, double[] expected) = Prepare(lab, s);
        Data.Close("2,048 keys", expected, Tensor(lab, "attend_tensor_exact", s, q, keys, values), 4e-6, 2e-6);
    }

    /// <summary>Also of a bfloat16 cache, whose bits are those of its values in float32: their second and third terms are zeros.</summary>
    [Theory]
    [InlineData(20, 50)]
    [InlineData(65, 0)]
    [InlineData(0, 50)]
    public void A_row_on_tensor_cores_has_the_same_bits_whatever_rows_are_beside_it(int window, int cap)
    {
        const int HeadDim = 24, Heads = 2, Total = 201;
        const int Width = Heads * HeadDim;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] q = Data.Normal(Total * Width, 1, 3);
        (_, float[] k) = Narrow(Data.Normal(Total * HeadDim, 2));
        (_, float[] v) = Narrow(Data.Normal(Total * HeadDim, 3));
        float[] Run(int from, int rows, bool narrow)
        {
            // The ring holds what these rows see; its other slots hold NaN.
            int last = from + rows, first = window > 0 ? Math.Max(0, from - window + 1) : 0, capacity = last - first + 3;
            float[] keys = [.. Enumerable.Repeat(float.NaN, capacity * HeadDim)], values = [.. keys];
            for (int j = first; j < last; j++)
            {
                k.AsSpan(j * HeadDim, HeadDim).CopyTo(keys.AsSpan(j % capacity * HeadDim));
                v.AsSpan(j * HeadDim, HeadDim).CopyTo(values.AsSpan(j % capacity * HeadDim));
            }

            var s = new Shape([rows, from, Heads, 1, HeadDim, capacity, window, cap]);
            return Tensor(lab, narrow ? "attend_bf16_tensor_exact" : "attend_tensor_exact", s, q[(from * Width)..(last * Width)],
                narrow ? lab.Write(Narrow(keys).Bytes) : lab.Floats(keys), narrow ? lab.Write(Narrow(values).Bytes) : lab.Floats(values));
        }

        float[] whole = Run(0, Total, narrow: false);
        Assert.DoesNotContain(whole, float.IsNaN);
        Assert.Equal(whole.Select(BitConverter.SingleToInt32Bits), Run(0, Total, narrow: true).Select(BitConverter.SingleToInt32Bits));
        foreach (int piece in (int[])[1, 9, 33, 64, 100])
        {
            float[] pieces = [.. Enumerable.Range(0, (Total + piece - 1) / piece)
                .SelectMany(n => Run(n * piece, Math.Min(piece, Total - (n * piece)), narrow: piece == 33))];
            Assert.Equal(whole.Select(BitConverter.SingleToInt32Bits), pieces.Select(BitConverter.SingleToInt32Bits));
        }
    }

    /// <summary>
    /// Values that are not finite numbers reach the rows that see their keys, in their columns, and no others: of a later key, and of one
    /// outside the window. A key with a NaN reaches the rows that see it, and no others.
    /// </summary>
    [Theory]
    [InlineData("attend_tensor_exact", 24)]
    [InlineData("attend_tensor_exact", 136)]
    [InlineData("attend_tensor_fast", 136)]
    [InlineData("attend_bf16_tensor_exact", 24)]
    [InlineData("attend_bf16_tensor_exact", 136)]
    [InlineData("attend_tile", 24)]
    [InlineData("attend_tile", 136)]
    public void What_is_not_a_number_reaches_only_rows_that_see_its_key(string kernel, int headDim)
    {
        const int Rows = 70, Position = 40, Window = 50;
        var s = new Shape([Rows, Position, 1, 1, headDim, Rows + Position, Window, 50]);
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] q = Data.Normal(Rows * headDim, 1, 3);
        (_, float[] k) = Narrow(Data.Normal(s.Capacity * headDim, 2));
        (_, float[] v) = Narrow(Data.Normal(s.Capacity * headDim, 3));
        (int Key, int Column, float Value)[] spoilt =
            [(20, 1, float.NaN), (45, headDim - 3, float.PositiveInfinity), (77, 8, float.NaN), (109, 0, float.NegativeInfinity)];
        float[] Run(float[] keys, float[] values)
        {
            bool narrow = kernel.Contains("bf16", StringComparison.Ordinal);
            LabBuffer keyBuffer = narrow ? lab.Write(Narrow(keys).Bytes) : lab.Floats(keys);
            LabBuffer valueBuffer = narrow ? lab.Write(Narrow(values).Bytes) : lab.Floats(values);
            if (kernel.Contains("tensor", StringComparison.Ordinal))
                return Tensor(lab, kernel, s, q, keyBuffer, valueBuffer);
            LabBuffer z = lab.EmptyFloats(q.Length);
            lab.Run(headDim <= 64 ? "attend_tile_64" : "attend_tile_256", new Dim3((Rows + 31) / 32, 1), lab.Floats(q), keyBuffer,
                valueBuffer, lab.Ints(Position), z, Rows, 1, headDim, s.Capacity, Window, s.Scale, 50f, headDim, headDim);
            return lab.ReadFloats(z);
        }

        float[] clean = Run(k, v);
        float[] spoiltValues = [.. v];
        foreach ((int key, int column, float value) in spoilt)
            spoiltValues[(key * headDim) + column] = value;
        float[] result = Run(k, spoiltValues);
        for (int t = 0; t < Rows; t++)
        {
            for (int i = 0; i < headDim; i++)
            {
                bool sees = spoilt.Any(x => x.Column == i && x.Key <= Position + t && x.Key > Position + t - Window);
                float actual = result[(t * headDim) + i];
                Assert.True(sees ? !float.IsFinite(actual) : actual == clean[(t * headDim) + i], $"row {t}, column {i}: {actual}");
            }
        }

        float[] spoiltKeys = [.. k];
        foreach ((int key, int column, float value) in spoilt)
            spoiltKeys[(key * headDim) + column] = value;
        result = Run(spoiltKeys, v);
        for (int t = 0; t < Rows; t++)
        {
            bool sees = spoilt.Any(x => float.IsNaN(x.Value) && x.Key <= Position + t && x.Key > Position + t - Window);
            bool seesAny = spoilt.Any(x => x.Key <= Position + t && x.Key > Position + t - Window);
            for (int i = 0; i < headDim; i++)
            {
                float actual = result[(t * headDim) + i];
                bool right = sees ? float.IsNaN(actual) : seesAny || actual == clean[(t * headDim) + i];
                Assert.True(right, $"keys, row {t}, column {i}: {actual}");
            }
        }
    }

    [Fact]
    public void Decode_reads_keys_and_values_once_for_a_pair_of_heads()
    {
        var s = new Shape([1, 63, 2, 1, 256, 64, 0, 50]);
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        (float[] q, LabBuffer keys, LabBuffer values, _) = Prepare(lab, s);
        LabBuffer parts = lab.EmptyFloats(s.Heads * 2 * (s.HeadDim + 2));
        LaunchResult result = lab.Run("attend_wide_part_2heads", new Dim3(2), lab.Floats(q), keys, values, lab.Ints(s.Position), parts,
            s.Heads, s.KvHeads, s.HeadDim, s.Capacity, s.Window, 32, s.Scale, (float)s.Cap, s.Heads * s.HeadDim)!;
        long cache = 64 * 256 * 4 * 2, query = 2 * 4 * 2 * 256 * 4;
        Assert.InRange(result.GlobalLoads.MovedBytes, cache + query, cache + query + 1024);
    }

    /// <summary>Long contexts: more splits than a warp has lanes, of uneven lengths, and a last one that is short.</summary>
    [Theory]
    [InlineData(64, 1000, 0)]
    [InlineData(61, 517, 0)]
    [InlineData(63, 1000, 300)]
    [InlineData(7, 1000, 0)]
    public void Many_splits_are_merged_into_the_same_softmax(int splits, int keys, int window)
    {
        const int KeysPerSplit = 4;
        var s = new Shape([1, keys - 1, 2, 1, 16, keys + 3, window, 50]);
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        (float[] q, LabBuffer ringKeys, LabBuffer values, double[] expected) = Prepare(lab, s);
        LabBuffer parts = lab.EmptyFloats(s.Heads * splits * (s.HeadDim + 2)), z = lab.EmptyFloats(q.Length);
        lab.Run("attend_wide_part_2heads", new Dim3(splits), lab.Floats(q), ringKeys, values, lab.Ints(s.Position), parts,
            s.Heads, s.KvHeads, s.HeadDim, s.Capacity, s.Window, KeysPerSplit, s.Scale, (float)s.Cap, s.Heads * s.HeadDim);
        lab.Run("attend_merge", new Dim3(s.Heads), parts, lab.Ints(s.Position), z, splits, s.Window, KeysPerSplit, s.HeadDim,
            s.Heads * s.HeadDim);
        Data.Close("many splits", expected, lab.ReadFloats(z), 4e-6, 2e-6);
        LabBuffer whole = lab.EmptyFloats(q.Length), tickets = lab.Ints(0);
        lab.Run("attend_wide_whole_2heads", new Dim3(splits), lab.Floats(q), ringKeys, values, lab.Ints(s.Position), parts, tickets, whole,
            s.Heads, s.KvHeads, s.HeadDim, s.Capacity, s.Window, KeysPerSplit, s.Scale, (float)s.Cap, s.Heads * s.HeadDim,
            s.Heads * s.HeadDim);
        Assert.Equal(lab.ReadFloats(z), lab.ReadFloats(whole));
        Assert.Equal(0, lab.ReadInts(tickets)[0]);
    }

    /// <summary>Beyond 64 splits of 32 keys a split grows: at 2,500 keys to 40.</summary>
    [Fact]
    public void Beyond_2048_keys_decode_is_as_near_to_the_softmax_in_double()
    {
        const int Splits = 64, KeysPerSplit = 32;
        var s = new Shape([1, 2499, 2, 1, 256, 2500, 0, 50]);
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        (float[] q, LabBuffer keys, LabBuffer values, double[] expected) = Prepare(lab, s);
        LabBuffer parts = lab.EmptyFloats(s.Heads * Splits * (s.HeadDim + 2)), z = lab.EmptyFloats(q.Length);
        lab.Run("attend_wide_whole_2heads", new Dim3(Splits), lab.Floats(q), keys, values, lab.Ints(s.Position), parts, lab.Ints(0), z,
            s.Heads, s.KvHeads, s.HeadDim, s.Capacity, s.Window, KeysPerSplit, s.Scale, (float)s.Cap, s.Heads * s.HeadDim,
            s.Heads * s.HeadDim);
        Data.Close("2,500 keys", expected, lab.ReadFloats(z), 4e-6, 2e-6);
    }

    /// <summary>Keys and values of a bfloat16 cache are widened exactly, and nothing else differs.</summary>
    [Theory]
    [InlineData(LabKind.Sm80)]
    [InlineData(LabKind.Sm75)]
    [InlineData(LabKind.CSharp)]
    public void A_bf16_cache_gives_the_bits_of_its_values_in_float32(LabKind kind)
    {
        const int HeadDim = 12, Capacity = 24, Window = 20, Position = 37;
        int heads = kind == LabKind.CSharp ? 2 : 4, kvHeads = heads / 2, width = heads * HeadDim;
        using KernelLab lab = KernelLab.Create(kind);
        (byte[] keyBytes, float[] keys) = Narrow(Data.Normal(kvHeads * Capacity * HeadDim, 2));
        (byte[] valueBytes, float[] values) = Narrow(Data.Normal(kvHeads * Capacity * HeadDim, 3));
        LabBuffer[] wide = [lab.Floats(keys), lab.Floats(values)], narrow = [lab.Write(keyBytes), lab.Write(valueBytes)];
        LabBuffer q = lab.Floats(Data.Normal(9 * width, 1, 3)), place = lab.Longs(1, Position, Capacity, 3, 0, 0);
        foreach (string form in Forms(kind))
        {
            float[] Part(string prefix, LabBuffer[] cache, LabBuffer where, params object[] capacity)
            {
                LabBuffer parts = lab.Floats(new float[heads * 3 * (HeadDim + 2)]);
                lab.Run(prefix + form, new Dim3(3, form.EndsWith("2heads", StringComparison.Ordinal) ? heads / 2 : heads),
                    [q, cache[0], cache[1], where, parts, heads, kvHeads, HeadDim, .. capacity, Window, 8, 0.25f, 50f, width]);
                return lab.ReadFloats(parts);
            }

            Assert.Equal(Part("attend_", wide, lab.Ints(Position), Capacity), Part("attend_bf16_", narrow, lab.Ints(Position), Capacity));
            Assert.Equal(Part("attend_rows_", wide, place), Part("attend_bf16_rows_", narrow, place));
        }

        foreach (string bound in kind == LabKind.CSharp ? (string[])["64"] : ["64", "128", "256"])
        {
            float[] Tile(string prefix, LabBuffer[] cache)
            {
                LabBuffer z = lab.Floats(new float[5 * width]);
                lab.Run(prefix + bound, new Dim3(1, heads), q, cache[0], cache[1], lab.Ints(Position - 4), z,
                    5, kvHeads, HeadDim, Capacity, Window, 0.25f, 50f, width, width);
                return lab.ReadFloats(z);
            }

            Assert.Equal(Tile("attend_tile_", wide), Tile("attend_bf16_tile_", narrow));
        }
    }

    /// <summary>Queries to fragments, then tiles; of more than 64 rows in two launches, as where the work space is small.</summary>
    private static float[] Tensor(KernelLab lab, string kernel, Shape s, float[] q, LabBuffer keys, LabBuffer values)
    {
        string precision = kernel[(kernel.LastIndexOf('_') + 1)..];
        int terms = precision == "fast" ? 1 : 3, width = s.Heads * s.HeadDim;
        var result = new List<float>();
        for (int first = 0; first < s.Rows; first += first == 0 ? 64 : s.Rows)
        {
            int rows = first == 0 ? Math.Min(64, s.Rows) : s.Rows - first, tiles = (rows + 63) / 64;
            LabBuffer fragments = lab.Empty(s.Heads * tiles * 64 * ((s.HeadDim + 15) / 16) * 16 * 2 * terms);
            LabBuffer z = lab.EmptyFloats(rows * width);
            lab.Run("attend_queries_" + precision, new Dim3(4 * tiles, s.Heads), lab.Floats(q[(first * width)..((first + rows) * width)]),
                fragments, rows, s.HeadDim, width);
            lab.Run($"{kernel}_{(s.HeadDim <= 128 ? 128 : 256)}", new Dim3(s.Heads, tiles), fragments, keys, values,
                lab.Ints(s.Position), z,
                first, rows, s.KvHeads, s.HeadDim, s.Capacity, s.Window, s.Scale, (float)s.Cap, width);
            result.AddRange(lab.ReadFloats(z));
        }

        return [.. result];
    }

    /// <summary>The forms of decode; the simulator takes seconds for each.</summary>
    private static string[] Forms(LabKind kind) =>
        kind == LabKind.CSharp ? ["wide_part_2heads"] : ["part_1head", "part_2heads", "wide_part_1head", "wide_part_2heads"];

    private static (byte[] Bytes, float[] Values) Narrow(float[] values)
    {
        BFloat16[] narrow = [.. values.Select(v => (BFloat16)v)];
        return (MemoryMarshal.AsBytes<BFloat16>(narrow).ToArray(), [.. narrow.Select(v => (float)v)]);
    }

    private static TheoryData<LabKind, int> Cases(int count, params LabKind[] without)
    {
        var data = new TheoryData<LabKind, int>();
        foreach (LabKind kind in Enum.GetValues<LabKind>().Except(without))
        {
            // The simulator takes seconds for the others.
            for (int shape = kind == LabKind.CSharp ? count - 1 : 0; shape < count; shape++)
                data.Add(kind, shape);
        }

        return data;
    }

    // The ring holds the last positions, as Store leaves it; slots that no query sees were never written.
    private static (float[] Q, LabBuffer Keys, LabBuffer Values, double[] Expected) Prepare(KernelLab lab, Shape s)
    {
        int last = s.Position + s.Rows;
        float[] q = Data.Normal(s.Rows * s.Heads * s.HeadDim, 1, 3);
        float[] k = Data.Normal(s.KvHeads * last * s.HeadDim, 2), v = Data.Normal(s.KvHeads * last * s.HeadDim, 3);
        float[] keys = new float[s.KvHeads * s.Capacity * s.HeadDim], values = new float[keys.Length];
        for (int h = 0; h < s.KvHeads; h++)
        {
            for (int j = Math.Max(0, last - s.Capacity); j < last; j++)
            {
                int from = ((h * last) + j) * s.HeadDim, to = ((h * s.Capacity) + (j % s.Capacity)) * s.HeadDim;
                k.AsSpan(from, s.HeadDim).CopyTo(keys.AsSpan(to));
                v.AsSpan(from, s.HeadDim).CopyTo(values.AsSpan(to));
            }
        }

        return (q, lab.Floats(keys), lab.Floats(values), Expected(s, q, k, v, last));
    }

    private static double[] Expected(Shape s, float[] q, float[] k, float[] v, int last)
    {
        double[] z = new double[q.Length];
        for (int t = 0; t < s.Rows; t++)
        {
            for (int h = 0; h < s.Heads; h++)
            {
                int p = s.Position + t, at = ((t * s.Heads) + h) * s.HeadDim, cache = h / (s.Heads / s.KvHeads) * last * s.HeadDim;
                int first = s.Window > 0 ? Math.Max(0, p - s.Window + 1) : 0;
                double[] scores = [.. Enumerable.Range(first, p - first + 1).Select(j =>
                    Data.Cap(s.Scale * Enumerable.Range(0, s.HeadDim).Sum(i => (double)q[at + i] * k[cache + (j * s.HeadDim) + i]),
                        s.Cap))];
                double max = scores.Max(), sum = scores.Sum(x => Math.Exp(x - max));
                for (int i = 0; i < s.HeadDim; i++)
                    z[at + i] = scores.Select((x, n) => Math.Exp(x - max) / sum * v[cache + ((first + n) * s.HeadDim) + i]).Sum();
            }
        }

        return z;
    }

    private sealed class Shape(int[] n)
    {
        public int Rows => n[0];

        public int Position => n[1];

        public int Heads => n[2];

        public int KvHeads => n[3];

        public int HeadDim => n[4];

        public int Capacity => n[5];

        public int Window => n[6];

        public int Cap => n[7];

        public float Scale => (float)(1 / Math.Sqrt(HeadDim + 3));
    }
}
