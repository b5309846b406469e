namespace KernelScope.Training.Tests;

/// <summary>The batches of <see cref="TrainingProblem"/>, in their order.</summary>
internal sealed class ProblemRows(TrainingProblem problem) : ITrainingRows
{
    public string Identity => "problem";

    public int Width => TrainingProblem.Inputs;

    public int? TargetWidth => null;

    public long EpochRows => TrainingProblem.Rows * TrainingProblem.Steps;

    public long Position { get; private set; }

    public double MeanSquaredNorm => problem.C * problem.C;

    public long ValidationRows => 0;

    public void Next(Span<float> inputs, Span<float> targets)
    {
        problem.Raw((int)(Position / TrainingProblem.Rows)).CopyTo(inputs);
        Position += TrainingProblem.Rows;
    }

    public void ReadValidation(long firstRow, Span<float> inputs, Span<float> targets) => throw new NotSupportedException();

    public void SaveState(Stream destination) => throw new NotSupportedException();

    public void LoadState(Stream source) => throw new NotSupportedException();

    public void Dispose()
    {
    }
}

/// <summary>Rows with targets of another width and size: some of a row's own values, mixed and larger.</summary>
internal sealed class PairedRows(ITrainingRows inner, int targetWidth) : ITrainingRows
{
    public string Identity => inner.Identity + " paired";

    public int Width => inner.Width;

    public int? TargetWidth => targetWidth;

    public long EpochRows => inner.EpochRows;

    public long Position => inner.Position;

    public double MeanSquaredNorm => inner.MeanSquaredNorm;

    public long ValidationRows => inner.ValidationRows;

    public void Next(Span<float> inputs, Span<float> targets)
    {
        inner.Next(inputs, []);
        Pair(inputs, targets);
    }

    public void ReadValidation(long firstRow, Span<float> inputs, Span<float> targets)
    {
        inner.ReadValidation(firstRow, inputs, []);
        Pair(inputs, targets);
    }

    public void SaveState(Stream destination) => inner.SaveState(destination);

    public void LoadState(Stream source) => inner.LoadState(source);

    public void Dispose() => inner.Dispose();

    private void Pair(Span<float> inputs, Span<float> targets)
    {
        for (int at = 0, from = 0; at < targets.Length; at += targetWidth, from += Width)
        {
            for (int j = 0; j < targetWidth; j++)
                targets[at + j] = 3 * (inputs[from + j] + MathF.Max(0, inputs[from + Width - 1 - j]));
        }
    }
}
