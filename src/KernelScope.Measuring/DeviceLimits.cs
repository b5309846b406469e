using KernelScope.Cpu;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;

namespace KernelScope.Measuring;

/// <summary>Measures what the device can do at this moment: other programs share the machine, so a figure is worth something only beside a limit of the same minute.</summary>
internal abstract class DeviceLimits : IDisposable
{
    /// <summary>Bytes of each of the two blocks that a CUDA device copies.</summary>
    public const long CopyBytes = 256L << 20;

    /// <summary>Limits of a device: of the cpu what its memory and its vector units give, of a CUDA device what its own copy and kernels without memory give, of others what a copy gives.</summary>
    public static DeviceLimits Create(Device device) => device switch
    {
        CpuDevice cpu => new CpuDeviceLimits(cpu.Threads),
        CudaDevice cuda => new CudaDeviceLimits(cuda),
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

    public virtual void Dispose()
    {
    }

    protected abstract double Bandwidth();

    protected virtual double? Peak() => null;

    protected virtual double? Bf16Peak() => null;

    /// <summary>Timed by the device's own clock, so that launches and waits are not in it.</summary>
    private sealed class CudaDeviceLimits(CudaDevice device) : DeviceLimits
    {
        // Larger than any cache of a GPU, and milliseconds of products; the emulated one executes every instruction by itself.
        private readonly bool _emulated = device.Name == EmulatedDevices.Name;

        protected override double Bandwidth() => _emulated ? device.MeasureCopyBandwidth(1 << 16, 1)
            : device.MeasureCopyBandwidth(CopyBytes, 8);

        protected override double? Peak() => device.MeasurePeak(tensorCores: false, _emulated ? 1 : 0, _emulated ? 4 : 4096);

        protected override double? Bf16Peak() => device.HasTensorCores
            ? device.MeasurePeak(tensorCores: true, _emulated ? 1 : 0, _emulated ? 2 : 2048) : null;
    }

    private sealed class CopyLimits : DeviceLimits
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

        protected override double Bandwidth() =>
            2.0 * sizeof(float) * _from.Rows * Columns / Clock.Seconds(_device, () => _device.Copy(_from, _to));
    }
}
