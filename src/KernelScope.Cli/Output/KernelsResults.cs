namespace KernelScope.Cli;

/// <summary>The device whose kernels were loaded.</summary>
internal sealed record KernelsDeviceRow(string Name, int ComputeCapability, int Multiprocessors, long MemoryBytes, string Driver,
    string Library);

/// <summary>A PTX file as the driver took it; <paramref name="Problem"/> is null where it did.</summary>
internal sealed record ModuleRow(string File, string Target, bool Ok, double Milliseconds, string Log, string? Problem);

/// <summary>A kernel as the driver compiled it.</summary>
internal sealed record KernelRow(string Name, int Registers, int LocalBytes, int SharedBytes, int MaxThreads, int PtxVersion,
    int BinaryVersion, int BlocksPerSm);

/// <summary>Result of <c>kernels</c>.</summary>
internal sealed record KernelsResult(KernelsDeviceRow Device, IReadOnlyList<ModuleRow> Modules, IReadOnlyList<KernelRow> Kernels,
    int Failed);
