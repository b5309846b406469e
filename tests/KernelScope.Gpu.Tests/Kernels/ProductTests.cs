using System.Runtime.InteropServices;
using KernelScope.Kernels;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>Every form of x·Wᵀ against double, with the error measured against Σ|x·w|.</summary>
public sealed class ProductTests
{
    private static readonly string[] Dtypes = ["bf16", "f16", "f32"];

    public static TheoryData<LabKind, string, int> Gemvs
    {
        get
        {
            var data = new TheoryData<LabKind, string, int>();
            foreach (string dtype in Dtypes)
            {
                foreach (int rows in new[] { 1, 2, 3, 5, 8 })
                {
                    data.Add(LabKind.Sm80, dtype, rows);
                    data.Add(LabKind.Sm75, dtype, rows);
                }

                data.Add(LabKind.CSharp, dtype, 3);
            }

            return data;
        }
    }

    public static TheoryData<LabKind, string> Gemms
    {
        get
        {
            var data = new TheoryData<LabKind, string>();
            foreach (string dtype in Dtypes)
            {
                data.Add(LabKind.Sm80, dtype);
                data.Add(LabKind.Sm75, dtype);
                data.Add(LabKind.CSharp, dtype);
            }

            return data;
        }
    }

    public static TheoryData<LabKind, string, string> TensorGemms
    {
        get
        {
            var data = new TheoryData<LabKind, string, string>();
            foreach (string dtype in Dtypes)
            {
                data.Add(LabKind.Sm80, dtype, "exact");
                data.Add(LabKind.Sm80, dtype, "fast");
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Gemvs))]
    public void Gemv_multiplies_few_rows(LabKind kind, string dtype, int rows)
    {
        // Pieces for a thread: whole pairs in all warps, one more in some, and a last warp of which some lanes have one.
        int columns = kind == LabKind.CSharp ? 40 : 2600, outputs = kind == LabKind.CSharp ? 3 : 11;
        int stride = columns + 4;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(rows * stride, rows);
        (byte[] bytes, double[] w) = Data.Weights(dtype, outputs * columns, 7);
        LabBuffer xs = lab.Floats(x), ws = lab.Write(bytes), y = lab.EmptyFloats(rows * outputs), plain = lab.EmptyFloats(rows * outputs);
        string kernel = FewRows(kind, "gemv", dtype, rows);
        lab.Run(kernel, Tiles(kernel, rows, outputs), xs, ws, y, rows, columns, outputs, stride, outputs, 0f);
        lab.Run($"gemv_plain_{dtype}", new Dim3((outputs + 3) / 4, rows), xs, ws, plain, columns, outputs, stride, outputs);
        (double[] product, double[] size) = Data.Multiply(x, w, rows, columns, outputs, stride);
        CloseTo(product, size, lab.ReadFloats(y), 1e-6);
        CloseTo(product, size, lab.ReadFloats(plain), 1e-6);
    }

    [Theory]
    [MemberData(nameof(Gemvs))]
    public void Gated_gemv_multiplies_gelu_of_gate_by_up(LabKind kind, string dtype, int rows)
    {
        int columns = kind == LabKind.CSharp ? 24 : 1064, outputs = kind == LabKind.CSharp ? 3 : 7;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(rows * columns, rows);
        (byte[] bytes, double[] w) = Data.Weights(dtype, 2 * outputs * columns, 7, 0.1);
        LabBuffer y = lab.EmptyFloats(rows * outputs);
        string kernel = FewRows(kind, "gated_gemv", dtype, rows);
        lab.Run(kernel, Tiles(kernel, rows, outputs), lab.Floats(x), lab.Write(bytes), y, rows, columns, outputs, columns, outputs);
        Data.Close("gated", Gated(x, w, rows, columns, outputs), lab.ReadFloats(y), 1e-5, 3e-6);
    }

    /// <summary>
    /// Widths: one piece for some threads of the first warp; every ring stage filled again in some warps and not in others, the last of them in part; whole rounds. Outputs: a part of a tile, one
    /// more than two tiles, whole tiles, more than the tile of four groups that share the inputs.
    /// </summary>
    [Theory]
    [InlineData("bf16", 8, 72, 5)]
    [InlineData("bf16", 5, 2600, 37)]
    [InlineData("bf16", 8, 2048, 36)]
    [InlineData("f16", 6, 1320, 19)]
    [InlineData("f16", 7, 3080, 18)]
    [InlineData("bf16", 6, 1032, 77)]
    public void Weights_that_wait_in_shared_memory_give_the_same_bits(string dtype, int rows, int columns, int outputs)
    {
        int stride = columns + 4;
        float[] x = Data.Normal(rows * stride, rows);
        byte[] w = Data.Weights(dtype, 2 * outputs * columns, 7, 0.1).Bytes;
        foreach (float cap in new[] { 0f, 30f })
            Assert.Equal(Of(LabKind.Sm75, "gemv", cap), Of(LabKind.Sm80, "gemv", cap));
        Assert.Equal(Of(LabKind.Sm75, "gemv", 0f), Split());
        Assert.Equal(Of(LabKind.Sm75, "gated_gemv"), Of(LabKind.Sm80, "gated_gemv"));

        float[] Of(LabKind kind, string family, params object[] cap)
        {
            using KernelLab lab = KernelLab.Create(kind);
            LabBuffer y = lab.EmptyFloats(rows * outputs);
            string kernel = FewRows(kind, family, dtype, rows);
            object[] arguments = [lab.Floats(x), lab.Write(w), y, rows, columns, outputs, stride, outputs, .. cap];
            lab.Run(kernel, Tiles(kernel, rows, outputs), arguments);
            return lab.ReadFloats(y);
        }

        // Groups with a quarter of the inputs each; twice, so that the tickets must be 0 again.
        float[] Split()
        {
            using KernelLab lab = KernelLab.Create(LabKind.Sm80);
            int groups = 4 * ((outputs + GemvRing.SplitColumns - 1) / GemvRing.SplitColumns);
            LabBuffer y = lab.EmptyFloats(rows * outputs), parts = lab.EmptyFloats(groups * 8 * GemvRing.SplitColumns),
                tickets = lab.Ints(new int[groups / 4]);
            for (int n = 0; n < 2; n++)
                lab.Run("gemv_ring_split_" + dtype, new Dim3(groups), lab.Floats(x), lab.Write(w), y, parts, tickets, rows, columns,
                    outputs, stride, outputs);
            return lab.ReadFloats(y);
        }
    }

    [Theory]
    [InlineData("gemv_ring_bf16", 1)]
    [InlineData("gated_gemv_ring_f16", 2)]
    public void The_ring_has_no_bank_conflicts_and_reads_each_weight_once(string kernel, int matrices)
    {
        const int Columns = 2304, Outputs = 36;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        int groups = Outputs * matrices / GemvRing.TileColumns;
        LaunchResult result = lab.Run(kernel, new Dim3(groups), [lab.Floats(Data.Normal(8 * Columns, 1)),
            lab.Write(Data.Weights(kernel.Split('_')[^1], matrices * Outputs * Columns, 7).Bytes), lab.EmptyFloats(8 * Outputs), 8, Columns,
            Outputs, Columns, Outputs, .. matrices == 1 ? (object[])[0f] : []])!;
        // But for the reads of a single value at the end: a sum of each warp, by the threads that write the results.
        InstructionCount[] shared = [.. result.Instructions.Where(i => i.SharedLoad.Requests + i.SharedStore.Requests > 0
            && !i.Text.StartsWith("ld.shared.f32", StringComparison.Ordinal))];
        Assert.True(shared.Length >= 18 + (5 * 8));
        Assert.Equal(18, shared.Count(i => i.Text.StartsWith("ld.shared.v4.b32", StringComparison.Ordinal)));
        Assert.All(shared,
            i => Assert.True(i.SharedLoad.ExtraWavefronts + i.SharedStore.ExtraWavefronts == 0, $"line {i.Line}: {i.Text}"));
        // Beside the weights the eight rows of x, a group each, in loads that touch each sector twice.
        Assert.Equal((matrices * Outputs * Columns * 2) + (groups * 8 * Columns * 4 * 2), result.GlobalLoads.MovedBytes);
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("f16")]
    [InlineData("f32")]
    public void Gemv_gives_a_row_the_same_bits_alone_and_among_others(string dtype)
    {
        const int Columns = 2320, Outputs = 10;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] x = Data.Normal(8 * Columns, 3);
        LabBuffer w = lab.Write(Data.Weights(dtype, Outputs * Columns, 7).Bytes), xs = lab.Floats(x);
        float[] all = Rows(8);
        Assert.Equal(all[..(4 * Outputs)], Rows(4));
        Assert.Equal(all[..(2 * Outputs)], Rows(2));
        for (int t = 0; t < 8; t++)
        {
            LabBuffer one = lab.EmptyFloats(Outputs);
            lab.Run($"gemv_{dtype}_1row", new Dim3(Outputs / 2), lab.Floats(x[(t * Columns)..((t + 1) * Columns)]), w, one, 1, Columns,
                Outputs, Columns, Outputs, 0f);
            Assert.Equal(all[(t * Outputs)..((t + 1) * Outputs)], lab.ReadFloats(one));
        }

        float[] Rows(int rows)
        {
            LabBuffer y = lab.EmptyFloats(rows * Outputs);
            string kernel = FewRows(LabKind.Sm80, "gemv", dtype, rows);
            lab.Run(kernel, Tiles(kernel, rows, Outputs), xs, w, y, rows, Columns, Outputs, Columns, Outputs, 0f);
            return lab.ReadFloats(y);
        }
    }

    [Theory]
    [MemberData(nameof(Gemms))]
    public void Gemm_with_fma_takes_any_shape(LabKind kind, string dtype)
    {
        (int rows, int columns, int outputs) = kind == LabKind.CSharp ? (2, 5, 3) : (70, 37, 67);
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(rows * (columns + 2), 1);
        (byte[] bytes, double[] w) = Data.Weights(dtype, outputs * columns, 7);
        LabBuffer y = lab.EmptyFloats(rows * outputs);
        lab.Run("gemm_fma_" + dtype, new Dim3((outputs + 63) / 64, (rows + 63) / 64), lab.Floats(x), lab.Write(bytes), y,
            rows, columns, outputs, columns + 2, outputs);
        (double[] product, double[] size) = Data.Multiply(x, w, rows, columns, outputs, columns + 2);
        CloseTo(product, size, lab.ReadFloats(y), 1e-6);
    }

    [Theory]
    [MemberData(nameof(Gemms))]
    public void Gated_gemm_with_fma_takes_any_shape(LabKind kind, string dtype)
    {
        (int rows, int columns, int outputs) = kind == LabKind.CSharp ? (2, 5, 3) : (70, 37, 35);
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(rows * columns, 1);
        (byte[] bytes, double[] w) = Data.Weights(dtype, 2 * outputs * columns, 7, 0.3);
        LabBuffer y = lab.EmptyFloats(rows * outputs);
        lab.Run("gated_gemm_fma_" + dtype, new Dim3((outputs + 31) / 32, (rows + 63) / 64), lab.Floats(x), lab.Write(bytes),
            y, rows, columns, outputs, columns, outputs);
        Data.Close("gated", Gated(x, w, rows, columns, outputs), lab.ReadFloats(y), 1e-5, 3e-6);
    }

    [Theory]
    [MemberData(nameof(TensorGemms))]
    public void Tensor_cores_keep_the_accuracy_that_the_precision_promises(LabKind kind, string dtype, string precision)
    {
        (int rows, int columns, int outputs) = kind == LabKind.CSharp ? (1, 8, 2) : (135, 168, 293);
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(rows * columns, 1);
        (byte[] bytes, double[] w) = Data.Weights(dtype, outputs * columns, 7);
        LabBuffer y = lab.EmptyFloats(rows * outputs);
        string kernel = $"gemm_tensor_{dtype}_{precision}";
        lab.Run(kernel, Tiles(kernel, rows, outputs), Planes(lab, x, rows, columns, precision), lab.Write(bytes), y, rows, columns,
            outputs, outputs);
        (double[] product, double[] size) = Data.Multiply(x, w, rows, columns, outputs, columns);
        CloseTo(product, size, lab.ReadFloats(y), precision == "exact" ? 3e-7 : 8e-3);
    }

    [Fact]
    [Trait("Category", "Slow")]
    public void The_meaning_in_csharp_of_the_tensor_instructions_is_that_of_the_ptx() =>
        Tensor_cores_keep_the_accuracy_that_the_precision_promises(LabKind.CSharp, "bf16", "exact");

    [Theory]
    [InlineData("bf16", "exact")]
    [InlineData("bf16", "fast")]
    [InlineData("f16", "exact")]
    [InlineData("f16", "fast")]
    [InlineData("f32", "exact")]
    [InlineData("f32", "fast")]
    public void Tensor_cores_make_gated_products(string dtype, string precision)
    {
        const int TestRows = 70, Columns = 72, Outputs = 149;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        float[] x = Data.Normal(TestRows * Columns, 1);
        (byte[] bytes, double[] w) = Data.Weights(dtype, 2 * Outputs * Columns, 7, 0.2);
        LabBuffer y = lab.EmptyFloats(TestRows * Outputs);
        string kernel = $"gated_gemm_tensor_{dtype}_{precision}";
        lab.Run(kernel, Tiles(kernel, TestRows, Outputs), Planes(lab, x, TestRows, Columns, precision), lab.Write(bytes), y, TestRows,
            Columns, Outputs, Outputs);
        bool exact = precision == "exact";
        Data.Close("gated", Gated(x, w, TestRows, Columns, Outputs), lab.ReadFloats(y), exact ? 1e-5 : 0.05, exact ? 1e-5 : 0.05);
    }

    [Theory]
    [InlineData("bf16", "exact", 64, 288)]
    [InlineData("f32", "exact", 64, 128)]
    [InlineData("bf16", "fast", 128, 144)]
    [InlineData("f32", "fast", 128, 128)]
    public void The_main_loop_of_the_tensor_gemm_has_no_bank_conflicts_and_reads_whole_sectors(string dtype, string precision, int rows,
        int tile)
    {
        const int Columns = 256;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        LabBuffer y = lab.EmptyFloats(rows * tile);
        LaunchResult result = lab.Run($"gemm_tensor_{dtype}_{precision}", new Dim3(1),
            Planes(lab, Data.Normal(rows * Columns, 1), rows, Columns, precision),
            lab.Write(Data.Weights(dtype, tile * Columns, 7).Bytes), y, rows, Columns, tile, tile)!;
        Assert.Equal(0, result.SharedLoads.ExtraWavefronts);
        Assert.Equal(0, result.SharedStores.ExtraWavefronts);
        int weightBytes = dtype == "f32" ? 4 : 2;
        Assert.Equal((rows * Columns * 2 * Terms(precision)) + (tile * Columns * weightBytes), result.GlobalLoads.MovedBytes);
    }

    [Theory]
    [InlineData("bf16", 2)]
    [InlineData("f16", 2)]
    [InlineData("f32", 4)]
    public void Gemv_reads_each_weight_once_in_whole_sectors(string dtype, int weightBytes)
    {
        const int Columns = 512, Outputs = 16;
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        LabBuffer y = lab.EmptyFloats(Outputs);
        LaunchResult result = lab.Run($"gemv_{dtype}_1row", new Dim3(8), lab.Floats(Data.Normal(Columns, 1)),
            lab.Write(Data.Weights(dtype, Outputs * Columns, 7).Bytes), y, 1, Columns, Outputs, Columns, Outputs, 0f)!;
        // x comes once for every two outputs, from the caches; beside weights of two bytes each of its sectors is touched twice, for 16 bytes each.
        int x = Outputs / 2 * Columns * 4 * (weightBytes == 2 ? 2 : 1);
        Assert.Equal(Outputs * Columns * weightBytes, result.GlobalLoads.MovedBytes - x);
    }

    /// <summary>What the tensor forms read: held to the definition on the host, bit for bit.</summary>
    [Theory]
    [InlineData(LabKind.Sm80, "exact")]
    [InlineData(LabKind.Sm80, "fast")]
    [InlineData(LabKind.CSharp, "exact")]
    public void The_terms_of_x_add_up_to_x(LabKind kind, string precision)
    {
        const int TestRows = 3, Columns = 1032, Stride = Columns + 4;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Data.Normal(TestRows * Stride, 1);
        int terms = Terms(precision);
        LabBuffer planes = lab.Empty(2 * terms * TestRows * Columns);
        lab.Run("split_" + precision, new Dim3(TestRows, 2), lab.Floats(x), planes, Columns, Stride);
        ushort[] made = [.. lab.ReadInts(planes).SelectMany(w => (ushort[])[(ushort)w, (ushort)(w >> 16)])];
        Assert.Equal(MemoryMarshal.Cast<byte, ushort>(Data.Planes(x, TestRows, Columns, Stride, terms)).ToArray(), made);
        for (int i = 0; i < TestRows * Columns && terms == 3; i++)
        {
            double sum = Enumerable.Range(0, 3).Sum(t => (double)BitConverter.Int32BitsToSingle(made[(t * TestRows * Columns) + i] << 16));
            Assert.Equal(x[(i / Columns * Stride) + (i % Columns)], sum);
        }
    }

    /// <summary>The grid of a kernel whose groups make tiles.</summary>
    private static Dim3 Tiles(string kernel, int rows, int outputs)
    {
        KernelEntry entry = Catalog.All.Single(k => k.Name == kernel);
        return new Dim3((outputs + entry.TileColumns - 1) / entry.TileColumns, (rows + entry.TileRows - 1) / entry.TileRows);
    }

    private static LabBuffer Planes(KernelLab lab, float[] x, int rows, int columns, string precision) =>
        lab.Write(Data.Planes(x, rows, columns, columns, Terms(precision)));

    private static int Terms(string precision) => precision == "exact" ? 3 : 1;

    /// <summary>The kernel that a device takes for up to eight rows.</summary>
    private static string FewRows(LabKind kind, string family, string dtype, int rows) =>
        rows > 4 && dtype != "f32" && kind == LabKind.Sm80 ? $"{family}_ring_{dtype}"
        : $"{family}_{dtype}_{rows switch { 1 => "1row", 2 => "2rows", <= 4 => "4rows", _ => "8rows" }}";

    private static double[] Gated(float[] x, double[] w, int rows, int columns, int outputs)
    {
        double[] all = Data.Multiply(x, w, rows, columns, 2 * outputs, columns).Product;
        return [.. Enumerable.Range(0, rows * outputs)
            .Select(i => Data.Gelu(all[(i / outputs * 2 * outputs) + (i % outputs)])
                * all[(((i / outputs * 2) + 1) * outputs) + (i % outputs)])];
    }

    private static void CloseTo(double[] product, double[] size, float[] actual, double tolerance)
    {
        double worst = product.Select((p, i) => Math.Abs(p - actual[i]) / size[i]).Max();
        Assert.True(worst <= tolerance, $"The error is {worst:E2} of the sum of magnitudes; {tolerance:E2} is allowed.");
    }
}
