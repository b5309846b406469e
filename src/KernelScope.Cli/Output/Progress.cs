using System.Diagnostics;

namespace KernelScope.Cli;

/// <summary>Says on standard error how far something long has come: only to a terminal, only once it has become long.</summary>
internal sealed class Progress(Streams streams, string what) : IProgress<double>, IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(500);
    private readonly long _start = Stopwatch.GetTimestamp();
    private int _shown = -1;

    public void Report(double value)
    {
        int percent = (int)(100 * Math.Clamp(value, 0, 1));
        if (!streams.ErrorIsTerminal || percent == _shown || Stopwatch.GetElapsedTime(_start) < Patience)
            return;
        _shown = percent;
        streams.Error.Write($"\r{what} {percent} %");
    }

    /// <summary>Wipes the line.</summary>
    public void Dispose()
    {
        if (_shown >= 0)
            streams.Error.Write($"\r{new string(' ', what.Length + 6)}\r");
        _shown = -1;
    }
}
