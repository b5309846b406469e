using System.Security.Cryptography;
using System.Text.Json;

namespace KernelScope.Training;

/// <summary>Options as JSON, and the hash by which a checkpoint knows its own.</summary>
internal static class OptionsJson
{
    public static void Write(Utf8JsonWriter json, TrainingOptions o, bool withSteps = true)
    {
        json.WriteStartObject();
        json.WriteNumber("width", o.Width);
        json.WriteString("activation", NameOf(o.Activation));
        if (o.TargetL0 > 0)
            json.WriteNumber("target_l0", o.TargetL0);
        else
            json.WriteNumber("sparsity", o.Sparsity);
        if (o.K > 0)
            json.WriteNumber("k", o.K);
        if (withSteps)
            json.WriteNumber("steps", o.Steps);
        json.WriteNumber("batch", o.Batch);
        json.WriteNumber("lr", o.LearningRate);
        json.WriteNumber("lr_warm_up", o.LearningRateWarmUp);
        json.WriteNumber("lr_decay_last", o.LearningRateDecay);
        json.WriteNumber("sparsity_warm_up", o.SparsityWarmUp);
        json.WriteNumber("bandwidth", o.Bandwidth);
        json.WriteNumber("theta", o.Threshold);
        // Not in the paper: named only where it is used.
        if (o.ThresholdFloor > 0)
            json.WriteNumber("theta_min", o.ThresholdFloor);
        if (o.Clip > 0)
            json.WriteNumber("clip", o.Clip);
        json.WriteString("parameter", o.Parameter == ThresholdParameter.LogTheta ? "log_theta" : "theta");
        json.WriteNumber("seed", o.Seed);
        json.WriteBoolean("skip", o.Skip);
        json.WriteNumber("dead_rows", o.DeadRows);
        json.WriteEndObject();
    }

    /// <summary>The word on the command line and in files.</summary>
    public static string NameOf(TrainingActivation activation) => activation switch
    {
        TrainingActivation.TopK => "topk",
        TrainingActivation.BatchTopK => "batchtopk",
        TrainingActivation.Relu => "relu",
        _ => "jumprelu",
    };

    /// <summary>
    /// What decides every bit: the options, the rows, the scales, and the arithmetic. The number of steps is not in it, so that a run can
    /// be made longer, unless the learning rate falls towards its end or the sparsity is steered over its length.
    /// </summary>
    public static string HashOf(SaeTrainer trainer)
    {
        byte[] text = [.. JsonFile.Line(json =>
        {
            json.WriteStartArray();
            Write(json, trainer.Options, withSteps: trainer.Options is { LearningRateDecay: > 0 } or { TargetL0: > 0 });
            json.WriteStringValue(trainer.Rows.Identity);
            json.WriteNumberValue(trainer.Scale);
            json.WriteNumberValue(trainer.TargetScale);
            json.WriteStringValue($"{trainer.Device.Name.Split(':')[0]} {trainer.Device.Arithmetic}");
            json.WriteEndArray();
        })];
        return Convert.ToHexStringLower(SHA256.HashData(text));
    }
}
