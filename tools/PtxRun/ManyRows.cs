using System.Globalization;

namespace KernelScope.PtxRun;

/// <summary>What products of many rows should take on tensor cores: prefill of Gemma 2 2B and SAE encoders. Estimates; nothing here is measured.</summary>
/// <remarks>
/// A group of four warps makes a tile, a slice of 16 inputs at a time, a warp 64 rows of it. For a slice a multiprocessor needs the most of: its tensor cores' cycles (the rate that <c>mma.sync</c> is assumed to
/// reach), its instructions at four a cycle, 128 bytes of shared memory a cycle, of which two groups of a multiprocessor reach three quarters (assumed), and its part of the rate that
/// is reached of the L2 cache. The multiprocessor with most tiles ends last.
/// </remarks>
internal static class ManyRows
{
    private const double Overlap = 0.75;

    private const int WarpRows = 64, Slice = 16, Warps = 4, Chunk = 2048;

    /// <summary>Assumed: rate of bfloat16 <c>mma.sync</c> with sums in float32, and of reads from the L2 cache.</summary>
    private static readonly (string Name, int Multiprocessors, double Clock, double Peak, double Cache)[] Gpus =
        [("H100", 132, 1.755e9, 790e12, 5.5e12), ("H200", 132, 1.755e9, 790e12, 5.5e12), ("A100", 108, 1.41e9, 265e12, 4e12),
            ("4090", 128, 2.52e9, 150e12, 4.5e12)];

    /// <summary>
    /// Tiles of the kernels, columns of a warp's part, and instructions of the main loop, plain and gated, counted in the assembly for sm_90 (ptxas 11.8).
    /// </summary>
    private static readonly (string Operand, int WeightBytes, int Terms, int Products, int TileRows, int TileColumns, int WarpColumns,
        int Plain, int Gated)[] Operands =
        [("bf16 exact", 2, 3, 3, 64, 288, 72, 403, 403), ("bf16 fast", 2, 1, 1, 128, 144, 72, 154, 154),
            ("f32 exact", 4, 3, 6, 64, 128, 32, 407, 403)];

    /// <summary>
    /// Attention on tensor cores with heads of 256: bytes of a value in the cache, terms of a query, products, and instructions of a warp for a tile of 64 queries and 64 keys, counted in the
    /// assembly for sm_90 (ptxas 11.8), and what looking for values that are not numbers adds to the mean tile of 2,048 tokens.
    /// </summary>
    private static readonly (string Operand, int CacheBytes, int Terms, int Products, int Instructions)[] Attentions =
        [("f32 cache exact", 4, 3, 6, 8370), ("f32 cache fast", 4, 1, 1, 4580), ("bf16 cache exact", 2, 3, 3, 5080),
            ("bf16 cache fast", 2, 1, 1, 3180)];

    private const int Heads = 8, HeadDim = 256, QueryTile = 64, KeyTile = 64, Window = 4096;

    /// <summary>Prints the estimates of one GPU.</summary>
    /// <param name="gpu">Which; H200 if none is named.</param>
    /// <param name="rows">Tokens of a prefill, in pieces of 2,048.</param>
    public static void Print(string gpu, int rows)
    {
        var g = Gpus.First(x => x.Name == (gpu.Length == 0 ? "H200" : gpu));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"Estimates, nothing measured. {g.Name}: {g.Peak / 1e12:0} TFLOP/s of mma.sync and ") +
            string.Create(CultureInfo.InvariantCulture, $"{g.Cache / 1e12:0.0} TB/s of the L2 cache (assumed)."));
        Console.WriteLine($"{"product",-26}{"rows",6}{"TFLOP/s",9}{"of peak/products",18}  bound by");
        foreach (string operand in (string[])["bf16 exact", "bf16 fast"])
        {
            (string, int, int, bool, int)[] layer = [("q, k, v", 4096, 2304, false, 26), ("o", 2304, 2048, false, 26),
                ("gate and up", 18432, 2304, true, 26), ("down", 2304, 9216, false, 26)];
            double flops = 0, seconds = 0;
            foreach ((string name, int outputs, int inputs, bool gated, int times) in layer)
            {
                for (int first = 0; first < rows; first += Chunk)
                {
                    int count = Math.Min(Chunk, rows - first);
                    double one = Seconds(g, operand, count, outputs, inputs, gated, out string bound);
                    (flops, seconds) = (flops + (2.0 * count * outputs * inputs * times), seconds + (one * times));
                    if (first == 0)
                        Line(g.Peak, operand, name, count, 2.0 * count * outputs * inputs / one, bound);
                }
            }

            Line(g.Peak, operand, "all products", rows, flops / seconds, "");
            foreach (var a in Attentions.Where(a => a.Operand.EndsWith(operand[^4..], StringComparison.Ordinal)))
                PrintAttention(g, a, rows, seconds);
        }

        double encode = Seconds(g, "f32 exact", 512, 16384, 2304, false, out string limit);
        Line(g.Peak, "f32 exact", "SAE encode 16k", 512, 2.0 * 512 * 16384 * 2304 / encode, limit);
    }

    // Half of the layers see all keys, half the last 4,096.
    private static void PrintAttention((string Name, int Multiprocessors, double Clock, double Peak, double Cache) g,
        (string Operand, int CacheBytes, int Terms, int Products, int Instructions) a, int rows, double products)
    {
        double flops = 0, seconds = 0;
        string bound = "";
        for (int first = 0; first < rows; first += Chunk)
        {
            foreach (int window in (int[])[rows, Window])
            {
                seconds += 13 * AttentionSeconds(g, a, first, Math.Min(Chunk, rows - first), window, out bound);
                for (int p = first; p < Math.Min(first + Chunk, rows); p++)
                    flops += 13 * 4.0 * HeadDim * Heads * Math.Min(p + 1, window);
            }
        }

        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{"attention, " + a.Operand,-26}{rows,6}{flops / seconds / 1e12,9:0.0}") +
            string.Create(CultureInfo.InvariantCulture, $"{flops / seconds * a.Products / g.Peak,18:0.00}  {bound}; ") +
            string.Create(CultureInfo.InvariantCulture, $"{flops / seconds * 3 / g.Peak:0.00} of peak/3; ") +
            string.Create(CultureInfo.InvariantCulture, $"{seconds * 1e3:0.0} ms beside {products * 1e3:0.0} ms of products"));
    }

    private static double AttentionSeconds((string Name, int Multiprocessors, double Clock, double Peak, double Cache) g,
        (string Operand, int CacheBytes, int Terms, int Products, int Instructions) a, int position, int rows, int window, out string bound)
    {
        const int Values = QueryTile * HeadDim;
        // Slices in and out; fragments of queries for four warps; scores in, through the softmax, out as terms, which four warps read for
        // each slice of values.
        int shared = (4 * Values * a.CacheBytes) + (Warps * Values * 2 * a.Terms)
            + (QueryTile * KeyTile * ((4 * sizeof(float)) + (2 * a.Terms) + (Warps * a.Terms * a.CacheBytes)));
        (string What, double Cycles)[] limits =
        [
            ("tensor cores", 4.0 * Values * KeyTile * a.Products / (g.Peak / g.Multiprocessors / g.Clock) / Overlap),
            ("instructions", a.Instructions / Overlap),
            ("shared memory", shared / 128 / Overlap),
            ("L2 cache", Values * 2.0 * (a.Terms + a.CacheBytes) * g.Multiprocessors * g.Clock / g.Cache),
        ];
        (bound, double cycles) = limits.MaxBy(l => l.Cycles);
        // Groups in the order of the kernel: those with most keys first, then those with fewest. Two fit on a multiprocessor: the first go to all in turns (assumed), the rest to where there is room.
        double[] busy = new double[g.Multiprocessors];
        int tiles = (rows + QueryTile - 1) / QueryTile, half = (tiles + 1) / 2;
        for (int n = 0; n < tiles * Heads; n++)
        {
            int rank = n / Heads, tile = rank < half ? tiles - 1 - rank : rank - half;
            int first = Math.Max(0, position + (tile * QueryTile) - window + 1), last = position + Math.Min(rows, (tile + 1) * QueryTile);
            int at = n < 2 * busy.Length ? n % busy.Length : Array.IndexOf(busy, busy.Min());
            busy[at] += (((last + KeyTile - 1) / KeyTile) - (first / KeyTile)) * cycles;
        }

        return busy.Max() / g.Clock;
    }

    private static void Line(double peak, string operand, string name, int rows, double rate, string bound)
    {
        int products = Operands.First(o => o.Operand == operand).Products;
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{name + ", " + operand,-26}{rows,6}{rate / 1e12,9:0.0}{rate * products / peak,18:0.00}  {bound}"));
    }

    private static double Seconds((string Name, int Multiprocessors, double Clock, double Peak, double Cache) g, string operand, int rows,
        int outputs, int inputs, bool gated, out string bound)
    {
        var o = Operands.First(x => x.Operand == operand);
        double stage = (o.TileRows * Slice * 2.0 * o.Terms) + (o.TileColumns * Slice * o.WeightBytes);
        double read = Warps * ((WarpRows * Slice * 2.0 * o.Terms) + (o.WarpColumns * Slice * o.WeightBytes));
        (string What, double Cycles)[] limits =
        [
            ("tensor cores", 2.0 * o.TileRows * o.TileColumns * Slice * o.Products / (g.Peak / g.Multiprocessors / g.Clock) / Overlap),
            ("instructions", Warps / 4.0 * (gated ? o.Gated : o.Plain) / Overlap),
            ("shared memory", (stage + read) / 128 / Overlap),
            ("L2 cache", stage * g.Multiprocessors * g.Clock / g.Cache),
        ];
        (string what, double cycles) = limits.MaxBy(l => l.Cycles);
        int tiles = (int)(Math.Ceiling(outputs / (double)o.TileColumns) * Math.Ceiling(rows / (double)o.TileRows));
        double most = Math.Ceiling(tiles / (double)g.Multiprocessors);
        bound = what + (tiles / (most * g.Multiprocessors) < 0.95 ? string.Create(CultureInfo.InvariantCulture,
            $", {tiles} tiles for {g.Multiprocessors} multiprocessors") : "");
        return most * Math.Ceiling(inputs / (double)Slice) * cycles / g.Clock;
    }
}
