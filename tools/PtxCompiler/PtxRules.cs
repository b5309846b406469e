using System.Text.RegularExpressions;
using KernelScope.Kernels;

namespace KernelScope.PtxCompiler;

/// <summary>What a shipped kernel may not contain. Each rule has cost somebody an afternoon.</summary>
public static partial class PtxRules
{
    /// <summary>The violations in a normalised kernel: the line and why it is refused.</summary>
    public static IReadOnlyList<string> Violations(string entry, GpuTarget target)
    {
        var found = new List<string>();
        foreach (string line in entry.Split('\n').Select(l => l.Trim()))
        {
            if (Reason(line, target) is { } reason)
                found.Add($"{reason}: {line}");
        }

        return found;
    }

    private static string? Reason(string line, GpuTarget target)
    {
        if (Call().Match(line) is { Success: true } call)
            return $"it calls '{call.Groups["name"].Value}', a function that no module defines";
        if (line.Contains(".extern", StringComparison.Ordinal))
            return "it refers to a symbol of another module";
        if (Approximate().IsMatch(line))
            return "the instruction is approximate; KernelMath has an exact form";
        if (line.Contains(".ftz", StringComparison.Ordinal))
            return "it flushes subnormal numbers to zero";
        if (line.Contains(".f64", StringComparison.Ordinal))
            return "it computes in float64";
        if (line.Contains(".local", StringComparison.Ordinal))
            return "it keeps values in local memory, because they are indexed at run time or their address is taken";
        if (FloatAtomic().IsMatch(line))
            return "a floating-point atomic makes sums depend on the order of blocks";
        if (Contractible().IsMatch(line))
            return "the driver may contract it with another instruction";
        if (target < GpuTarget.Sm80 && Ampere().IsMatch(line))
            return "the instruction needs sm_80";
        return null;
    }

    [GeneratedRegex(@"^call(\.uni)?\s+(\([^)]*\),\s*)?(?<name>[\w$]+)")]
    private static partial Regex Call();

    [GeneratedRegex(@"^\S*(\.approx|\bdiv\.full)")]
    private static partial Regex Approximate();

    [GeneratedRegex(@"^(@\S+\s+)?(atom|red)\.\S*\.f(16|32|64)")]
    private static partial Regex FloatAtomic();

    [GeneratedRegex(@"^(@\S+\s+)?(mul|add|sub|mad)\.f32\b")]
    private static partial Regex Contractible();

    [GeneratedRegex(@"^(@\S+\s+)?(cp\.async|mma\.sync|\S*bf16)")]
    private static partial Regex Ampere();
}
