namespace KernelScope.Training;

/// <summary>What an SAE does on rows that it was not trained on.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record ValidationResult
{
    /// <summary>Number of steps done when it was measured.</summary>
    public required long Step { get; init; }

    /// <summary>Number of rows that were kept back.</summary>
    public required long Rows { get; init; }

    /// <summary>Mean number of active features of a row.</summary>
    public required double L0 { get; init; }

    /// <summary>Σ ‖e‖² / Σ ‖y − mean‖², with the mean of these rows.</summary>
    public required double Fvu { get; init; }

    /// <summary>Mean of ‖e‖², in the scale of training (‖y‖² is 1 on average).</summary>
    public required double Mse { get; init; }

    /// <summary>Mean next-token loss of the model on sequences that are kept back, in nats; null where it was not measured.</summary>
    public double? CleanLoss { get; init; }

    /// <summary>By how much the reconstruction in the activation's place makes that loss larger; null where it was not measured.</summary>
    public double? DeltaLoss { get; init; }

    /// <summary>Number of features that fire never, in less than 10⁻⁵, 10⁻⁴, 10⁻³, 10⁻² and 10⁻¹ of the rows, and more often.</summary>
    public required IReadOnlyList<int> FiringHistogram { get; init; }
}
