using System.Diagnostics;

namespace KernelScope.Cli;

/// <summary>Counts what workers compute, and shows it with the time that is left.</summary>
internal sealed class RunProgress(Streams streams, long tokens) : IProgress<int>, IDisposable
{
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(200);
    private readonly Lock _lock = new();
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _done;
    private long _shown;
    private int _length;

    public void Report(int value)
    {
        lock (_lock)
        {
            _done += value;
            if (!streams.ErrorIsTerminal || Stopwatch.GetElapsedTime(_shown) < Period)
                return;
            _shown = Stopwatch.GetTimestamp();
            TimeSpan elapsed = Stopwatch.GetElapsedTime(_start);
            double share = Math.Min(1, _done / (double)Math.Max(1, tokens));
            string left = share > 0 ? ByteText.Of(elapsed / share * (1 - share)) : "?";
            string line = $"{share:P0} of {tokens} tokens, {_done / Math.Max(1e-3, elapsed.TotalSeconds):N0} a second, {left} left";
            streams.Error.Write($"\r{line.PadRight(_length)}");
            _length = line.Length;
        }
    }

    /// <summary>Wipes the line.</summary>
    public void Dispose()
    {
        if (_length > 0)
            streams.Error.Write($"\r{new string(' ', _length)}\r");
        _length = 0;
    }
}
