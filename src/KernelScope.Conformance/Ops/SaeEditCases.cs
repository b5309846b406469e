using KernelScope.Devices;

namespace KernelScope.Conformance.Ops;

/// <summary>y += c·W_dec[f]: an error is divided by |y| + Σ (|value| + ‖x‖·‖w_enc‖ + |b_enc|)·|w_dec|, what an error of f(x) gives.</summary>
internal static class SaeEditCases
{
    private const string Op = nameof(Device.SaeEdit);

    public static IEnumerable<ConformanceCase> All(Shapes shapes)
    {
        for (int turn = 0; turn < shapes.Sizes.Length; turn++)
        {
            int inputs = shapes.Size(turn);
            int width = shapes.Size((3 * turn) + 1);
            int rows = turn % 3 == 0 ? 1 : Math.Min(17, shapes.RowsFor(turn, inputs * 4L));
            yield return Plain("steer", rows, inputs, width, inputs, Layout.At(turn), sameMatrix: turn % 2 == 0, FeatureEditKind.Add);
            yield return Plain("clamp", rows, inputs, width, inputs, Layout.At(turn), sameMatrix: turn % 2 == 1, FeatureEditKind.Clamp);
            yield return Plain("ablate", rows, inputs, width, inputs, Layout.At(turn + 1), sameMatrix: turn % 2 == 0, FeatureEditKind.Clamp,
                ablate: true);
        }

        yield return Plain("transcoder, steer and clamp", 5, 17, 65, 33, Layout.Strided, sameMatrix: false, FeatureEditKind.Add,
            FeatureEditKind.Clamp);
        yield return Plain("many edits, some of one feature", 4, 33, 9, 33, Layout.Dense, sameMatrix: true,
            FeatureEditKind.Clamp, FeatureEditKind.Add, FeatureEditKind.Add, FeatureEditKind.Clamp, FeatureEditKind.Add,
            FeatureEditKind.Clamp, FeatureEditKind.Clamp, FeatureEditKind.Add, FeatureEditKind.Add, FeatureEditKind.Add);
        yield return Plain("no rows", 0, 9, 17, 9, Layout.Strided, sameMatrix: true, FeatureEditKind.Add);
        yield return Plain("no edits", 3, 9, 17, 9, Layout.Strided, sameMatrix: true);
        foreach (WeightForm form in WeightForm.All)
            yield return EveryForm(form);
        yield return NoStrength(sameMatrix: false);
        yield return NoStrength(sameMatrix: true);
        if (shapes.IsLarge)
            yield return Plain("2B, steer and clamp", 33, 2304, 4096, 2304, Layout.Dense, sameMatrix: true, FeatureEditKind.Add,
                FeatureEditKind.Clamp);
    }

    private static ConformanceCase Plain(string name, int rows, int inputs, int width, int outputs, Layout layout, bool sameMatrix,
        params FeatureEditKind[] kinds) =>
        Plain(name, rows, inputs, width, outputs, layout, sameMatrix, kinds, ablate: false);

    private static ConformanceCase Plain(string name, int rows, int inputs, int width, int outputs, Layout layout, bool sameMatrix,
        FeatureEditKind kind, bool ablate) =>
        Plain(name, rows, inputs, width, outputs, layout, sameMatrix, [kind], ablate);

    private static ConformanceCase Plain(string name, int rows, int inputs, int width, int outputs, Layout layout, bool sameMatrix,
        FeatureEditKind[] kinds, bool ablate) =>
        new(Op, $"{name}, {rows} row(s), {inputs} to {width} to "
            + $"{outputs}{(sameMatrix ? ", in place" : "")}{(layout == Layout.Dense ? "" : ", strided rows")}",
            rows * kinds.Length * (long)(inputs + outputs), trial =>
            Check(trial, SaeCases.Random(trial, inputs, width, outputs, bias: 0.3), rows, layout, sameMatrix, kinds, ablate));

    private static ConformanceCase EveryForm(WeightForm form) =>
        new(Op, $"steer and clamp, {form}", 2 * 2 * 34, trial =>
            Check(trial, SaeCases.Random(trial, 17, 33, 17, encoder: form, decoder: form, bias: 0.5), 2, Layout.Dense, sameMatrix: true,
                [FeatureEditKind.Add, FeatureEditKind.Clamp, FeatureEditKind.Clamp], ablate: false));

    /// <summary>A steer by 0, and the ablation of features that are not active: not even −0, a denormal or a NaN changes, and no 0·∞ is taken of W_dec.</summary>
    private static ConformanceCase NoStrength(bool sameMatrix) =>
        new(Op, $"strength 0 changes no bit{(sameMatrix ? ", in place" : "")}", 3 * 3 * 26, trial =>
        {
            float[] values =
                [-0f, 0f, 1e-45f, -1e-40f, float.NaN, float.PositiveInfinity, 1f, -16777217f, float.MaxValue, 0.1f, -0f, 3f, -1e-38f];
            TrialSae sae = SaeCases.Random(trial, 13, 7, 13, decoder: new(Files.DType.F16), bias: -100) with
            {
                Decoder = trial.Weight("W_dec", 7, [new PartForm(13, new(Files.DType.F32, Transposed: true))], (_, f) => f == 3
                    ? double.PositiveInfinity : 1),
            };
            float[] rows = [.. values, .. values, .. values];
            TrialMatrix y = trial.InOut("y", 3, 13, rows);
            TrialMatrix x = sameMatrix ? y : trial.Input("x", 3, 13);
            FeatureEdit[] edits = [new(3, FeatureEditKind.Add, 0f), new(2, FeatureEditKind.Clamp, 0f), new(4, FeatureEditKind.Add, -0f)];
            trial.Run(s => s.Device.SaeEdit(s[x], s[sae], edits, s[y]));
            for (int n = 0; n < rows.Length; n++)
            {
                if (BitConverter.SingleToInt32Bits(rows[n]) != BitConverter.SingleToInt32Bits(y.Actual[n]))
                    throw new DisagreementException(
                        FormattableString.Invariant($"row {n / 13}, column {n % 13} was {rows[n]:g9} and is now {y.Actual[n]:g9}."));
            }
        });

    private static void Check(Trial trial, TrialSae sae, int rows, Layout layout, bool sameMatrix, FeatureEditKind[] kinds, bool ablate)
    {
        TrialMatrix y = trial.InOut("y", rows, sae.OutputDim, layout);
        TrialMatrix x = sameMatrix ? y : trial.Input("x", rows, sae.InputDim, layout);
        FeatureEdit[] edits =
            [.. kinds.Select(
                kind => new FeatureEdit(trial.Random.Below(sae.FeatureCount), kind, ablate ? 0f : (float)(trial.Random.Normal() * 3)))];
        trial.Run(s => s.Device.SaeEdit(s[x], s[sae], edits, s[y]));
        double[] norms = sae.Encoder.Norms();
        trial.Compare(y, Limits.SaeProduct(sae.InputDim) with { Floor = 0 }, (r, j) =>
        {
            double size = Math.Abs((double)y[r, j]);
            foreach (FeatureEdit edit in edits)
            {
                double read = edit.Kind == FeatureEditKind.Clamp
                    ? (x.NormOf(r) * norms[edit.Feature]) + Math.Abs((double)sae.EncoderBias[0, edit.Feature]) : 0;
                size += (Math.Abs((double)edit.Value) + read) * Math.Abs(sae.Decoder[j, edit.Feature]);
            }

            return size;
        });
    }
}
