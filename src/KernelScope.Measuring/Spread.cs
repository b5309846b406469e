using System.Text.Json.Serialization;

namespace KernelScope.Measuring;

/// <summary>Least, middle and largest of a number over the rounds.</summary>
internal sealed record Spread(double Min, double Median, double Max)
{
    /// <summary>As printed: median (minimum to maximum).</summary>
    [JsonIgnore]
    public string Text => FormattableString.Invariant($"{Median:f2} ({Min:f2} to {Max:f2})");

    /// <summary>Of a list, which has one value or more; the median of an even number lies between the two in the middle.</summary>
    public static Spread Of(IReadOnlyCollection<double> values)
    {
        double[] sorted = [.. values.Order()];
        return new Spread(sorted[0], (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2, sorted[^1]);
    }

    /// <summary>Of a list; null if it is empty.</summary>
    public static Spread? OfAny(IReadOnlyCollection<double> values) => values.Count == 0 ? null : Of(values);
}
