namespace KernelScope.Bench;

/// <summary>Minimum, median and maximum of some rounds.</summary>
internal readonly record struct Spread(double Min, double Median, double Max)
{
    /// <summary>As printed: median (minimum to maximum).</summary>
    public string Text => FormattableString.Invariant($"{Median:f2} ({Min:f2} to {Max:f2})");

    /// <summary>Of one value or more; the median of an even number lies between the two in the middle.</summary>
    public static Spread Of(IReadOnlyCollection<double> values)
    {
        double[] sorted = [.. values.Order()];
        return new Spread(sorted[0], (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2, sorted[^1]);
    }
}
