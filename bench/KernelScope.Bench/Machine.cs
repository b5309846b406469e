using KernelScope.Devices;
using KernelScope.Devices.Cpu;

namespace KernelScope.Bench;

/// <summary>What every case works with: devices, limits, and which peers are there.</summary>
internal sealed class Machine : IDisposable
{
    public Machine(Options options)
    {
        Options = options;
        Exact = new CpuDevice(options.Threads);
        Fast = new CpuDevice(options.Threads, Precision.Fast);
        Limits = new Limits(options.Threads);
    }

    public Options Options { get; }

    public CpuDevice Exact { get; }

    /// <summary>The device in fast precision.</summary>
    public CpuDevice Fast { get; }

    public Limits Limits { get; }

    public void Dispose()
    {
        Limits.Dispose();
        Fast.Dispose();
        Exact.Dispose();
    }

    /// <summary>The device of a precision.</summary>
    public CpuDevice Device(Precision precision) => precision == Precision.Exact ? Exact : Fast;
}
