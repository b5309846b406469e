using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>y = x·W: an error is divided by ‖x‖ times the norm of the input's column of W, the size of the sum.</summary>
internal static class LinearTransposedCases
{
    private const string Op = nameof(Device.LinearTransposed);

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        // As in LinearCases: every size meets every form over the passes.
        for (int turn = 0; turn < shapes.Sizes.Length * (shapes.IsTiny ? 1 : 2); turn++)
        {
            int pass = turn / shapes.Sizes.Length;
            int outputs = shapes.Size(turn + 1);
            int inputs = shapes.Size((5 * turn) + (7 * pass));
            int rows = turn % 5 == 0 ? 1 : shapes.RowsFor(turn + pass, (long)inputs * outputs);
            yield return Plain(rows, outputs, inputs, WeightForm.At((3 * turn) + pass), Layout.At(turn + pass));
        }

        foreach (int rows in (int[])[1, 5, 33])
        {
            yield return Parts("parts of every dtype and of odd heights", rows, 33,
                new(17, new(DType.BF16)), new(9, new(DType.F32, Transposed: true)), new(1, new(DType.F16, ByteOffset: 1)),
                new(2, new(DType.F64, ByteOffset: 3)), new(3, new(DType.BF16, Transposed: true)));
            yield return Parts("three parts of one dtype (q, k, v)", rows, shapes.IsTiny ? 24 : 224,
                new(shapes.IsTiny ? 16 : 128, new(DType.BF16)), new(shapes.IsTiny ? 8 : 64, new(DType.BF16)),
                new(shapes.IsTiny ? 8 : 64, new(DType.BF16)));
        }

        yield return Plain(0, 9, 17, new(DType.BF16), Layout.Strided);
        if (shapes.IsLarge)
        {
            yield return Plain(64, 18432, 2304, new(DType.BF16), Layout.Dense);
            yield return Plain(130, 2304, 2304, new(DType.F32), Layout.Dense);
        }
    }

    private static ConformanceCase Plain(int rows, int outputs, int inputs, WeightForm form, Layout layout) =>
        new(Op, $"{rows} row(s), {outputs} back to {inputs}, {form}{(layout == Layout.Dense ? "" : ", strided rows")}",
            (long)rows * inputs * outputs, trial =>
            Check(trial, trial.Input("x", rows, outputs, layout), trial.Weight("w", outputs, inputs, form), layout));

    private static ConformanceCase Parts(string name, int rows, int inputs, params PartForm[] parts) =>
        new(Op, $"{name}, {rows} row(s)", (long)rows * inputs * parts.Sum(part => part.Rows), trial =>
            Check(trial, trial.Input("x", rows, parts.Sum(part => part.Rows), Layout.Strided),
                trial.Weight("w", inputs, parts, (_, _) => trial.Random.Normal()), Layout.Strided));

    private static void Check(Trial trial, TrialMatrix x, TrialWeight w, Layout layout)
    {
        TrialMatrix y = trial.Output("y", x.Rows, w.Columns, layout);
        trial.Run(s => s.Device.LinearTransposed(s[x], s[w], s[y]));
        double[] norms = [.. Enumerable.Range(0, w.Columns).Select(w.NormOfInput)];
        trial.Compare(y, Limits.Product(trial.Precision, x.Columns, (long)y.Rows * y.Columns), (r, i) => x.NormOf(r) * norms[i]);
    }
}
