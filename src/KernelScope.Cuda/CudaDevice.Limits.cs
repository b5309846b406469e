using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Launching;

namespace KernelScope.Cuda;

/// <summary>What the device can do at most, measured: for whoever judges a time.</summary>
public sealed partial class CudaDevice
{
    /// <summary>Blocks of a multiprocessor that keep its units busy: 2,048 threads.</summary>
    private const int BusyBlocks = 8;

    /// <summary>Additions and multiplications of a thread and round of <c>peak_fma</c>.</summary>
    private const int FmaFlops = 256;

    /// <summary>Those of a warp and round of <c>peak_mma</c>: 32 products of 16 × 8 × 16.</summary>
    private const int MmaFlops = 32 * 2 * 16 * 8 * 16;

    /// <summary>Whether products of many rows run on tensor cores here.</summary>
    public bool HasTensorCores => Options.TensorCores && Description.ComputeCapability >= TensorCapability;

    /// <summary>Bytes a second of the driver's own copy within device memory, read and written ones both counted; timed on the device.</summary>
    /// <param name="bytes">Bytes of each of the two blocks; more than a cache holds, unless the cache is what is asked about.</param>
    /// <param name="times">How often it is copied.</param>
    public double MeasureCopyBandwidth(long bytes, int times)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(times);
        using RunningOp op = Enter();
        Context.MakeCurrent();
        try
        {
            using DeviceMemory from = Context.Allocate(bytes, "copied"), to = Context.Allocate(bytes, "copy");
            Context.Check(Context.Driver.MemsetD8Async(from.Address, 1, bytes, Context.Stream), nameof(ICudaDriver.MemsetD8Async));
            void Copy() => Context.Check(Context.Driver.MemcpyDtoDAsync(to.Address, from.Address, bytes, Context.Stream),
                nameof(ICudaDriver.MemcpyDtoDAsync));
            Copy();
            double seconds = Timed(() =>
            {
                for (int n = 0; n < times; n++)
                    Copy();
            });
            return 2.0 * bytes * times / seconds;
        }
        finally
        {
            CollectReleased();
        }
    }

    /// <summary>
    /// Additions and multiplications a second: of float32 fused multiply-adds in registers, or of bfloat16 <c>mma.sync</c> with sums in float32; timed on the device.
    /// </summary>
    /// <param name="tensorCores">The second.</param>
    /// <param name="blocks">Blocks of 256 threads; 0: as many as keep every multiprocessor busy.</param>
    /// <param name="rounds">Rounds of each thread, 128 multiply-adds or a warp's 32 <c>mma</c> each.</param>
    /// <exception cref="CudaException">The device has no bfloat16 tensor cores.</exception>
    public double MeasurePeak(bool tensorCores, int blocks, int rounds)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(blocks);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(rounds);
        using RunningOp op = Enter();
        Context.MakeCurrent();
        PeakMmaKernel products = tensorCores ? _kernels.PeakMma() : default;
        PeakFmaKernel additions = tensorCores ? default : _kernels.PeakFma();
        int grid = blocks > 0 ? blocks : BusyBlocks * Description.MultiprocessorCount;
        long threads = (long)grid * (tensorCores ? products.Info : additions.Info).GroupSize;
        _scratch.Begin(threads * sizeof(float));
        View<float> results = new(_scratch.Take(threads * sizeof(float)), threads);
        // Once without the clock: the module is loaded, and the device leaves its sleep.
        Launch(1);
        double seconds = Timed(() => Launch(rounds));
        return (tensorCores ? MmaFlops / 32.0 : FmaFlops) * threads * rounds / seconds;

        void Launch(int count)
        {
            if (tensorCores)
                products.Launch(BeginOp(), new(grid), results, 0x3F803F80, count);
            else
                additions.Launch(BeginOp(), new(grid), results, 0.5f, 0.5f, count);
        }
    }

    /// <summary>Seconds from the first to the last of what some work gives the device, by its own clock.</summary>
    private double Timed(Action work)
    {
        Flush();
        using CudaEvent start = new(Context, timing: true), end = new(Context, timing: true);
        start.Record();
        work();
        Flush();
        end.Record();
        end.Wait();
        return end.SecondsSince(start);
    }
}
