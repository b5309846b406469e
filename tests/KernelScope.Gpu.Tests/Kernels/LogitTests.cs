using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>Top-k lists and the cross-entropy of runs.</summary>
public sealed class LogitTests
{
    public static TheoryData<LabKind, int, int> Lists => new()
    {
        { LabKind.Sm80, 2500, 1 },
        { LabKind.Sm75, 2500, 1 },
        { LabKind.Sm80, 2500, 40 },
        { LabKind.Sm75, 70, 70 },
        { LabKind.Sm80, 1, 1 },
        { LabKind.CSharp, 30, 5 },
    };

    [Theory]
    [MemberData(nameof(Lists))]
    public void Top_k_orders_by_value_then_by_index(LabKind kind, int columns, int k)
    {
        const int Rows = 2;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Logits(Rows, columns);
        int count = columns;
        LabBuffer xs = lab.Floats(x), keys = lab.Empty(8 * Rows * Chunks(count) * k);
        lab.Run("top_k_select", new Dim3(Chunks(count), Rows), xs, keys, count, k, columns);
        count = Chunks(count) * k;
        while (count > k)
        {
            LabBuffer next = lab.Empty(8 * Rows * Chunks(count) * k);
            lab.Run("top_k_reduce", new Dim3(Chunks(count), Rows), keys, next, count, k, count);
            keys = next;
            count = Chunks(count) * k;
        }

        AssertLists(lab, keys, xs, x, Rows, columns, k, count);
    }

    [Theory]
    [InlineData(LabKind.Sm80, 70_001)]
    [InlineData(LabKind.Sm75, 2500)]
    [InlineData(LabKind.Sm80, 1)]
    public void The_largest_of_a_row_is_the_first_of_its_list(LabKind kind, int columns)
    {
        const int Rows = 2;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Logits(Rows, columns);
        int chunks = (columns + 2047) / 2048;
        LabBuffer xs = lab.Floats(x), keys = lab.Empty(8 * Rows * chunks), start = lab.Empty(8 * (Rows + 1)), index = lab.Empty(4 * Rows),
            value = lab.EmptyFloats(Rows);
        lab.Run("top_1_largest", new Dim3(chunks, Rows), xs, keys, columns, columns);
        lab.Run("top_1_write", new Dim3(1, Rows), keys, xs, start, index, value, chunks, columns);
        AssertLists(lab, start, index, value, x, Rows, columns, 1);
    }

    [Theory]
    [InlineData(LabKind.Sm80)]
    [InlineData(LabKind.Sm75)]
    public void Large_k_sorts_the_whole_row(LabKind kind)
    {
        const int Rows = 2, Columns = 700, K = 600, Pitch = 1024;
        using KernelLab lab = KernelLab.Create(kind);
        float[] x = Logits(Rows, Columns);
        LabBuffer xs = lab.Floats(x), keys = lab.Empty(8 * Rows * Pitch);
        lab.Run("top_k_keys", new Dim3(Pitch / 256, Rows), xs, keys, Columns, Columns, Pitch);
        for (int run = 2; run <= Pitch; run *= 2)
        {
            for (int distance = run / 2; distance > 0; distance /= 2)
                lab.Run("top_k_step", new Dim3(Pitch / 512, Rows), keys, Pitch, run, distance);
        }

        AssertLists(lab, keys, xs, x, Rows, Columns, K, Pitch);
    }

    [Theory]
    [InlineData(LabKind.Sm80, 2500, 30f)]
    [InlineData(LabKind.Sm75, 2500, 0f)]
    [InlineData(LabKind.CSharp, 50, 30f)]
    public void Cross_entropy_of_runs_is_that_of_all_logits(LabKind kind, int columns, float cap)
    {
        const int Rows = 3, Run = 2048;
        using KernelLab lab = KernelLab.Create(kind);
        float[] logits = Data.Normal(Rows * columns, 1, 10);
        // A sure prediction: its loss is far below the rounding of the logits.
        logits[columns + 7] = 55f;
        int[] targets = [columns - 1, 7, columns / 2];
        int parts = (columns + 1023) / 1024;
        LabBuffer pairs = lab.Empty(8 * Rows * parts), found = lab.EmptyFloats(Rows), loss = lab.EmptyFloats(Rows),
            which = lab.Ints(targets);
        for (int start = 0; start < columns; start += Run)
        {
            int width = Math.Min(Run, columns - start);
            float[] run = [.. Enumerable.Range(0, Rows).SelectMany(t => logits.AsSpan((t * columns) + start, width).ToArray())];
            lab.Run("cross_entropy_part", new Dim3((width + 1023) / 1024, Rows), lab.Floats(run), which, pairs, found, cap,
                width, width, start / 1024, parts);
        }

        lab.Run("cross_entropy_merge", new Dim3(Rows), pairs, found, loss, parts, 1);
        double[] expected = [.. Enumerable.Range(0, Rows).Select(t =>
        {
            double[] row = [.. logits.Skip(t * columns).Take(columns).Select(l => Data.Cap(l, cap))];
            double target = row[targets[t]];
            return Math.Log(row.Sum(l => Math.Exp(l - target)));
        })];
        Data.Close("loss", expected, lab.ReadFloats(loss), 2e-6, 1e-7);
    }

    private static int Chunks(int count) => (count + 1023) / 1024;

    private static float[] Logits(int rows, int columns)
    {
        float[] x = Data.Normal(rows * columns, 1);
        for (int i = 0; i < x.Length; i++)
            x[i] = MathF.Round(x[i] * 20) / 20;
        if (columns > 60)
        {
            x[50] = float.NaN;
            x[20] = float.NegativeInfinity;
            x[30] = float.PositiveInfinity;
            x[40] = -0f;
            x[41] = 0f;
        }

        return x;
    }

    private static void AssertLists(KernelLab lab, LabBuffer keys, LabBuffer xs, float[] x, int rows, int columns, int k, int keysStride)
    {
        LabBuffer start = lab.Empty(8 * (rows + 1)), index = lab.Empty(4 * rows * k), value = lab.EmptyFloats(rows * k);
        lab.Run("top_k_write", new Dim3((k + 255) / 256, rows), keys, xs, start, index, value, k, keysStride, columns);
        AssertLists(lab, start, index, value, x, rows, columns, k);
    }

    private static void AssertLists(
        KernelLab lab, LabBuffer start, LabBuffer index, LabBuffer value, float[] x, int rows, int columns, int k)
    {
        Assert.Equal([.. Enumerable.Range(0, rows + 1).Select(t => (long)t * k)], lab.ReadLongs(start));
        int[] expected = [.. Enumerable.Range(0, rows).SelectMany(t => Enumerable.Range(0, columns)
            .OrderByDescending(j => float.IsNaN(x[(t * columns) + j])).ThenByDescending(j => x[(t * columns) + j]).ThenBy(j => j).Take(k))];
        Assert.Equal(expected, lab.ReadInts(index));
        Assert.Equal([.. expected.Select((j, i) => x[(i / k * columns) + j])], lab.ReadFloats(value));
    }
}
