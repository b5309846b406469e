using System.Diagnostics;

namespace KernelScope.Cli;

/// <summary>Where long work stands, on standard error: on a terminal one line that is written over, else a line every half minute.</summary>
/// <remarks>For one caller at a time.</remarks>
internal sealed class ProgressLine(Streams streams) : IDisposable
{
    private static readonly TimeSpan OnTerminal = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan Elsewhere = TimeSpan.FromSeconds(30);
    private long _last = Stopwatch.GetTimestamp();
    private int _width;

    /// <summary>Writes the text, unless the last one was written just now.</summary>
    public void Report(Func<string> text)
    {
        if (Stopwatch.GetElapsedTime(_last) < (streams.ErrorIsTerminal ? OnTerminal : Elsewhere))
            return;
        _last = Stopwatch.GetTimestamp();
        string line = text();
        if (streams.ErrorIsTerminal)
            streams.Error.Write($"\r{line.PadRight(_width)}");
        else
            streams.Error.WriteLine(line);
        _width = Math.Max(_width, line.Length);
    }

    /// <summary>Wipes the line.</summary>
    public void Dispose()
    {
        if (streams.ErrorIsTerminal && _width > 0)
            streams.Error.Write($"\r{new string(' ', _width)}\r");
    }
}
