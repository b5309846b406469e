using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>Rope, Store and RopeThenStore. An error of Rope is divided by |x_i| + |x_{i+d/2}|, the terms of the sum; Store copies or rounds, so bits are compared, of the whole cache.</summary>
internal static class RopeCases
{
    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        int[] headDims = shapes.IsTiny ? [2, 10, 16] : [2, 10, 16, 64, 128, 256];
        int turn = 0;
        foreach (int headDim in headDims)
        {
            foreach ((int heads, int rows, int position) in ((int, int, int)[])[(1, 1, 0), (3, 1, 40), (8, 5, 0), (2, 17, 23)])
                yield return Rope(heads, headDim, rows, position, Layout.At(turn++));

            foreach ((int kvHeads, int rows, int position, int capacity) in ((int, int, int, int)[])[(1, 1, 0, 1), (2, 1, 37, 8),
                (4, 5, 6, 8), (2, 9, 30, 9), (3, 3, 0, 16), (1, 7, 1000, 13)])
            {
                yield return Store(kvHeads, headDim, rows, position, capacity, Layout.At(turn++));
                yield return RopeThenStore(heads: kvHeads * (1 + (turn % 3)), kvHeads, headDim, rows, position, capacity, Layout.At(turn));
            }

            yield return Store(2, headDim, 9, 30, 9, Layout.At(turn), DType.BF16);
            yield return RopeThenStore(4, 2, headDim, 5, 6, 8, Layout.At(turn), DType.BF16);
        }

        yield return Rope(2, 10, 0, 3, Layout.Strided);
        yield return Store(2, 10, 0, 3, 4, Layout.Strided);
        yield return RopeThenStore(3, 1, 10, 0, 3, 4, Layout.Strided);
        yield return RopeThenStore(5, 2, 16, 4, 6, 8, Layout.Strided);
        yield return NonFinite();
        if (shapes.IsLarge)
        {
            yield return RopeThenStore(8, 4, 256, 128, 4000, 4096, Layout.Dense);
            yield return RopeThenStore(32, 16, 128, 1, 8191, 4096, Layout.Dense);
        }
    }

    private static ConformanceCase Rope(int heads, int headDim, int rows, int position, Layout layout) =>
        new(nameof(Device.Rope),
            $"{rows} row(s) of {heads} head(s) of {headDim}, from position {position}{(layout == Layout.Dense ? "" : ", strided rows")}",
            2L * rows * heads * headDim, trial =>
        {
            TrialMatrix x = trial.InOut("x", rows, heads * headDim, layout);
            CheckRope(trial, x, headDim, position, layout);
        });

    /// <summary>NaN and infinities reach the other half of their pair, no further. Compared: NaN is NaN, ∞ is the same ∞.</summary>
    private static ConformanceCase NonFinite() =>
        new(nameof(Device.Rope), "NaN and infinity stay in their pair", 3 * 32, trial =>
        {
            float[] values = trial.Random.Normals(3 * 32);
            values[5] = float.NaN;
            values[32 + 24] = float.PositiveInfinity;
            CheckRope(trial, trial.InOut("x", 3, 32, values), 16, 1, Layout.Dense);
        });

    private static void CheckRope(Trial trial, TrialMatrix x, int headDim, int position, Layout layout)
    {
        TrialMatrix table = Table(trial, position + x.Rows, headDim, layout);
        trial.Run(s => s.Device.Rope(s[x], position, s[table]));
        trial.Compare(x, Limits.Elementwise, (r, j) => PairOf(x, headDim, r, j));
    }

    private static ConformanceCase Store(int kvHeads, int headDim, int rows, int position, int capacity, Layout layout,
        DType type = DType.F32) =>
        new(nameof(Device.Store),
            $"{NameOf(type)}{CacheName(kvHeads, headDim, rows, position, capacity)}{(layout == Layout.Dense ? "" : ", strided rows")}",
            2L * rows * kvHeads * headDim, trial =>
        {
            int columns = kvHeads * headDim;
            float[] values = trial.Random.Normals(rows * columns);
            if (rows > 0)
                (values[0], values[^1]) = (float.NaN, -0f);
            // Ties between two bfloat16 go to the even one; what is too large for them becomes infinite.
            if (type == DType.BF16)
                (values[1], values[2], values[^2], values[^3]) = (1 + (1f / 256), 1 + (3f / 256), float.MaxValue, float.Epsilon);
            TrialMatrix k = trial.Input("k", rows, columns, values, layout);
            TrialMatrix v = trial.Input("v", rows, columns, layout);
            TrialCache cache = Cache(trial, kvHeads, headDim, capacity, type);
            trial.Run(s => s.Device.Store(s[k], s[v], position, s[cache]));
            Trial.CompareBits(cache.Keys);
            Trial.CompareBits(cache.Values);
        });

    private static ConformanceCase RopeThenStore(
        int heads, int kvHeads, int headDim, int rows, int position, int capacity, Layout layout, DType type = DType.F32) =>
        new(nameof(Device.RopeThenStore),
            $"{NameOf(type)}{heads} query head(s), "
                + $"{CacheName(kvHeads, headDim, rows, position, capacity)}{(layout == Layout.Dense ? "" : ", strided rows")}",
                4L * rows * (heads + kvHeads) * headDim, trial =>
        {
            int q = heads * headDim;
            int kv = kvHeads * headDim;
            TrialMatrix qkv = trial.InOut("qkv", rows, q + (2 * kv), layout);
            TrialMatrix table = Table(trial, position + rows, headDim, Layout.Dense);
            TrialCache cache = Cache(trial, kvHeads, headDim, capacity, type);
            trial.Run(s => s.Device.RopeThenStore(s[qkv], position, s[table], s[cache]));
            trial.Compare(qkv, Limits.Elementwise, (r, j) => j < q + kv ? PairOf(qkv, headDim, r, j) : 0);
            cache.CompareKeys(trial, (row, i) => SizeOfKey(cache, qkv, q, 0, rows, position, row, i));
            Trial.CompareBits(cache.Values);
            trial.RunAgain("Rope, then Store", s =>
            {
                s.Device.Rope(s[qkv].ColumnRange(0, q + kv), position, s[table]);
                s.Device.Store(s[qkv].ColumnRange(q, kv), s[qkv].ColumnRange(q + kv, kv), position, s[cache]);
            });
        });

    /// <summary>The terms of a key just stored; 0, so that bits must agree, for one that was there before.</summary>
    internal static double SizeOfKey(TrialCache cache, TrialMatrix qkv, int q, int firstRow, int rows, int position, int row, int i)
    {
        int head = row / cache.Capacity;
        for (int t = 0; t < rows; t++)
        {
            if (cache.RowOf(head, position + t) == row)
                return PairOf(qkv, cache.HeadDim, firstRow + t, q + (head * cache.HeadDim) + i);
        }

        return 0;
    }

    internal static double PairOf(TrialMatrix x, int headDim, int r, int j)
    {
        int half = headDim / 2;
        return Math.Abs((double)x[r, j]) + Math.Abs((double)x[r, j % headDim < half ? j + half : j - half]);
    }

    internal static string NameOf(DType type) => type == DType.BF16 ? "bf16 cache, " : "";

    internal static TrialCache Cache(Trial trial, int kvHeads, int headDim, int capacity, DType type = DType.F32)
    {
        int count = kvHeads * capacity * headDim;
        return trial.Cache(Role.InOut, kvHeads, capacity, headDim, trial.Random.Normals(count), trial.Random.Normals(count), type);
    }

    /// <summary>Points of the unit circle by exact arithmetic, ((1 − s²)/(1 + s²), 2s/(1 + s²)); position 0 turns nothing.</summary>
    internal static TrialMatrix Table(Trial trial, int positions, int headDim, Layout layout)
    {
        int half = headDim / 2;
        float[] values = new float[positions * headDim];
        for (int p = 0; p < positions; p++)
        {
            for (int i = 0; i < half; i++)
            {
                double s = p == 0 ? 0 : trial.Random.Normal() * 2;
                values[(p * headDim) + i] = (float)((1 - (s * s)) / (1 + (s * s)));
                values[(p * headDim) + half + i] = (float)(2 * s / (1 + (s * s)));
            }
        }

        return trial.Input("cosSin", positions, headDim, values, layout);
    }

    private static string CacheName(int kvHeads, int headDim, int rows, int position, int capacity) =>
        $"{rows} row(s) of {kvHeads} key/value head(s) of {headDim} at {position} in a ring of {capacity}";
}
