using System.Globalization;
using System.Text.RegularExpressions;

namespace KernelScope.PtxCompiler;

/// <summary>Reads what <c>nvdisasm -c</c> prints: how many loads a kernel's main loop has under way.</summary>
public static partial class Disassembly
{
    /// <summary>
    /// By kernel: of the innermost loop that holds the most global loads, those of 16 bytes from its head to the first instruction that
    /// reads one of their registers. Null: no loop loads.
    /// </summary>
    public static IReadOnlyDictionary<string, int?> LoadsBeforeFirstUse(string text)
    {
        var found = new Dictionary<string, int?>(StringComparer.Ordinal);
        string? kernel = null;
        List<string> lines = [];
        foreach (string line in text.Split('\n'))
        {
            if (Section().Match(line) is { Success: true } section)
            {
                if (kernel is not null)
                    found[kernel] = OfKernel(lines);
                (kernel, lines) = (section.Groups[1].Value, []);
            }
            else
                lines.Add(line);
        }

        if (kernel is not null)
            found[kernel] = OfKernel(lines);
        return found;
    }

    private static int? OfKernel(List<string> lines)
    {
        List<string> code = [];
        var labels = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (string line in lines)
        {
            if (Label().Match(line) is { Success: true } label)
                labels[label.Groups[1].Value] = code.Count;
            else if (Instruction().Match(line) is { Success: true } instruction)
                code.Add(instruction.Groups[1].Value);
        }

        List<(int Head, int End)> loops = [];
        for (int i = 0; i < code.Count; i++)
        {
            if (Branch().Match(code[i]) is { Success: true } branch && labels.TryGetValue(branch.Groups[1].Value, out int target)
                && target <= i)
                loops.Add((target, i));
        }

        (int Head, int End)[] innermost = [.. loops.Where(l => !loops.Any(o => o != l && o.Head >= l.Head && o.End <= l.End))];
        int Loads((int Head, int End) loop) => Enumerable.Range(loop.Head, loop.End - loop.Head).Count(i => Load().IsMatch(code[i]));
        if (innermost.Length == 0)
            return null;
        (int Head, int End) main = innermost.MaxBy(Loads);
        return Loads(main) == 0 ? null : BeforeFirstUse(code.GetRange(main.Head, main.End - main.Head));
    }

    private static int BeforeFirstUse(List<string> loop)
    {
        var loaded = new HashSet<int>();
        int count = 0;
        foreach (string instruction in loop)
        {
            Match load = Load().Match(instruction);
            string[] operands = instruction[(instruction.IndexOf(' ', StringComparison.Ordinal) + 1)..].Split(',', 2);
            // What is written first is not a read, but in stores.
            string read = operands.Length > 1 && !Store().IsMatch(instruction) ? operands[1] : instruction;
            if (loaded.Count > 0 && Register().Matches(read).Any(r =>
                loaded.Contains(int.Parse(r.Groups[1].ValueSpan, CultureInfo.InvariantCulture))))
                return count;
            if (!load.Success || !load.Value.Contains(".128", StringComparison.Ordinal))
                continue;
            count++;
            if (load.Groups["shared"].Success || Register().Match(operands[0]) is not { Success: true } first)
                continue;
            int register = int.Parse(first.Groups[1].ValueSpan, CultureInfo.InvariantCulture);
            loaded.UnionWith(Enumerable.Range(register, 4));
        }

        return count;
    }

    [GeneratedRegex(@"^\s*\.section\s+\.text\.(\w+)")]
    private static partial Regex Section();

    [GeneratedRegex(@"^(\.L_\w+):")]
    private static partial Regex Label();

    // A guard goes: it reads no register of ours.
    [GeneratedRegex(@"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][^;]*?)\s*;")]
    private static partial Regex Instruction();

    [GeneratedRegex(@"^BRA\b.*?`\((\.L_\w+)\)")]
    private static partial Regex Branch();

    [GeneratedRegex(@"^LDG(?<shared>STS)?\.\S*")]
    private static partial Regex Load();

    [GeneratedRegex(@"^(ST|RED|ATOM)")]
    private static partial Regex Store();

    [GeneratedRegex(@"\bR(\d+)")]
    private static partial Regex Register();
}
