using System.Diagnostics;
using KernelScope.Hub;

namespace KernelScope.Cli;

/// <summary>Says on standard error how a download stands: on a terminal one line that is written over, elsewhere a line now and then; and a line for each file that is there.</summary>
internal sealed class PullProgress(Streams streams) : IProgress<HubProgress>, IDisposable
{
    private const int MaxName = 60;
    private const double SlowestShown = 1;
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(5);
    private readonly TimeSpan _interval = streams.ErrorIsTerminal ? TimeSpan.FromMilliseconds(200) : TimeSpan.FromSeconds(10);
    private string? _file;
    private long _begin, _shown, _mark, _markBytes, _firstBytes;
    private double _speed;
    private bool _receiving;
    private int _width;

    public void Report(HubProgress value)
    {
        long now = Stopwatch.GetTimestamp();
        if (value.Step == HubStep.Planned)
        {
            string there = value.Done == 0 ? "" : value.Done >= value.Total ? ", all of which is there"
                : $", of which {ByteText.Of(value.Done)} are there";
            Line($"{Name(value.File)}: {ByteText.Of(value.Total)} in all{there}", stays: true);
            return;
        }

        if (value.File != _file)
            (_file, _begin, _shown, _receiving) = (value.File, now, now, false);
        if (value.Step == HubStep.Receiving)
            Measure(value.Done, now);
        if (value.Step == HubStep.Done)
            Finish(value, now);
        else if (value.Step == HubStep.Waiting)
            Line($"{Name(value.File)}: another process downloads it; waiting for that.", stays: !streams.ErrorIsTerminal);
        else if (Stopwatch.GetElapsedTime(_shown, now) >= _interval)
        {
            _shown = now;
            Line(Standing(value), stays: !streams.ErrorIsTerminal);
        }
    }

    /// <summary>Wipes the line.</summary>
    public void Dispose()
    {
        if (_width > 0)
            Line("", stays: false);
    }

    // Over the last seconds: what a network does now is what it will do next.
    private void Measure(long done, long now)
    {
        if (!_receiving)
            (_receiving, _begin, _mark, _markBytes, _firstBytes, _speed) = (true, now, now, done, done, 0);
        TimeSpan time = Stopwatch.GetElapsedTime(_mark, now);
        if (time <= TimeSpan.Zero || done < _markBytes)
        {
            // Below the mark: the file began anew.
            (_mark, _markBytes) = (now, Math.Min(done, _markBytes));
            return;
        }

        _speed = (done - _markBytes) / time.TotalSeconds;
        if (time >= Window)
            (_mark, _markBytes) = (now, done);
    }

    private string Standing(HubProgress value)
    {
        string what = $"{Name(value.File)}: {(value.Total == 0 ? 100 : 100 * value.Done / value.Total)} % of {ByteText.Of(value.Total)}";
        if (value.Step == HubStep.Rereading)
            return what + " were there, checking them";
        if (_speed < SlowestShown)
            return what;
        var left = TimeSpan.FromSeconds(Math.Min((value.Total - value.Done) / _speed, 360_000));
        return $"{what}, {ByteText.Of(_speed)}/s, {ByteText.Of(left)} left";
    }

    private void Finish(HubProgress value, long now)
    {
        TimeSpan time = Stopwatch.GetElapsedTime(_begin, now);
        // Of what came in one piece there is no speed to tell.
        double speed = (value.Done - _firstBytes) / Math.Max(time.TotalSeconds, 0.001);
        string how = _receiving ? "received and checked " +
            $"in {ByteText.Of(time)}{(speed >= SlowestShown ? $", {ByteText.Of(speed)}/s" : "")}" : "there already";
        Line($"{Name(value.File)}: {ByteText.Of(value.Total)}, {how}", stays: true);
        _file = null;
    }

    private void Line(string text, bool stays)
    {
        string wiped = streams.ErrorIsTerminal ? "\r" + text.PadRight(_width) : text;
        streams.Error.Write(stays ? wiped.TrimEnd() + "\n" : text.Length == 0 ? wiped + "\r" : wiped);
        _width = stays ? 0 : text.Length;
    }

    private static string Name(string file)
    {
        string name = Printable.Escape(file);
        return name.Length <= MaxName ? name : "…" + name[^(MaxName - 1)..];
    }
}
