namespace KernelScope.PtxEmulator.Execution;

/// <summary>Running counts of one translated instruction on one host thread.</summary>
internal struct Counter
{
    public long Warps;
    public long Threads;
    public long LoadRequests;
    public long LoadSectors;
    public long LoadBytes;
    public long StoreRequests;
    public long StoreSectors;
    public long StoreBytes;
    public long SharedLoads;
    public long SharedLoadWavefronts;
    public long SharedLoadExtra;
    public long SharedStores;
    public long SharedStoreWavefronts;
    public long SharedStoreExtra;
    public long Divergences;

    public void Add(in Counter other)
    {
        Warps += other.Warps;
        Threads += other.Threads;
        LoadRequests += other.LoadRequests;
        LoadSectors += other.LoadSectors;
        LoadBytes += other.LoadBytes;
        StoreRequests += other.StoreRequests;
        StoreSectors += other.StoreSectors;
        StoreBytes += other.StoreBytes;
        SharedLoads += other.SharedLoads;
        SharedLoadWavefronts += other.SharedLoadWavefronts;
        SharedLoadExtra += other.SharedLoadExtra;
        SharedStores += other.SharedStores;
        SharedStoreWavefronts += other.SharedStoreWavefronts;
        SharedStoreExtra += other.SharedStoreExtra;
        Divergences += other.Divergences;
    }

    public readonly InstructionCount Report(Op op) => new(op.Line, op.Text, op.Class, Warps, Threads,
        new GlobalTraffic(LoadRequests, LoadSectors, LoadBytes),
        new GlobalTraffic(StoreRequests, StoreSectors, StoreBytes),
        new SharedTraffic(SharedLoads, SharedLoadWavefronts, SharedLoadExtra),
        new SharedTraffic(SharedStores, SharedStoreWavefronts, SharedStoreExtra),
        Divergences);
}
