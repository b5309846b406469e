using System.Globalization;
using KernelScope.Training;

namespace KernelScope.Cli;

/// <summary>Says on standard error how far a training is: on a terminal one line with the course of loss, L0 and FVU, else a line every
/// half minute.</summary>
internal sealed class TrainProgress(Streams streams) : IProgress<TrainingProgress>, IDisposable
{
    private const string Eighths = "▁▂▃▄▅▆▇█";
    private const int Points = 12;
    private readonly List<TrainingProgress> _seen = [];
    private readonly ProgressLine _line = new(streams);

    public void Report(TrainingProgress value)
    {
        _seen.Add(value);
        if (_seen.Count > Points)
            _seen.RemoveAt(0);
        _line.Report(() => string.Create(
            CultureInfo.InvariantCulture,
            $"Step {value.Step:N0} of {value.Steps:N0}  loss {value.Loss:0.0000} {Line(p => p.Loss)}  " +
            $"L0 {value.L0:0.0} {Line(p => p.L0)}  " +
            $"{(value.Lambda > 0 ? $"sparsity {value.Lambda:0.0e+0}  " : "")}FVU {value.Fvu:0.000} {Line(p => p.Fvu)}  {value.Dead:N0} " +
            $"dead  {value.RowsPerSecond:N0} rows/s"));
    }

    /// <summary>Wipes the line.</summary>
    public void Dispose() => _line.Dispose();

    private string Line(Func<TrainingProgress, double> what)
    {
        double[] values = [.. _seen.Select(what).Where(double.IsFinite)];
        if (values.Length < 2)
            return "";
        double least = values.Min(), most = values.Max();
        return string.Concat(values.Select(v => Eighths[most > least ? (int)Math.Round((v - least) / (most - least) * (Eighths.Length - 1))
            : 0]));
    }
}
