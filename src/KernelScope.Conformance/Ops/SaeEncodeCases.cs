using System.Globalization;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>
/// The active features of x·W_encᵀ + b_enc. An error is divided by ‖x‖·‖w‖ + |b|; a feature whose pre-activation is nearer to its bar than the limit
/// may be listed or not; whatever is listed is above the bar as a float32. Sums that are exact in any order are compared bit by bit.
/// </summary>
internal static class SaeEncodeCases
{
    private const string Op = nameof(Device.SaeEncode);

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        for (int turn = 0; turn < shapes.Sizes.Length; turn++)
        {
            int inputs = shapes.Size(turn);
            int width = shapes.Size((5 * turn) + 3);
            int rows = turn % 3 == 0 ? 1 : shapes.RowsFor(turn, (long)inputs * width);
            yield return Plain("", rows, inputs, width, null, Layout.At(turn));
            yield return Plain("", rows, inputs, width, WeightForm.At(turn), Layout.At(turn + 1));
        }

        foreach (int rows in (int[])[1, 3, 33])
        {
            int width = shapes.IsTiny ? 65 : 2048;
            yield return Plain("wide, ", rows, 33, width, null, Layout.Dense);
            yield return Plain("width 1, ", rows, 16, 1, null, Layout.Strided, bias: 3);
            yield return Plain("all active, ", rows, 16, shapes.IsTiny ? 33 : 1025, null, Layout.Dense, bias: 100, threshold: _ => 0);
            yield return Plain("none active, ", rows, 16, shapes.IsTiny ? 33 : 1025, null, Layout.Dense, bias: -100);
            yield return Plain("thresholds 0, smallest normal, 1e30, largest, infinite, NaN, ", rows, 24, 65, null, Layout.Dense,
                bias: 0, threshold: Extreme);
            yield return Plain("negative thresholds, ", rows, 24, 65, null, Layout.Dense, bias: 0, threshold: f => -f / 16f);
        }

        foreach (int k in (int[])[1, 7, 64])
        {
            yield return Largest(k, 1, 24, shapes.IsTiny ? 65 : 1025, Layout.Dense, bias: 0);
            yield return Largest(k, 33, 17, shapes.IsTiny ? 65 : 300, Layout.Strided, bias: 0);
            yield return Equals(k, shapes.IsTiny ? 16 : 40, shapes.IsTiny ? 65 : 300);
        }

        yield return Largest(9, 3, 16, 129, Layout.Dense, bias: -2);
        yield return Largest(65, 3, 16, 65, Layout.Dense, bias: 5);
        yield return Largest(3, 0, 9, 17, Layout.Strided, bias: 0);
        yield return Plain("", 0, 9, 17, null, Layout.Strided);
        yield return AtThreshold(new(DType.F32, Transposed: true), shapes.IsTiny ? 16 : 40, shapes.IsTiny ? 51 : 300);
        yield return AtThreshold(new(DType.F32), shapes.IsTiny ? 17 : 64, shapes.IsTiny ? 33 : 129);
        yield return AtZero();
        yield return NotANumber();
        yield return Reused();
        if (shapes.IsLarge)
        {
            yield return Plain("2B, width 16k, ", 1, 2304, 16_384, null, Layout.Dense);
            yield return Plain("2B, width 16k, ", 17, 2304, 16_384, null, Layout.Dense);
            yield return Plain("all active, ", 5, 256, 16_384, null, Layout.Dense, bias: 100, threshold: _ => 0);
        }
    }

    internal static ConformanceCase Plain(string name, int rows, int inputs, int width, WeightForm? form, Layout layout,
        double bias = -0.5, Func<int, float>? threshold = null) =>
        new(Op, $"{name}{rows} row(s), {inputs} to "
            + $"{width}{(form is null ? ", as stored in npz" : $", {form}")}{(layout == Layout.Dense ? "" : ", strided rows")}",
            (long)rows * inputs * width, trial =>
        {
            TrialSae sae = SaeCases.Random(trial, inputs, width, 3, encoder: form, bias: bias, threshold: threshold);
            TrialMatrix x = trial.Input("x", rows, inputs, layout);
            TrialCodes codes = trial.Codes(width);
            trial.Run(s => s.Device.SaeEncode(s[x], s[sae], s[codes]));
            Check(trial, x, sae, codes.Actual);
        });

    /// <summary>TopK: the k largest positive pre-activations, or fewer where fewer are positive. Two that are nearer than the limit may change places at the k-th.</summary>
    private static ConformanceCase Largest(int k, int rows, int inputs, int width, Layout layout, double bias) =>
        new(Op, FormattableString.Invariant(
            $"the {k} largest, {rows} row(s), {inputs} to {width}, bias {bias}{(layout == Layout.Dense ? "" : ", strided rows")}"),
            (long)rows * inputs * width, trial =>
        {
            TrialSae sae = SaeCases.Random(trial, inputs, width, 3, bias: bias, threshold: _ => 0) with { TopK = k };
            TrialMatrix x = trial.Input("x", rows, inputs, layout);
            TrialCodes codes = trial.Codes(width);
            trial.Run(s => s.Device.SaeEncode(s[x], s[sae], s[codes]));
            CheckLargest(trial, x, sae, codes.Actual);
        });

    /// <summary>Many equal pre-activations, exact on any device: the lower index stays.</summary>
    private static ConformanceCase Equals(int k, int inputs, int width) =>
        new(Op, $"the {k} largest of many equal ones, {inputs} to {width}", (long)inputs * inputs * width, trial =>
        {
            float[] identity = new float[inputs * inputs];
            for (int i = 0; i < inputs; i++)
                identity[(i * inputs) + i] = 1;
            float[] biases = [.. Enumerable.Range(0, width).Select(_ => (trial.Random.Below(8) - 3) / 8f)];
            float[] weights = [.. Enumerable.Range(0, width * inputs).Select(_ => (trial.Random.Below(8) - 4) / 8f)];
            Exact(trial, inputs, width, new(DType.F32, Transposed: true), identity, biases,
                new float[width], (f, i) => weights[(f * inputs) + i], k);
        });

    private static void CheckLargest(Trial trial, TrialMatrix x, TrialSae sae, CodeList codes)
    {
        Comparison.Ascends(x.Rows, codes);
        Limit limit = Limits.SaeProduct(x.Columns);
        float[] products = trial.Products(x, sae.Encoder);
        double[] norms = sae.Encoder.Norms();
        for (int r = 0; r < x.Rows; r++)
        {
            double norm = x.NormOf(r);
            double Exactly(int f) => (double)products[(r * sae.FeatureCount) + f] + sae.EncoderBias[0, f];
            double Error(int f) => limit.Element * ((norm * norms[f]) + Math.Abs((double)sae.EncoderBias[0, f]));
            ReadOnlySpan<int> listed = codes.FeaturesOf(r);
            double bar = listed.Length == sae.TopK ? double.PositiveInfinity : 0;
            for (int n = 0; n < listed.Length; n++)
            {
                float value = codes.ValuesOf(r)[n];
                if (n >= sae.TopK || (n > 0 && listed[n] <= listed[n - 1]) || !(value > 0)
                    || !(Math.Abs(value - Exactly(listed[n])) <= Error(listed[n])))
                    throw new DisagreementException(
                        string.Create(CultureInfo.InvariantCulture,
                            $"row {r}: entry {n} of {listed.Length} is feature {listed[n]} with {value:g9}; its pre-activation is "
                                + $"{Exactly(listed[n]):g9}, and at most {sae.TopK} are listed, ascending."));
                bar = Math.Min(bar, value);
            }

            for (int f = 0; f < sae.FeatureCount; f++)
            {
                if (listed.BinarySearch(f) < 0 && Exactly(f) > bar + (2 * Error(f)))
                    throw new DisagreementException(
                        string.Create(CultureInfo.InvariantCulture,
                            $"row {r}: feature {f} is not listed; its pre-activation is {Exactly(f):g9}, the smallest that is listed "
                                + $"{bar:g9}."));
            }
        }
    }

    private static float Extreme(int f) =>
        (f % 6) switch { 0 => 0f, 1 => 1.17549435e-38f, 2 => 1e30f, 3 => float.MaxValue, 4 => float.PositiveInfinity, _ => float.NaN };

    /// <summary>
    /// Weights and biases are multiples of 2⁻¹² and rows are unit vectors, so every pre-activation is one exact number in any order and on any device.
    /// Thresholds are that number (inactive: strict), one float below (active), one above (inactive).
    /// </summary>
    private static ConformanceCase AtThreshold(WeightForm form, int inputs, int width) =>
        new(Op, $"pre-activations at their thresholds, one float below, one above, {inputs} to {width}, {form}",
            (long)inputs * inputs * width, trial =>
        {
            float[] biases = [.. Enumerable.Range(0, width).Select(_ => (trial.Random.Below(4096) - 1024) / 4096f)];
            float[,] weights = new float[width, inputs];
            float[] thresholds = new float[width];
            for (int f = 0; f < width; f++)
            {
                for (int i = 0; i < inputs; i++)
                    weights[f, i] = (trial.Random.Below(8192) - 2048) / 4096f;
                float at = weights[f, f % inputs] + biases[f];
                thresholds[f] = (f % 3) switch { 0 => at, 1 => MathF.BitDecrement(at), _ => MathF.BitIncrement(at) };
            }

            float[] identity = new float[inputs * inputs];
            for (int i = 0; i < inputs; i++)
                identity[(i * inputs) + i] = 1;
            Exact(trial, inputs, width, form, identity, biases, thresholds, (f, i) => weights[f, i]);
        });

    /// <summary>Pre-activations of exactly 0, also of a row of zeros, are inactive whatever the threshold; so are negative ones above a negative threshold.</summary>
    private static ConformanceCase AtZero() =>
        new(Op, "pre-activations of exactly 0, thresholds 0 and below", 4 * 8 * 24, trial =>
        {
            float[] x = new float[4 * 8];
            (x[8], x[16 + 1], x[24 + 2]) = (1f, 1f, -1f);
            float[] biases = [.. Enumerable.Range(0, 24).Select(f => (f % 3 == 0 ? 0f : f % 3 == 1 ? -0f : 0.25f))];
            float[] thresholds = [.. Enumerable.Range(0, 24).Select(f => -(f / 6) * 0.25f)];
            Exact(trial, 8, 24, new(DType.F32, Transposed: true), x, biases, thresholds, (f, i) => ((f + i) % 4 - 2) * 0.25);
        });

    private static void Exact(Trial trial, int inputs, int width, WeightForm form, float[] x, float[] biases, float[] thresholds,
        Func<int, int, double> weight, int topK = 0)
    {
        TrialSae sae = new(
            trial.Weight("W_enc", inputs, [new PartForm(width, form)], weight),
            trial.Input("b_enc", 1, width, biases),
            trial.Input("threshold", 1, width, thresholds),
            trial.Weight("W_dec", 2, width, new(DType.F32, Transposed: true)),
            trial.Input("b_dec", 1, 2))
        { TopK = topK };
        TrialMatrix rows = trial.Input("x", x.Length / inputs, inputs, x);
        TrialCodes codes = trial.Codes(width);
        trial.Run(s => s.Device.SaeEncode(s[rows], s[sae], s[codes]));
        Trial.CompareBits(codes);
    }

    /// <summary>NaN is above no threshold: its row has no active features, and the others have theirs.</summary>
    private static ConformanceCase NotANumber() =>
        new(Op, "a row with NaN has no active features", 3 * 16 * 65, trial =>
        {
            float[] values = trial.Random.Normals(3 * 16);
            values[16 + 3] = float.NaN;
            TrialMatrix x = trial.Input("x", 3, 16, values);
            TrialSae sae = SaeCases.Random(trial, 16, 65, 3, bias: 0.5);
            TrialCodes codes = trial.Codes(65);
            trial.Run(s => s.Device.SaeEncode(s[x], s[sae], s[codes]));
            Check(trial, x, sae, codes.Actual);
        });

    /// <summary>One object takes few codes, then many, then few: room grows, and nothing of before is left.</summary>
    private static ConformanceCase Reused() =>
        new(Op, "codes used again: one row, then many, then none", 40 * 16 * 129, trial =>
        {
            TrialMatrix x = trial.Input("x", 40, 16);
            TrialSae sae = SaeCases.Random(trial, 16, 129, 3, bias: 1);
            TrialCodes codes = trial.Codes(129);
            foreach (int rows in (int[])[1, 40, 7, 0])
            {
                TrialMatrix part = trial.Input("x", rows, 16, x.Before(0).AsSpan(0, rows * 16), Layout.Strided);
                trial.Run(s => s.Device.SaeEncode(s[part], s[sae], s[codes]));
                Check(trial, part, sae, codes.Actual);
            }
        });

    private static void Check(Trial trial, TrialMatrix x, TrialSae sae, CodeList codes)
    {
        Comparison.Ascends(x.Rows, codes);
        Limit limit = Limits.SaeProduct(x.Columns);
        float[] products = trial.Products(x, sae.Encoder);
        double[] norms = sae.Encoder.Norms();
        double errorSquares = 0;
        double squares = 0;
        for (int r = 0; r < x.Rows; r++)
        {
            double norm = x.NormOf(r);
            int n = 0;
            for (int f = 0; f < sae.FeatureCount; f++)
            {
                double a = (double)products[(r * sae.FeatureCount) + f] + sae.EncoderBias[0, f];
                double size = (norm * norms[f]) + Math.Abs((double)sae.EncoderBias[0, f]);
                float threshold = sae.Threshold[0, f];
                double bar = Math.Max(threshold, 0);
                if (n < codes.FeaturesOf(r).Length && codes.FeaturesOf(r)[n] == f)
                {
                    float value = codes.ValuesOf(r)[n++];
                    if (!(value > threshold && value > 0) || !(a > bar - (limit.Element * size)))
                        throw new DisagreementException(
                            string.Create(CultureInfo.InvariantCulture,
                                $"row {r}: feature {f} is listed with {value:g9}; its threshold is {threshold:g9}, its pre-activation "
                                    + $"{a:g9}."));
                    trial.Note(Math.Abs(value - a) / size, limit.Element);
                    if (!(Math.Abs(value - a) <= limit.Element * size))
                        throw new DisagreementException(
                            string.Create(CultureInfo.InvariantCulture,
                                $"row {r}: feature {f} has {value:g9}, expected {a:g9}: "
                                    + $"more than {limit.Element:g3} of its size {size:g3}."));
                    errorSquares += (value - a) * (value - a);
                    squares += a * a;
                }
                else if (a > bar + (limit.Element * size))
                {
                    throw new DisagreementException(
                        string.Create(CultureInfo.InvariantCulture,
                            $"row {r}: feature {f} is not listed (or not in ascending order); its pre-activation is {a:g9}, its "
                                + $"threshold {threshold:g9}."));
                }
            }

            if (n != codes.FeaturesOf(r).Length)
                throw new DisagreementException(
                    $"row {r}: entry {n} of {codes.FeaturesOf(r).Length} is feature {codes.FeaturesOf(r)[n]}, which is out of order or "
                        + "out of range.");
        }

        if (squares > 0 && !(errorSquares / squares <= limit.Nmse))
            throw new DisagreementException(
                FormattableString.Invariant(
                    $"the activations have a normalised mean square error of {errorSquares / squares:g3}; {limit.Nmse:g3} is allowed."));
    }
}
