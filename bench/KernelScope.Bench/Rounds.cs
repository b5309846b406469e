using System.Diagnostics;
using KernelScope.Measuring;

namespace KernelScope.Bench;

/// <summary>Runs a case: results are compared first, then the limit, ours and the peers take turns.</summary>
internal sealed class Rounds
{
    // Long enough that the clock and the scheduler's whims matter little; at least two runs, unless one is long by itself.
    private const double Enough = 0.05;
    private const double Long = 0.3;
    private const double Waking = 0.02;

    // Others' threads spin for a while after their work is done; nobody is timed beside them.
    private const int RestMilliseconds = 15;

    private readonly Case _case;
    private readonly Machine _machine;
    private readonly Contest _contest;
    private readonly List<double> _limits = [], _shares = [], _ours = [];
    private readonly List<(Contestant Contestant, List<double> Seconds)> _peers = [];
    private readonly List<double>[] _figures;
    private readonly Dictionary<Contestant, double> _first = [];

    private Rounds(Case one, Machine machine, Contest contest)
    {
        _case = one;
        _machine = machine;
        _contest = contest;
        _figures = [.. contest.Figures.Select(_ => new List<double>())];
    }

    /// <summary>Measures a case. What whole rounds gave is there also if it is interrupted; null where there is not one.</summary>
    public static Outcome? Run(Case one, Machine machine)
    {
        machine.Progress.Show($"{one.Name}: preparing");
        using Contest contest = one.Prepare(machine);
        var rounds = new Rounds(one, machine, contest);
        try
        {
            rounds.Compare();
            rounds.Measure();
        }
        catch (OperationCanceledException) when (machine.Cancellation.IsCancellationRequested)
        {
            contest.Notes.Add($"interrupted after {rounds.Done} of {machine.Options.Rounds} rounds");
        }

        return rounds.Done > 0 ? rounds.Outcome() : null;
    }

    /// <summary>Rounds that are whole.</summary>
    private int Done => _peers.Count > 0 ? _peers[^1].Seconds.Count : _ours.Count;

    /// <summary>Runs everyone once and keeps the peers whose result is ours within their precision.</summary>
    private void Compare()
    {
        First(_contest.Ours);
        float[] ours = _contest.Ours.Result();
        foreach ((Contestant peer, Func<float[], float[], string?> agreement) in _contest.Peers)
        {
            First(peer);
            if (peer.OwnSeconds is null && agreement(ours, peer.Result()) is { } difference)
                _contest.Notes.Add($"{peer.Name}: not timed, its result {difference}");
            else
                _peers.Add((peer, []));
        }
    }

    private void First(Contestant contestant)
    {
        _machine.Cancellation.ThrowIfCancellationRequested();
        if (contestant.OwnSeconds is not null)
            return;
        long start = Stopwatch.GetTimestamp();
        contestant.Run();
        _first[contestant] = Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private void Measure()
    {
        long start = Stopwatch.GetTimestamp();
        int rounds = _machine.Options.Rounds;
        for (int round = 0; round < rounds; round++)
        {
            if (round > 0 && Stopwatch.GetElapsedTime(start).TotalSeconds > _machine.Options.CaseSeconds)
            {
                _contest.Notes.Add($"{round} of {rounds} rounds, after which its time was over");
                return;
            }

            _machine.Progress.Show($"{_case.Name}: round {round + 1} of {rounds}");
            OneRound();
        }
    }

    private void OneRound()
    {
        Thread.Sleep(RestMilliseconds);
        double? limit = _case.Bound is Bound bound ? _machine.Limits.Measure(bound) : null;
        double seconds = Seconds(_contest.Ours);
        double[] figures = [.. _contest.Figures.Select(f => f.Read())];
        double[] theirs = [.. _peers.Select(p => Seconds(p.Contestant))];
        // Only now: an interrupted round counts for nobody.
        _ours.Add(seconds);
        if (limit is double measured)
        {
            _limits.Add(measured);
            _shares.Add(_case.Work / seconds / measured);
        }

        for (int n = 0; n < figures.Length; n++)
            _figures[n].Add(figures[n]);
        for (int n = 0; n < theirs.Length; n++)
            _peers[n].Seconds.Add(theirs[n]);
    }

    private double Seconds(Contestant contestant)
    {
        _machine.Cancellation.ThrowIfCancellationRequested();
        return contestant.OwnSeconds?.Invoke() ?? Time(contestant.Run, _first[contestant]);
    }

    private Outcome Outcome()
    {
        if (_limits.Count == 0 && _case.Bound is Bound bound)
            _contest.Notes.Add($"{CpuDeviceLimits.Name(bound)}: this machine has no instruction for it");
        return new Outcome(
            _case,
            Done,
            Spread.OfAny(_limits),
            Spread.OfAny(_shares),
            new Standing(_contest.Ours.Name, Spread.Of(_ours), new Spread(1, 1, 1)),
            [.. _peers.Select(
                p => new Standing(p.Contestant.Name, Spread.Of(p.Seconds), Spread.Of([.. p.Seconds.Select((s, r) => s / _ours[r])])))],
            [.. _contest.Figures.Select((f, n) => new Reading(f.Name, f.Unit, Spread.Of(_figures[n])))],
            _contest.Notes);
    }

    /// <summary>Seconds of one run.</summary>
    private static double Time(Action run, double first)
    {
        Thread.Sleep(RestMilliseconds);
        // Threads that slept share a core for a while after they wake; in a long run that does not count.
        if (first < Long)
        {
            for (long woken = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(woken).TotalSeconds < Waking;)
                run();
        }

        long start = Stopwatch.GetTimestamp();
        int runs = 0;
        double seconds;
        do
        {
            run();
            runs++;
            seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
        while (seconds < Enough || (runs < 2 && seconds < Long));
        return seconds / runs;
    }
}
