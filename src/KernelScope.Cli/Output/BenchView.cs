using System.Globalization;
using KernelScope.Measuring;

namespace KernelScope.Cli;

/// <summary>A measurement for people: the limits, then a line for each case.</summary>
internal static class BenchView
{
    public static void Print(Streams streams, BenchResult result)
    {
        StreamWriter output = streams.Output;
        output.WriteLine($"device {result.Device} ({Printable.OneLine(result.Machine.Detail)}), precision {result.Precision}, keys and " +
            $"values {result.Kv}, {result.Shape}, {result.Dtype}, {result.Rounds} {(result.Rounds == 1 ? "round" : "rounds")}");
        Limit(output, "read bandwidth", result.Limits.ReadBandwidth, "GB/s");
        Limit(output, "copy bandwidth", result.Limits.CopyBandwidth, "GB/s, read and written");
        Limit(output, "float32 peak", result.Limits.Float32Peak, "GFLOP/s");
        Limit(output, "bfloat16 peak", result.Limits.Bf16Peak, "GFLOP/s, bfloat16 products");
        output.WriteLine();
        output.WriteLine($"{"case",-22} {"ms: median",11} {"min",10} {"max",10} {"rows/s",10} {"GB/s",7} {"GFLOP/s",8}  share: median, " +
            "min, max");
        foreach (BenchCaseRow one in result.Cases)
            output.WriteLine(Line(one));
        output.WriteLine();
        if (result.LayersMeasured != result.LayersOfModel)
            output.WriteLine($"* {result.LayersMeasured} of {result.LayersOfModel} layers were measured, with random weights; their " +
                "time is multiplied up to the whole model, the head's is not.");
        if (result.Cases.Any(c => c.Bound == "bandwidth" && c.Share?.Median > 1))
            output.WriteLine("A share of the bandwidth above 1: what the case reads stays in the caches between its runs, or something " +
                "disturbed its limit.");
        if (result.Cases.Any(c => c.Products > 1))
            output.WriteLine(
                $"Of bf16_peak: {string.Join(" or ", result.Cases.Select(c => c.Products).Where(p => p > 1).Distinct().Order())} " +
                "products of the tensor cores make one with float32 accuracy; the share counts them, GFLOP/s does not.");
        if (result.Cases.Any(c => c.Times < result.Rounds))
            output.WriteLine($"Timed fewer than {result.Rounds} times because they take " +
                $"long: {string.Join(", ", result.Cases.Where(c => c.Times < result.Rounds).Select(c => c.Name))}.");
        if (result.Limits.Float32Peak is null)
            output.WriteLine("The peak of this device is not measured: cases that it bounds have no share.");
    }

    private static string Line(BenchCaseRow one)
    {
        double seconds = one.Seconds.Median;
        string share = one.Share is Spread s ? string.Create(CultureInfo.InvariantCulture,
            $"  {s.Median:0.00} {s.Min:0.00} {s.Max:0.00} of {one.Bound}") : "";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{one.Name + (one.Scaled ? " *" : ""),-22} {seconds * 1e3,11:0.000} {one.Seconds.Min * 1e3,10:0.000} " +
            $"{one.Seconds.Max * 1e3,10:0.000} {one.Rows / seconds,10:0.0} " +
            $"{one.Bytes / seconds / 1e9,7:0.0} {one.Flops / seconds / 1e9,8:0.0}{share}");
    }

    private static void Limit(StreamWriter output, string name, Spread? spread, string unit)
    {
        if (spread is not null)
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name,-15} {spread.Median / 1e9:0.0} {unit} " +
                $"({spread.Min / 1e9:0.0} to {spread.Max / 1e9:0.0})"));
    }
}
