using System.Globalization;
using KernelScope.Devices;

namespace KernelScope.Conformance.Ops;

/// <summary>
/// y = b_dec + Σ value·W_dec[f]: an error is divided by |b| + Σ|value·w|. A row without features is b_dec, bit for bit. With the error kept, y ← (y − x̂) + x̂,
/// by what was subtracted and added again.
/// </summary>
internal static class SaeDecodeCases
{
    private const string Op = nameof(Device.SaeDecode);

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        for (int turn = 0; turn < shapes.Sizes.Length; turn++)
        {
            int outputs = shapes.Size(turn);
            int width = shapes.Size((5 * turn) + 3);
            int rows = turn % 3 == 0 ? 1 : shapes.RowsFor(turn, (long)outputs * width);
            yield return Plain("", rows, width, outputs, turn % 2 == 0 ? null : WeightForm.At(turn), Layout.At(turn), density: 0.2);
        }

        foreach (int rows in (int[])[1, 9])
        {
            yield return Plain("empty rows, ", rows, 33, 65, null, Layout.Strided, density: 0);
            yield return Plain("all active, ", rows, shapes.IsTiny ? 33 : 1025, 33, null, Layout.Dense, density: 1);
            yield return Plain("some rows empty, ", rows, 9, 17, null, Layout.Dense, density: 0.05);
            yield return Plain("width 1, ", rows, 1, 17, null, Layout.Dense, density: 0.5);
        }

        foreach (WeightForm form in WeightForm.All)
            yield return Plain("every form, ", 3, 17, 33, form, Layout.Dense, density: 0.4);
        yield return Plain("no rows, ", 0, 9, 17, null, Layout.Strided, density: 0);
        foreach (int outputs in shapes.IsTiny ? [] : (int[])[384, 785, 1152])
            yield return Plain("long rows, ", 5, 33, outputs, new WeightForm(Files.DType.F32, Transposed: true), Layout.Strided,
                density: 0.3);
        yield return Extremes();
        foreach (WeightForm form in WeightForm.All)
            yield return PlusError("", 3, 33, 65, form, Layout.Strided, density: 0.3);
        yield return PlusError("some rows empty, ", 9, 9, 17, null, Layout.Dense, density: 0.05);
        yield return PlusError("wider rows, ", 2, 17, 130, null, Layout.Aligned, density: 0.4);
        yield return PlusError("no rows, ", 0, 9, 17, null, Layout.Strided, density: 0);
        if (shapes.IsLarge)
        {
            yield return Plain("2B, width 16k, ", 64, 16_384, 2304, null, Layout.Dense, density: 0.005);
            yield return Plain("2B, all active, ", 1, 16_384, 2304, null, Layout.Dense, density: 1);
        }
    }

    private static ConformanceCase Plain(string name, int rows, int width, int outputs, WeightForm? form, Layout layout, double density) =>
        new(Op, string.Create(CultureInfo.InvariantCulture,
            $"{name}{rows} row(s), {width} to {outputs}, density "
                + $"{density}{(form is null ? "" : $", {form}")}{(layout == Layout.Dense ? "" : ", strided rows")}"),
                (long)rows * width * outputs, trial =>
            Check(trial, SaeCases.Random(trial, 3, width, outputs, decoder: form), SaeCases.RandomCodes(trial, rows, width, density),
                layout));

    /// <summary>The SAE's error kept: the same bits as a decode, a subtraction and an addition.</summary>
    private static ConformanceCase PlusError(
        string name, int rows, int width, int outputs, WeightForm? form, Layout layout, double density) =>
        new(nameof(Device.SaeDecodePlusError),
            FormattableString.Invariant($"{name}{rows} row(s), {width} to {outputs}{(form is null ? "" : $", {form}")}"),
            (long)rows * width * outputs, trial =>
        {
            TrialSae sae = SaeCases.Random(trial, 3, width, outputs, decoder: form ?? new WeightForm(Files.DType.F32, Transposed: true));
            CodeList list = SaeCases.RandomCodes(trial, rows, width, density);
            TrialCodes codes = trial.Codes(sae.FeatureCount, list);
            TrialMatrix reconstruction = trial.Scratch("reconstruction", rows, outputs, new float[rows * outputs], layout);
            TrialMatrix y = trial.InOut("y", rows, outputs, layout, size: 10);
            trial.Run(s => s.Device.SaeDecodePlusError(s[codes], s[sae], s[reconstruction], s[y]));
            trial.Compare(y, Limits.SaeProduct(sae.FeatureCount) with { Floor = 0 },
                (r, j) => Math.Abs((double)y[r, j]) + (2 * SizeOf(sae, list, r, j)));
            trial.RunAgain("a decode, a subtraction and an addition", s =>
            {
                s.Device.SaeDecode(s[codes], s[sae], s[reconstruction]);
                s.Device.AddScaled(s[reconstruction], -1f, s[y]);
                s.Device.AddScaled(s[reconstruction], 1f, s[y]);
            });
        });

    /// <summary>Values are taken as they are: negative, tiny, huge, infinite, NaN. Compared: NaN is NaN, ∞ may have become NaN.</summary>
    private static ConformanceCase Extremes() =>
        new(Op, "values of any sign and size, infinities, NaN", 4 * 9 * 17, trial =>
        {
            CodeList list = SaeCases.RandomCodes(trial, 4, 9, 1);
            for (int n = 0; n < 9; n++)
            {
                list.Value[n] *= n % 2 == 0 ? -1e18f : 1e18f;
                list.Value[9 + n] *= 1e-20f;
            }

            list.Value[18 + 4] = float.PositiveInfinity;
            list.Value[27 + 8] = float.NaN;
            Check(trial, SaeCases.Random(trial, 3, 9, 17), list, Layout.Dense);
        });

    private static void Check(Trial trial, TrialSae sae, CodeList list, Layout layout)
    {
        TrialCodes codes = trial.Codes(sae.FeatureCount, list);
        TrialMatrix y = trial.Output("y", list.Rows, sae.OutputDim, layout);
        trial.Run(s => s.Device.SaeDecode(s[codes], s[sae], s[y]));
        trial.Compare(y, Limits.SaeProduct(sae.FeatureCount) with { Floor = 0 }, (r, j) => SizeOf(sae, list, r, j));
        Comparison.Same(list, codes.Actual, "the codes after the op");
    }

    private static double SizeOf(TrialSae sae, CodeList list, int r, int j)
    {
        ReadOnlySpan<int> features = list.FeaturesOf(r);
        if (features.IsEmpty)
            return 0;
        double size = Math.Abs((double)sae.DecoderBias[0, j]);
        for (int n = 0; n < features.Length; n++)
            size += Math.Abs(list.ValuesOf(r)[n] * sae.Decoder[j, features[n]]);
        return size;
    }
}
