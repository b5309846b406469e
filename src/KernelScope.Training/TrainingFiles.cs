namespace KernelScope.Training;

/// <summary>What a training run writes, and how often.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record TrainingFiles
{
    /// <summary>The folder that everything is written to.</summary>
    public required string Folder { get; init; }

    /// <summary>The log; null: <c>log.jsonl</c> in <see cref="Folder"/>.</summary>
    public string? Log { get; init; }

    /// <summary>Steps between two lines of the log.</summary>
    public long LogEvery { get; init; } = 100;

    /// <summary>Steps between two measurements on the rows that were kept back; 0: only the last.</summary>
    public long ValidateEvery { get; init; } = 1000;

    /// <summary>Steps between two checkpoints; 0: only one when the run is interrupted.</summary>
    public long CheckpointEvery { get; init; } = 10_000;

    /// <summary>Checkpoints at multiples of it stay; of the others the last two do. 0: none.</summary>
    public long KeepEvery { get; init; }

    /// <summary>Whether the newest whole checkpoint is gone on from; without any checkpoint the run begins. A damaged one that is newer is
    /// renamed.</summary>
    public bool Resume { get; init; }

    /// <summary>Told, in a sentence, of each checkpoint that was damaged and skipped; null: nobody is.</summary>
    public Action<string>? Warn { get; init; }

    /// <summary>Where in which model the rows come from.</summary>
    public TrainedPlace Place { get; init; } = new();

    /// <summary>Refuses what cannot be written.</summary>
    /// <exception cref="ArgumentException">A name is empty, or a number of steps negative.</exception>
    internal void Require()
    {
        ArgumentException.ThrowIfNullOrEmpty(Folder);
        ArgumentNullException.ThrowIfNull(Place);
        if (Log is "")
            throw new ArgumentException("The log's name is empty.");
        if (LogEvery <= 0 || ValidateEvery < 0 || CheckpointEvery < 0 || KeepEvery < 0)
            throw new ArgumentException($"Steps between two lines of the log are {LogEvery}, between measurements {ValidateEvery}, " +
                $"checkpoints {CheckpointEvery} and kept checkpoints {KeepEvery}; numbers from 0 on are needed, and of the log from 1 on.");
    }
}
