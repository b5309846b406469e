using System.CommandLine;
using System.Globalization;
using KernelScope.Devices;

namespace KernelScope.Cli;

/// <summary>What <c>generate</c> compares: the text without edits, or the texts of several strengths of one steer.</summary>
internal sealed class SweepOptions
{
    private const int Most = 1000;
    private readonly Option<bool> _baseline = new("--baseline") { Description = "Show the text without edits too." };
    private readonly Option<string?> _strengths = new("--strengths")
    {
        Description = "One text for each strength from A to B, both " +
        "included; --steer F then names the feature alone.",
        HelpName = "A:B:STEP"
    };

    public SweepOptions(Command verb)
    {
        verb.Options.Add(_baseline);
        verb.Options.Add(_strengths);
    }

    /// <summary>Whether the text without edits is wanted.</summary>
    public bool WantsBaseline(ParseResult parsed) => parsed.GetValue(_baseline);

    /// <summary>The strengths; null where there is no sweep.</summary>
    /// <exception cref="UsageException">They are malformed, or too many.</exception>
    public float[]? Strengths(ParseResult parsed)
    {
        if (parsed.GetValue(_strengths) is not string text)
            return null;
        string[] parts = text.Split(':');
        if (parts.Length != 3 || !Number(parts[0], out double first) || !Number(parts[1], out double last)
            || !Number(parts[2], out double step))
            throw new UsageException($"--strengths needs three numbers, such as --strengths -80:80:20; this is " +
                $"'{Printable.Escape(text)}'.");
        double steps = (last - first) / step;
        if (step == 0 || steps < 0)
            throw new UsageException($"--strengths {Printable.Escape(text)}: steps of {parts[2]} do not lead from {parts[0]} to " +
                $"{parts[1]}.");
        // A step such as 0.1 is not exact; the end counts where it is missed by rounding only.
        int count = (int)Math.Min(Math.Floor(steps + 1e-9), Most) + 1;
        return count <= Most ? [.. Enumerable.Range(0, count).Select(i => (float)(first + (i * step)))]
            : throw new UsageException($"--strengths {Printable.Escape(text)} are more than {Most} texts.");
    }

    /// <summary>Refuses what cannot be compared.</summary>
    /// <exception cref="UsageException">There is no edit, or not the one steer that a sweep needs.</exception>
    public void Check(ParseResult parsed, IReadOnlyList<SaeUse> uses)
    {
        if (WantsBaseline(parsed) && uses.All(u => u.Edits.AreNone))
            throw new UsageException("--baseline shows the text without edits beside the one with them, and there is no edit: " +
                "--steer, --clamp, --ablate or --splice.");
        int steers = uses.Sum(u => u.Edits.Features.Count(e => e.Kind == FeatureEditKind.Add));
        if (Strengths(parsed) is not null && steers != 1)
            throw new UsageException($"--strengths needs exactly one --steer F, whose strength it gives; there " +
                $"{(steers == 0 ? "is none" : $"are {steers}")}.");
    }

    private static bool Number(string text, out double number) =>
        double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out number) && double.IsFinite((float)number);
}
