namespace KernelScope.Training;

/// <summary>How far a run is: means over the last interval of the log.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record TrainingProgress
{
    /// <summary>Number of steps done.</summary>
    public required long Step { get; init; }

    /// <summary>Number of steps in all.</summary>
    public required long Steps { get; init; }

    /// <summary>Mean loss of a row.</summary>
    public required double Loss { get; init; }

    /// <summary>Mean number of active features of a row.</summary>
    public required double L0 { get; init; }

    /// <summary>λ of the last step; 0 where nothing is weighted.</summary>
    public required double Lambda { get; init; }

    /// <summary>Share of variance that is not explained.</summary>
    public required double Fvu { get; init; }

    /// <summary>Number of dead features.</summary>
    public required int Dead { get; init; }

    /// <summary>Number of rows a second.</summary>
    public required double RowsPerSecond { get; init; }
}

/// <summary>What a training made, and how it ended.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record TrainingOutcome
{
    /// <summary>Number of steps in all.</summary>
    public required long Steps { get; init; }

    /// <summary>Number of rows that were served.</summary>
    public required long Rows { get; init; }

    /// <summary>The last measurement on rows that were kept back; null where none were.</summary>
    public required ValidationResult? Validation { get; init; }

    /// <summary>λ at the end: what was given, or what a target L0 led to.</summary>
    public required double Lambda { get; init; }

    /// <summary>Number of dead features.</summary>
    public required int Dead { get; init; }

    /// <summary>Wall time of this process.</summary>
    public required double Seconds { get; init; }

    /// <summary>Rows a second in this process.</summary>
    public required double RowsPerSecond { get; init; }

    /// <summary>The SAE's files.</summary>
    public required IReadOnlyList<string> Export { get; init; }

    /// <summary>Path of the log.</summary>
    public required string Log { get; init; }
}
