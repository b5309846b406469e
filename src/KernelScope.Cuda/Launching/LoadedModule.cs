namespace KernelScope.Cuda.Launching;

/// <summary>What the driver made of a kernel.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
internal sealed record LoadedKernel
{
    /// <summary>Name of its entry point.</summary>
    public required string Name { get; init; }

    /// <summary>Registers of a thread; 0 where the driver does not say.</summary>
    public required int Registers { get; init; }

    /// <summary>Bytes of local memory of a thread.</summary>
    public required int LocalBytes { get; init; }

    /// <summary>Bytes of static shared memory of a block.</summary>
    public required int SharedBytes { get; init; }

    /// <summary>Threads of a block at most.</summary>
    public required int MaxThreads { get; init; }

    /// <summary>Version of the PTX, 10·major + minor.</summary>
    public required int PtxVersion { get; init; }

    /// <summary>Architecture of the code, 10·major + minor.</summary>
    public required int BinaryVersion { get; init; }

    /// <summary>Blocks of the kernel's own size that a multiprocessor holds at once.</summary>
    public required int BlocksPerMultiprocessor { get; init; }
}

/// <summary>What the driver made of a PTX file.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
internal sealed record LoadedModule
{
    /// <summary>Path below <c>kernels/ptx</c>.</summary>
    public required string File { get; init; }

    /// <summary>Target of the PTX.</summary>
    public required string Target { get; init; }

    /// <summary>What compiling took by the driver's clock; 0 where it had the result.</summary>
    public float Milliseconds { get; init; }

    /// <summary>What the compiler said.</summary>
    public string Log { get; init; } = "";

    /// <summary>Why the module or one of its kernels cannot be used; null if all can.</summary>
    public string? Problem { get; init; }

    /// <summary>Its kernels, as far as they loaded.</summary>
    public IReadOnlyList<LoadedKernel> Kernels { get; init; } = [];
}
