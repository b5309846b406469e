using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>h = gelu(g) ⊙ u with g = x·Gᵀ, u = x·Uᵀ: an error is divided by ‖x‖(‖G‖·|u| + |gelu(g)|·‖U‖) + |g·u|, what errors of g, u and of gelu give.</summary>
internal static class GatedGeluCases
{
    private const string Op = nameof(Device.GatedGelu);

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        for (int turn = 0; turn < shapes.Sizes.Length * (shapes.IsTiny ? 1 : 2); turn++)
        {
            int pass = turn / shapes.Sizes.Length;
            int inputs = shapes.Size(turn + 1);
            int mlp = shapes.Size((7 * turn) + pass);
            int rows = turn % 3 == 0 ? 1 : shapes.RowsFor(turn + pass, 2L * inputs * mlp);
            WeightForm form = WeightForm.At(turn + pass);
            yield return Plain($"{inputs} to {mlp}, one matrix, {form}", rows, inputs,
                mlp, Layout.At(turn), new PartForm(2 * mlp, form));
        }

        foreach (int rows in (int[])[1, 9])
        {
            yield return Plain("gate and up of one dtype", rows, 33, 65, Layout.Dense, new(65, new(DType.BF16)), new(65, new(DType.BF16)));
            yield return Plain("gate and up of different dtypes", rows, 31, 17, Layout.Strided, new(17, new(DType.F16, ByteOffset: 1)),
                new(17, new(DType.F32, Transposed: true)));
            yield return Plain("a part that ends within the gate", rows, 17, 9, Layout.Dense,
                new(5, new(DType.F32)), new(7, new(DType.BF16)), new(6, new(DType.F64)));
            yield return Saturated(rows);
        }

        yield return Plain("no rows", 0, 17, 9, Layout.Strided, new PartForm(18, new(DType.BF16)));
        yield return NonFinite();
        if (shapes.IsLarge)
        {
            yield return Plain("2304 to 9216", 1, 2304, 9216, Layout.Dense, new(9216, new(DType.BF16)), new(9216, new(DType.BF16)));
            yield return Plain("2304 to 9216", 64, 2304, 9216, Layout.Dense, new(9216, new(DType.BF16)), new(9216, new(DType.BF16)));
        }
    }

    internal static ConformanceCase Plain(string name, int rows, int inputs, int mlp, Layout layout, params PartForm[] parts) =>
        new(Op, $"{rows} row(s), {name}", 2L * rows * inputs * mlp, trial =>
            Check(trial, trial.Input("x", rows, inputs, layout),
                trial.Weight("gateUp", inputs, parts, (_, _) => trial.Random.Normal() * 0.3), layout));

    private static ConformanceCase Saturated(int rows) =>
        new(Op, $"gates from 1e-6 to 1e6 of either sign, {rows} row(s)", rows * 18L * 26, trial =>
            Check(trial, trial.Input("x", rows, 9),
                trial.Weight("gateUp", 9, [new PartForm(26, new(DType.F32))], (j, _) => trial.Random.Normal() * (j < 13 ? GateSize(j) : 1)),
                Layout.Dense));

    /// <summary>
    /// Compared: NaN is NaN, ∞ may have become NaN. gelu(−∞) is −∞·0 = NaN.
    /// </summary>
    private static ConformanceCase NonFinite() =>
        new(Op, "NaN and infinity stay in their row", 4 * 34 * 9, trial =>
        {
            float[] values = trial.Random.Normals(4 * 17);
            values[3] = float.NaN;
            values[(2 * 17) + 16] = float.PositiveInfinity;
            Check(trial, trial.Input("x", 4, 17, values), trial.Weight("gateUp", 18, 17, new(DType.F32)), Layout.Dense);
        });

    private static void Check(Trial trial, TrialMatrix x, TrialWeight w, Layout layout)
    {
        int mlp = w.Rows / 2;
        TrialMatrix y = trial.Output("h", x.Rows, mlp, layout);
        trial.Run(s => s.Device.GatedGelu(s[x], s[w], s[y]));
        float[] products = trial.Products(x, w);
        double[] norms = w.Norms();
        Limit limit = Limits.Product(trial.Precision, x.Columns, (long)y.Rows * y.Columns);
        // Two rounded products meet in h and their variances add, that of the gate times (g·gelu′/gelu)², at most 1.3² above 0: 2.7 of one product. Of a single input both
        // share the error of x, whose variance then counts (1 + 1.3)² = 5.3 times: 4 in the mean of x and W.
        limit = trial.Precision == Precision.Fast ? limit with { Nmse = 4 * limit.Nmse } : limit;
        trial.Compare(y, limit, (r, j) =>
        {
            double g = products[(r * w.Rows) + j];
            double u = products[(r * w.Rows) + mlp + j];
            double norm = x.NormOf(r);
            // |gelu′| < 1.13; |gelu(z)| ≤ z above 0, and at most |z| and 0.171 below.
            double gelu = g > 0 ? g : Math.Min(-g, 0.171);
            return (1.13 * norm * norms[j] * Math.Abs(u)) + (gelu * norm * norms[mlp + j]) + Math.Abs(g * u);
        });
    }

    private static double GateSize(int j)
    {
        double size = 1e-6;
        for (int p = 0; p < j; p++)
            size *= 10;
        return size;
    }
}
