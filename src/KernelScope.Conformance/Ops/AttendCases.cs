using System.Globalization;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>
/// z = softmax(cap(scale·q·k))·v. An error is divided by the largest visible |v| times 1 + 2(scale·‖q‖·‖k‖ + cap): an error of a score shifts
/// weight between values. Every slot of the cache that no query sees holds NaN.
/// </summary>
internal static class AttendCases
{
    private const string Op = nameof(Device.Attend);

    internal sealed record Setup(int Heads, int KvHeads, int HeadDim, int Rows, int Position, int Capacity, int Window,
        float Cap, float Scale, double Size = 1, DType Type = DType.F32);

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        foreach (int headDim in shapes.IsTiny ? (int[])[2, 10, 16] : [2, 10, 16, 64, 128, 256])
        {
            float scale = headDim switch { 256 => 1f / 16, 128 => 0.083333336f, 64 => 0.125f, _ => 0.25f };
            yield return Case("first position", new(1, 1, headDim, 1, 0, 1, 0, 50, scale));
            yield return Case("grouped heads, one row", new(4, 2, headDim, 1, 20, 32, 0, 50, scale));
            yield return Case("grouped heads, first chunk", new(4, 2, headDim, 5, 0, 8, 0, 50, scale));
            yield return Case("one head each, no cap", new(3, 3, headDim, 3, 14, 17, 0, 0, scale));
            yield return Case("one key/value head for all", new(8, 1, headDim, 2, 9, 16, 0, 50, scale));
            yield return Case("window 1", new(2, 1, headDim, 4, 11, 8, 1, 50, scale));
            yield return Case("window smaller than the chunk", new(4, 2, headDim, 9, 3, 12, 4, 50, scale));
            yield return Case("window larger than the position", new(2, 2, headDim, 3, 4, 16, 9, 50, scale));
            yield return Case("chunk over the end of the ring", new(4, 2, headDim, 5, 13, 16, 6, 50, scale));
            yield return Case("position far beyond the ring", new(2, 1, headDim, 3, 1_000_003, 11, 9, 50, scale));
            yield return Case("bf16 cache, one row", new(4, 2, headDim, 1, 20, 32, 0, 50, scale, Type: DType.BF16));
            yield return Case("bf16 cache, one head each, over the end of the ring",
                new(3, 3, headDim, 5, 13, 16, 6, 50, scale, Type: DType.BF16));
            yield return Case("bf16 cache, window smaller than the chunk", new(4, 2, headDim, 9, 3, 12, 4, 0, scale, Type: DType.BF16));
        }

        if (!shapes.IsTiny)
        {
            // Around the sizes of tiles of queries and keys.
            foreach ((int rows, int position) in ((int, int)[])[(1, 63), (1, 64), (1, 127), (1, 300), (15, 0), (16, 0),
                (17, 0), (31, 33), (33, 31), (64, 64), (65, 0), (63, 129)])
            {
                yield return Case("no window", new(4, 2, 64, rows, position, position + rows, 0, 50, 0.125f));
                yield return Case("window 32", new(2, 1, 16, rows, position, 32 + rows - 1, 32, 50, 0.25f));
            }

            yield return Case("a long context", new(8, 4, 64, 1, 2000, 2048, 0, 50, 0.125f));
            yield return Case("27B's heads in small", new(32, 16, 128, 2, 5, 8, 0, 50, 0.083333336f));
        }

        yield return Case("scores far beyond the cap", new(4, 2, 16, 3, 20, 23, 0, 50, 0.25f, Size: 12));
        yield return Case("scores of hundreds without a cap", new(4, 2, 16, 3, 20, 23, 0, 0, 0.25f, Size: 8));
        yield return Case("a small cap", new(4, 2, 16, 3, 20, 23, 0, 0.5f, 0.25f));
        yield return Case("no rows", new(4, 2, 16, 0, 5, 8, 0, 50, 0.25f));
        yield return NonFiniteKeys(DType.F32);
        yield return NonFiniteKeys(DType.BF16);
        yield return InfiniteScores();
        if (shapes.IsLarge)
        {
            yield return Case("2B, one token late in the context", new(8, 4, 256, 1, 8000, 8192, 0, 50, 0.0625f));
            yield return Case("2B, a chunk in the window", new(8, 4, 256, 65, 5000, 4224, 4096, 50, 0.0625f));
            yield return Case("bf16 cache, 2B, one token late in the context",
                new(8, 4, 256, 1, 8000, 8192, 0, 50, 0.0625f, Type: DType.BF16));
            yield return Case("bf16 cache, 2B, a chunk in the window", new(8, 4, 256, 65, 5000, 4224, 4096, 50, 0.0625f, Type: DType.BF16));
        }
    }

    internal static ConformanceCase Case(string name, Setup c) =>
        new(Op, string.Create(CultureInfo.InvariantCulture,
            $"{name}: {c.Rows} row(s) at {c.Position}, {c.Heads}/{c.KvHeads} heads of {c.HeadDim}, ring {c.Capacity}, window "
                + $"{c.Window}, cap {c.Cap}"), WorkOf(c), trial =>
        {
            Layout layout = Layout.At(c.Rows + c.Heads);
            TrialMatrix q = trial.Input("q", c.Rows, c.Heads * c.HeadDim, layout, c.Size);
            Check(trial, c, q, Cache(trial, c), layout);
        });

    /// <summary>A NaN key or value is NaN for those who see it, and for nobody else. Compared: NaN is NaN.</summary>
    private static ConformanceCase NonFiniteKeys(DType type)
    {
        Setup c = new(4, 2, 16, 6, 10, 16, 4, 50, 0.25f, Type: type);
        return new(Op, RopeCases.NameOf(type) + "a NaN key and an infinite value reach the queries that see them", WorkOf(c), trial =>
        {
            TrialMatrix q = trial.Input("q", c.Rows, c.Heads * c.HeadDim);
            // Position 9 is seen by the queries 10, 11 and 12; position 14 by 14 and 15.
            TrialCache cache = Cache(trial, c, (head, position, i, isKey) => (head, position, i, isKey) switch
            {
                (0, 9, 3, true) => float.NaN,
                (1, 14, 5, false) => float.PositiveInfinity,
                _ => null,
            });
            Check(trial, c, q, cache, Layout.Dense);
        });
    }

    /// <summary>Without a cap a score of +∞ is ∞/∞ = NaN; with one it is the cap.</summary>
    private static ConformanceCase InfiniteScores()
    {
        Setup c = new(2, 1, 16, 2, 3, 8, 0, 0, 0.25f);
        return new(Op, "an infinite query without a cap", WorkOf(c), trial =>
        {
            float[] values = trial.Random.Normals(2 * 32);
            values[0] = float.PositiveInfinity;
            TrialMatrix q = trial.Input("q", 2, 32, values);
            // All keys have the same sign there, so that every score of the head is +∞.
            TrialCache cache = Cache(trial, c, (_, _, i, isKey) => isKey && i == 0 ? 1.5f : null);
            Check(trial, c, q, cache, Layout.Dense);
        });
    }

    private static void Check(Trial trial, Setup c, TrialMatrix q, TrialCache cache, Layout layout)
    {
        TrialMatrix z = trial.Output("z", c.Rows, c.Heads * c.HeadDim, layout);
        AttentionShape shape = new(c.Heads, c.Scale, c.Cap, c.Window);
        trial.Run(s => s.Device.Attend(s[q], s[cache], c.Position, shape, s[z]));
        var sizes = new AttendSizes(c, cache, q, firstRow: 0);
        double typicalScore = c.Scale * c.Size * Math.Sqrt(c.HeadDim);
        trial.Compare(z, Limits.Attend(trial.RoundsAttention, c.Cap > 0 ? Math.Min(c.Cap, typicalScore) : typicalScore, c.Cap,
                (long)c.Rows * c.Heads * c.HeadDim),
            (r, column) => sizes[r, column]);
    }

    /// <summary>Values where some query looks, NaN elsewhere; <paramref name="special"/> may put something else.</summary>
    internal static TrialCache Cache(Trial trial, Setup c, Func<int, int, int, bool, float?>? special = null)
    {
        int count = c.KvHeads * c.Capacity * c.HeadDim;
        float[] keys = new float[count];
        float[] values = new float[count];
        Array.Fill(keys, float.NaN);
        Array.Fill(values, float.NaN);
        for (int h = 0; h < c.KvHeads; h++)
        {
            for (int p = FirstKey(c, c.Position); p < c.Position + c.Rows; p++)
            {
                int row = (h * c.Capacity) + (p % c.Capacity);
                for (int i = 0; i < c.HeadDim; i++)
                {
                    keys[(row * c.HeadDim) + i] = special?.Invoke(h, p, i, true) ?? (float)(trial.Random.Normal() * c.Size);
                    values[(row * c.HeadDim) + i] = special?.Invoke(h, p, i, false) ?? (float)trial.Random.Normal();
                }
            }
        }

        return trial.Cache(Role.Input, c.KvHeads, c.Capacity, c.HeadDim, keys, values, c.Type);
    }

    internal static int FirstKey(Setup c, int position) => c.Window > 0 ? Math.Max(0, position - c.Window + 1) : 0;

    internal static long WorkOf(Setup c)
    {
        long keys = 0;
        for (int t = 0; t < c.Rows; t++)
            keys += c.Position + t - FirstKey(c, c.Position + t) + 1;
        return 2 * keys * c.Heads * c.HeadDim;
    }
}
