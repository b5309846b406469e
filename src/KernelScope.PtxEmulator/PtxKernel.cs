using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Syntax;
using KernelScope.PtxEmulator.Translation;

namespace KernelScope.PtxEmulator;

/// <summary>A kernel parameter's place in the parameter block.</summary>
/// <param name="Name">Name in the text.</param>
/// <param name="Offset">First byte.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Alignment">Alignment.</param>
public sealed record PtxParameter(string Name, int Offset, int Size, int Alignment);

/// <summary>Registers that a kernel declares; ptxas assigns the real ones.</summary>
/// <param name="Predicate">.pred</param>
/// <param name="Bits16">8 and 16 bits</param>
/// <param name="Bits32">32 bits</param>
/// <param name="Bits64">64 bits</param>
public sealed record RegisterCounts(int Predicate, int Bits16, int Bits32, int Bits64);

/// <summary>An entry point of a module.</summary>
public sealed class PtxKernel
{
    internal PtxKernel(PtxModule module, PtxFunction function, Program program)
    {
        Module = module;
        Program = program;
        Name = function.Name;
        Line = function.Line;
        Parameters =
            [.. ParameterLayout.Of(function)
                .Select(p => new PtxParameter(p.Variable.Name, p.Offset, (int)p.Variable.Bytes, p.Variable.Alignment))];
        MaxThreads = Dimensions(function.MaxThreads);
        RequiredThreads = Dimensions(function.RequiredThreads);
        MinBlocksPerMultiprocessor = function.MinBlocks;
        Registers = new RegisterCounts(
            function.Registers.Count(r => r.Type.Bits() == 1),
            function.Registers.Count(r => r.Type.Bits() is 8 or 16),
            function.Registers.Count(r => r.Type.Bits() == 32),
            function.Registers.Count(r => r.Type.Bits() == 64));
    }

    /// <summary>The module.</summary>
    public PtxModule Module { get; }

    /// <summary>Name of the entry point.</summary>
    public string Name { get; }

    /// <summary>Line of its head.</summary>
    public int Line { get; }

    /// <summary>Parameters in order.</summary>
    public IReadOnlyList<PtxParameter> Parameters { get; }

    /// <summary>Bytes of the parameter block.</summary>
    public int ParameterBytes => Parameters.Count == 0 ? 0 : Parameters[^1].Offset + Parameters[^1].Size;

    /// <summary>Shared memory that the kernel declares.</summary>
    public int StaticSharedBytes => Program.StaticSharedBytes;

    /// <summary>The kernel uses shared memory whose size the launch gives.</summary>
    public bool UsesDynamicShared => Program.UsesDynamicShared;

    /// <summary>Local memory of a thread: depots that ptxas may turn into registers.</summary>
    public int LocalBytes => Program.LocalBytes;

    /// <summary>.maxntid: the largest block, or null.</summary>
    public Dim3? MaxThreads { get; }

    /// <summary>.reqntid: the only block, or null.</summary>
    public Dim3? RequiredThreads { get; }

    /// <summary>.minnctapersm, or null.</summary>
    public int? MinBlocksPerMultiprocessor { get; }

    /// <summary>Registers declared in the text.</summary>
    public RegisterCounts Registers { get; }

    /// <summary>Lines of .local accesses at an address that is computed at run time, so that the depot cannot become registers.</summary>
    public IReadOnlyList<int> DynamicLocalLines =>
        [.. Program.Ops.Where(o => o.Class == InstructionClass.LocalDynamic).Select(o => o.Line).Distinct()];

    internal Program Program { get; }

    internal string ModuleName => Module.Name;

    private static Dim3? Dimensions((int X, int Y, int Z)? size) => size is { } s ? new Dim3(s.X, s.Y, s.Z) : null;
}
