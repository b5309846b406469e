namespace KernelScope.PtxEmulator;

/// <summary>Memory requests of one kind.</summary>
/// <param name="Requests">Warp-level instructions.</param>
/// <param name="Sectors">32-byte sectors: for each request the distinct ones that it touches.</param>
/// <param name="UsefulBytes">For each request the distinct bytes that it touches.</param>
public readonly record struct GlobalTraffic(long Requests, long Sectors, long UsefulBytes)
{
    /// <summary>32 · <see cref="Sectors"/>.</summary>
    public long MovedBytes => Sectors * 32;
}

/// <summary>Shared-memory requests of one kind.</summary>
/// <param name="Requests">Warp-level instructions.</param>
/// <param name="Wavefronts">Passes through the 32 banks of 4 bytes: at least one for each 128 bytes a full warp asks for.</param>
/// <param name="ExtraWavefronts">Passes beyond that minimum: bank conflicts.</param>
public readonly record struct SharedTraffic(long Requests, long Wavefronts, long ExtraWavefronts);

/// <summary>What one instruction of the text did in a launch.</summary>
/// <param name="Line">PTX line.</param>
/// <param name="Text">The instruction.</param>
/// <param name="Class">Its class.</param>
/// <param name="WarpExecutions">Times a warp issued it, also where its guard switched off every lane.</param>
/// <param name="ThreadExecutions">Lanes that executed it, summed over those.</param>
/// <param name="GlobalLoad">Global reads (cp.async included).</param>
/// <param name="GlobalStore">Global writes (atomics included).</param>
/// <param name="SharedLoad">Shared reads (ldmatrix included).</param>
/// <param name="SharedStore">Shared writes (cp.async included).</param>
/// <param name="Divergences">Branch executions on which the lanes disagreed.</param>
public sealed record InstructionCount(int Line, string Text, InstructionClass Class, long WarpExecutions, long ThreadExecutions,
    GlobalTraffic GlobalLoad, GlobalTraffic GlobalStore, SharedTraffic SharedLoad, SharedTraffic SharedStore, long Divergences);

/// <summary>Counters of a launch. They depend on the kernel and its input only, not on the host.</summary>
public sealed class LaunchResult
{
    private readonly long[] _threads = new long[Enum.GetValues<InstructionClass>().Length];

    internal LaunchResult(IReadOnlyList<InstructionCount> instructions, long blocks)
    {
        Instructions = instructions;
        Blocks = blocks;
        foreach (InstructionCount count in instructions)
        {
            _threads[(int)count.Class] += count.ThreadExecutions;
            WarpInstructions += count.WarpExecutions;
            GlobalLoads = Sum(GlobalLoads, count.GlobalLoad);
            GlobalStores = Sum(GlobalStores, count.GlobalStore);
            SharedLoads = Sum(SharedLoads, count.SharedLoad);
            SharedStores = Sum(SharedStores, count.SharedStore);
            DivergentBranches += count.Divergences;
            if (count.Class == InstructionClass.Barrier)
                WarpBarriers += count.WarpExecutions;
        }
    }

    /// <summary>Every instruction of the kernel in text order, executed or not.</summary>
    public IReadOnlyList<InstructionCount> Instructions { get; }

    /// <summary>Blocks of the grid.</summary>
    public long Blocks { get; }

    /// <summary>Instructions summed over warps.</summary>
    public long WarpInstructions { get; }

    /// <summary>Instructions summed over threads.</summary>
    public long ThreadInstructions => _threads.Sum();

    /// <summary>Global and constant reads.</summary>
    public GlobalTraffic GlobalLoads { get; }

    /// <summary>Global writes.</summary>
    public GlobalTraffic GlobalStores { get; }

    /// <summary>Bytes of the distinct sectors that the launch read, each counted once: what comes from memory if the caches keep everything. 0 unless asked for.</summary>
    public long ReadFootprint { get; internal init; }

    /// <summary>Bytes of the distinct sectors that the launch wrote. 0 unless asked for.</summary>
    public long WriteFootprint { get; internal init; }

    /// <summary>Shared reads.</summary>
    public SharedTraffic SharedLoads { get; }

    /// <summary>Shared writes.</summary>
    public SharedTraffic SharedStores { get; }

    /// <summary>Branch executions on which the lanes of a warp disagreed.</summary>
    public long DivergentBranches { get; }

    /// <summary>Barrier instructions summed over warps, those of the warp included.</summary>
    public long WarpBarriers { get; }

    /// <summary>Thread instructions of one class.</summary>
    public long Threads(InstructionClass @class) => _threads[(int)@class];

    private static GlobalTraffic Sum(GlobalTraffic a, GlobalTraffic b) =>
        new(a.Requests + b.Requests, a.Sectors + b.Sectors, a.UsefulBytes + b.UsefulBytes);

    private static SharedTraffic Sum(SharedTraffic a, SharedTraffic b) =>
        new(a.Requests + b.Requests, a.Wavefronts + b.Wavefronts, a.ExtraWavefronts + b.ExtraWavefronts);
}
