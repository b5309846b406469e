using System.Diagnostics;
using KernelScope.Devices;

namespace KernelScope.Measuring;

/// <summary>Times what a device does.</summary>
internal static class Clock
{
    /// <summary>Long enough that the clock and the scheduler's whims matter little.</summary>
    public static readonly TimeSpan Enough = TimeSpan.FromMilliseconds(50);

    /// <summary>Seconds of one run: the mean of as many as are needed to be long enough.</summary>
    public static double Seconds(Device device, Action run, int most = int.MaxValue)
    {
        device.Synchronize();
        long start = Stopwatch.GetTimestamp();
        int runs = 0;
        do
        {
            run();
            device.Synchronize();
            runs++;
        }
        while (runs < most && Stopwatch.GetElapsedTime(start) < Enough);
        return Stopwatch.GetElapsedTime(start).TotalSeconds / runs;
    }
}
