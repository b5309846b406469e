using System.Globalization;
using KernelScope.Cpu;
using KernelScope.Devices;

namespace KernelScope.Cli;

/// <summary>What a device was measured to do at best; null where there is no way to.</summary>
internal readonly record struct ProfileLimits(double? Bandwidth, double? Peak)
{
    /// <summary>The least time that work needs: that of moving or that of computing, whichever is longer.</summary>
    public double? Seconds(OpCost cost) =>
        Bandwidth is double bytes ? Math.Max(cost.Bytes / bytes, Peak is double flops ? cost.Flops / flops : 0) : null;
}

/// <summary>A profile for people: op by op, then layer by layer.</summary>
internal static class ProfileView
{
    public static void Print(TextWriter writer, IReadOnlyList<OpProfile> entries, ProfileLimits limits)
    {
        double all = entries.Sum(e => e.Seconds);
        writer.WriteLine($"{"op",-28} {"calls",8} {"ms",10} {"share",7} {"GB/s",8} {"GFLOP/s",9} {"of limit",9}");
        foreach (IGrouping<string, OpProfile> op in entries.GroupBy(e => e.Op).OrderByDescending(g => g.Sum(e => e.Seconds))
            .ThenBy(g => g.Key, StringComparer.Ordinal))
            writer.WriteLine(Line(Printable.OneLine(op.Key), op, all, limits));
        foreach (IGrouping<int?, OpProfile> layer in entries.GroupBy(e => e.Layer).OrderBy(g => g.Key ?? int.MaxValue))
            writer.WriteLine(Line(layer.Key is int l ? string.Create(CultureInfo.InvariantCulture, $"layer {l}") : "outside the layers",
                layer, all, limits));
        writer.WriteLine(Line("all", entries, all, limits));
        if (limits.Bandwidth is double bandwidth)
            writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"limits measured now: {bandwidth / 1e9:F1} " +
                $"GB/s{(limits.Peak is double peak ? $", {peak / 1e9:F0} GFLOP/s" : "")}; above 100% it read from caches"));
    }

    /// <summary>Which kernels multiply with the weights, by the number of rows.</summary>
    public static void PrintKernels(TextWriter writer, CpuDevice device, IReadOnlyList<Weight> weights)
    {
        // An SAE's decoder is never multiplied: rows of it are added up.
        var kernels = weights.Where(w => w.Name != "W_dec")
            .Select(w => (Name: w.Name[(w.Name.LastIndexOf('.') + 1)..],
            Kernels: device.KernelsOf(w, w.Name == "W_enc" ? device.SaePrecision : device.Precision)));
        foreach (IGrouping<string?, (string Name, string? Kernels)> group in kernels.Distinct().GroupBy(k => k.Kernels)
            .OrderBy(g => g.Key, StringComparer.Ordinal))
            writer.WriteLine($"kernels of {string.Join(", ", group.Select(k => k.Name).Order(StringComparer.Ordinal))}: {group.Key}");
    }

    private static string Line(string name, IEnumerable<OpProfile> entries, double all, ProfileLimits limits)
    {
        double seconds = entries.Sum(e => e.Seconds);
        OpCost cost = entries.Aggregate(default(OpCost), (sum, e) => sum + e.Cost);
        // Op by op: what is bound by memory cannot make up for what is bound by arithmetic.
        double? least = limits.Bandwidth is null ? null : entries.Sum(e => limits.Seconds(e.Cost));
        string share = least is double l && seconds > 0 && l > 0 ? (l / seconds).ToString("P0", CultureInfo.InvariantCulture) : "";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{name,-28} {entries.Sum(e => e.Calls),8} {seconds * 1e3,10:F3} {(all > 0 ? seconds / all : 0),7:P1} " +
            $"{Rate(cost.Bytes, seconds),8} {Rate(cost.Flops, seconds),9} {share,9}").TrimEnd();
    }

    private static string Rate(double work, double seconds) => seconds > 0 && work > 0 ? (work / seconds / 1e9)
        .ToString("F1", CultureInfo.InvariantCulture) : "";
}
