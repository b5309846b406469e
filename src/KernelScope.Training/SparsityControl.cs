namespace KernelScope.Training;

/// <summary>λ of each step: as the options say, or steered to a target L0.</summary>
/// <remarks>
/// Where L0 has a target T, λ begins at 0.3/T, at which the penalty of T active features is 0.3 of the mean squared norm of the scaled
/// rows (for a sum of codes 0.3/√T: that of T equal codes with unit norm is √T): several times what it ends at, so that L0 falls below
/// the target and comes back to it, which gives a lower error than coming down. A transcoder's begins at a twentieth of that: what its
/// features explain of the targets is worth less, so that 0.3 is thirty times what it ends at, and L0 would not come back. It rises in a
/// line, as a fixed one does; after that,
/// each step multiplies it by exp(g·c), with c = ln(L0 / T) of the step's batch, held within −1 and 1, and g = 15 / steps: over a
/// whole training λ can move by a factor of e^15 at most, and little from one step to the next.
/// All of its state is λ: a checkpoint holds it. For one caller at a time.
/// </remarks>
internal sealed class SparsityControl(TrainingOptions options, bool isTranscoder)
{
    private const double Reach = 15, FirstPenalty = 0.3, FirstOfTranscoder = 0.015, LeastL0 = 1e-3;

    /// <summary>λ without its warm-up.</summary>
    public double Value { get; set; } = options.TargetL0 > 0 ? First(options, isTranscoder) : options.Sparsity;

    /// <summary>λ of a step.</summary>
    public double At(long step) => options.SparsityWarmUp > 0 ? Value * Math.Min((double)step / options.SparsityWarmUp, 1) : Value;

    /// <summary>Learns from the mean number of active features of a row in a step's batch.</summary>
    public void Learn(long step, double l0)
    {
        if (options.TargetL0 > 0 && step >= options.SparsityWarmUp)
            Value *= Math.Exp(Reach / options.Steps * Math.Clamp(Math.Log(Math.Max(l0, LeastL0) / options.TargetL0), -1, 1));
    }

    private static double First(TrainingOptions options, bool isTranscoder) => (isTranscoder ? FirstOfTranscoder : FirstPenalty)
        / (options.Activation == TrainingActivation.Relu ? Math.Sqrt(options.TargetL0) : options.TargetL0);
}
