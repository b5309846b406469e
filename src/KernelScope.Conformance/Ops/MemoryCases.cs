using KernelScope.Devices;

namespace KernelScope.Conformance.Ops;

/// <summary>AddScaled, Copy, Read, Write, Allocate and codes: nothing but copies and "rounded" steps, so bits are compared.</summary>
internal static class MemoryCases
{
    private static readonly float[] Extremes =
        [0f, -0f, 1e-45f, -1e-40f, 1.17549435e-38f, 1f, -16777217f, 3.4e38f, float.MaxValue, float.PositiveInfinity, float.NegativeInfinity,
            float.NaN, 0.1f];

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        for (int turn = 0; turn < shapes.Sizes.Length; turn++)
        {
            int columns = shapes.Size(turn);
            int rows = shapes.RowsFor(turn, columns);
            float alpha = turn % 4 switch { 0 => 1f, 1 => -1f, 2 => 0.1f, _ => 0f };
            yield return AddScaled(rows, rows, columns, alpha, Layout.At(turn), Layout.At(turn + 1));
            yield return AddScaled(1, rows, columns, alpha, Layout.At(turn + 1), Layout.At(turn));
            yield return Copy(rows, columns, Layout.At(turn), Layout.At(turn + 1));
            yield return ReadBack(rows, columns, Layout.At(turn));
        }

        yield return AddScaled(0, 0, 9, 1f, Layout.Strided, Layout.Strided);
        yield return AddScaled(1, 0, 9, 1f, Layout.Strided, Layout.Strided);
        yield return AddToItself();
        yield return AddExtremes(0f);
        yield return AddExtremes(-1.5f);
        yield return Copy(0, 9, Layout.Strided, Layout.Strided);
        yield return CopyToItself();
        yield return NewMemory(shapes.IsTiny ? 1000 : 100_003);
        yield return CodesReadBack();
        if (shapes.IsLarge)
            yield return AddScaled(512, 512, 2304, 0.3f, Layout.Dense, Layout.Dense);
    }

    private static ConformanceCase AddScaled(int xRows, int rows, int columns, float alpha, Layout source, Layout destination) =>
        new(nameof(Device.AddScaled),
            FormattableString.Invariant($"{alpha} times {xRows} row(s) to {rows} row(s) of {columns}, {Strides(source, destination)}"),
            (long)rows * columns, trial =>
        {
            TrialMatrix x = trial.Input("x", xRows, columns, source);
            TrialMatrix y = trial.InOut("y", rows, columns, destination);
            trial.Run(s => s.Device.AddScaled(s[x], alpha, s[y]));
            Trial.CompareBits(y);
        });

    private static ConformanceCase AddToItself() =>
        new(nameof(Device.AddScaled), "a matrix to itself", 3 * 65, trial =>
        {
            TrialMatrix y = trial.InOut("y", 3, 65, Layout.Strided);
            trial.Run(s => s.Device.AddScaled(s[y], -0.3f, s[y]));
            Trial.CompareBits(y);
        });

    /// <summary>Every special value plus every other: 0·∞ and ∞ − ∞ are NaN; products and sums below the normal range are kept.</summary>
    private static ConformanceCase AddExtremes(float alpha) =>
        new(nameof(Device.AddScaled), FormattableString.Invariant($"{alpha} times zeros, denormals, infinities, NaN"),
            Extremes.Length * Extremes.Length, trial =>
        {
            int n = Extremes.Length;
            float[] rows = [.. Enumerable.Range(0, n * n).Select(at => Extremes[at % n])];
            float[] columns = [.. Enumerable.Range(0, n * n).Select(at => Extremes[at / n])];
            TrialMatrix x = trial.Input("x", n, n, rows);
            TrialMatrix y = trial.InOut("y", n, n, columns);
            trial.Run(s => s.Device.AddScaled(s[x], alpha, s[y]));
            Trial.CompareBits(y);
        });

    private static ConformanceCase Copy(int rows, int columns, Layout source, Layout destination) =>
        new(nameof(Device.Copy), $"{rows} row(s) of {columns}, {Strides(source, destination)}", (long)rows * columns, trial =>
        {
            TrialMatrix x = trial.Input("x", rows, columns, Special(trial, rows * columns), source);
            TrialMatrix y = trial.Output("y", rows, columns, destination);
            trial.Run(s => s.Device.Copy(s[x], s[y]));
            Trial.CompareBits(y);
        });

    private static ConformanceCase CopyToItself() =>
        new(nameof(Device.Copy), "a matrix to itself", 3 * 17, trial =>
        {
            TrialMatrix x = trial.InOut("x", 3, 17, Layout.Strided);
            trial.Run(s => s.Device.Copy(s[x], s[x]));
            Trial.CompareBits(x);
        });

    private static ConformanceCase ReadBack(int rows, int columns, Layout layout) =>
        new(nameof(Device.Write), $"{rows} row(s) of {columns} written and read, {Strides(layout, layout)}", (long)rows * columns, trial =>
        {
            float[] values = Special(trial, rows * columns);
            TrialMatrix x = trial.Output("x", rows, columns, layout);
            float[] back = new float[values.Length];
            trial.Run(s =>
            {
                s.Device.Write(values, s[x]);
                s.Device.Read(s[x], back);
            });
            Trial.CompareBits(x);
            for (int n = 0; n < values.Length; n++)
            {
                if (BitConverter.SingleToInt32Bits(values[n]) != BitConverter.SingleToInt32Bits(back[n]))
                    throw new DisagreementException(
                        FormattableString.Invariant($"value {n} was written as {values[n]:g9} and read as {back[n]:g9}."));
            }
        });

    private static ConformanceCase NewMemory(int length) =>
        new(nameof(Device.Allocate), "new memory is zero", length, trial =>
        {
            float[] values = new float[length];
            trial.Run(s =>
            {
                Mat x = s.Device.CreateMat(1, length, "new");
                using DeviceBuffer buffer = x.Buffer;
                s.Device.Read(x, values);
                int wrong = values.AsSpan().IndexOfAnyExcept(0f);
                if (wrong >= 0)
                    throw new DisagreementException(FormattableString.Invariant($"value {wrong} is {values[wrong]:g9}."));
                // So that memory that is given out again is seen.
                values.AsSpan().Fill(1f);
                s.Device.Write(values, x);
            });
        });

    /// <summary>Codes written and read, several times over with more rows, fewer, and none.</summary>
    private static ConformanceCase CodesReadBack() =>
        new(nameof(Device.Write), "codes written and read: more rows, fewer, none, full and empty lists", 1000, trial =>
        {
            TrialCodes codes = trial.Codes(37);
            foreach (double density in (double[])[0.2, 0, 1, 0.5])
            {
                CodeList list = SaeCases.RandomCodes(trial, rows: density == 0 ? 2 : (int)(40 * density), 37, density);
                trial.Run(s => s.Device.Write(list, s[codes]));
                Comparison.Same(list, codes.Actual, "the device");
            }

            trial.Run(s => s.Device.Write(new CodeList(), s[codes]));
            Comparison.Same(new CodeList(), codes.Actual, "the device");
        });

    private static float[] Special(Trial trial, int count)
    {
        float[] values = trial.Random.Normals(count);
        for (int n = 3; n < count; n += 7)
            values[n] = Extremes[n % Extremes.Length];
        return values;
    }

    private static string Strides(Layout source, Layout destination) => $"{Of(source)} to {Of(destination)} rows";

    private static string Of(Layout layout) => layout == Layout.Dense ? "dense" : layout == Layout.Strided ? "strided" : "wider";
}
