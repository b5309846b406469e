using System.Text.Json;
using KernelScope.Cpu;

namespace KernelScope.Training.Tests;

/// <summary>λ that is steered to a target L0.</summary>
public class TargetL0Tests
{
    [Theory]
    [InlineData(TrainingActivation.JumpRelu, 3)]
    [InlineData(TrainingActivation.JumpRelu, 12)]
    [InlineData(TrainingActivation.Relu, 6)]
    [InlineData(TrainingActivation.Relu, 12)]
    public void The_target_is_reached_within_a_tenth(TrainingActivation activation, double target)
    {
        using StoredRows rows = Frontier.Rows();
        Assert.InRange(Train(rows, Steered(activation, target)).L0, target * 0.9, target * 1.1);
    }

    [Fact]
    public void So_it_is_where_log_theta_is_learned()
    {
        using StoredRows rows = Frontier.Rows();
        TrainingOptions options = Steered(TrainingActivation.JumpRelu, 6) with { Parameter = ThresholdParameter.LogTheta };
        Assert.InRange(Train(rows, options).L0, 5.4, 6.6);
    }

    [Fact]
    public void So_it_is_for_a_transcoder()
    {
        using var rows = new PairedRows(Frontier.Rows(), 40);
        Assert.InRange(Train(rows, Steered(TrainingActivation.JumpRelu, 6) with { ScaleOut = 24 }).L0, 5.4, 6.6);
    }

    [Fact]
    public void The_sparsity_moves_by_the_rule()
    {
        TrainingOptions options = Steered(TrainingActivation.JumpRelu, 8) with { Steps = 1000, SparsityWarmUp = 100 };
        Assert.Equal(0.015 / 8, new SparsityControl(options, isTranscoder: true).Value);
        var control = new SparsityControl(options, isTranscoder: false);
        Assert.Equal(0.3 / 8, control.Value);
        Assert.Equal(0.15 / 8, control.At(50));
        control.Learn(99, 40);
        Assert.Equal(0.3 / 8, control.Value);
        control.Learn(100, 8 * Math.E * Math.E);
        Assert.Equal(Math.Exp(0.015) * 0.3 / 8, control.Value, 15);
        control.Learn(101, 8 * Math.Exp(-0.5));
        Assert.Equal(Math.Exp(0.015 - 0.0075) * 0.3 / 8, control.Value, 15);
        control.Learn(102, 0);
        Assert.Equal(Math.Exp(-0.0075) * 0.3 / 8, control.At(103), 15);
    }

    /// <summary>Where λ ended is in both exports' descriptions, and it is the same as in the log.</summary>
    [Fact]
    public void What_it_led_to_is_written_down()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(2);
        using StoredRows rows = Frontier.Rows();
        using var trainer = new SaeTrainer(device, rows, Steered(TrainingActivation.JumpRelu, 6, 200));
        var run = new TrainingRun(trainer, new TrainingFiles { Folder = folder["sae"], LogEvery = 50 });
        TrainingOutcome outcome = run.Execute();
        JsonElement summary = JsonElement.Parse(File.ReadAllBytes(Path.Combine(folder["sae"], "training.json"))),
            metadata = JsonElement.Parse(File.ReadAllBytes(Path.Combine(folder["sae"], "saelens", "cfg.json"))).GetProperty("metadata");
        Assert.Equal(6, summary.GetProperty("options").GetProperty("target_l0").GetDouble());
        Assert.False(summary.GetProperty("options").TryGetProperty("sparsity", out _));
        Assert.Equal((6, outcome.Lambda), (metadata.GetProperty("target_l0").GetDouble(), metadata.GetProperty("sparsity").GetDouble()));
        Assert.Equal(outcome.Lambda, summary.GetProperty("sparsity").GetDouble());
        double[] logged = [.. File.ReadLines(outcome.Log).Select(line => JsonElement.Parse(line))
            .Where(line => line.TryGetProperty("lambda", out _)).Select(line => line.GetProperty("lambda").GetDouble())];
        Assert.Equal(4, logged.Distinct().Count());
        // The line has the λ of its last step, and the outcome what that step led to.
        Assert.NotEqual(outcome.Lambda, logged[^1]);
        Assert.InRange(logged[^1] / outcome.Lambda, Math.Exp(-15.0 / 200), Math.Exp(15.0 / 200));
    }

    [Theory]
    [InlineData(TrainingActivation.TopK, 8, 0, 40, "k is their L0")]
    [InlineData(TrainingActivation.BatchTopK, 8, 0, 40, "k is their L0")]
    [InlineData(TrainingActivation.JumpRelu, 96, 0, 40, "below the width")]
    [InlineData(TrainingActivation.Relu, -1, 0, 40, "above 0")]
    [InlineData(TrainingActivation.JumpRelu, double.NaN, 0, 40, "above 0")]
    [InlineData(TrainingActivation.JumpRelu, 8, 0.01, 40, "one of the two")]
    [InlineData(TrainingActivation.JumpRelu, 8, 0, 120, "shorter warm-up")]
    public void What_makes_no_sense_is_refused(TrainingActivation activation, double target, double sparsity, long warmUp, string words)
    {
        TrainingOptions options = Frontier.Small(activation) with { TargetL0 = target, Sparsity = sparsity, SparsityWarmUp = warmUp };
        Assert.Contains(words, Assert.Throws<ArgumentException>(options.Require).Message, StringComparison.Ordinal);
    }

    internal static TrainingOptions Steered(TrainingActivation activation, double target, long steps = 600) =>
        Frontier.Small(activation, steps) with
        {
            Sparsity = 0,
            TargetL0 = target,
            SparsityWarmUp = steps / 4,
            LearningRateDecay = steps / 5,
        };

    private static ValidationResult Train(ITrainingRows rows, TrainingOptions options)
    {
        using var device = new CpuDevice(2);
        using var trainer = new SaeTrainer(device, rows, options);
        while (trainer.Step < options.Steps)
            trainer.Advance();
        return trainer.Validate()!;
    }
}
