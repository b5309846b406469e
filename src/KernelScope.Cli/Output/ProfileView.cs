using System.Globalization;
using KernelScope.Devices;

namespace KernelScope.Cli;

/// <summary>A profile for people.</summary>
internal static class ProfileView
{
    public static void Print(TextWriter writer, IReadOnlyList<OpProfile> ops)
    {
        double all = ops.Sum(o => o.Seconds);
        writer.WriteLine($"{"op",-24} {"calls",8} {"ms",10} {"share",7} {"GB/s",8} {"GFLOP/s",9}");
        foreach (OpProfile op in ops)
            writer.WriteLine(Line(op.Op, op.Calls, op.Seconds, all, op.Cost));
        writer.WriteLine(Line("all", ops.Sum(o => o.Calls), all, all, ops.Aggregate(default(OpCost), (sum, o) => sum + o.Cost)));
    }

    private static string Line(string name, long calls, double seconds, double all, OpCost cost) => string.Create(
        CultureInfo.InvariantCulture,
        $"{Printable.OneLine(name),-24} {calls,8} {seconds * 1e3,10:F3} {(all > 0 ? seconds / all : 0),7:P1} {Rate(cost.Bytes, seconds),8} {Rate(cost.Flops, seconds),9}");

    private static string Rate(double work, double seconds) => seconds > 0 && work > 0 ? (work / seconds / 1e9).ToString("F1", CultureInfo.InvariantCulture) : "";
}
