using System.Diagnostics;
using KernelScope.Conformance;
using KernelScope.Devices;

namespace KernelScope.Cli;

/// <summary>The op suite on a device, one line an op.</summary>
internal static class OpSuite
{
    private const string Source = "the reference device: each op's equation in double";

    /// <summary>Begins the name of an op's check.</summary>
    public const string Prefix = "op ";

    /// <summary>Runs cases; those of an op become one check, whose number is the one nearest to its limit.</summary>
    /// <param name="device">The device.</param>
    /// <param name="cases">The cases.</param>
    /// <param name="hashes">What their outputs are held to bit by bit; null: nothing.</param>
    /// <param name="each">Told of every result.</param>
    /// <param name="progress">Shows how far it is.</param>
    /// <param name="cancellation">Stops between two cases.</param>
    public static IEnumerable<CheckRow> Run(
        Device device, IReadOnlyList<ConformanceCase> cases, OutputHashes? hashes, Action<ConformanceResult>? each, Progress progress,
        CancellationToken cancellation)
    {
        int done = 0;
        foreach (IGrouping<string, ConformanceCase> op in cases.GroupBy(c => c.Op))
        {
            long began = Stopwatch.GetTimestamp();
            List<ConformanceResult> results = [];
            foreach (ConformanceCase one in op)
            {
                results.Add(one.Run(device, cancellation));
                each?.Invoke(results[^1]);
                progress.Report(++done / (double)cases.Count);
            }

            yield return Row(op.Key, results, hashes,
                device) with
            { Seconds = Math.Round(Stopwatch.GetElapsedTime(began).TotalSeconds, 3) };
        }
    }

    /// <summary>The check of an op that could not be run to its end.</summary>
    public static CheckRow Dead(string op, string message) =>
        new($"{Prefix}{op}", false, double.NaN, double.NaN) { Source = Source, Message = message };

    private static CheckRow Row(string op, List<ConformanceResult> results, OutputHashes? hashes, Device device)
    {
        ConformanceResult worst = results.MaxBy(r => r.Limit > 0 ? r.WorstError / r.Limit : r.WorstError)!;
        List<ConformanceResult> failed = results.FindAll(r => !r.Ok);
        // Tensor cores sum alike within a generation only; the emulator's own bits are all on file.
        bool portableOnly = device.Name != Emulated.EmulatedDevices.Name;
        List<(ConformanceResult Case, string Problem)> others = hashes is null ? [] :
            [.. results.Where(r => r.Ok).Select(r => (Case: r, Problem: hashes.Problem(r, portableOnly)!))
                .Where(p => p.Problem is not null)];
        string? message = failed.Count > 0 ? $"{failed.Count} of {results.Count} shapes, first \"{failed[0].Name}\": {failed[0].Message}"
            : others.Count > 0 ? $"{others.Count} of {results.Count} shapes have other bits, first " +
            $"\"{others[0].Case.Name}\": {others[0].Problem}" : null;
        return new CheckRow($"{Prefix}{op}", message is null, worst.WorstError, worst.Limit)
        {
            Shapes = results.Count,
            Source = Source,
            Message = message,
            HashEqual = hashes is null ? null : failed.Count == 0 && others.Count == 0,
        };
    }
}
