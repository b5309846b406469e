using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>
/// Softcap (relative to the cap), CrossEntropy (an error is divided by 2·‖x‖·max‖w‖ + 2·cap + |loss| + 1: two logits and a logarithm), TopK (indices and bits).
/// </summary>
internal static class LogitCases
{
    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        for (int turn = 0; turn < shapes.Sizes.Length; turn++)
        {
            int columns = shapes.Size(turn);
            int rows = turn % 3 == 0 ? 1 : shapes.RowsFor(turn, columns);
            yield return Softcap(rows, columns, turn % 2 == 0 ? 30f : 0.75f, Layout.At(turn));
            yield return TopK(rows, columns, 1 + (turn % 9), Layout.At(turn));
            int inputs = shapes.Size(turn + 5);
            yield return CrossEntropy(shapes.RowsFor(turn, (long)inputs * columns), inputs, columns, turn % 2 == 0 ? 30f
                : 0f, WeightForm.At(turn), Layout.At(turn + 1));
        }

        yield return Softcap(0, 9, 30f, Layout.Strided);
        yield return SoftcapExtremes();
        yield return TopK(0, 9, 3, Layout.Strided);
        yield return TopK(2, 17, 1000, Layout.Strided);
        yield return TopKTies();
        yield return TopKOrder(shapes.IsTiny ? 65 : 300);
        yield return CrossEntropy(0, 9, 17, 30f, new(DType.BF16), Layout.Strided);
        yield return ExtremeLogits(cap: 0);
        yield return ExtremeLogits(cap: 30);
        yield return NonFiniteLogits();
        if (!shapes.IsTiny)
        {
            yield return CrossEntropy(3, 33, 5003, 30f, new(DType.BF16), Layout.Dense);
            yield return CrossEntropy(17, 65, 1999, 0f, new(DType.F32), Layout.Strided);
            yield return TopK(2, 5003, 40, Layout.Dense);
            yield return TopK(1, 70_001, 5, Layout.Strided);
        }

        if (shapes.IsLarge)
        {
            yield return CrossEntropy(2, 2304, 32_003, 30f, new(DType.BF16), Layout.Dense);
            yield return TopK(3, 256_000, 64, Layout.Dense);
        }
    }

    private static ConformanceCase Softcap(int rows, int columns, float cap, Layout layout) =>
        new(nameof(Device.Softcap), FormattableString.Invariant($"{rows} row(s) of {columns}, cap {cap}{Strided(layout)}"),
            20L * rows * columns, trial =>
        {
            TrialMatrix x = trial.InOut("x", rows, columns, layout, size: 1.5 * cap);
            trial.Run(s => s.Device.Softcap(s[x], cap));
            trial.Compare(x, Limits.Softcap, (_, _) => cap);
        });

    /// <summary>Compared: NaN is NaN; ±∞ is ±cap; small values within 10⁻⁶ of the cap.</summary>
    private static ConformanceCase SoftcapExtremes() =>
        new(nameof(Device.Softcap), "zeros, denormals, 1e-6 to 1e38, infinities, NaN", 20 * 14, trial =>
        {
            TrialMatrix x =
                trial.InOut("x",
                    1, 14, [0f, -0f, 1e-40f, -1e-6f, 0.01f, 30f, -300f, 2659f, -2663f, 1e5f, float.MaxValue, float.PositiveInfinity,
                        float.NegativeInfinity, float.NaN]);
            trial.Run(s => s.Device.Softcap(s[x], 30f));
            trial.Compare(x, Limits.Softcap, (_, _) => 30);
        });

    private static ConformanceCase CrossEntropy(int rows, int inputs, int vocabulary, float cap, WeightForm form, Layout layout) =>
        new(nameof(Device.CrossEntropy),
            FormattableString.Invariant($"{rows} row(s), {inputs} inputs, vocabulary {vocabulary}, cap {cap}, {form}{Strided(layout)}"),
            (long)rows * inputs * vocabulary, trial =>
            CheckLoss(trial, trial.Input("x", rows, inputs, layout, size: 0.7), trial.Weight("unembedding", vocabulary, inputs, form),
                cap, layout));

    /// <summary>Logits of ±10⁴ and more: exp overflows unless the largest is taken off first, and far targets lose 10⁴ nats.</summary>
    private static ConformanceCase ExtremeLogits(float cap) =>
        new(nameof(Device.CrossEntropy), FormattableString.Invariant($"logits of thousands, cap {cap}"), 5 * 9 * 37, trial =>
            CheckLoss(trial, trial.Input("x", 5, 9, size: 300), trial.Weight("unembedding", 37, 9, new(DType.F32), 20), cap, Layout.Dense));

    private static ConformanceCase NonFiniteLogits() =>
        new(nameof(Device.CrossEntropy), "NaN stays in its row", 4 * 9 * 37, trial =>
        {
            float[] values = trial.Random.Normals(4 * 9);
            values[9 + 2] = float.NaN;
            CheckLoss(trial, trial.Input("x", 4, 9, values), trial.Weight("unembedding", 37, 9, new(DType.BF16)), 30, Layout.Dense);
        });

    private static void CheckLoss(Trial trial, TrialMatrix x, TrialWeight weight, float cap, Layout layout)
    {
        int[] targets =
            [.. Enumerable.Range(0, x.Rows).Select(t => t switch { 0 => weight.Rows - 1, 1 => 0, _ => trial.Random.Below(weight.Rows) })];
        TrialMatrix loss = trial.Output("loss", x.Rows, 1, layout);
        trial.Run(s => s.Device.CrossEntropy(s[x], s[weight], cap, targets, s[loss]));
        double largest = weight.Norms().Max();
        Limit limit = Limits.Product(trial.Precision, x.Columns, x.Rows) with { Nmse = double.PositiveInfinity };
        trial.Compare(loss, limit, (r, _) => (2 * x.NormOf(r) * largest) + (2 * cap) + Math.Abs((double)loss.Expected[loss.IndexOf(r, 0)])
            + 1);
    }

    internal static ConformanceCase TopK(int rows, int columns, int k, Layout layout) =>
        new(nameof(Device.TopK), $"{k} of {rows} row(s) of {columns}{Strided(layout)}", (long)rows * columns, trial =>
            CheckTopK(trial, trial.Input("x", rows, columns, layout), k));

    private static ConformanceCase TopKTies() =>
        new(nameof(Device.TopK), "ties, signed zeros, infinities and several NaN: lower index first", 6 * 33, trial =>
        {
            float[] values = new float[6 * 33];
            for (int n = 0; n < values.Length; n++)
                values[n] = trial.Random.Below(5) - 2;
            for (int j = 0; j < 33; j++)
            {
                values[33 + j] = 7;
                values[66 + j] = j % 2 == 0 ? -0f : 0f;
                values[99 + j] = float.NegativeInfinity;
            }

            (values[4], values[20], values[32]) = (float.NaN, float.PositiveInfinity, float.NaN);
            (values[99 + 32], values[99 + 7]) = (float.MinValue, float.NaN);
            CheckTopK(trial, trial.Input("x", 6, 33, values), 12);
        });

    /// <summary>Ascending, descending, and neighbours that differ in the last bit.</summary>
    private static ConformanceCase TopKOrder(int columns) =>
        new(nameof(Device.TopK), $"all {columns} of rows in ascending order, in descending order, one bit apart", 3L * columns, trial =>
        {
            float[] values = new float[3 * columns];
            for (int j = 0; j < columns; j++)
            {
                values[j] = j - (columns / 2f);
                values[columns + j] = -j;
                values[(2 * columns) + j] = BitConverter.Int32BitsToSingle(0x3F800000 + trial.Random.Below(columns));
            }

            CheckTopK(trial, trial.Input("x", 3, columns, values), columns);
        });

    private static void CheckTopK(Trial trial, TrialMatrix x, int k)
    {
        TrialCodes lists = trial.Codes(x.Columns);
        trial.Run(s => s.Device.TopK(s[x], k, s[lists]));
        Trial.CompareBits(lists);
    }

    private static string Strided(Layout layout) => layout == Layout.Dense ? "" : layout == Layout.Aligned ? ", wider rows"
        : ", strided rows";
}
