namespace KernelScope.PtxEmulator;

/// <summary>How <c>mma</c> sums its products.</summary>
/// <remarks>
/// Khattak and Mikaitis, "Accurate Models of NVIDIA Tensor Cores" (arXiv 2512.07004), with the parameters of the authors' own models
/// (github.com/north-numerical-computing/MATLAB-tensor-core, A100TC.m and
/// H100TC.m: <c>fma</c>, <c>neab</c>, <c>min_exp_limit</c>). Products and the running sum, taken exactly, are cut towards zero at 2^(e −
/// F), added exactly, and the sum is cut to float32 towards zero.
/// e is the largest exponent of a block's terms: of a product the sum of its factors' exponents, although its significand may be 2 or more;
/// never below a floor.
/// </remarks>
public enum MatrixModel
{
    /// <summary>
    /// As the device's generation does: <see cref="Ampere"/> below compute capability 9.0, <see cref="Hopper"/> from there on.
    /// </summary>
    OfDevice,

    /// <summary>A100; A2, Ada and L40S are alike: blocks of 8 products (tf32: 4), F = 24, e at least −132.</summary>
    Ampere,

    /// <summary>H100, H200; B200 is alike: blocks of 16 products (tf32: 8), F = 25, e at least −133.</summary>
    Hopper,

    /// <summary>Exact products, summed in double and rounded once to the nearest: what no hardware gives.</summary>
    Nearest,
}

/// <summary>How a launch runs and what it checks.</summary>
public sealed record LaunchOptions
{
    /// <summary>Check races, initialisation and registers. Bounds, alignment and barriers are checked always.</summary>
    public bool Checked { get; init; } = true;

    /// <summary>
    /// Also note which sectors of memory are touched: <see cref="LaunchResult.ReadFootprint"/> and <see
    /// cref="LaunchResult.WriteFootprint"/>.
    /// </summary>
    public bool CountFootprint { get; init; }

    /// <summary>Host threads that run blocks; 0 for one a processor. Results and counters do not depend on it.</summary>
    public int HostThreads { get; init; }

    /// <summary>Instructions that one warp may execute before <see cref="FaultKind.InstructionBudget"/>.</summary>
    public long WarpInstructionBudget { get; init; } = 200_000_000;

    /// <summary>
    /// Dynamic shared memory that the kernel opted into; more than the device's default limit must be asked for, as with
    /// cuFuncSetAttribute.
    /// </summary>
    public int MaxDynamicSharedBytes { get; init; } = 48 * 1024;

    /// <summary>
    /// Programmatic stream serialization: the launch may begin before those before it have ended. It runs behind them here, and whatever it does before <c>griddepcontrol.wait</c> that could show
    /// the difference is <see cref="FaultKind.MissingGridWait"/>.
    /// </summary>
    public bool Programmatic { get; init; }

    /// <summary>How <c>mma</c> sums.</summary>
    public MatrixModel MatrixModel { get; init; }
}
