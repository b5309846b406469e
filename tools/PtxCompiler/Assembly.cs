using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using KernelScope.Cuda.Ptx;

namespace KernelScope.PtxCompiler;

/// <summary>What NVIDIA's assembler made of a kernel for one architecture.</summary>
/// <param name="Registers">Registers of a thread.</param>
/// <param name="Stack">Bytes of a thread's stack frame.</param>
/// <param name="SpillStores">Bytes of registers stored to memory for want of room.</param>
/// <param name="SpillLoads">Bytes of them loaded again.</param>
/// <param name="Shared">Bytes of static shared memory of a block.</param>
/// <param name="LoadsBeforeFirstUse">Of the innermost loop with the most global loads: loads of 16 bytes from its head to the first
/// instruction that reads one of them; null without such a loop.</param>
public sealed record AssembledKernel(int Registers, int Stack, int SpillStores, int SpillLoads, int Shared, int? LoadsBeforeFirstUse);

/// <summary>Calls <c>ptxas</c> and <c>nvdisasm</c>, which are NVIDIA's: neither is part of this project.</summary>
/// <param name="ptxas">Path of the assembler.</param>
/// <param name="nvdisasm">Path of the disassembler; null: loops are not looked at.</param>
public sealed partial class Assembly(string ptxas, string? nvdisasm)
{
    /// <summary>The assembler's version, such as 11.8.89.</summary>
    /// <exception cref="InvalidOperationException">It does not run.</exception>
    public string Version() => VersionLine().Match(Run(ptxas, "--version").Output) is { Success: true } match ? match.Groups[1].Value
        : throw new InvalidOperationException($"{ptxas} does not say its version.");

    /// <summary>Assembles a file for an architecture.</summary>
    /// <param name="file">The PTX.</param>
    /// <param name="architecture">10·major + minor.</param>
    /// <param name="loops">Whether to look at loops too.</param>
    /// <exception cref="InvalidOperationException">The assembler refuses it, or warns.</exception>
    public IReadOnlyDictionary<string, AssembledKernel> Assemble(string file, int architecture, bool loops)
    {
        string cubin = Path.GetTempFileName(), text = Path.GetTempFileName();
        try
        {
            string target = string.Create(CultureInfo.InvariantCulture, $"sm_{architecture}");
            // What the device would load.
            bool overlaps = architecture >= OverlapText.Capability;
            if (overlaps)
                File.WriteAllText(text, OverlapText.Enable(File.ReadAllText(file)));
            (int code, _, string report) = Run(ptxas, "-v", $"-arch={target}", overlaps ? text : file, "-o", cubin);
            if (code != 0 || report.Contains("warning", StringComparison.OrdinalIgnoreCase))
                throw new InvalidOperationException($"{Path.GetFileName(file)} for {target}: {report.Trim()}");
            IReadOnlyDictionary<string, int?> loads = nvdisasm is null || !loops ? new Dictionary<string, int?>()
                : Disassembly.LoadsBeforeFirstUse(Run(nvdisasm, "-c", cubin).Output);
            return Parse(report, loads);
        }
        finally
        {
            File.Delete(cubin);
            File.Delete(text);
        }
    }

    private static Dictionary<string, AssembledKernel> Parse(string report, IReadOnlyDictionary<string, int?> loads)
    {
        var kernels = new Dictionary<string, AssembledKernel>(StringComparer.Ordinal);
        foreach (Match match in Entry().Matches(report))
        {
            int Number(string group) => match.Groups[group] is { Success: true } found
                ? int.Parse(found.ValueSpan, CultureInfo.InvariantCulture) : 0;
            string name = match.Groups["name"].Value;
            kernels.Add(name, new AssembledKernel(Number("registers"), Number("stack"), Number("stores"), Number("loads"),
                Number("shared"), loads.GetValueOrDefault(name)));
        }

        return kernels;
    }

    private static (int Code, string Output, string Error) Run(string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{program} does not start.");
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.Result);
    }

    [GeneratedRegex(@"Function properties for (?<name>\w+)\s+(?<stack>\d+) bytes stack frame, " +
        @"(?<stores>\d+) bytes spill stores, (?<loads>\d+) " +
        @"bytes spill loads\s+ptxas info\s*: Used (?<registers>\d+) " +
        @"registers[^\n]*?(, (?<shared>\d+) bytes smem)?(,[^\n]*)?\n")]
    private static partial Regex Entry();

    [GeneratedRegex(@"V(\d+\.\d+\.\d+)")]
    private static partial Regex VersionLine();
}
