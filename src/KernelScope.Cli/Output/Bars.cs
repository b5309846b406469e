using System.Globalization;

namespace KernelScope.Cli;

/// <summary>Activations as bars and as short numbers.</summary>
internal static class Bars
{
    private const string Eighths = " ▏▎▍▌▋▊▉█";

    /// <summary>The largest activation; the length of a full bar.</summary>
    public static float Largest(IEnumerable<FeatureActivation> features)
    {
        float largest = 0;
        foreach (FeatureActivation feature in features)
            largest = Math.Max(largest, feature.Activation);
        return largest > 0 ? largest : 1;
    }

    /// <summary>A bar of a fixed number of cells, to an eighth of a cell; something is shown for everything above zero.</summary>
    public static string Bar(float share, int cells)
    {
        int eighths = float.IsFinite(share) ? Math.Clamp((int)Math.Ceiling(share * cells * 8), 0, cells * 8) : cells * 8;
        return string.Create(cells, eighths, (bar, left) =>
        {
            for (int i = 0; i < bar.Length; i++)
                bar[i] = Eighths[Math.Clamp(left - (i * 8), 0, 8)];
        });
    }

    /// <summary>A number in at most six characters.</summary>
    public static string Value(float value) => value.ToString(Math.Abs(value) switch { < 1000 => "0.0", < 100_000 => "0", _ => "0.0E0" },
        CultureInfo.InvariantCulture);
}
