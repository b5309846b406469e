namespace KernelScope.Evaluation;

/// <summary>A window of tokens in which a feature fires, with its activation at each of them.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeatureExample
{
    /// <summary>Which sequence of the corpus.</summary>
    public required int Sequence { get; init; }

    /// <summary>The position of the sequence for which it was chosen.</summary>
    public required int Position { get; init; }

    /// <summary>The activation there; 0 only among <see cref="ExampleBinning.SaeDashboard"/>'s.</summary>
    public required float Activation { get; init; }

    /// <summary>The position of the window's first token.</summary>
    public int FirstPosition { get; init; }

    /// <summary>All tokens of the window.</summary>
    public required IReadOnlyList<int> Tokens { get; init; }

    /// <summary>The activation at each, 0 at those that do not count.</summary>
    public required IReadOnlyList<float> Values { get; init; }

    /// <summary>For an attention SAE, what each token but BOS gave the largest of <see cref="Values"/>; null where that was not read.</summary>
    internal DirectAttribution? Sources { get; init; }

    /// <summary>Tokens at the window's beginning that rows leave out: BOS at position 0.</summary>
    internal int Skipped => FirstPosition == 0 ? 1 : 0;

    /// <summary>Where in the window, after those, its largest activation is; the first of equals.</summary>
    internal int Peak
    {
        get
        {
            int peak = Skipped;
            for (int t = peak + 1; t < Values.Count; t++)
            {
                if (Values[t] > Values[peak])
                    peak = t;
            }

            return peak;
        }
    }
}

/// <summary>Examples of one range of activations.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record ExampleGroup
{
    /// <summary>The smallest activation of the range.</summary>
    public required float From { get; init; }

    /// <summary>The largest activation of the group.</summary>
    public required float To { get; init; }

    /// <summary>The share that it has: of the firing positions by <see cref="ExampleBinning.Quantile"/>, of all by the other.</summary>
    public required double Contains { get; init; }

    /// <summary>Its examples.</summary>
    public required IReadOnlyList<FeatureExample> Examples { get; init; }
}

/// <summary>How examples are chosen.</summary>
public enum ExampleBinning
{
    /// <summary>
    /// Groups by rank over the positions at which the feature fires: [0, ½), [½, ¾), [¾, 0.9), [0.9, 0.99), [0.99, 1]. Never a zero, and
    /// no window twice. The strongest are the largest position of each of the strongest distinct windows.
    /// </summary>
    Quantile,

    /// <summary>
    /// As SAEDashboard: five intervals of equal width from 0 to the maximum, the lowest of which holds the zeros too; the strongest are
    /// positions, of which several may lie in one window. Its random choice is made by a hash here.
    /// </summary>
    SaeDashboard,
}

/// <summary>How statistics are made.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeatureStatisticsOptions
{
    /// <summary>Number of strongest examples.</summary>
    public int Top { get; init; } = 20;

    /// <summary>Number of examples of each group.</summary>
    public int Examples { get; init; } = 5;

    /// <summary>How examples are chosen.</summary>
    public ExampleBinning Binning { get; init; }

    /// <summary>Another seed gives other examples of the groups.</summary>
    public ulong Seed { get; init; }

    /// <summary>Tokens of the windows that longer sequences are cut into, from position 0 on.</summary>
    public int Window { get; init; } = int.MaxValue;

    /// <summary>Positions at the beginning of each sequence that do not count.</summary>
    internal int SkipFirst { get; init; }
}
