namespace KernelScope.Training.Runs;

/// <summary>What is done of a run, read from its folder, which is the truth.</summary>
internal sealed record RunStatus
{
    public required int Shards { get; init; }

    /// <summary>Shards with a manifest.</summary>
    public required IReadOnlyList<int> Done { get; init; }

    /// <summary>Shards that failed for good: at which trying again cannot help, or that failed too often.</summary>
    public required IReadOnlyList<(int Shard, string Error)> Failed { get; init; }

    /// <summary>The others.</summary>
    public required IReadOnlyList<int> Missing { get; init; }

    public required long Rows { get; init; }

    public required int Conflicts { get; init; }

    /// <summary>What each worker's host and device did.</summary>
    public required IReadOnlyList<HostStatus> Hosts { get; init; }

    /// <summary>Rows a second over all who work now; 0: nobody has for a while.</summary>
    public double RowsPerSecond => Hosts.Sum(h => h.IsActive ? h.RowsPerSecond : 0);

    /// <summary>Reads a run.</summary>
    /// <exception cref="InvalidDataException">A manifest is malformed.</exception>
    public static RunStatus Read(RunFolder folder, RunPlan plan)
    {
        SortedSet<int> done = [.. folder.ShardsWithManifest().Where(n => n < plan.Shards.Count)];
        var failed = new List<(int, string)>();
        foreach ((int shard, int attempts) in folder.FailedAttempts())
        {
            if (shard >= plan.Shards.Count || done.Contains(shard))
                continue;
            FailedAttempt? last = FailedAttempt.Read(folder, shard, attempts);
            if (attempts >= FailedAttempt.Most || last is { IsFinal: true })
                failed.Add((shard, last?.Error ?? "unknown"));
        }

        HashSet<int> away = [.. done, .. failed.Select(f => f.Item1)];
        return new RunStatus
        {
            Shards = plan.Shards.Count,
            Done = [.. done],
            Failed = failed,
            Missing = [.. Enumerable.Range(0, plan.Shards.Count).Where(n => !away.Contains(n))],
            Rows = done.Sum(n => plan.Shards[n].Rows),
            Conflicts = folder.ConflictCount(),
            Hosts = HostStatus.Read(folder, plan, done),
        };
    }
}

/// <summary>What one host did with one device.</summary>
internal sealed record HostStatus
{
    private static readonly TimeSpan ActiveWithin = TimeSpan.FromMinutes(15);

    public required string Host { get; init; }

    public required string Device { get; init; }

    public required int Shards { get; init; }

    /// <summary>Over the time that its shards took, times its workers.</summary>
    public required double RowsPerSecond { get; init; }

    /// <summary>When its last manifest was written.</summary>
    public required DateTime LastSeen { get; init; }

    /// <summary>Whether that is not long ago.</summary>
    public bool IsActive => DateTime.UtcNow - LastSeen < ActiveWithin;

    /// <summary>By host and device, in ordinal order.</summary>
    public static IReadOnlyList<HostStatus> Read(RunFolder folder, RunPlan plan, IEnumerable<int> done)
    {
        var hosts = new SortedDictionary<string, List<(ShardManifest Manifest, DateTime Written)>>(StringComparer.Ordinal);
        foreach (int shard in done)
        {
            if (ShardManifest.Read(folder, plan, shard) is not ShardManifest manifest)
                continue;
            string key = $"{manifest.Host} {manifest.Device}";
            if (!hosts.TryGetValue(key, out List<(ShardManifest, DateTime)>? list))
                hosts.Add(key, list = []);
            list.Add((manifest, File.GetLastWriteTimeUtc(folder.At(RunFolder.Manifest(shard)))));
        }

        return [.. hosts.Values.Select(list => new HostStatus
        {
            Host = list[0].Manifest.Host,
            Device = list[0].Manifest.Device,
            Shards = list.Count,
            RowsPerSecond = list.GroupBy(m => m.Manifest.Worker).Sum(w =>
                w.Sum(m => m.Manifest.Rows) / Math.Max(1e-3, w.Sum(m => m.Manifest.Seconds))),
            LastSeen = list.Max(m => m.Written),
        })];
    }
}
