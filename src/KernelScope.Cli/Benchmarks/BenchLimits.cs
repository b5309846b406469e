using System.Diagnostics;
using System.Runtime.InteropServices;
using KernelScope.Cpu;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;

namespace KernelScope.Cli;

/// <summary>What bounds a case.</summary>
internal enum Bound
{
    /// <summary>Bytes a second.</summary>
    Bandwidth,

    /// <summary>Float32 operations a second.</summary>
    Peak,

    /// <summary>Operations of tensor cores a second: bfloat16 products, sums in float32.</summary>
    Bf16Peak,
}

/// <summary>Measures what the device can do at this moment: other programs share the machine, so a figure is worth something only beside a limit of the same minute.</summary>
internal abstract class BenchLimits : IDisposable
{
    private readonly Dictionary<Bound, List<double>> _measured = Enum.GetValues<Bound>().ToDictionary(b => b, _ => new List<double>());

    /// <summary>Limits of a device: of the cpu what its memory and its vector units give, of a CUDA device what its own copy and kernels without memory give, of others what a copy gives.</summary>
    public static BenchLimits Of(Device device) => device switch
    {
        CpuDevice cpu => new CpuBenchLimits(cpu),
        CudaDevice cuda => new CudaBenchLimits(cuda),
        _ => new CopyLimits(device),
    };

    /// <summary>Whether the bandwidth is of reads; else it is of copies, bytes read and written.</summary>
    public virtual bool OfReads => false;

    /// <summary>Measures a limit; null where the device has no way to.</summary>
    public double? Measure(Bound bound) => bound switch
    {
        Bound.Bandwidth => Bandwidth(),
        Bound.Peak => Peak(),
        _ => Bf16Peak(),
    };

    /// <summary>Keeps what a limit was beside a time that counts.</summary>
    public void Keep(Bound bound, double value) => _measured[bound].Add(value);

    /// <summary>What was kept; null if nothing was.</summary>
    public Spread? Measured(Bound bound) => Spread.Of(_measured[bound]);

    public virtual void Dispose()
    {
    }

    protected abstract double Bandwidth();

    protected virtual double? Peak() => null;

    protected virtual double? Bf16Peak() => null;

    /// <summary>Timed by the device's own clock, so that launches and waits are not in it.</summary>
    private sealed class CudaBenchLimits(CudaDevice device) : BenchLimits
    {
        // Larger than any cache of a GPU, and milliseconds of products; the emulated one executes every instruction by itself.
        private readonly bool _emulated = device.Name == EmulatedDevices.Name;

        protected override double Bandwidth() => _emulated ? device.MeasureCopyBandwidth(1 << 16, 1)
            : device.MeasureCopyBandwidth(CopyBytes, 8);

        protected override double? Peak() => device.MeasurePeak(tensorCores: false, _emulated ? 1 : 0, _emulated ? 4 : 4096);

        protected override double? Bf16Peak() => device.HasTensorCores
            ? device.MeasurePeak(tensorCores: true, _emulated ? 1 : 0, _emulated ? 2 : 2048) : null;
    }

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
            base.Dispose();
        }

        protected override double Bandwidth() => CpuLimits.ReadBandwidth((byte*)_memory, Bytes, _threads);

        protected override double? Peak() => CpuLimits.Peak(_threads);

        protected override double? Bf16Peak() => CpuLimits.Bf16Peak(_threads);
    }

    /// <summary>Bytes that the cpu's limits read.</summary>
    public const long CpuBytes = 256L << 20;

    /// <summary>Bytes of each of the two blocks that a CUDA device copies.</summary>
    public const long CopyBytes = 256L << 20;

    private sealed class CopyLimits : BenchLimits
    {
        private const int Rows = 1 << 14, Columns = 1024;
        private readonly Device _device;
        private readonly Mat _from;
        private readonly Mat _to;

        public CopyLimits(Device device)
        {
            _device = device;
            _from = device.CreateMat(Rows, Columns, "copied");
            _to = device.CreateMat(Rows, Columns, "copy");
        }

        public override void Dispose()
        {
            _from.Buffer.Dispose();
            _to.Buffer.Dispose();
            base.Dispose();
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
