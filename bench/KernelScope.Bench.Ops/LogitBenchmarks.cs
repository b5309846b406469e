using System.Diagnostics.CodeAnalysis;
using BenchmarkDotNet.Attributes;
using KernelScope.Cpu;
using KernelScope.Devices;

namespace KernelScope.Bench.Ops;

/// <summary>What happens to a token's 256,000 logits.</summary>
[MemoryDiagnoser]
[SuppressMessage("Design", "CA1001", Justification = "The global cleanup disposes it.")]
public class LogitBenchmarks
{
    private const int Vocab = 256_000;

    private readonly CpuDevice _device = new();
    private Mat _logits;
    private SparseCodes _top = null!;

    /// <summary>Makes random logits.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _logits = RandomMat.Create(_device, 1, Vocab);
        _top = _device.CreateCodes(Vocab, "top");
    }

    /// <summary>Gives memory and threads back.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _top.Dispose();
        _logits.Buffer.Dispose();
        _device.Dispose();
    }

    /// <summary>cap·tanh(x/cap).</summary>
    [Benchmark]
    public void Softcap() => _device.Softcap(_logits, 30);

    /// <summary>The largest, as a greedy generator takes it.</summary>
    [Benchmark]
    public void Largest() => _device.TopK(_logits, 1, _top);

    /// <summary>The 40 largest.</summary>
    [Benchmark]
    public void TopK() => _device.TopK(_logits, 40, _top);
}
