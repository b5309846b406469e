using System.Runtime.InteropServices;

namespace KernelScope.Measuring;

/// <summary>Limits of the processor, for some of its threads.</summary>
internal sealed unsafe class CpuDeviceLimits : DeviceLimits
{
    /// <summary>Bytes that are read: much more than the caches hold.</summary>
    public const long ReadBytes = 256L << 20;

    private readonly int _threads;
    private void* _memory;

    public CpuDeviceLimits(int threads)
    {
        _threads = threads;
        _memory = NativeMemory.AlignedAlloc((nuint)ReadBytes, 64);
        // Pages that nobody has written to are all the same one.
        NativeMemory.Fill(_memory, (nuint)ReadBytes, 1);
    }

    public override bool OfReads => true;

    /// <summary>As a table names it.</summary>
    public static string Name(Bound bound) => bound switch
    {
        Bound.Bandwidth => "read bandwidth",
        Bound.Peak => "f32 peak",
        _ => "bf16 peak",
    };

    /// <summary>Measures one with other threads than all; null where this machine or this library does not have it.</summary>
    public double? Measure(Bound bound, int threads) => bound switch
    {
        Bound.Bandwidth => CpuLimits.ReadBandwidth((byte*)_memory, ReadBytes, threads),
        Bound.Peak => CpuLimits.Peak(threads),
        _ => CpuLimits.Bf16Peak(threads),
    };

    public override void Dispose()
    {
        NativeMemory.AlignedFree(_memory);
        _memory = null;
        base.Dispose();
    }

    protected override double Bandwidth() => Measure(Bound.Bandwidth, _threads)!.Value;

    protected override double? Peak() => Measure(Bound.Peak, _threads);

    protected override double? Bf16Peak() => Measure(Bound.Bf16Peak, _threads);
}
