namespace KernelScope.Training;

/// <summary>The activation function that is trained.</summary>
public enum TrainingActivation
{
    /// <summary>z where z &gt; θ, with trained thresholds (Rajamanoharan et al. 2024): the Gemma Scope recipe.</summary>
    JumpRelu,

    /// <summary>The k largest positive pre-activations of each row (Gao et al. 2024).</summary>
    TopK,

    /// <summary>The k·B largest positive pre-activations of a batch of B rows (Bussmann et al. 2024); afterwards a JumpReLU with one
    /// threshold for all features.</summary>
    BatchTopK,

    /// <summary>relu(z) with an L1 penalty on the codes.</summary>
    Relu,
}

/// <summary>What is learned of a JumpReLU's threshold.</summary>
public enum ThresholdParameter
{
    /// <summary>θ itself.</summary>
    Theta,

    /// <summary>log θ, which keeps θ positive.</summary>
    LogTheta,
}

/// <summary>How an SAE or transcoder is trained. The defaults are the recipe of the Gemma Scope paper (Lieberum et al. 2024, section
/// 3).</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record TrainingOptions
{
    /// <summary>d_sae, the number of features.</summary>
    public required int Width { get; init; }

    /// <summary>λ: the weight of L0 for a JumpReLU, of Σ codes for <see cref="TrainingActivation.Relu"/> (decoder rows are unit vectors);
    /// not used by the others.</summary>
    public double Sparsity { get; init; }

    /// <summary>The L0 that λ is steered to, beside which <see cref="Sparsity"/> is 0; of <see cref="TrainingActivation.JumpRelu"/> and
    /// <see cref="TrainingActivation.Relu"/>. 0: λ is what <see cref="Sparsity"/> says.</summary>
    public double TargetL0 { get; init; }

    /// <summary>The activation function.</summary>
    public TrainingActivation Activation { get; init; }

    /// <summary>k of TopK and BatchTopK.</summary>
    public int K { get; init; }

    /// <summary>Number of steps.</summary>
    public long Steps { get; init; } = 100_000;

    /// <summary>Number of rows of a step.</summary>
    public int Batch { get; init; } = 4096;

    /// <summary>The learning rate η of Adam.</summary>
    public double LearningRate { get; init; } = 7e-5;

    /// <summary>Steps over which the learning rate rises from a tenth of η, along a cosine.</summary>
    public long LearningRateWarmUp { get; init; } = 1000;

    /// <summary>Last steps over which the learning rate falls to 0 in a line; the paper has none.</summary>
    public long LearningRateDecay { get; init; }

    /// <summary>Steps over which λ rises from 0, in a line.</summary>
    public long SparsityWarmUp { get; init; } = 10_000;

    /// <summary>ε, the width of the kernel that stands for the derivative of a step.</summary>
    public double Bandwidth { get; init; } = 0.001;

    /// <summary>The thresholds θ at the beginning.</summary>
    public double Threshold { get; init; } = 0.001;

    /// <summary>The least θ: what a step brings below it is set to it. 0: none, and a θ that falls to 0 ends the training.</summary>
    public double ThresholdFloor { get; init; }

    /// <summary>The largest norm of a step's gradient over all parameters: a longer one is scaled down to it. 0: none is, as in the
    /// paper.</summary>
    public double Clip { get; init; }

    /// <summary>Whether θ is learned itself, or by its logarithm.</summary>
    public ThresholdParameter Parameter { get; init; }

    /// <summary>Decides the first weights (and the order of rows, where the rows take it).</summary>
    public long Seed { get; init; }

    /// <summary>C, by which inputs are divided; null: √ of the mean of ‖x‖² over the training rows, and √d_in for a transcoder.</summary>
    public double? Scale { get; init; }

    /// <summary>The same for a transcoder's targets; null: √d_in.</summary>
    public double? ScaleOut { get; init; }

    /// <summary>Whether a transcoder has a path x·W_skipᵀ beside its features.</summary>
    public bool Skip { get; init; }

    /// <summary>A feature is dead if it was active on none of the last so many rows.</summary>
    public long DeadRows { get; init; } = 10_000_000;

    /// <summary>The learning rate of a step.</summary>
    public double LearningRateAt(long step)
    {
        double rate = step < LearningRateWarmUp ? LearningRate * (0.1 + (0.9 * (1 - Math.Cos(Math.PI * step / LearningRateWarmUp)) / 2))
            : LearningRate;
        return step >= Steps - LearningRateDecay ? rate * (Steps - step) / LearningRateDecay : rate;
    }

    /// <summary>Refuses what cannot be trained.</summary>
    /// <exception cref="ArgumentException">A value is out of its range, or means nothing beside the others.</exception>
    public void Require()
    {
        if (!Enum.IsDefined(Activation) || !Enum.IsDefined(Parameter))
            throw new ArgumentException($"There is no activation {Activation} or no form {Parameter} of a threshold.");
        Positive(Width, "The width");
        Positive(Steps, "The number of steps");
        Positive(Batch, "The batch");
        Positive(LearningRate, "The learning rate");
        if (!(Sparsity >= 0 && Sparsity <= float.MaxValue))
            throw new ArgumentException($"The sparsity is {Sparsity}; a number from 0 on, within the range of float32, is needed.");
        if (!(Clip >= 0) || !double.IsFinite(Clip))
            throw new ArgumentException($"The largest norm of a gradient is {Clip}; a number from 0 on is needed.");
        if (LearningRateWarmUp < 0 || SparsityWarmUp < 0 || LearningRateDecay < 0 || DeadRows <= 0)
            throw new ArgumentException("Warm-ups and decays are numbers of steps from 0 on, and dead features are counted over one " +
                "row at least.");
        if (Activation == TrainingActivation.JumpRelu)
        {
            Positive(Bandwidth, "The bandwidth");
            Positive(Threshold, "The first threshold");
            if (!(ThresholdFloor >= 0) || ThresholdFloor > Threshold)
                throw new ArgumentException($"The least threshold is {ThresholdFloor}; a number from 0 to the first " +
                    $"threshold, {Threshold}, is needed.");
            if (ThresholdFloor > 0 && Parameter == ThresholdParameter.LogTheta)
                throw new ArgumentException("A least threshold does nothing where log θ is learned: that stays above 0 by itself.");
        }

        RequireTarget();
        if (Activation is TrainingActivation.TopK or TrainingActivation.BatchTopK ? K <= 0 || K > Width : K != 0)
            throw new ArgumentException($"k is {K}; TopK and BatchTopK need a number from 1 to the width, {Width}, and the others take " +
                "none.");
        if (Scale is { } scale)
            RequireScale(scale, "The scale");
        if (ScaleOut is { } scaleOut)
            RequireScale(scaleOut, "The scale of targets");
    }

    private void RequireTarget()
    {
        if (TargetL0 == 0)
            return;
        if (Activation is TrainingActivation.TopK or TrainingActivation.BatchTopK)
            throw new ArgumentException("A target L0 does nothing for TopK and BatchTopK: k is their L0.");
        if (!(TargetL0 > 0 && TargetL0 < Width))
            throw new ArgumentException($"The target L0 is {TargetL0}; a number above 0 and below the width, {Width}, is needed.");
        if (Sparsity != 0)
            throw new ArgumentException("The sparsity is found for a target L0; one of the two is given.");
        if (SparsityWarmUp >= Steps)
            throw new ArgumentException($"The sparsity is steered to a target L0 when it has risen, over {SparsityWarmUp} steps, and " +
                $"there are only {Steps}: a shorter warm-up is needed.");
    }

    // Squares of rows that are longer or shorter than 1 by this are 10^±30, and their sums still float32.
    private const double LeastScale = 1e-15;

    /// <summary>Whether rows divided by it keep squares that float32 holds, if they were of that length.</summary>
    internal static bool IsScale(double scale) => scale is >= LeastScale and <= 1 / LeastScale;

    private static void RequireScale(double scale, string name)
    {
        if (!IsScale(scale))
            throw new ArgumentException($"{name} is {scale}; a number from {LeastScale} to {1 / LeastScale} is needed.");
    }

    private static void Positive(double value, string name)
    {
        if (!(value > 0) || !double.IsFinite(value))
            throw new ArgumentException($"{name} is {value}; a number above 0 is needed.");
    }
}
