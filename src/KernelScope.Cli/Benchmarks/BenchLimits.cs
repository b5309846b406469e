using System.Diagnostics;
using System.Runtime.InteropServices;
using KernelScope.Devices;
using KernelScope.Devices.Cpu;
using KernelScope.Emulated;

namespace KernelScope.Cli;

/// <summary>What bounds a case.</summary>
internal enum Bound
{
    /// <summary>Bytes a second.</summary>
    Bandwidth,

    /// <summary>Float32 operations a second.</summary>
    Peak,

    /// <summary>Operations a second of bfloat16 products summed in float32.</summary>
    Bf16Peak,
}

/// <summary>Measures what the device can do at this moment: other programs share the machine, so a figure is worth something only beside a limit of the same minute.</summary>
internal abstract class BenchLimits : IDisposable
{
    private readonly Dictionary<Bound, List<double>> _measured = new() { [Bound.Bandwidth] = [], [Bound.Peak] = [], [Bound.Bf16Peak] = [] };

    /// <summary>Limits of a device: of the cpu what its memory and its vector units give, of others what a copy gives.</summary>
    public static BenchLimits Of(Device device) => device is CpuDevice cpu ? new CpuBenchLimits(cpu) : new CopyLimits(device);

    /// <summary>Whether the bandwidth is of reads; else it is of copies, bytes read and written.</summary>
    public abstract bool OfReads { get; }

    /// <summary>Measures a limit; null where the device has no way to.</summary>
    public double? Measure(Bound bound)
    {
        double? limit = bound switch
        {
            Bound.Bandwidth => Bandwidth(),
            Bound.Peak => Peak(),
            _ => Bf16Peak(),
        };
        if (limit is double value)
            _measured[bound].Add(value);
        return limit;
    }

    /// <summary>What was measured in all rounds; null if nothing was.</summary>
    public Spread? Measured(Bound bound) => Spread.Of(_measured[bound]);

    public abstract void Dispose();

    protected abstract double Bandwidth();

    protected virtual double? Peak() => null;

    protected virtual double? Bf16Peak() => null;

    private sealed unsafe class CpuBenchLimits : BenchLimits
    {
        // Much larger than the caches.
        private const long Bytes = CpuBytes;
        private readonly int _threads;
        private void* _memory;

        public CpuBenchLimits(CpuDevice device)
        {
            _threads = device.Threads;
            _memory = NativeMemory.AlignedAlloc((nuint)Bytes, 64);
            // Pages that nobody has written to are all the same one.
            NativeMemory.Fill(_memory, (nuint)Bytes, 1);
        }

        public override bool OfReads => true;

        public override void Dispose()
        {
            NativeMemory.AlignedFree(_memory);
            _memory = null;
        }

        protected override double Bandwidth() => CpuLimits.ReadBandwidth((byte*)_memory, Bytes, _threads);

        protected override double? Peak() => CpuLimits.Peak(_threads);

        protected override double? Bf16Peak() => CpuLimits.Bf16Peak(_threads);
    }

    /// <summary>Bytes that the cpu's limits read.</summary>
    public const long CpuBytes = 256L << 20;

    private sealed class CopyLimits : BenchLimits
    {
        private const int Columns = 1024;
        private readonly Device _device;
        private readonly Mat _from;
        private readonly Mat _to;

        public CopyLimits(Device device)
        {
            _device = device;
            // 256 MiB, more than a GPU's cache; the emulated one executes every copy instruction by instruction.
            int rows = device.Name == EmulatedDevices.Name ? 4 : 1 << 16;
            _from = device.CreateMat(rows, Columns, "copied");
            _to = device.CreateMat(rows, Columns, "copy");
        }

        public override bool OfReads => false;

        public override void Dispose()
        {
            _from.Buffer.Dispose();
            _to.Buffer.Dispose();
        }

        protected override double Bandwidth()
        {
            double seconds = BenchClock.Seconds(_device, () => _device.Copy(_from, _to));
            return 2.0 * sizeof(float) * _from.Rows * Columns / seconds;
        }
    }
}

/// <summary>Times what a device does.</summary>
internal static class BenchClock
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
