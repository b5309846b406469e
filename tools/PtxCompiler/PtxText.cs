using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using KernelScope.Cuda.Ptx;

namespace KernelScope.PtxCompiler;

/// <summary>A parameter of a kernel, as the driver lays it out.</summary>
/// <param name="Name">Name in the C# source.</param>
/// <param name="Offset">Offset in the parameter block, in bytes.</param>
/// <param name="Size">Size in bytes; 16 for a view: address, then number of elements.</param>
public readonly record struct PtxParameter(string Name, int Offset, int Size);

/// <summary>
/// Makes ILGPU's text stable and safe: names without process-wide counters, no unused functions, every product and sum with its rounding
/// written out (a plain
/// <c>mul.f32</c> and <c>add.f32</c> may be contracted by the driver, which would make bits depend on its version), no claims of uniform
/// branches.
/// </summary>
public static partial class PtxText
{
    /// <summary>Gives one kernel, <c>.visible .entry</c> to its closing brace, under the name <paramref name="name"/>.</summary>
    public static string Normalize(string ptx, string name)
    {
        string entry = OnlyEntry(ptx.ReplaceLineEndings("\n"));
        entry = Entry().Replace(entry, $".entry {name}(", 1);
        entry = RenameParameters(entry);
        entry = Renumber(entry, Label(), "L");
        entry = UniformBranch().Replace(entry, "bra");
        entry = Contractible().Replace(entry, "$1.rn.f32");
        entry = SharedAlignment().Replace(entry, ".shared .align 16 ");
        entry = AtomicOrder().Replace(entry, "$1.$3.$2.");
        entry = ConstantProduct().Replace(entry, FoldProduct);
        return BlankLines().Replace(entry, "\n").Trim() + "\n";
    }

    /// <summary>Asks the assembler to leave room for so many blocks on a multiprocessor; 0: as it is.</summary>
    public static string WithMinBlocks(string entry, int blocks) =>
        blocks == 0 ? entry : ThreadLimit().Replace(entry, match =>
            string.Create(CultureInfo.InvariantCulture, $"{match.Value}\n.minnctapersm {blocks}"), 1);

    /// <summary>The kernel; if it does not say where it waits for the launch before, that is its first instruction.</summary>
    public static string WithGridWait(string entry)
    {
        if (entry.Contains("griddepcontrol", StringComparison.Ordinal))
            return entry;
        int first = entry.IndexOf('\n', entry.LastIndexOf("\n\t.reg ", StringComparison.Ordinal) + 1);
        const string Line = "\n\t" + OverlapText.Prefix;
        return entry.Insert(first, $"{Line}griddepcontrol.wait;{Line}griddepcontrol.launch_dependents;");
    }

    /// <summary>The parameters of a normalised kernel, with the driver's offsets: each at a multiple of its alignment.</summary>
    public static IReadOnlyList<PtxParameter> Parameters(string entry)
    {
        var parameters = new List<PtxParameter>();
        int end = 0;
        foreach (Match match in ParameterDeclaration().Matches(entry))
        {
            bool isArray = match.Groups["length"].Success;
            int element = int.Parse(match.Groups["bits"].ValueSpan, CultureInfo.InvariantCulture) / 8;
            int size = isArray ? int.Parse(match.Groups["length"].ValueSpan, CultureInfo.InvariantCulture) : element;
            int alignment = match.Groups["align"].Success ? int.Parse(match.Groups["align"].ValueSpan, CultureInfo.InvariantCulture)
                : element;
            int offset = RoundUp(end, alignment);
            parameters.Add(new PtxParameter(match.Groups["name"].Value["p_".Length..], offset, size));
            end = offset + size;
        }

        return parameters;
    }

    /// <summary>Bytes of static shared memory of a normalised kernel.</summary>
    public static int SharedBytes(string entry)
    {
        int end = 0;
        foreach (Match match in SharedDeclaration().Matches(entry))
        {
            end = RoundUp(end, int.Parse(match.Groups["align"].ValueSpan, CultureInfo.InvariantCulture));
            end += int.Parse(match.Groups["length"].ValueSpan, CultureInfo.InvariantCulture);
        }

        return end;
    }

    private static int RoundUp(int value, int alignment) => (value + alignment - 1) / alignment * alignment;

    // ILGPU also emits a body for every method that a code generator replaced; nothing calls them.
    private static string OnlyEntry(string ptx)
    {
        int start = ptx.IndexOf(".visible .entry", StringComparison.Ordinal);
        int end = ptx.IndexOf("\n}", start, StringComparison.Ordinal);
        return ptx[start..(end + 2)];
    }

    private static string RenameParameters(string entry)
    {
        var names = new Dictionary<string, string>();
        foreach (Match match in RawParameter().Matches(entry))
            names.TryAdd(match.Value, "p_" + match.Groups["name"].Value);
        return RawParameter().Replace(entry, match => names[match.Value]);
    }

    private static string Renumber(string entry, Regex pattern, string prefix)
    {
        var names = new Dictionary<string, string>();
        return pattern.Replace(entry, match =>
        {
            if (!names.TryGetValue(match.Value, out string? name))
                names.Add(match.Value, name = prefix + names.Count.ToString(CultureInfo.InvariantCulture));
            return name;
        });
    }

    // ILGPU writes "mul.wide.u32 %rd, 3, 4": a product of two literals is the literal.
    private static string FoldProduct(Match match)
    {
        long product = long.Parse(match.Groups["a"].ValueSpan, CultureInfo.InvariantCulture)
            * long.Parse(match.Groups["b"].ValueSpan, CultureInfo.InvariantCulture);
        return new StringBuilder().Append("mov.b64\t").Append(match.Groups["target"].ValueSpan).Append(", ").Append(product)
            .Append(';').ToString();
    }

    [GeneratedRegex(@"\.maxntid [^\n]*")]
    private static partial Regex ThreadLimit();

    [GeneratedRegex(@"\.entry\s+\w+\(")]
    private static partial Regex Entry();

    [GeneratedRegex(@"(?<=[\s\[])_(?<name>[A-Za-z]\w*?)_\d+(?=[\s\[\],+]|$)", RegexOptions.Multiline)]
    private static partial Regex RawParameter();

    [GeneratedRegex(@"\bL_\d+\b")]
    private static partial Regex Label();

    [GeneratedRegex(@"\bbra\.uni\b")]
    private static partial Regex UniformBranch();

    [GeneratedRegex(@"\b(mul|add|sub)\.f32\b")]
    private static partial Regex Contractible();

    [GeneratedRegex(@"\.shared\s+\.align\s+\d+\s+")]
    private static partial Regex SharedAlignment();

    [GeneratedRegex(@"mul\.wide\.u32\t(?<target>%rd\d+), (?<a>\d+), (?<b>\d+);")]
    private static partial Regex ConstantProduct();

    // ILGPU writes atom.add.global; the manual's order is atom.global.add.
    [GeneratedRegex(@"\b(atom|red)\.(\w+)\.(global|shared)\.")]
    private static partial Regex AtomicOrder();

    [GeneratedRegex(@"\n\s*\n+")]
    private static partial Regex BlankLines();

    [GeneratedRegex(@"\.param\s+(\.align\s+(?<align>\d+)\s+)?\.[bfsu](?<bits>\d+)\s+(?<name>p_\w+)(\[(?<length>\d+)\])?")]
    private static partial Regex ParameterDeclaration();

    [GeneratedRegex(@"\.shared\s+\.align\s+(?<align>\d+)\s+\.b8\s+\w+\[(?<length>\d+)\]")]
    private static partial Regex SharedDeclaration();
}
