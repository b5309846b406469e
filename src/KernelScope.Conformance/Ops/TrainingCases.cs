using KernelScope.Devices;

namespace KernelScope.Conformance.Ops;

/// <summary>The ops that learn: what is near a threshold, lists transposed, sums over lists, and Adam.</summary>
internal static class TrainingCases
{
    /// <summary>Sizes return after some turns; a case that was there is left out.</summary>
    public static IEnumerable<ConformanceCase> All(Shapes shapes) => Turns(shapes).DistinctBy(c => c.ToString());

    private static IEnumerable<ConformanceCase> Turns(Shapes shapes)
    {
        for (int turn = 0; turn < shapes.Sizes.Length; turn++)
        {
            int columns = shapes.Size(turn), lists = shapes.Size((3 * turn) + 1);
            int rows = shapes.RowsFor(turn + 2, (long)columns * lists);
            double density = turn % 4 == 0 ? 0.05 : 0.4;
            yield return Transpose(rows, lists, density);
            yield return Product(rows, lists, columns, density, Layout.At(turn));
            yield return Dot(rows, lists, columns, density, Layout.At(turn + 1));
            yield return Adam(rows, columns, unitRows: turn % 2 == 0, Layout.At(turn));
            yield return Norms(rows, columns, Layout.At(turn + 1));
        }

        foreach (int inputs in shapes.IsTiny ? (int[])[3, 16] : [3, 16, 40])
            yield return Near(inputs, shapes.IsTiny ? 51 : 300);
        yield return Transpose(1, 9, 0);
        yield return Product(5, 7, 17, 0, Layout.Strided);
        yield return NoGradient();
    }

    /// <summary>
    /// Weights, biases and thresholds are multiples of 2⁻¹² and rows are unit vectors, so that pre-activations and their distances are
    /// exact on any device: below, at and above the distance, on both sides.
    /// </summary>
    private static ConformanceCase Near(int inputs, int width) =>
        new(nameof(Device.SaeEncodeNear), $"pre-activations below, at and above the distance, {inputs} to {width}",
            (long)inputs * inputs * width, trial =>
        {
            const float distance = 16 / 4096f;
            float[] identity = new float[inputs * inputs];
            for (int i = 0; i < inputs; i++)
                identity[(i * inputs) + i] = 1;
            float[] biases = [.. Enumerable.Range(0, width).Select(_ => trial.Random.Below(512) / 4096f)];
            float[] weights = [.. Enumerable.Range(0, width * inputs).Select(_ => (trial.Random.Below(256) - 64) / 4096f)];
            float[] thresholds =
                [.. Enumerable.Range(0, width)
                    .Select(f => weights[(f * inputs) + (f % inputs)] + biases[f] + ((trial.Random.Below(7) - 3) * 8 / 4096f))];
            TrialSae sae = new(
                trial.Weight("W_enc", inputs, [new PartForm(width, new(Files.DType.F32))], (f, i) => weights[(f * inputs) + i]),
                trial.Input("b_enc", 1, width, biases),
                trial.Input("threshold", 1, width, thresholds),
                trial.Weight("W_dec", 2, width, new(Files.DType.F32, Transposed: true)),
                trial.Input("b_dec", 1, 2));
            TrialMatrix x = trial.Input("x", inputs, inputs, identity);
            TrialCodes codes = trial.Codes(width), near = trial.Codes(width);
            trial.Run(s => s.Device.SaeEncodeNear(s[x], s[sae], s[codes], distance, s[near]));
            Trial.CompareBits(codes);
            Trial.CompareBits(near);
        });

    private static ConformanceCase Transpose(int rows, int width, double density) =>
        new(nameof(Device.Transpose), FormattableString.Invariant($"{rows} lists of {width}, density {density}"), (long)rows * width,
            trial =>
        {
            CodeList list = SaeCases.RandomCodes(trial, rows, width, density);
            TrialCodes codes = trial.Codes(width, list), turned = trial.Codes(rows);
            int[] lengths = new int[width];
            trial.Run(s =>
            {
                s.Device.Transpose(s[codes], s[turned]);
                s.Device.ReadLengths(s[turned], lengths);
            });
            Trial.CompareBits(turned);
            for (int f = 0; f < width; f++)
            {
                if (lengths[f] != turned.Expected.FeaturesOf(f).Length)
                    throw new DisagreementException(
                        $"list {f} has {turned.Expected.FeaturesOf(f).Length} entries; {nameof(Device.ReadLengths)} says {lengths[f]}.");
            }
        });

    private static ConformanceCase Product(int rows, int lists, int columns, double density, Layout layout) =>
        new(nameof(Device.SparseProduct),
            FormattableString.Invariant(
                $"{lists} lists of {rows} rows of {columns}, density {density}{(layout == Layout.Dense ? "" : ", strided rows")}"),
                (long)rows * lists * columns, trial =>
        {
            CodeList list = SaeCases.RandomCodes(trial, lists, rows, density);
            TrialCodes codes = trial.Codes(rows, list);
            TrialMatrix x = trial.Input("x", rows, columns);
            int first = lists / 3;
            TrialMatrix y = trial.Output("y", lists - first, columns, layout);
            trial.Run(s => s.Device.SparseProduct(s[codes], first, s[x], s[y]));
            trial.Compare(y, Limits.SaeProduct(rows) with { Floor = 0 }, (r, j) => SizeOf(list, first + r, n => x[n, j]));
        });

    private static double SizeOf(CodeList list, int r, Func<int, float> value)
    {
        double size = 0;
        for (int n = 0; n < list.FeaturesOf(r).Length; n++)
            size += Math.Abs((double)list.ValuesOf(r)[n] * value(list.FeaturesOf(r)[n]));
        return size;
    }

    private static ConformanceCase Dot(int rows, int lists, int columns, double density, Layout layout) =>
        new(nameof(Device.SparseDot),
            FormattableString.Invariant(
                $"{lists} lists of {rows} rows of {columns}, density {density}{(layout == Layout.Dense ? "" : ", strided rows")}"),
                (long)rows * lists * columns, trial =>
        {
            const float scale = 0.75f, offset = -0.25f;
            CodeList list = SaeCases.RandomCodes(trial, lists, rows, density);
            TrialCodes codes = trial.Codes(rows, list), dots = trial.Codes(rows);
            TrialMatrix w = trial.Input("w", lists, columns, layout), x = trial.Input("x", rows, columns, layout);
            trial.Run(s => s.Device.SparseDot(s[codes], s[w], s[x], scale, offset, s[dots]));
            Limit limit = Limits.SaeProduct(columns);
            for (int r = 0; r < lists; r++)
            {
                ReadOnlySpan<int> indices = dots.Actual.FeaturesOf(r);
                if (!indices.SequenceEqual(list.FeaturesOf(r)))
                    throw new DisagreementException($"list {r} has other indices than the one it comes from.");
                for (int n = 0; n < indices.Length; n++)
                {
                    double error = Math.Abs((double)dots.Actual.ValuesOf(r)[n] - dots.Expected.ValuesOf(r)[n])
                        / ((scale * w.NormOf(r) * x.NormOf(indices[n])) - offset);
                    trial.Note(error, limit.Element);
                    if (!(error <= limit.Element))
                        throw new DisagreementException(
                            FormattableString.Invariant(
                                $"list {r}, entry {n}: {dots.Actual.ValuesOf(r)[n]:g9}, expected {dots.Expected.ValuesOf(r)[n]:g9}."));
                }
            }
        });

    /// <summary>Second moments well above 0, so that a step does not hang on signs alone: an error is then one of float32, relative to a parameter
    /// and the largest step.</summary>
    private static ConformanceCase Adam(int rows, int columns, bool unitRows, Layout layout) =>
        new(nameof(Device.AdamRows),
            $"{rows} rows of {columns}{(unitRows ? ", unit rows" : "")}{(layout == Layout.Dense ? "" : ", strided rows")}",
            (long)rows * columns, trial =>
        {
            AdamStep step = new(number: 3, learningRate: 0.01) { Scale = 0.5f, UnitRows = unitRows };
            float[] moments = [.. Enumerable.Range(0, rows * columns).Select(_ => (float)(0.01 + (trial.Random.Uniform() * 0.01)))];
            float[] parameters = trial.Random.Normals(rows * columns);
            for (int at = 0; at < parameters.Length && unitRows; at += columns)
                Normalize(parameters.AsSpan(at, columns));
            TrialMatrix g = trial.Scratch("gradient", rows, columns, trial.Random.Normals(rows * columns), layout);
            TrialMatrix v = trial.InOut("second moment", rows, columns, moments, layout),
                p = trial.InOut("parameters", rows, columns, parameters, layout);
            TrialMatrix norms = trial.Output("squared norms", rows, 1, layout);
            trial.Run(s => s.Device.AdamRows(s[g], step, s[v], s[p], s[norms]));
            trial.CompareRelative(norms, Limits.Elementwise);
            trial.Compare(v, Limits.ElementwiseAlone, (r, j) => 0.02 + norms.Expected[norms.IndexOf(r, 0)]);
            trial.Compare(p, Limits.ElementwiseAlone,
                (r, j) => Math.Abs((double)p.Expected[p.IndexOf(r, j)]) + 0.1 + Math.Sqrt(norms.Expected[norms.IndexOf(r, 0)]));
        });

    private static void Normalize(Span<float> row)
    {
        double squares = 0;
        foreach (float value in row)
            squares += (double)value * value;
        foreach (ref float value in row)
            value = (float)(value / Math.Sqrt(squares));
    }

    /// <summary>Without a gradient nothing moves, and the second moment decays.</summary>
    private static ConformanceCase NoGradient() =>
        new(nameof(Device.AdamRows), "rows without a gradient", 3 * 17, trial =>
        {
            TrialMatrix g = trial.Scratch("gradient", 3, 17, new float[3 * 17]), p = trial.InOut("parameters", 3, 17),
                v = trial.InOut("second moment", 3, 17), norms = trial.Output("squared norms", 3, 1);
            trial.Run(s => s.Device.AdamRows(s[g], new AdamStep(5, 0.1) { UnitRows = true }, s[v], s[p], s[norms]));
            Trial.CompareBits(p);
            trial.CompareRelative(v, Limits.Elementwise);
            Trial.CompareBits(norms);
        });

    private static ConformanceCase Norms(int rows, int columns, Layout layout) =>
        new(nameof(Device.SquaredNorms), $"{rows} rows of {columns}{(layout == Layout.Dense ? "" : ", strided rows")}",
            (long)rows * columns, trial =>
        {
            TrialMatrix x = trial.Input("x", rows, columns, layout), y = trial.Output("norms", rows, 1, layout);
            trial.Run(s => s.Device.SquaredNorms(s[x], s[y]));
            trial.CompareRelative(y, Limits.Elementwise);
        });
}
