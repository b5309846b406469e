using System.Diagnostics;
using System.Globalization;
using KernelScope.Evaluation;

namespace KernelScope.Cli;

/// <summary>Says on standard error how far an evaluation is: on a terminal all the time, else a line every half minute.</summary>
internal sealed class EvalProgress(Streams streams) : IProgress<EvaluationProgress>, IDisposable
{
    private static readonly TimeSpan OnTerminal = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan Elsewhere = TimeSpan.FromSeconds(30);
    private long _last = Stopwatch.GetTimestamp();
    private int _width;

    public void Report(EvaluationProgress value)
    {
        if (Stopwatch.GetElapsedTime(_last) < (streams.ErrorIsTerminal ? OnTerminal : Elsewhere))
            return;
        _last = Stopwatch.GetTimestamp();
        string speed = value.TokensPerSecond > 0 ? $", {value.TokensPerSecond.ToString("0.#", CultureInfo.InvariantCulture)} tokens/s" : "";
        string left = value.Left is TimeSpan time ? $", {Words(time)} left" : "";
        string text = $"{(value.SequencesDone == 0 ? "Finding the mean activation" : $"Evaluated {value.SequencesDone} of {value.Sequences} sequences")}{speed}{left}";
        if (streams.ErrorIsTerminal)
            streams.Error.Write($"\r{text.PadRight(_width)}");
        else
            streams.Error.WriteLine(text);
        _width = Math.Max(_width, text.Length);
    }

    /// <summary>Wipes the line.</summary>
    public void Dispose()
    {
        if (streams.ErrorIsTerminal && _width > 0)
            streams.Error.Write($"\r{new string(' ', _width)}\r");
    }

    private static string Words(TimeSpan time) => time.TotalHours >= 1 ? string.Create(CultureInfo.InvariantCulture, $"{(int)time.TotalHours} h {time.Minutes} min")
        : time.TotalMinutes >= 1 ? string.Create(CultureInfo.InvariantCulture, $"{time.Minutes} min {time.Seconds} s")
        : string.Create(CultureInfo.InvariantCulture, $"{Math.Ceiling(time.TotalSeconds):0} s");
}
