namespace KernelScope.Cli;

/// <summary>Result of <c>harvest</c>.</summary>
internal sealed record HarvestResult(
    string? Run, string Folder, int Shards, int Done, long Rows, long Bytes, double Seconds, double RowsPerSecond,
        IReadOnlyList<HarvestedSite> Sites, IReadOnlyList<WorkFailure> Failed)
{
    /// <summary>Seconds that the run was expected to take.</summary>
    public double EstimateSeconds { get; init; }
}

/// <summary>What a run holds at a site; the mean of ‖x‖² is null while shards are missing.</summary>
internal sealed record HarvestedSite(string Site, long Rows, double? MeanSquaredNorm);

/// <summary>Result of <c>plan</c>.</summary>
internal sealed record PlanResult(string Run, int Shards, int Done, int Missing, int Queued, int Failed, long Bytes,
    double? EstimateSeconds, int Removed);

/// <summary>Result of <c>work</c>.</summary>
internal sealed record WorkResult(string Run, string Worker, IReadOnlyList<WorkDone> Done, IReadOnlyList<WorkFailure> Failed);

/// <summary>A shard that was done, or was there.</summary>
internal sealed record WorkDone(int Shard, double Seconds, long Rows, bool Reused);

/// <summary>A shard that was not done.</summary>
internal sealed record WorkFailure(int Shard, string Error);

/// <summary>Result of <c>status</c>.</summary>
internal sealed record StatusResult(
    string Run, int Shards, int Done, int Leased, int Queued, int Stuck, int Missing, int Failed, long Rows, double RowsPerSecond,
        double? EtaSeconds, IReadOnlyList<StatusHost> Hosts, int Conflicts,
    IReadOnlyList<WorkFailure> Failures);

/// <summary>What a host did with a device.</summary>
internal sealed record StatusHost(string Host, string Device, int Shards, double RowsPerSecond, DateTime LastSeen);

/// <summary>Result of <c>merge</c>.</summary>
internal sealed record MergeResult(string Run, string What, int Shards, long Rows, string File, string Sha256);
