using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Sae;
using KernelScope.Tests;

namespace KernelScope.Training.Tests;

/// <summary>The plain form computes what the training form does, on raw rows.</summary>
public class FoldingTests
{
    [Theory]
    [InlineData("theta-eps0.05")]
    [InlineData("log-eps0.05")]
    public void The_folded_parameters_are_those_of_pytorch(string run)
    {
        using var device = new CpuDevice(1);
        using var problem = new TrainingProblem(run);
        using var trainer = new SaeTrainer(device, new ProblemRows(problem), problem.Options);
        problem.Start(device, trainer.Parameters);
        while (trainer.Step < problem.Options.Steps)
            trainer.Advance();
        FoldedSae sae = trainer.Fold();
        using var expected = new NpzArrays(Fixtures.Path("sae", "training", $"{run}-folded", "params.npz"));
        foreach ((string name, ReadOnlyMemory<float> values) in (ReadOnlySpan<(string, ReadOnlyMemory<float>)>)[("W_enc", sae.Encoder),
            ("W_dec", sae.Decoder), ("b_enc", sae.EncoderBias), ("b_dec", sae.DecoderBias), ("threshold", sae.Threshold)])
        {
            float[] wanted = expected.Floats(name), found = values.ToArray();
            double size = wanted.Max(Math.Abs);
            for (int n = 0; n < wanted.Length; n++)
                Assert.True(Math.Abs(wanted[n] - found[n]) <= 1e-5 * size,
                    $"{name}, element {n}: {found[n]}, expected {wanted[n]}; the largest is {size}.");
        }
    }

    [Theory]
    [InlineData(TrainingActivation.JumpRelu, false)]
    [InlineData(TrainingActivation.TopK, false)]
    [InlineData(TrainingActivation.BatchTopK, false)]
    [InlineData(TrainingActivation.Relu, false)]
    [InlineData(TrainingActivation.JumpRelu, true)]
    [InlineData(TrainingActivation.Relu, true)]
    [InlineData(TrainingActivation.BatchTopK, true)]
    public void What_is_exported_encodes_and_reconstructs_as_what_was_trained(TrainingActivation activation, bool transcoder)
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(2);
        using ITrainingRows rows = transcoder ? new PairedRows(Frontier.Rows(), 40) : Frontier.Rows();
        TrainingOptions options = Frontier.Small(activation) with { Skip = transcoder && activation == TrainingActivation.JumpRelu };
        using var trainer = new SaeTrainer(device, rows, options);
        TrainingOutcome outcome = new TrainingRun(trainer, new TrainingFiles { Folder = folder.Path, CheckpointEvery = 0 }).Execute();
        Assert.Equal(activation == TrainingActivation.TopK || options.Skip ? 1 : 2, outcome.Export.Count);
        foreach (string path in outcome.Export)
        {
            (double fvu, double l0, long wrong) = Measure(device, path, trainer);
            // The rows of the check lie at no threshold to float32.
            Assert.Equal(0, wrong);
            Assert.Equal(outcome.Validation!.L0, l0, 6);
            Assert.Equal(outcome.Validation.Fvu, fvu, 6);
        }
    }

    /// <summary>FVU and L0 of the exported SAE on the raw rows that were kept back, and how many codes are not C times those of
    /// training.</summary>
    private static (double Fvu, double L0, long Wrong) Measure(Device device, string path, SaeTrainer trainer)
    {
        ITrainingRows rows = trainer.Rows;
        int outputs = rows.TargetWidth ?? rows.Width, count = (int)rows.ValidationRows;
        float[] inputs = new float[count * rows.Width], targets = new float[count * (rows.TargetWidth ?? 0)],
            made = new float[count * outputs];
        rows.ReadValidation(0, inputs, targets);
        Mat x = device.CreateMat(count, rows.Width, "x"), y = device.CreateMat(count, outputs, "y");
        using DeviceBuffer room = x.Buffer, roomOut = y.Buffer;
        device.Write(inputs, x);
        using JumpReluSae sae = JumpReluSae.Open(device, path);
        using SparseCodes codes = sae.CreateCodes();
        sae.Encode(x, codes);
        sae.Decode(codes, x, y);
        device.Read(y, made);
        CodeList list = new(), trained = new();
        device.Read(codes, list);
        long wrong = 0;
        for (int first = 0; first < count; first += trainer.Options.Batch)
        {
            trainer.EncodeValidation(first, trained);
            for (int r = 0; r < trained.Rows; r++)
                wrong += list.FeaturesOf(first + r).SequenceEqual(trained.FeaturesOf(r))
                    && Scaled(list.ValuesOf(first + r), trained.ValuesOf(r), trainer.TargetScale) ? 0 : 1;
        }

        return (Fvu(made, rows.TargetWidth is null ? inputs : targets, outputs), (double)list.Count / count, wrong);
    }

    private static bool Scaled(ReadOnlySpan<float> folded, ReadOnlySpan<float> trained, double scale)
    {
        for (int n = 0; n < folded.Length; n++)
        {
            if (Math.Abs(folded[n] - (scale * trained[n])) > 1e-5 * scale)
                return false;
        }

        return true;
    }

    private static double Fvu(float[] made, float[] target, int columns)
    {
        double error = 0, variance = 0;
        for (int j = 0; j < columns; j++)
        {
            double mean = 0;
            for (int at = j; at < target.Length; at += columns)
                mean += target[at];
            mean /= target.Length / columns;
            for (int at = j; at < target.Length; at += columns)
            {
                error += Math.Pow((double)made[at] - target[at], 2);
                variance += Math.Pow(target[at] - mean, 2);
            }
        }

        return error / variance;
    }
}
