using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>What the cases of SaeEncode, SaeDecode and SaeEdit share: SAEs and codes.</summary>
internal static class SaeCases
{
    public static IEnumerable<ConformanceCase> All(Shapes shapes) =>
        [.. SaeEncodeCases.All(shapes), .. SaeDecodeCases.All(shapes), .. SaeEditCases.All(shapes)];

    /// <summary>An SAE as files store it unless told otherwise: both matrices transposed, of which a fraction of the features fires.</summary>
    public static TrialSae Random(Trial trial, int inputs, int width, int outputs, WeightForm? encoder = null, WeightForm? decoder = null,
        double bias = -0.5, Func<int, float>? threshold = null)
    {
        double size = 1 / Math.Sqrt(inputs);
        float[] thresholds =
            [.. Enumerable.Range(0, width).Select(f => threshold is null ? (float)(0.1 + trial.Random.Uniform()) : threshold(f))];
        float[] biases = trial.Random.Normals(width, 0.3);
        foreach (ref float b in biases.AsSpan())
            b += (float)bias;
        return new TrialSae(
            trial.Weight("W_enc", width, inputs, encoder ?? new(DType.F32, Transposed: true), size),
            trial.Input("b_enc", 1, width, biases),
            trial.Input("threshold", 1, width, thresholds),
            trial.Weight("W_dec", outputs, width, decoder ?? new(DType.F32, Transposed: true)),
            trial.Input("b_dec", 1, outputs));
    }

    /// <summary>Lists in which every feature is present with a probability.</summary>
    public static CodeList RandomCodes(Trial trial, int rows, int width, double density)
    {
        CodeList list = new();
        list.Resize(rows, rows * width);
        int count = 0;
        list.RowStart[0] = 0;
        for (int r = 0; r < rows; r++)
        {
            for (int f = 0; f < width; f++)
            {
                if (trial.Random.Uniform() >= density)
                    continue;
                list.Feature[count] = f;
                list.Value[count++] = (float)(trial.Random.Uniform() * 10);
            }

            list.RowStart[r + 1] = count;
        }

        return list;
    }
}
