namespace KernelScope.Training.Runs;

/// <summary>In which order the rows of a run are served, and which are held back.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed class RunRowsOptions
{
    /// <summary>Seed of the order; null: the run's own.</summary>
    public long? Seed { get; init; }

    /// <summary>
    /// Rows that are mixed at once: 10⁶ as in the Gemma Scope paper; fewer if the run has fewer. Memory: that of each as it is stored, 4
    /// bytes a value or 2.
    /// </summary>
    public int BucketRows { get; init; } = 1_000_000;

    /// <summary>Shards from which a bucket is drawn at once.</summary>
    public int OpenShards { get; init; } = 8;

    /// <summary>Whether half a bucket is served before it is filled up and mixed again; else all of it is.</summary>
    public bool MixHalf { get; init; }

    /// <summary>Share of the sequences, chosen by the hash of their number, that is never served to training.</summary>
    public double Validation { get; init; } = 0.01;

    /// <summary>Whether shards are not compared with the hashes of their manifests when they are first opened.</summary>
    public bool Trust { get; init; }

    /// <summary>Whether the next bucket is read while one is served; the rows are the same.</summary>
    internal bool ReadsAhead { get; init; } = true;
}
