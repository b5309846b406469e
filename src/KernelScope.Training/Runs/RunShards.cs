using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>Where a reader has the rows of a run's shards from: the disk, or the model itself.</summary>
internal interface IRunShards : IDisposable
{
    /// <summary>Where inputs are.</summary>
    SiteRecord Site { get; }

    /// <summary>Where targets are; null without.</summary>
    SiteRecord? SiteOut { get; }

    /// <summary>Whether a shard may be opened while others work with the device.</summary>
    bool IsOnDisk { get; }

    /// <summary>All rows of a shard, in their order; the caller disposes them.</summary>
    /// <exception cref="InvalidDataException">A file is damaged.</exception>
    (RowShard Input, RowShard? Target) Open(int shard);

    /// <summary>At least the rows of a shard that are held back.</summary>
    /// <exception cref="InvalidDataException">A file is damaged.</exception>
    (RowShard Input, RowShard? Target) OpenHeldBack(int shard);

    /// <summary>Number of each sequence that a row of a shard is of, row by row.</summary>
    int[] SequencesOf(int shard);

    /// <summary>Mean of ‖x‖² over the inputs.</summary>
    double MeanSquaredNorm { get; }
}

/// <summary>Shards on disk. Each is compared with its manifest when it is first opened, unless it is trusted.</summary>
internal sealed class StoredShards : IRunShards
{
    private readonly RunFolder _folder;
    private readonly RunPlan _plan;
    private readonly bool _trust;
    private readonly ShardManifest[] _manifests;
    private readonly HashSet<int> _verified = [];
    private readonly CancellationTokenSource _stop = new();

    /// <exception cref="InvalidDataException">The run is not complete, or a manifest malformed.</exception>
    public StoredShards(RunFolder folder, RunPlan plan, SiteRecord site, SiteRecord? siteOut, bool trust)
    {
        (_folder, _plan, Site, SiteOut, _trust) = (folder, plan, site, siteOut, trust);
        _manifests = [.. Enumerable.Range(0, plan.Shards.Count).Select(n => ShardManifest.Read(folder, plan, n)
            ?? throw BadFile.At(folder.Path,
                $"the run is not complete: shard {n} of {plan.Shards.Count} is missing ('kernelscope status' shows all)."))];
    }

    public SiteRecord Site { get; }

    public SiteRecord? SiteOut { get; }

    public bool IsOnDisk => true;

    public (RowShard Input, RowShard? Target) Open(int shard)
    {
        bool trust;
        lock (_verified)
            trust = _trust || _verified.Contains(shard);
        RowShard input = RowShard.Open(_folder, _plan, _manifests[shard], Site, trust, _stop.Token);
        try
        {
            RowShard? target = SiteOut is null ? null : RowShard.Open(_folder, _plan, _manifests[shard], SiteOut, trust, _stop.Token);
            lock (_verified)
                _verified.Add(shard);
            return (input, target);
        }
        catch
        {
            input.Dispose();
            throw;
        }
    }

    public (RowShard Input, RowShard? Target) OpenHeldBack(int shard) => Open(shard);

    public int[] SequencesOf(int shard)
    {
        using RowShard rows = RowShard.Open(_folder, _plan, _manifests[shard], Site, trust: true);
        return rows.Sequence;
    }

    public double MeanSquaredNorm => _manifests.Sum(m => m.Sites[Site.Name].SumSquaredNorm) / _plan.Rows;

    /// <summary>Ends what compares shards at this moment, on other threads.</summary>
    public void Dispose() => _stop.Cancel();
}
