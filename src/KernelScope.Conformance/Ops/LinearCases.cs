using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>y = x·Wᵀ: an error is divided by ‖x‖·‖w‖, the size of the sum.</summary>
internal static class LinearCases
{
    private const string Op = nameof(Device.Linear);

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        // Sizes, forms and layouts step at rates without a common factor: every size meets every form over the passes, not every pair of sizes.
        for (int turn = 0; turn < shapes.Sizes.Length * (shapes.IsTiny ? 2 : 4); turn++)
        {
            int pass = turn / shapes.Sizes.Length;
            int inputs = shapes.Size(turn);
            int outputs = shapes.Size((5 * turn) + (7 * pass) + 2);
            int rows = pass == 0 ? 1 : shapes.RowsFor(turn + pass, (long)inputs * outputs);
            yield return Plain(rows, inputs, outputs, WeightForm.At(turn + pass), Layout.At(turn + pass));
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

        foreach (DType dtype in (DType[])[DType.BF16, DType.F32, DType.F16, DType.F64])
        {
            yield return OneHot(dtype, shapes.IsTiny ? 17 : 129, transposed: false);
            yield return OneHot(dtype, shapes.IsTiny ? 9 : 65, transposed: true);
        }

        yield return Denormals(new(DType.F16));
        yield return Denormals(new(DType.F16, Transposed: true, ByteOffset: 1));
        yield return NoRows();
        foreach (int rows in (int[])[1, 9])
        {
            yield return SameSign(rows, shapes.IsTiny ? 200 : 2304);
            yield return LargeAndSmall(rows);
            yield return NonFinite(rows);
        }

        if (shapes.IsLarge)
        {
            yield return Plain(1, 2304, 18432, new(DType.BF16), Layout.Dense);
            yield return Plain(64, 2304, 4096, new(DType.BF16), Layout.Dense);
            yield return Plain(130, 2304, 2304, new(DType.F32), Layout.Dense);
            yield return Plain(33, 9216, 2304, new(DType.BF16), Layout.Dense);
            yield return Plain(1, 9216, 2304, new(DType.F32), Layout.Dense);
        }
    }

    /// <summary>Runs the op and compares.</summary>
    internal static void Check(Trial trial, TrialMatrix x, TrialWeight w, Layout layout = default)
    {
        TrialMatrix y = trial.Output("y", x.Rows, w.Rows, layout);
        trial.Run(s => s.Device.Linear(s[x], s[w], s[y]));
        double[] norms = w.Norms();
        trial.Compare(y, Limits.Product(trial.Precision, x.Columns, (long)y.Rows * y.Columns), (r, j) => x.NormOf(r) * norms[j]);
    }

    internal static ConformanceCase Plain(int rows, int inputs, int outputs, WeightForm form, Layout layout) =>
        new(Op, $"{rows} row(s), {inputs} to {outputs}, {form}{(layout == Layout.Dense ? "" : ", strided rows")}",
            (long)rows * inputs * outputs, trial =>
            Check(trial, trial.Input("x", rows, inputs, layout), trial.Weight("w", outputs, inputs, form), layout));

    private static ConformanceCase Parts(string name, int rows, int inputs, params PartForm[] parts) =>
        new(Op, $"{name}, {rows} row(s)", (long)rows * inputs * parts.Sum(part => part.Rows), trial =>
            Check(trial, trial.Input("x", rows, inputs, Layout.Strided), trial.Weight("w", inputs, parts, (_, _) => trial.Random.Normal()),
                Layout.Strided));

    /// <summary>Every output picks one input: a value in the wrong place cannot hide, and the error is relative to the value itself.</summary>
    private static ConformanceCase OneHot(DType dtype, int size, bool transposed) =>
        new(Op, $"one weight of 1 an output: values arrive where they belong, {new WeightForm(dtype, transposed)}", 3L * size * size,
            trial =>
            Check(trial, trial.Input("x", 3, size),
                trial.Weight("w", size, [new PartForm(size, new(dtype, transposed))], (j, i) => i == (7 * j) % size ? 1 : 0)));

    /// <summary>Float16 denormals are ordinary float32 numbers, and common among float16 weights: below 6.1·10⁻⁵.</summary>
    private static ConformanceCase Denormals(WeightForm form) =>
        new(Op, $"weights of which most are denormals, {form}", 2 * 33 * 9, trial =>
            Check(trial, trial.Input("x", 2, 33), trial.Weight("w", 33, [new PartForm(9, form)], (_, _) => trial.Random.Normal() * 2e-5)));

    private static ConformanceCase NoRows() =>
        new(Op, "no rows", 0,
            trial => Check(trial, trial.Input("x", 0, 17, Layout.Strided), trial.Weight("w", 9, 17, new(DType.BF16)), Layout.Strided));

    private static ConformanceCase SameSign(int rows, int inputs) =>
        new(Op, $"a long sum of one sign, {rows} row(s)", (long)rows * inputs * 9, trial =>
        {
            float[] values = trial.Random.Normals(rows * inputs);
            for (int i = 0; i < values.Length; i++)
                values[i] = Math.Abs(values[i]);
            Check(trial, trial.Input("x", rows, inputs, values),
                trial.Weight("w", inputs, [new PartForm(9, new(DType.F32))], (_, _) => trial.Random.Uniform()));
        });

    private static ConformanceCase LargeAndSmall(int rows) =>
        new(Op, $"values from 1e-15 to 1e15 in one sum, {rows} row(s)", rows * 33L * 17, trial =>
        {
            float[] values = new float[rows * 33];
            foreach (ref float value in values.AsSpan())
                value = (float)(trial.Random.Normal() * Magnitude(trial.Random.Below(31) - 15));
            Check(trial, trial.Input("x", rows, 33, values),
                trial.Weight("w", 33, [new PartForm(17, new(DType.F32))],
                    (_, _) => trial.Random.Normal() * Magnitude(trial.Random.Below(11) - 5)));
        });

    /// <summary>NaN and infinity in one row or one output stay there. Compared: NaN is NaN; ∞ may have become NaN; all else is within the limit.</summary>
    private static ConformanceCase NonFinite(int rows) =>
        new(Op, $"NaN and infinity stay in their row and their output, {rows} row(s)", rows * 33L * 17, trial =>
        {
            float[] values = trial.Random.Normals(rows * 33);
            if (rows > 1)
            {
                values[32] = float.NaN;
                values[(2 * 33) + 5] = float.PositiveInfinity;
                values[(3 * 33) + 31] = float.NegativeInfinity;
            }

            Check(trial, trial.Input("x", rows, 33, values),
                trial.Weight("w", 33, [new PartForm(17, new(DType.F32))], (j, i) => (j, i) switch
            {
                (3, 32) => double.NaN,
                (16, 0) => double.PositiveInfinity,
                _ => trial.Random.Normal(),
            }));
        });

    private static double Magnitude(int power)
    {
        double value = 1;
        for (int p = 0; p < Math.Abs(power); p++)
            value *= 10;
        return power < 0 ? 1 / value : value;
    }
}
