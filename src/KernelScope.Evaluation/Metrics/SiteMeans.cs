using KernelScope.Attribution;

namespace KernelScope.Evaluation;

/// <summary>The mean value at a site over three sets of positions.</summary>
/// <param name="Counted">Over positions whose token is not special: x̄ of every definition.</param>
/// <param name="NotPad">Over positions that are not padding.</param>
/// <param name="Every">Over every position of the padded rectangle, as SAELens has it when it ignores nothing.</param>
internal sealed record SiteMeans(double[] Counted, double[] NotPad, double[] Every);

/// <summary>Sums of the values at a site, in double, from which the means come. They are the state of the first pass.</summary>
internal sealed class SiteSums(int width)
{
    /// <summary>Sums over counted positions, positions that are not padding, and all positions: [3 × width].</summary>
    public double[] Sums { get; } = new double[3 * width];

    /// <summary>Numbers of positions.</summary>
    public long[] Counts { get; } = new long[3];

    /// <summary>Adds the values of one sequence, [positions, width].</summary>
    public void Add(ReadOnlySpan<int> tokens, TokenSet set, ReadOnlySpan<float> values)
    {
        for (int t = 0; t < tokens.Length; t++)
        {
            ReadOnlySpan<float> row = values.Slice(t * width, width);
            if (!set.IsSpecial(tokens[t]))
                Add(0, row);
            if (tokens[t] != set.PadId)
                Add(1, row);
            Add(2, row);
        }
    }

    /// <summary>The means.</summary>
    public SiteMeans Means() => new(Mean(0), Mean(1), Mean(2));

    private void Add(int which, ReadOnlySpan<float> row)
    {
        RowSums.Add(row, Sums.AsSpan(which * width, width));
        Counts[which]++;
    }

    private double[] Mean(int which) => [.. Sums.AsSpan(which * width, width).ToArray().Select(s => s / Counts[which])];
}
