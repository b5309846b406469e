using System.Diagnostics;

namespace KernelScope.Bench;

/// <summary>Runs a case: results are compared first, then the limit, ours and the peers take turns.</summary>
internal static class Rounds
{
    // Long enough that the clock and the scheduler's whims matter little; at least two runs, unless one is long by itself.
    private const double Enough = 0.05;
    private const double Long = 0.3;
    private const double Waking = 0.02;

    // Others' threads spin for a while after their work is done; nobody is timed beside them.
    private const int RestMilliseconds = 15;

    /// <summary>Measures a case.</summary>
    public static Outcome Run(Case one, Machine machine)
    {
        using Contest contest = one.Prepare(machine);
        List<Contestant> peers = Agreeing(contest);
        int rounds = machine.Options.Rounds;
        var limits = new List<double>();
        var shares = new List<double>();
        var ours = new List<double>();
        List<double>[] theirs = [.. peers.Select(_ => new List<double>())];
        for (int round = 0; round < rounds; round++)
        {
            Thread.Sleep(RestMilliseconds);
            double? limit = machine.Limits.Measure(one.Bound);
            double seconds = Time(contest.Ours.Run);
            ours.Add(seconds);
            if (limit is double measured)
            {
                limits.Add(measured);
                shares.Add(one.Work / seconds / measured);
            }

            for (int n = 0; n < peers.Count; n++)
                theirs[n].Add(Time(peers[n].Run));
        }

        if (limits.Count == 0 && one.Bound != Bound.None)
            contest.Missing.Add($"{Limits.Name(one.Bound)}: this machine has no instruction for it");
        return new Outcome(
            one,
            limits.Count > 0 ? Spread.Of(limits) : null,
            shares.Count > 0 ? Spread.Of(shares) : null,
            new Standing(contest.Ours.Name, Spread.Of(ours), new Spread(1, 1, 1)),
            [.. peers.Select((peer, n) => new Standing(peer.Name, Spread.Of(theirs[n]), Spread.Of([.. theirs[n].Select((s, r) => s / ours[r])])))],
            contest.Missing);
    }

    /// <summary>Runs everyone once and keeps the peers whose result is ours within their precision.</summary>
    private static List<Contestant> Agreeing(Contest contest)
    {
        contest.Ours.Run();
        float[] ours = contest.Ours.Result();
        var agreeing = new List<Contestant>();
        foreach ((Contestant peer, Func<float[], float[], string?> agreement) in contest.Peers)
        {
            peer.Run();
            if (agreement(ours, peer.Result()) is { } difference)
                contest.Missing.Add($"{peer.Name}: not timed, its result {difference}");
            else
                agreeing.Add(peer);
        }

        return agreeing;
    }

    /// <summary>Seconds of one run.</summary>
    private static double Time(Action run)
    {
        Thread.Sleep(RestMilliseconds);
        // Threads that slept share a core for a while after they wake.
        for (long woken = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(woken).TotalSeconds < Waking;)
            run();
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
