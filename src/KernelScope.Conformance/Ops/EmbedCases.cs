using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>y = scale · E[token]: one product, rounded, so the bits are compared (a float64 table may be narrowed first: within the limit).</summary>
internal static class EmbedCases
{
    private const string Op = nameof(Device.Embed);

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        for (int turn = 0; turn < shapes.Sizes.Length; turn++)
        {
            WeightForm form = WeightForm.At(turn);
            yield return Plain(shapes.RowsFor(turn, shapes.Size(turn)), 37, shapes.Size(turn), form, 15.25f, Layout.At(turn));
        }

        yield return Plain(0, 37, 9, new(DType.BF16), 2f, Layout.Strided);
        yield return Plain(5, 1, 9, new(DType.F16), 0.001f, Layout.Dense);
        yield return Parts();
        yield return Extremes();
        if (shapes.IsLarge)
            yield return Plain(64, 8192, 2304, new(DType.BF16), 48f, Layout.Dense);
    }

    private static ConformanceCase Plain(int tokens, int vocabulary, int columns, WeightForm form, float scale, Layout layout) =>
        new(Op, $"{tokens} token(s) of {vocabulary}, {columns} columns, {form}{(layout == Layout.Dense ? "" : ", strided rows")}",
            (long)tokens * columns, trial =>
        {
            int[] ids = [.. Enumerable.Range(0, tokens)
                .Select(t => t switch { 0 => vocabulary - 1, 1 => 0, _ => trial.Random.Below(vocabulary) })];
            Check(trial, ids, trial.Weight("table", vocabulary, columns, form), scale, layout, form.DType == DType.F64);
        });

    private static ConformanceCase Parts() =>
        new(Op, "a table in three parts, of which one is transposed", 12 * 17, trial =>
        {
            TrialWeight table =
                trial.Weight(
                    "table", 17, [new(5, new(DType.BF16)), new(1, new(DType.F32, Transposed: true)), new(6, new(DType.F16, ByteOffset: 1))],
                    (_, _) => trial.Random.Normal());
            Check(trial, [.. Enumerable.Range(0, 12)], table, 48f, Layout.Strided, narrowed: false);
        });

    private static ConformanceCase Extremes() =>
        new(Op, "float16 denormals, signed zeros, infinities, NaN, overflow", 4 * 9, trial =>
        {
            double[] values =
                [5.9604644775390625e-8, -5.9604644775390625e-8, -0.0, double.PositiveInfinity, double.NaN, 65504, 3.0517578125e-5,
                    1, double.NegativeInfinity];
            TrialWeight table = trial.Weight("table", 9, [new PartForm(2, new(DType.F16))], (r, i) => values[(i + r) % 9]);
            Check(trial, [1, 0, 1], table, 1e34f, Layout.Dense, narrowed: false);
        });

    private static void Check(Trial trial, int[] ids, TrialWeight table, float scale, Layout layout, bool narrowed)
    {
        TrialMatrix y = trial.Output("y", ids.Length, table.Columns, layout);
        trial.Run(s => s.Device.Embed(ids, s[table], scale, s[y]));
        if (narrowed)
            trial.CompareRelative(y, Limits.Elementwise);
        else
            Trial.CompareBits(y);
    }
}
