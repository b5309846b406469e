namespace KernelScope.PtxEmulator;

/// <summary>How <c>mma</c> sums its products.</summary>
public enum MatrixRounding
{
    /// <summary>
    /// As measured on Ampere (Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores", 2021): exact products, summed with the
    /// accumulator in blocks of 8 (16-bit inputs) or 4 (tf32), each term cut to 24 bits plus one guard bit below the largest, the sum cut towards zero.
    /// </summary>
    Truncate,

    /// <summary>Exact products, summed in double and rounded once to the nearest: what no hardware gives.</summary>
    Nearest,
}

/// <summary>How a launch runs and what it checks.</summary>
public sealed record LaunchOptions
{
    /// <summary>Check races, initialisation and registers. Bounds, alignment and barriers are checked always.</summary>
    public bool Checked { get; init; } = true;

    /// <summary>Also note which sectors of memory are touched: <see cref="LaunchResult.ReadFootprint"/> and <see cref="LaunchResult.WriteFootprint"/>.</summary>
    public bool CountFootprint { get; init; }

    /// <summary>Host threads that run blocks; 0 for one a processor. Results and counters do not depend on it.</summary>
    public int HostThreads { get; init; }

    /// <summary>Instructions that one warp may execute before <see cref="FaultKind.InstructionBudget"/>.</summary>
    public long WarpInstructionBudget { get; init; } = 200_000_000;

    /// <summary>Dynamic shared memory that the kernel opted into; more than the device's default limit must be asked for, as with cuFuncSetAttribute.</summary>
    public int MaxDynamicSharedBytes { get; init; } = 48 * 1024;

    /// <summary>How <c>mma</c> rounds.</summary>
    public MatrixRounding MatrixRounding { get; init; } = MatrixRounding.Truncate;
}
