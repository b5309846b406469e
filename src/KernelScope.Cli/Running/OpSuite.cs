using KernelScope.Conformance;
using KernelScope.Devices;

namespace KernelScope.Cli;

/// <summary>The op suite on a device, one line an op.</summary>
internal static class OpSuite
{
    private const string Source = "the reference device: each op's equation in double";

    /// <summary>Runs every case; the cases of an op become one check, whose number is the one nearest to its limit.</summary>
    public static IEnumerable<CheckRow> Run(Device device, Progress progress, CancellationToken cancellation)
    {
        // An emulator executes every instruction of a kernel one by one.
        IReadOnlyList<ConformanceCase> cases = ConformanceSuite.Cases(device.Name == "emulated" ? ConformanceScale.Tiny : ConformanceScale.Default);
        int done = 0;
        foreach (IGrouping<string, ConformanceCase> op in cases.GroupBy(c => c.Op))
        {
            List<ConformanceResult> results = [];
            foreach (ConformanceCase one in op)
            {
                results.Add(one.Run(device, cancellation));
                progress.Report(++done / (double)cases.Count);
            }

            yield return Row(op.Key, results);
        }
    }

    private static CheckRow Row(string op, List<ConformanceResult> results)
    {
        ConformanceResult worst = results.MaxBy(r => r.Limit > 0 ? r.WorstError / r.Limit : r.WorstError)!;
        List<ConformanceResult> failed = results.FindAll(r => !r.Ok);
        return new CheckRow($"op {op}", failed.Count == 0, worst.WorstError, worst.Limit)
        {
            Shapes = results.Count,
            Source = Source,
            Message = failed.Count == 0 ? null : $"{failed.Count} of {results.Count} shapes, first \"{failed[0].Name}\": {failed[0].Message}",
        };
    }
}
