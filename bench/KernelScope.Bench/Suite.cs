using System.Globalization;
using System.Runtime.InteropServices;
using KernelScope.Bench.Cases;
using KernelScope.Bench.Peers;
using KernelScope.Devices;
using KernelScope.Measuring;

namespace KernelScope.Bench;

/// <summary>Runs the chosen cases one after the other. What was measured is printed and written also if it is interrupted (Ctrl+C, or a request to terminate) or fails.</summary>
internal static class Suite
{
    private const int Interrupted = 130;

    /// <summary>Measures; returns the exit code.</summary>
    public static int Run(Options options)
    {
        OutsidePrograms.Require(options);
        Case[] chosen = [.. AllCases.Of(options).Where(one => options.Wants(one.Name))];
        if (options.List)
        {
            foreach (Case one in chosen)
                Console.WriteLine(one.Name);
            return 0;
        }

        if (chosen.Length == 0)
            throw new ArgumentException("No case has all these words in its name; --list prints the names.");

        using var cancellation = new CancellationTokenSource();
        void Cancel(PosixSignalContext context)
        {
            // A second time it ends at once.
            context.Cancel = !cancellation.IsCancellationRequested;
            cancellation.Cancel();
        }

        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Cancel),
            terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Cancel);
        using var machine = new Machine(options, cancellation.Token);
        PrintMachine(machine);
        return RunAll(chosen, machine) ? 0 : Interrupted;
    }

    private static bool RunAll(Case[] chosen, Machine machine)
    {
        var outcomes = new List<Outcome>();
        try
        {
            foreach (Case one in chosen)
            {
                Outcome? outcome = Rounds.Run(one, machine);
                machine.Progress.Clear();
                if (outcome is not null)
                {
                    outcomes.Add(outcome);
                    Report.Print(outcome, machine);
                }

                if (machine.Cancellation.IsCancellationRequested)
                    break;
            }
        }
        catch (OperationCanceledException) when (machine.Cancellation.IsCancellationRequested)
        {
            // Nothing of this case was measured.
        }
        finally
        {
            machine.Progress.Clear();
            if (machine.Options.Out is { } path && outcomes.Count > 0)
                Report.Write(path, machine, outcomes);
        }

        if (!machine.Cancellation.IsCancellationRequested)
            return true;
        Console.Error.WriteLine($"interrupted: {outcomes.Count} of {chosen.Length} cases were measured");
        return false;
    }

    private static void PrintMachine(Machine machine)
    {
        Options options = machine.Options;
        Console.WriteLine(
            $"exact: {machine.Path(Precision.Exact)}; fast: {machine.Path(Precision.Fast)}; {options.Threads} threads, "
                + $"{options.Rounds} rounds; ratios: median (minimum to maximum)");
        foreach (Bound bound in (ReadOnlySpan<Bound>)[Bound.Bandwidth, Bound.Peak, Bound.Bf16Peak])
        {
            string Of(int threads) => machine.Limits.Measure(bound, threads) is double limit
                ? (limit / 1e9).ToString("f1", CultureInfo.InvariantCulture) + " G/s" : "not there: this machine has no instruction for it";
            Console.WriteLine($"{CpuDeviceLimits.Name(bound),-16} one core {Of(1)}, {options.Threads} threads {Of(options.Threads)}");
        }
    }
}
