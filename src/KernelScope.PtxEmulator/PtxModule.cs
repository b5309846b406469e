using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Syntax;
using KernelScope.PtxEmulator.Translation;

namespace KernelScope.PtxEmulator;

/// <summary>A PTX file, parsed and translated. It may be used by any number of devices and threads.</summary>
public sealed class PtxModule
{
    private readonly ParsedModule _parsed;

    private PtxModule(string name, ParsedModule parsed)
    {
        Name = name;
        _parsed = parsed;
        var functions = parsed.Functions.ToDictionary(f => f.Name);
        bool isFor90 = LaunchContract.TargetNumber(Target) >= 90
            && System.Version.TryParse(Version, out System.Version? version) && version >= new System.Version(7, 8);
        Kernels = [.. parsed.Functions.Where(f => f.IsEntry && f.HasBody)
            .Select(f => new PtxKernel(this, f, Lowering.Translate(name, functions, f, isFor90)))];
    }

    /// <summary>Name given to <see cref="Parse"/>, for messages.</summary>
    public string Name { get; }

    /// <summary>The text's <c>.version</c>.</summary>
    public string Version => _parsed.Version;

    /// <summary>The text's <c>.target</c>, such as <c>sm_80</c>.</summary>
    public string Target => _parsed.Target;

    /// <summary>The text's entry points.</summary>
    public IReadOnlyList<PtxKernel> Kernels { get; }

    internal IReadOnlyList<PtxVariable> Variables => _parsed.Variables;

    /// <summary>Parses and translates PTX.</summary>
    /// <param name="text">The PTX text.</param>
    /// <param name="name">Name of the file, for messages.</param>
    /// <exception cref="PtxSyntaxException">The text is malformed, or has an instruction or modifier that the emulator does not know.</exception>
    public static PtxModule Parse(string text, string name)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentException.ThrowIfNullOrEmpty(name);
        return new PtxModule(name, Parser.Parse(text, name));
    }

    /// <summary>The kernel of that name.</summary>
    /// <exception cref="ArgumentException">There is none; the message lists those that there are.</exception>
    public PtxKernel Kernel(string name) => Kernels.FirstOrDefault(k => k.Name == name)
        ?? throw new ArgumentException($"{Name} has no kernel '{name}'; it has {string.Join(", ", Kernels.Select(k => k.Name))}",
            nameof(name));
}
