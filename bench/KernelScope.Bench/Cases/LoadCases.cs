using KernelScope.Bench.Models;
using KernelScope.Measuring;

namespace KernelScope.Bench.Cases;

/// <summary>Loading the whole model in a process of its own, up to the choice of a first token, with warm files: seconds, and the peak of its memory.</summary>
internal static class LoadCases
{
    public static IEnumerable<Case> All() => Enum.GetValues<LoadFrom>()
        .Select(from => new Case($"load {(from == LoadFrom.Pack ? "and pack" : from.ToString().ToLowerInvariant())}", null, 0,
        machine => Prepare(machine, from)));

    private static Contest Prepare(Machine machine, LoadFrom from)
    {
        WeightsFolder weights = machine.Weights;
        (from == LoadFrom.Panels ? weights.OpenPacked(machine.Exact.Panels, machine.Progress, machine.Cancellation)
            : weights.Open(machine.Progress, machine.Cancellation)).Dispose();
        LoadCost cost = default;
        // Once unmeasured: files are warm from then on. Packing reads all of them before it counts.
        if (from != LoadFrom.Pack)
            Load();
        var contest = new Contest(Contestant.Program("KernelScope", Load));
        contest.Figures.Add(new Figure("opened", "s", () => cost.Opened));
        contest.Figures.Add(new Figure("peak memory", "GiB", () => cost.PeakBytes / (double)(1L << 30)));
        contest.Figures.Add(new Figure("peak memory over weights", "", () => cost.PeakBytes / (2 * ModelSizes.Weights(weights.Shape))));
        return contest;

        double Load()
        {
            cost = LoadChild.Run(weights.Path, from, machine.Options.Threads, machine.Cancellation);
            return cost.Ready;
        }
    }
}
