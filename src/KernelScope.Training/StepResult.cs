namespace KernelScope.Training;

/// <summary>What a step saw, summed over the rows of its batch, before it learned from them.</summary>
internal readonly record struct StepResult
{
    /// <summary>Number of rows.</summary>
    public required int Rows { get; init; }

    /// <summary>Σ ‖e‖².</summary>
    public required double SquaredError { get; init; }

    /// <summary>Number of active features.</summary>
    public required long Active { get; init; }

    /// <summary>Number of pre-activations within half a bandwidth of their thresholds.</summary>
    public required long Near { get; init; }

    /// <summary>Σ of the codes, where the penalty is on them; else 0.</summary>
    public required double CodeSum { get; init; }

    /// <summary>λ of the step.</summary>
    public required double Lambda { get; init; }

    /// <summary>Learning rate of the step.</summary>
    public required double LearningRate { get; init; }
}
