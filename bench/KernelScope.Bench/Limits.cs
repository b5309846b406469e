using KernelScope.Cpu;
using KernelScope.Devices;

namespace KernelScope.Bench;

/// <summary>What bounds a case.</summary>
internal enum Bound
{
    /// <summary>Nothing that is measured: the case shows seconds and its peers only.</summary>
    None,

    /// <summary>Bytes per second read from memory.</summary>
    Bandwidth,

    /// <summary>Float32 operations per second.</summary>
    Float32,

    /// <summary>Operations per second of bfloat16 products summed in float32.</summary>
    BFloat16,
}

/// <summary>What the machine can do, measured again whenever it is asked for: it is shared, and a minute later it is another one.</summary>
internal sealed class Limits : IDisposable
{
    private const long ReadBytes = 256L << 20;

    private readonly int _threads;
    private readonly HostBuffer _memory;

    public Limits(int threads)
    {
        _threads = threads;
        _memory = new HostBuffer("memory to read", ReadBytes / sizeof(float));
        // Pages that were never written are all the same one.
        unsafe
        {
            new Span<float>(_memory.Start, (int)_memory.Length).Fill(1);
        }
    }

    public void Dispose() => _memory.Dispose();

    /// <summary>Measures one, with all threads; null where this machine or this library does not have it.</summary>
    public double? Measure(Bound bound) => Measure(bound, _threads);

    /// <summary>Measures one with some threads.</summary>
    public unsafe double? Measure(Bound bound, int threads) => bound switch
    {
        Bound.Bandwidth => CpuLimits.ReadBandwidth((byte*)_memory.Start, ReadBytes, threads),
        Bound.Float32 => CpuLimits.Peak(threads),
        Bound.BFloat16 => CpuLimits.Bf16Peak(threads),
        _ => null,
    };

    /// <summary>As printed: <c>read bandwidth</c>.</summary>
    public static string Name(Bound bound) => bound switch
    {
        Bound.Bandwidth => "read bandwidth",
        Bound.Float32 => "f32 peak",
        Bound.BFloat16 => "bf16 peak",
        _ => "none",
    };
}
