namespace KernelScope.Evaluation;

/// <summary>Sums over the sequences at each position.</summary>
internal sealed class PositionSums(int length)
{
    private readonly double[] _error = new double[length];
    private readonly double[] _deviation = new double[length];
    private readonly double[] _active = new double[length];
    private readonly double[] _divergence = new double[length];
    private readonly double[] _delta = new double[Math.Max(0, length - 1)];
    private readonly long[] _deltaCount = new long[Math.Max(0, length - 1)];

    /// <summary>Counted positions.</summary>
    public long[] Count { get; } = new long[length];

    public void AddStatistics(int t, double error, double deviation, int active)
    {
        Count[t]++;
        _error[t] += error;
        _deviation[t] += deviation;
        _active[t] += active;
    }

    public void AddDivergence(int t, double divergence) => _divergence[t] += divergence;

    public void AddDelta(int t, double delta)
    {
        _deltaCount[t]++;
        _delta[t] += delta;
    }

    /// <summary>Σ‖y − ŷ‖²/Σ‖y − ȳ‖² at each position; NaN where nothing counts.</summary>
    public double[] Fvu() => [.. _error.Zip(_deviation, (e, d) => d > 0 ? e / d : double.NaN)];

    /// <summary>Mean number of active features at each position.</summary>
    public double[] L0() => [.. _active.Zip(Count, Ratio)];

    /// <summary>Mean KL of sae/keep_bos at each position.</summary>
    public double[] Kl() => [.. _divergence.Zip(Count, Ratio)];

    /// <summary>Mean delta loss of sae/keep_bos at each position, over the default mask.</summary>
    public double[] Delta() => [.. _delta.Zip(_deltaCount, Ratio)];

    private static double Ratio(double sum, long count) => count > 0 ? sum / count : double.NaN;
}
