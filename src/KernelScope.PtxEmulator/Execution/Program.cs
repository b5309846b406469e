using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>A literal in the register bank: bits, or the address of a variable plus an offset.</summary>
internal readonly record struct Constant(int Offset, int Bits, ulong Value, PtxVariable? Variable);

/// <summary>A special register's place in the register bank.</summary>
internal readonly record struct SpecialSlot(string Name, int Offset);

/// <summary>A kernel translated: instructions, the layout of the register bank, of shared and of local memory.</summary>
internal sealed class Program
{
    public required Op[] Ops { get; init; }

    public required int BankBytes { get; init; }

    public required int PredicateCount { get; init; }

    public required IReadOnlyList<string> RegisterNames { get; init; }

    public required IReadOnlyList<Constant> Constants { get; init; }

    public required IReadOnlyList<SpecialSlot> Specials { get; init; }

    /// <summary>Bytes of a thread's local frame.</summary>
    public required int LocalBytes { get; init; }

    public required int StaticSharedBytes { get; init; }

    /// <summary>Offset in shared memory where the dynamic part begins.</summary>
    public required int DynamicSharedOffset { get; init; }

    public required bool UsesDynamicShared { get; init; }

    /// <summary>Addresses of shared and local variables in their windows, and offsets of kernel parameters.</summary>
    public required IReadOnlyDictionary<PtxVariable, ulong> Addresses { get; init; }

    /// <summary>An atomic whose old value is used: blocks then run in order on one thread, or the result would depend on the host.</summary>
    public required bool NeedsBlockOrder { get; init; }
}
