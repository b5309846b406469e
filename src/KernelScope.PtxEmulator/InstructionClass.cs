namespace KernelScope.PtxEmulator;

/// <summary>Classes in which executed instructions are counted.</summary>
public enum InstructionClass
{
    /// <summary>Integer arithmetic, shifts, bit fields.</summary>
    Integer,

    /// <summary>32-bit float add, mul, fma, min, max, neg, abs, div, sqrt.</summary>
    Float32,

    /// <summary>16-bit float arithmetic.</summary>
    Float16,

    /// <summary>64-bit float arithmetic.</summary>
    Float64,

    /// <summary>Approximations of the special-function unit: ex2, lg2, rcp, rsqrt, sin, cos, tanh, div.approx.</summary>
    Special,

    /// <summary>cvt, cvta, pack and unpack.</summary>
    Convert,

    /// <summary>setp, set, selp and predicate logic.</summary>
    Compare,

    /// <summary>mov and reads of special registers.</summary>
    Move,

    /// <summary>Reads of kernel parameters.</summary>
    Parameter,

    /// <summary>Global and constant loads, generic ones included.</summary>
    GlobalLoad,

    /// <summary>Global stores, generic ones included.</summary>
    GlobalStore,

    /// <summary>Shared loads.</summary>
    SharedLoad,

    /// <summary>Shared stores.</summary>
    SharedStore,

    /// <summary>Local loads and stores at an address known when the kernel was translated: ptxas keeps such depots in registers.</summary>
    LocalConstant,

    /// <summary>Local loads and stores at an address computed at run time: real memory traffic.</summary>
    LocalDynamic,

    /// <summary>cp.async and its waits.</summary>
    AsyncCopy,

    /// <summary>ldmatrix.</summary>
    MatrixLoad,

    /// <summary>mma.</summary>
    Matrix,

    /// <summary>shfl, vote, match, redux, activemask.</summary>
    WarpExchange,

    /// <summary>atom and red.</summary>
    Atomic,

    /// <summary>Barriers of the block and the warp.</summary>
    Barrier,

    /// <summary>membar and fence.</summary>
    Fence,

    /// <summary>bra, brx, call, ret, exit.</summary>
    Branch,

    /// <summary>Hints: prefetch, nanosleep.</summary>
    Other,
}
