using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>
/// RopeThenStore and Attend of several sequences: runs of one and of more rows, caches of different capacities, wrapped rings. Compared with the reference as the ops of one sequence are,
/// and bit by bit with those ops, called once for each sequence.
/// </summary>
internal static class RaggedCases
{
    /// <summary>A sequence of a case; <paramref name="Gap"/> rows before it belong to none.</summary>
    private readonly record struct Run(int Rows, int Position, int Capacity, int Gap = 0);

    private static readonly (string Name, int Window, Run[] Runs)[] Batches =
    [
        ("a decode step", 0, [new(1, 0, 1), new(1, 40, 64), new(1, 7, 8), new(1, 300, 512)]),
        ("a decode step in windows, rings wrapped",
            6, [new(1, 2, 6), new(1, 40, 6), new(1, 1_000_003, 11), new(1, 15, 16), new(1, 16, 16)]),
        ("eight of one capacity", 0,
            [new(1, 3, 48), new(1, 47, 48), new(1, 0, 48), new(1, 20, 48), new(1, 21, 48), new(1, 31, 48), new(1, 32, 48), new(1, 33, 48)]),
        ("nine in windows", 4,
            [new(1, 3, 8), new(1, 47, 8), new(1, 0, 8), new(1, 20, 8), new(1, 21, 8), new(1, 31, 8), new(1, 32, 8), new(1, 33, 8),
                new(1, 5, 8)]),
        ("prompts and steps", 0, [new(1, 12, 16), new(9, 3, 32), new(2, 0, 2), new(1, 50, 64)]),
        ("prompts and steps in windows", 5, [new(7, 9, 11), new(1, 12, 5), new(3, 100, 9), new(1, 3, 8)]),
        ("rows between that belong to none", 0, [new(1, 5, 8, 2), new(2, 3, 6), new(1, 9, 12, 1)]),
    ];

    public static IEnumerable<ConformanceCase> RopeThenStore(Shapes shapes) => Cases(shapes, RopeThenStore);

    public static IEnumerable<ConformanceCase> Attend(Shapes shapes) => Cases(shapes, Attend);

    private static IEnumerable<ConformanceCase> Cases(Shapes shapes, Func<string, int, int, int, int, Run[], DType, ConformanceCase> make)
    {
        foreach (int headDim in shapes.IsTiny ? (int[])[10, 16] : [10, 64, 128, 256])
        {
            foreach ((string name, int window, Run[] runs) in Batches)
            {
                // An emulator takes long over long caches.
                if (!shapes.IsTiny || runs.All(r => r.Capacity <= 64))
                    yield return make(name, 4, 2, headDim, window, runs, DType.F32);
            }

            yield return make("one head each", 3, 3, headDim, 0, [new(1, 12, 16), new(1, 3, 32), new(2, 0, 2)], DType.F32);
            yield return make("bf16 caches, one head each", 3, 3, headDim, 0, [new(1, 12, 16), new(1, 3, 32)], DType.BF16);
            yield return make("bf16 caches, two heads each", 4, 2, headDim, 0, [new(1, 12, 16), new(1, 3, 32)], DType.BF16);
            yield return make("bf16 caches, a decode step in windows, rings wrapped", 4, 2, headDim, 6,
                [new(1, 2, 6), new(1, 40, 6), new(1, 1_000_003, 11), new(2, 15, 16)], DType.BF16);
        }

        yield return make("no sequences", 4, 2, 16, 0, [], DType.F32);
        if (shapes.IsLarge)
            yield return make("2B, eight tokens late in the context",
                8, 4, 256, 4096, [.. Enumerable.Range(0, 8).Select(n => new Run(1, 5000 + (300 * n), 4351))], DType.F32);
    }

    private static ConformanceCase RopeThenStore(string name, int heads, int kvHeads, int headDim, int window, Run[] runs, DType type) =>
        new(nameof(Device.RopeThenStore), NameOf(name, heads, kvHeads, headDim, window, runs),
            4L * RowsOf(runs) * (heads + kvHeads) * headDim, trial =>
        {
            int q = heads * headDim, kv = kvHeads * headDim;
            TrialMatrix qkv = trial.InOut("qkv", RowsOf(runs), q + (2 * kv), Layout.At(runs.Length));
            // Not so many angles as positions: the table is read at the position itself.
            Run[] near = [.. runs.Select(r => r with { Position = r.Position % 4000 })];
            TrialMatrix table = RopeCases.Table(trial, near.Append(default).Max(r => r.Position + r.Rows), headDim, Layout.Dense);
            TrialCache[] caches = [.. near.Select(r => RopeCases.Cache(trial, kvHeads, headDim, r.Capacity, type))];
            trial.Run(s => s.Device.RopeThenStore(s[qkv], Sequences(s, near, caches), s[table]));
            trial.Compare(qkv, Limits.Elementwise, (r, j) => IsOfOne(near, r) && j < q + kv ? RopeCases.PairOf(qkv, headDim, r, j) : 0);
            for (int n = 0; n < near.Length; n++)
            {
                (Run run, TrialCache cache, int first) = (near[n], caches[n], FirstRow(near, n));
                cache.CompareKeys(trial,
                    (row, i) => RopeCases.SizeOfKey(cache, qkv, q, first, run.Rows, run.Position, row, i));
                Trial.CompareBits(cache.Values);
            }

            trial.RunAgain("one sequence after the other", s =>
            {
                foreach (SequenceRows one in Sequences(s, near, caches))
                    s.Device.RopeThenStore(s[qkv].RowRange(one.FirstRow, one.RowCount), one.Position, s[table], one.Cache);
            });
        });

    private static ConformanceCase Attend(
        string name, int heads, int kvHeads, int headDim, int window, Run[] runs, DType type)
    {
        float scale = (float)(1 / Math.Sqrt(headDim));
        AttendCases.Setup[] setups =
            [.. runs.Select(r => new AttendCases.Setup(
                heads, kvHeads, headDim, r.Rows, r.Position, r.Capacity, window, 50, scale, Type: type))];
        return new(nameof(Device.Attend), NameOf(name, heads, kvHeads, headDim, window, runs), setups.Sum(AttendCases.WorkOf), trial =>
        {
            Layout layout = Layout.At(runs.Length);
            TrialMatrix q = trial.Input("q", RowsOf(runs), heads * headDim, layout);
            TrialCache[] caches = [.. setups.Select(c => AttendCases.Cache(trial, c))];
            // Rows of no sequence keep what they have; those of a sequence may hold anything before.
            TrialMatrix z = runs.Any(r => r.Gap > 0) ? trial.InOut("z", q.Rows, q.Columns, layout)
                : trial.Output("z", q.Rows, q.Columns, layout);
            AttentionShape shape = new(heads, scale, 50, window);
            trial.Run(s => s.Device.Attend(s[q], Sequences(s, runs, caches), shape, s[z]));
            AttendSizes[] sizes = [.. setups.Select((c, n) => new AttendSizes(c, caches[n], q, FirstRow(runs, n)))];
            trial.Compare(z, Limits.Attend(trial.RoundsAttention, 1, 50, (long)q.Rows * q.Columns), (r, column) =>
            {
                int n = Array.FindIndex(runs, run => IsOf(runs, run, r));
                return n < 0 ? 0 : sizes[n][r - FirstRow(runs, n), column];
            });
            trial.RunAgain("one sequence after the other", s =>
            {
                foreach (SequenceRows one in Sequences(s, runs, caches))
                    s.Device.Attend(s[q].RowRange(one.FirstRow, one.RowCount), one.Cache,
                        one.Position, shape, s[z].RowRange(one.FirstRow, one.RowCount));
            });
        });
    }

    private static SequenceRows[] Sequences(Side side, Run[] runs, TrialCache[] caches) =>
        [.. runs.Select((r, n) => new SequenceRows(side[caches[n]], FirstRow(runs, n), r.Rows, r.Position))];

    private static int FirstRow(Run[] runs, int n) => runs.Take(n).Sum(r => r.Gap + r.Rows) + runs[n].Gap;

    private static bool IsOf(Run[] runs, Run run, int row)
    {
        int first = FirstRow(runs, Array.IndexOf(runs, run));
        return row >= first && row < first + run.Rows;
    }

    private static bool IsOfOne(Run[] runs, int row) => Array.Exists(runs, run => IsOf(runs, run, row));

    private static int RowsOf(Run[] runs) => runs.Sum(r => r.Gap + r.Rows);

    private static string NameOf(string name, int heads, int kvHeads, int headDim, int window, Run[] runs) =>
        FormattableString.Invariant($"{name}: {runs.Length} sequence(s), {heads}/{kvHeads} heads of {headDim}, window {window}");
}
