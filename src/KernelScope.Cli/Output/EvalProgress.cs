using System.Globalization;
using KernelScope.Evaluation;

namespace KernelScope.Cli;

/// <summary>Says on standard error how far an evaluation is: on a terminal all the time, else a line every half minute.</summary>
internal sealed class EvalProgress(Streams streams) : IProgress<EvaluationProgress>, IDisposable
{
    private readonly ProgressLine _line = new(streams);

    public void Report(EvaluationProgress value) => _line.Report(() => Text(value));

    /// <summary>Wipes the line.</summary>
    public void Dispose() => _line.Dispose();

    private static string Text(EvaluationProgress value)
    {
        string speed = value.TokensPerSecond > 0 ? $", {value.TokensPerSecond.ToString("0.#", CultureInfo.InvariantCulture)} tokens/s" : "";
        string left = value.Left is TimeSpan time ? $", {Words(time)} left" : "";
        string what = value.SequencesDone == 0 ? "Finding the mean activation"
            : $"Evaluated {value.SequencesDone} of {value.Sequences} sequences";
        return what + speed + left;
    }

    private static string Words(TimeSpan time) => time.TotalHours >= 1
        ? string.Create(CultureInfo.InvariantCulture, $"{(int)time.TotalHours} h {time.Minutes} min")
        : time.TotalMinutes >= 1 ? string.Create(CultureInfo.InvariantCulture, $"{time.Minutes} min {time.Seconds} s")
        : string.Create(CultureInfo.InvariantCulture, $"{Math.Ceiling(time.TotalSeconds):0} s");
}
