using KernelScope.Devices;
using KernelScope.Model;

namespace KernelScope.Tests;

/// <summary>At how many positions of the demo's texts two devices find the same token most likely.</summary>
internal readonly record struct BestTokens(int Positions, int Same, double LargestDifference)
{
    private static readonly string[] Texts = ["tale", "scripture", "question", "csharp", "numbers", "languages"];

    /// <summary>At 99 of 100.</summary>
    public bool Agree => Same >= 0.99 * Positions;

    public static BestTokens Compare(Device a, Device b)
    {
        using Gemma2Model of = Gemma2Model.Load(a, KernelScope.Demo.OpenCheckpoint()),
            and = Gemma2Model.Load(b, KernelScope.Demo.OpenCheckpoint());
        BestTokens found = default;
        foreach (string text in Texts)
        {
            using var golden = new NpzArrays(Fixtures.Path("demo", "goldens", $"text-{text}.npz"));
            int[] tokens = golden.Int32("tokens");
            float[] x = Logits(of, tokens), y = Logits(and, tokens);
            int width = x.Length / tokens.Length;
            for (int t = 0; t < tokens.Length; t++)
                found = found.With(x.AsSpan(t * width, width), y.AsSpan(t * width, width));
        }

        return found;
    }

    public override string ToString() =>
        FormattableString.Invariant($"{Same} of {Positions} positions; the largest difference of a logit is {LargestDifference:g3}");

    private BestTokens With(ReadOnlySpan<float> x, ReadOnlySpan<float> y) =>
        new(Positions + 1, Same + (Best(x) == Best(y) ? 1 : 0), Math.Max(LargestDifference, Tests.Compare.Largest(x, y)));

    private static float[] Logits(Gemma2Model model, int[] tokens)
    {
        using Session session = model.NewSession(contextLength: 256, chunkLength: tokens.Length);
        Mat rows = model.Forward(tokens, session, LogitRows.All);
        float[] values = new float[rows.Rows * rows.Columns];
        model.Device.Read(rows, values);
        return values;
    }

    private static int Best(ReadOnlySpan<float> logits)
    {
        int best = 0;
        for (int i = 1; i < logits.Length; i++)
            best = logits[i] > logits[best] ? i : best;
        return best;
    }
}
