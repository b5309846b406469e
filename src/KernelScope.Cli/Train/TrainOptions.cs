using System.CommandLine;
using KernelScope.Training;

namespace KernelScope.Cli;

/// <summary>The options that say how is trained.</summary>
internal sealed class TrainOptions
{
    private readonly Option<int> _width = new("--width") { Description = "Number of features.", HelpName = "N", Required = true };
    private readonly Option<double> _sparsity = TrainCommand.Real("--sparsity", 0,
        "The weight of L0 (jumprelu) or of the sum of codes (relu) in the loss.");
    private readonly Option<double> _target = TrainCommand.Real("--target-l0", 0,
        "In place of --sparsity: the mean number of active features that the sparsity is steered to, step by step (jumprelu, relu). " +
        "0: none.");
    private readonly Option<string> _activation = new("--activation")
    {
        Description = "What is trained. Default: jumprelu.",
        HelpName = "jumprelu|topk|batchtopk|relu",
        DefaultValueFactory = _ => "jumprelu"
    };
    private readonly Option<int> _k = new("--k") { Description = "Active features of a row, for topk and batchtopk.", HelpName = "N" };
    private readonly Option<long> _steps = TrainCommand.Number("--steps", 100_000, "Number of steps.");
    private readonly Option<int> _batch = new("--batch")
    {
        Description = "Rows of a step. Default: 4,096.",
        HelpName = "N",
        DefaultValueFactory = _ => 4096
    };
    private readonly Option<double> _rate = TrainCommand.Real("--lr", 7e-5, "Learning rate.");
    private readonly Option<long> _rateWarmUp = TrainCommand.Number("--lr-warm-up", 1000,
        "Steps over which the learning rate rises from a tenth.");
    private readonly Option<long> _rateDecay = TrainCommand.Number("--lr-decay-last", 0,
        "Last steps over which it falls to 0; the paper has none.");
    private readonly Option<long> _sparsityWarmUp = TrainCommand.Number("--sparsity-warm-up", 10_000,
        "Steps over which the sparsity rises from 0.");
    private readonly Option<double> _bandwidth = TrainCommand.Real("--bandwidth", 0.001,
        "Width of the kernel around a threshold (jumprelu).");
    private readonly Option<double> _theta = TrainCommand.Real("--theta", 0.001, "Thresholds at the beginning (jumprelu).");
    private readonly Option<double> _thetaMin = TrainCommand.Real("--theta-min", 0,
        "The least threshold: what falls below is set to it (jumprelu). 0: none, as in the paper.");
    private readonly Option<double> _clip = TrainCommand.Real("--clip", 0,
        "The largest norm of a step's gradient over all parameters; a longer one is scaled down to it. 0: none is, as in the paper.");
    private readonly Option<string> _parameter = new("--parameter")
    {
        Description =
        "What is learned of a threshold (jumprelu). Default: theta.",
        HelpName = "theta|log_theta",
        DefaultValueFactory = _ => "theta"
    };
    private readonly Option<long> _seed = TrainCommand.Number("--seed", 0, "Decides the first weights and the order of the rows.");
    private readonly Option<double?> _scale = new("--scale")
    {
        Description = "What inputs are divided by. Default: so that their " +
        "squared norm is 1 on average; the root of their width for a transcoder.",
        HelpName = "X"
    };
    private readonly Option<double?> _scaleOut = new("--scale-out")
    {
        Description = "The same for a transcoder's targets. Default: as --scale.",
        HelpName = "X"
    };
    private readonly Option<bool> _skip = new("--skip") { Description = "Give a transcoder a linear path beside its features." };
    private readonly Option<long> _deadRows = TrainCommand.Number("--dead-rows", 10_000_000,
        "A feature that was active on none of the last so many rows is dead.");

    public TrainOptions(Command verb)
    {
        foreach (Option option in (ReadOnlySpan<Option>)[_width, _sparsity, _target, _activation, _k, _steps, _batch, _rate,
            _rateWarmUp, _rateDecay, _sparsityWarmUp, _bandwidth, _theta, _thetaMin, _clip, _parameter, _seed, _scale, _scaleOut,
            _skip, _deadRows])
            verb.Options.Add(option);
        _activation.CompletionSources.Add("jumprelu", "topk", "batchtopk", "relu");
        _parameter.CompletionSources.Add("theta", "log_theta");
        _activation.Validators.Add(r => Parsing.Require(r, _activation, v => v is "jumprelu" or "topk" or "batchtopk" or "relu",
            "'{0}' is not an activation: there are jumprelu, topk, batchtopk and relu."));
        _parameter.Validators.Add(r => Parsing.Require(r, _parameter, v => v is "theta" or "log_theta",
            "'{0}' is not a parameter: there are theta and log_theta."));
        _width.Validators.Add(r => Parsing.Require(r, _width, v => v > 0, "--width is {0}; it must be 1 or more."));
        _batch.Validators.Add(r => Parsing.Require(r, _batch, v => v > 0, "--batch is {0}; it must be 1 or more."));
        _steps.Validators.Add(r => Parsing.Require(r, _steps, v => v > 0, "--steps is {0}; it must be 1 or more."));
        _target.Validators.Add(r => Parsing.Require(r, _target, v => v > 0 && double.IsFinite(v),
            "--target-l0 is {0}; it must be above 0."));
        _rate.Validators.Add(r => Parsing.Require(r, _rate, v => v > 0 && double.IsFinite(v), "--lr is {0}; it must be above 0."));
    }

    /// <summary>Refuses what does nothing beside the rest.</summary>
    /// <exception cref="UsageException">There is such a thing.</exception>
    public void Check(ParseResult parsed, bool isTranscoder)
    {
        string activation = parsed.GetRequiredValue(_activation);
        bool counts = activation is "topk" or "batchtopk";
        foreach (Option option in (ReadOnlySpan<Option>)(activation == "jumprelu" ? [_k] : counts ? [_sparsity, _target,
            _sparsityWarmUp, _bandwidth, _theta, _thetaMin, _parameter] : [_k, _bandwidth, _theta, _thetaMin, _parameter]))
        {
            if (IsGiven(parsed, option))
                throw new UsageException($"{option.Name} does nothing with --activation {activation}.");
        }

        if (IsGiven(parsed, _target) && IsGiven(parsed, _sparsity))
            throw new UsageException("--target-l0 finds the sparsity that --sparsity gives; one of the two decides.");
        foreach (Option option in (ReadOnlySpan<Option>)[_skip, _scaleOut])
        {
            if (!isTranscoder && IsGiven(parsed, option))
                throw new UsageException($"{option.Name} does nothing without targets, which --key-out names: it is for transcoders.");
        }
    }

    /// <summary>What was asked for.</summary>
    /// <exception cref="UsageException">What decides how sparse the codes are is missing.</exception>
    public TrainingOptions Read(ParseResult parsed)
    {
        string activation = parsed.GetRequiredValue(_activation);
        Option needed = activation is "topk" or "batchtopk" ? _k : _sparsity;
        if (!IsGiven(parsed, needed) && !IsGiven(parsed, _target))
            throw new UsageException($"{needed.Name} is missing: it decides how sparse the codes of --activation {activation} " +
                $"are{(needed == _k ? "" : $"; {_target.Name} finds it")}.");
        TrainingOptions options = Unchecked(parsed);
        try
        {
            options.Require();
        }
        catch (ArgumentException e)
        {
            throw new UsageException(e.Message);
        }

        return options;
    }

    private TrainingOptions Unchecked(ParseResult parsed) => new()
    {
        Width = parsed.GetRequiredValue(_width),
        Sparsity = parsed.GetValue(_sparsity),
        TargetL0 = parsed.GetValue(_target),
        Activation = parsed.GetRequiredValue(_activation) switch
        {
            "topk" => TrainingActivation.TopK,
            "batchtopk" => TrainingActivation.BatchTopK,
            "relu" => TrainingActivation.Relu,
            _ => TrainingActivation.JumpRelu,
        },
        K = parsed.GetValue(_k),
        Steps = parsed.GetValue(_steps),
        Batch = parsed.GetValue(_batch),
        LearningRate = parsed.GetValue(_rate),
        LearningRateWarmUp = parsed.GetValue(_rateWarmUp),
        LearningRateDecay = parsed.GetValue(_rateDecay),
        SparsityWarmUp = parsed.GetValue(_sparsityWarmUp),
        Bandwidth = parsed.GetValue(_bandwidth),
        Threshold = parsed.GetValue(_theta),
        ThresholdFloor = parsed.GetValue(_thetaMin),
        Clip = parsed.GetValue(_clip),
        Parameter = parsed.GetRequiredValue(_parameter) == "log_theta" ? ThresholdParameter.LogTheta : ThresholdParameter.Theta,
        Seed = parsed.GetValue(_seed),
        Scale = parsed.GetValue(_scale),
        ScaleOut = parsed.GetValue(_scaleOut),
        Skip = parsed.GetValue(_skip),
        DeadRows = parsed.GetValue(_deadRows),
    };

    private static bool IsGiven(ParseResult parsed, Option option) => parsed.GetResult(option) is { Implicit: false };
}
