using System.Diagnostics;
using KernelScope.Measuring;

namespace KernelScope.Cli;

/// <summary>Rounds through all cases, each timed right after its limit: what else runs on the machine disturbs them alike.</summary>
internal sealed class BenchRounds(IReadOnlyList<BenchCase> cases, DeviceLimits limits, CancellationToken cancellation)
{
    /// <summary>Seconds after which a case is not timed again: thousands of rows on a few cores take as long for once as everything else together.</summary>
    private const double Enough = 10;

    private readonly Dictionary<Bound, List<double>> _limits = Enum.GetValues<Bound>().ToDictionary(b => b, _ => new List<double>());
    private readonly List<double>[] _seconds = [.. cases.Select(_ => new List<double>())];
    private readonly List<double>[] _shares = [.. cases.Select(_ => new List<double>())];
    private readonly double[] _spent = new double[cases.Count];
    private readonly Bound[] _bounds = new Bound[cases.Count];

    /// <summary>What a limit was beside the times that count; null if it was not measured.</summary>
    public Spread? Limit(Bound bound) => Spread.OfAny(_limits[bound]);

    /// <summary>Runs them.</summary>
    public BenchCaseRow[] Run(int rounds, Progress progress)
    {
        int done = 0, turns = (rounds + 1) * cases.Count;
        // The first time memory is touched and clocks rise.
        Dictionary<Bound, double?> first = Enum.GetValues<Bound>().ToDictionary(b => b, limits.Measure);
        foreach (Bound bound in first.Keys.ToArray())
            first[bound] = limits.Measure(bound);
        for (int c = 0; c < cases.Count; c++)
        {
            _bounds[c] = BoundOf(cases[c], first[Bound.Bandwidth], first[cases[c].Peak]);
            // Nor does the first time of a case count, unless there will be no second.
            Time(c, counts: () => _spent[c] >= Enough);
            progress.Report(++done / (double)turns);
        }

        for (int round = 0; round < rounds; round++)
        {
            for (int c = 0; c < cases.Count; c++)
            {
                if (_spent[c] < Enough || _seconds[c].Count == 0)
                    Time(c, counts: () => true);
                progress.Report(++done / (double)turns);
            }
        }

        // A limit that bounds nothing is worth knowing too.
        foreach ((Bound bound, double? value) in first)
        {
            if (value is double measured && _limits[bound].Count == 0)
                _limits[bound].Add(measured);
        }

        return [.. cases.Select((one, c) => new BenchCaseRow(one.Name, one.Rows, Spread.Of(_seconds[c]), one.Cost.Bytes, one.Cost.Flops,
            Name(_bounds[c]), Spread.OfAny(_shares[c]), one.Scaled)
        {
            Times = _seconds[c].Count,
            Products = _bounds[c] == Bound.Bf16Peak ? one.Products : null,
        })];
    }

    /// <summary>The limit that takes longer. Without a peak: bandwidth for a row, and for more of them one that cannot be measured.</summary>
    private static Bound BoundOf(BenchCase one, double? bandwidth, double? peak)
    {
        if (bandwidth is double bytes && peak is double flops)
            return one.Cost.Bytes / bytes >= one.Cost.Flops * one.Products / flops ? Bound.Bandwidth : one.Peak;
        return one.Rows == 1 || one.Cost.Flops < 4 * one.Cost.Bytes ? Bound.Bandwidth : one.Peak;
    }

    private static string Name(Bound bound) => bound switch
    {
        Bound.Bandwidth => "bandwidth",
        Bound.Peak => "peak",
        _ => "bf16_peak",
    };

    /// <summary>Times a case. What it took for that may be less than its time, of which layers that were not run are a part.</summary>
    private void Time(int c, Func<bool> counts)
    {
        cancellation.ThrowIfCancellationRequested();
        BenchCase one = cases[c];
        double? limit = limits.Measure(_bounds[c]);
        long start = Stopwatch.GetTimestamp();
        double taken = one.Seconds();
        _spent[c] += Stopwatch.GetElapsedTime(start).TotalSeconds;
        if (!counts())
            return;
        _seconds[c].Add(taken);
        if (limit is not double most)
            return;
        _limits[_bounds[c]].Add(most);
        _shares[c].Add((_bounds[c] == Bound.Bandwidth ? one.Cost.Bytes : one.Cost.Flops * one.Products) / taken / most);
    }
}
