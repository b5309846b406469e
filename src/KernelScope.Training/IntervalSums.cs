namespace KernelScope.Training;

/// <summary>What is logged as a mean over some steps, summed.</summary>
internal sealed class IntervalSums(int outputs)
{
    // Half a unit in the last place of a double, relative.
    private const double Rounding = 1.0 / (1L << 53);

    /// <summary>Σ of the targets, by dimension.</summary>
    public double[] Target { get; } = new double[outputs];

    public double TargetSquares { get; set; }

    public double SquaredError { get; set; }

    public double Penalty { get; set; }

    /// <summary>λ of the last step.</summary>
    public double Lambda { get; private set; }

    public long Active { get; set; }

    public long Near { get; set; }

    public long Rows { get; set; }

    public double Mse => SquaredError / Rows;

    public double L0 => (double)Active / Rows;

    public double Loss => (SquaredError + Penalty) / Rows;

    /// <summary>Σ ‖e‖² / Σ ‖y − mean‖², over the rows of the interval; NaN where rows differ by no more than these sums are rounded.</summary>
    public double Fvu
    {
        get
        {
            double variance = TargetSquares - (Target.Sum(t => t * t) / Rows);
            return variance > TargetSquares * Rows * Rounding ? SquaredError / variance : double.NaN;
        }
    }

    public void AddTargets(ReadOnlySpan<float> rows)
    {
        double squares = 0;
        for (int at = 0; at < rows.Length; at += Target.Length)
        {
            ReadOnlySpan<float> row = rows.Slice(at, Target.Length);
            for (int j = 0; j < row.Length; j++)
            {
                double value = row[j];
                Target[j] += value;
                squares += value * value;
            }
        }

        TargetSquares += squares;
    }

    public void Add(StepResult step, TrainingActivation activation)
    {
        SquaredError += step.SquaredError;
        Penalty += step.Lambda * (activation switch
        {
            TrainingActivation.JumpRelu => step.Active,
            TrainingActivation.Relu => step.CodeSum,
            _ => 0,
        });
        Lambda = step.Lambda;
        Active += step.Active;
        Near += step.Near;
        Rows += step.Rows;
    }

    public void Clear()
    {
        Array.Clear(Target);
        (TargetSquares, SquaredError, Penalty) = (0, 0, 0);
        (Active, Near, Rows) = (0, 0, 0);
    }

    /// <summary>All of it as numbers, for a checkpoint.</summary>
    public double[] ToArray() => [TargetSquares, SquaredError, Penalty, Active, Near, Rows, .. Target];

    public void Load(ReadOnlySpan<double> values)
    {
        (TargetSquares, SquaredError, Penalty) = (values[0], values[1], values[2]);
        (Active, Near, Rows) = ((long)values[3], (long)values[4], (long)values[5]);
        values[6..].CopyTo(Target);
    }
}
