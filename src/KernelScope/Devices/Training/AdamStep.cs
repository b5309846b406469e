namespace KernelScope.Devices;

/// <summary>One step of Adam without a first moment (β₁ = 0), for <see cref="Device.AdamRows"/>.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct AdamStep
{
    /// <summary>A step of Adam, by its number.</summary>
    /// <param name="number">Its number, from 0 on: it decides the bias correction.</param>
    /// <param name="learningRate">The learning rate.</param>
    /// <param name="decay">β₂.</param>
    public AdamStep(long number, double learningRate, double decay = 0.999)
    {
        LearningRate = (float)learningRate;
        Decay = (float)decay;
        Rest = (float)(1 - decay);
        Correction = (float)(1 / (1 - Math.Pow(decay, number + 1.0)));
    }

    /// <summary>The learning rate.</summary>
    public float LearningRate { get; init; }

    /// <summary>β₂: what stays of the second moment.</summary>
    public float Decay { get; init; }

    /// <summary>1 − β₂, which float32 would not hold as a difference.</summary>
    public float Rest { get; init; }

    /// <summary>1 / (1 − β₂^(number + 1)).</summary>
    public float Correction { get; init; }

    /// <summary>ε, added outside the root.</summary>
    public float Epsilon { get; init; } = 1e-8f;

    /// <summary>What the gradient is multiplied by before anything else.</summary>
    public float Scale { get; init; } = 1;

    /// <summary>Whether rows are unit vectors: the gradient's component along the row is taken off before the step, and the row is divided
    /// by its norm after it.</summary>
    public bool UnitRows { get; init; }
}
