namespace KernelScope.Tests;

internal static class Compare
{
    /// <summary>The largest difference; NaN on one side only counts as infinite.</summary>
    public static double Largest(ReadOnlySpan<float> actual, ReadOnlySpan<float> expected)
    {
        Assert.Equal(expected.Length, actual.Length);
        double worst = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            double difference = Math.Abs((double)actual[i] - expected[i]);
            worst = double.IsNaN(difference) ? double.PositiveInfinity : Math.Max(worst, difference);
        }

        return worst;
    }

    /// <summary>The largest difference over the largest expected value.</summary>
    public static double Relative(ReadOnlySpan<float> actual, ReadOnlySpan<float> expected)
    {
        double largest = 0;
        foreach (float value in expected)
            largest = Math.Max(largest, Math.Abs(value));
        double difference = Largest(actual, expected);
        return difference == 0 ? 0 : difference / largest;
    }
}
