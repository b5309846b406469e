using KernelScope.Devices;

namespace KernelScope.Conformance.Ops;

/// <summary>
/// Normalize, ApplyGain, RmsNorm, AddNormedThenNorm. Errors are relative to the value; ApplyGain has only "rounded" steps, so its bits are compared.
/// Values stay below 10¹⁵: float32 squares overflow at 10¹⁹, and no device is asked to do better.
/// </summary>
internal static class NormCases
{
    private const float Epsilon = 1e-6f;

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        for (int turn = 0; turn < shapes.Sizes.Length; turn++)
        {
            int columns = shapes.Size(turn);
            int rows = turn % 4 == 0 ? 1 : shapes.RowsFor(turn, columns);
            yield return Normalize(rows, columns, Layout.At(turn), inPlace: turn % 5 == 2);
            yield return ApplyGain(rows, columns, Layout.At(turn + 1), inPlace: turn % 5 == 3);
            yield return RmsNorm(rows, columns, Layout.At(turn), inPlace: turn % 5 == 1);
            yield return AddNormedThenNorm(rows, columns, Layout.At(turn + 2));
        }

        yield return Normalize(0, 9, Layout.Strided, inPlace: false);
        yield return ApplyGain(0, 9, Layout.Strided, inPlace: true);
        yield return RmsNorm(0, 9, Layout.Strided, inPlace: false);
        yield return AddNormedThenNorm(0, 9, Layout.Strided);
        yield return Sizes();
        yield return NonFinite();
        yield return Gains();
        if (shapes.IsLarge)
        {
            foreach (int columns in (int[])[2304, 3584, 4608])
            {
                yield return RmsNorm(64, columns, Layout.Dense, inPlace: false);
                yield return AddNormedThenNorm(1, columns, Layout.Dense);
                yield return AddNormedThenNorm(65, columns, Layout.Dense);
            }
        }
    }

    private static ConformanceCase Normalize(int rows, int columns, Layout layout, bool inPlace) =>
        new(nameof(Device.Normalize), Name(rows, columns, layout, inPlace), (long)rows * columns, trial =>
            CheckNormalize(trial, rows, columns, layout, inPlace, trial.Random.Normals(rows * columns, 3), Limits.Elementwise));

    /// <summary>Rows of one size each: zeros, denormals, far below and far above √ε.</summary>
    private static ConformanceCase Sizes() =>
        new(nameof(Device.Normalize), "rows of zeros, of denormals, and from 1e-20 to 1e15", 7 * 33, trial =>
        {
            double[] sizes = [0, 1e-40, 1e-20, 1e-6, 1e-3, 1e8, 1e15];
            float[] values = new float[7 * 33];
            for (int n = 0; n < values.Length; n++)
                values[n] = (float)(trial.Random.Normal() * sizes[n / 33]);
            CheckNormalize(trial, 7, 33, Layout.Dense, inPlace: false, values, Limits.ElementwiseAlone);
        });

    private static ConformanceCase NonFinite() =>
        new(nameof(Device.Normalize), "NaN fills its row; an infinity is NaN and makes the rest of its row 0", 4 * 65, trial =>
        {
            float[] values = trial.Random.Normals(4 * 65);
            values[64] = float.NaN;
            values[65 + 3] = float.PositiveInfinity;
            values[(3 * 65) + 64] = float.NegativeInfinity;
            CheckNormalize(trial, 4, 65, Layout.Strided, inPlace: true, values, Limits.ElementwiseAlone);
        });

    private static void CheckNormalize(Trial trial, int rows, int columns, Layout layout, bool inPlace, float[] values, Limit limit)
    {
        (TrialMatrix x, TrialMatrix y) = Source(trial, rows, columns, layout, inPlace, values);
        trial.Run(s => s.Device.Normalize(s[x], Epsilon, s[y]));
        trial.CompareRelative(y, limit);
    }

    private static ConformanceCase ApplyGain(int rows, int columns, Layout layout, bool inPlace) =>
        new(nameof(Device.ApplyGain), Name(rows, columns, layout, inPlace), (long)rows * columns, trial =>
        {
            (TrialMatrix x, TrialMatrix y) = Source(trial, rows, columns, layout, inPlace, trial.Random.Normals(rows * columns));
            TrialMatrix gain = trial.Input("gain", 1, columns, layout);
            trial.Run(s => s.Device.ApplyGain(s[x], s[gain], s[y]));
            Trial.CompareBits(y);
        });

    private static ConformanceCase Gains() =>
        new(nameof(Device.ApplyGain), "gains of -1, of denormals, of 1e-8, of 1e30, infinite, NaN", 2 * 9, trial =>
        {
            TrialMatrix x = trial.Input("u", 2, 9);
            TrialMatrix gain =
                trial.Input("gain", 1, 9, [-1f, 1e-40f, 1e-8f, 6e-8f, -0.99999994f, 1e30f, float.PositiveInfinity, float.NaN, -2f]);
            TrialMatrix y = trial.Output("y", 2, 9);
            trial.Run(s => s.Device.ApplyGain(s[x], s[gain], s[y]));
            Trial.CompareBits(y);
        });

    private static ConformanceCase RmsNorm(int rows, int columns, Layout layout, bool inPlace) =>
        new(nameof(Device.RmsNorm), Name(rows, columns, layout, inPlace), 2L * rows * columns, trial =>
        {
            (TrialMatrix x, TrialMatrix y) = Source(trial, rows, columns, layout, inPlace, trial.Random.Normals(rows * columns, 2));
            TrialMatrix gain = trial.Input("gain", 1, columns, layout);
            trial.Run(s => s.Device.RmsNorm(s[x], s[gain], Epsilon, s[y]));
            trial.CompareRelative(y, Limits.Elementwise);
            trial.RunAgain("Normalize, then ApplyGain", s =>
            {
                s.Device.Normalize(s[x], Epsilon, s[y]);
                s.Device.ApplyGain(s[y], s[gain], s[y]);
            });
        });

    private static ConformanceCase AddNormedThenNorm(int rows, int columns, Layout layout) =>
        new(nameof(Device.AddNormedThenNorm), Name(rows, columns, layout, inPlace: false), 5L * rows * columns, trial =>
        {
            TrialMatrix branch = trial.Scratch("branch", rows, columns, trial.Random.Normals(rows * columns, 5), layout);
            TrialMatrix post = trial.Input("postGain", 1, columns);
            TrialMatrix next = trial.Input("nextGain", 1, columns);
            TrialMatrix resid = trial.InOut("resid", rows, columns, layout, size: 10);
            TrialMatrix normed = trial.Output("normed", rows, columns, layout);
            trial.Run(s => s.Device.AddNormedThenNorm(s[branch], s[post], s[next], Epsilon, s[resid], s[normed]));
            // The sum may cancel: its error is relative to its two terms, and so is that of its norm.
            trial.Compare(resid, Limits.Elementwise, (r, j) => Terms(resid, r, j));
            double[] factors = [.. Enumerable.Range(0, rows).Select(r => FactorOf(resid, r))];
            trial.Compare(normed, Limits.Elementwise, (r, j) => Terms(resid, r, j) * factors[r] * Math.Abs(1 + (double)next[0, j]));
            trial.RunAgain("the plain form", s =>
            {
                s.Device.RmsNorm(s[branch], s[post], Epsilon, s[branch]);
                s.Device.AddScaled(s[branch], 1f, s[resid]);
                s.Device.RmsNorm(s[resid], s[next], Epsilon, s[normed]);
            });
        });

    private static double Terms(TrialMatrix resid, int r, int j)
    {
        double sum = resid.Expected[resid.IndexOf(r, j)];
        double before = resid[r, j];
        return Math.Abs(sum) + Math.Abs(before) + Math.Abs(sum - before);
    }

    /// <summary>(mean(x²) + ε)^(−1/2) of a row of the expected stream.</summary>
    private static double FactorOf(TrialMatrix resid, int r)
    {
        double squares = 0;
        for (int j = 0; j < resid.Columns; j++)
            squares += Math.Pow(resid.Expected[resid.IndexOf(r, j)], 2);
        return 1 / Math.Sqrt((squares / resid.Columns) + Epsilon);
    }

    private static (TrialMatrix X, TrialMatrix Y) Source(Trial trial, int rows, int columns, Layout layout, bool inPlace, float[] values)
    {
        if (inPlace)
        {
            TrialMatrix both = trial.InOut("x", rows, columns, values, layout);
            return (both, both);
        }

        return (trial.Input("x", rows, columns, values, layout), trial.Output("y", rows, columns, layout));
    }

    private static string Name(int rows, int columns, Layout layout, bool inPlace) =>
        $"{rows} row(s) of {columns}{(layout == Layout.Dense ? "" : layout == Layout.Aligned ? ", wider rows" : ", strided rows")}"
            + $"{(inPlace ? ", in place" : "")}";
}
