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
        try
        {
            Fast = new CpuDevice(options.Threads, Precision.Fast);
        }
        catch (ArgumentException)
        {
            // A library or machine without it; its cases say so.
        }

        Limits = new Limits(options.Threads);
    }

    public Options Options { get; }

    public CpuDevice Exact { get; }

    /// <summary>The device in fast precision; null where there is none.</summary>
    public CpuDevice? Fast { get; }

    public Limits Limits { get; }

    public void Dispose()
    {
        Limits.Dispose();
        Fast?.Dispose();
        Exact.Dispose();
    }

    /// <summary>The device of a precision.</summary>
    /// <exception cref="NotSupportedException">There is none.</exception>
    public CpuDevice Device(Precision precision) => precision == Precision.Exact
        ? Exact
        : Fast ?? throw new NotSupportedException("this library or machine has no fast precision on the cpu");
}
