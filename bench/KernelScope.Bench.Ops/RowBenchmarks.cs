using System.Diagnostics.CodeAnalysis;
using BenchmarkDotNet.Attributes;
using KernelScope.Cpu;
using KernelScope.Devices;

namespace KernelScope.Bench.Ops;

/// <summary>The ops between the products, in Gemma 2 2B's shape: small, but there are many of them in a token.</summary>
[MemoryDiagnoser]
[SuppressMessage("Design", "CA1001", Justification = "The global cleanup disposes it.")]
public class RowBenchmarks
{
    private const int ModelDim = 2304, Heads = 8, KvHeads = 4, HeadDim = 256, Capacity = 4096;

    private readonly CpuDevice _device = new();
    private readonly List<IDisposable> _owned = [];
    private Mat _x, _y, _resid, _gain, _qkv, _rope;
    private KvLayer _cache = null!;

    /// <summary>One token of a decode, and a chunk of a prefill.</summary>
    [Params(1, 512)]
    public int Rows { get; set; }

    /// <summary>Makes random activations.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _x = Random(Rows, ModelDim);
        _y = Random(Rows, ModelDim);
        _resid = Random(Rows, ModelDim);
        _gain = Random(1, ModelDim);
        _qkv = Random(Rows, (Heads + (2 * KvHeads)) * HeadDim);
        _rope = Random(Capacity, HeadDim);
        _cache = new KvLayer(Random(KvHeads * Capacity, HeadDim), Random(KvHeads * Capacity, HeadDim), KvHeads, Capacity);
    }

    /// <summary>Gives memory and threads back.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _owned.ForEach(one => one.Dispose());
        _device.Dispose();
    }

    /// <summary>y = norm(x).</summary>
    [Benchmark]
    public void RmsNorm() => _device.RmsNorm(_x, _gain, 1e-6f, _y);

    /// <summary>resid += norm(branch); y = norm(resid).</summary>
    [Benchmark]
    public void AddNormedThenNorm() => _device.AddNormedThenNorm(_x, _gain, _gain, 1e-6f, _resid, _y);

    /// <summary>q and k turned, k and v stored.</summary>
    [Benchmark]
    public void RopeThenStore() => _device.RopeThenStore(_qkv, 0, _rope, _cache);

    private Mat Random(int rows, int columns)
    {
        Mat mat = RandomMat.Create(_device, rows, columns);
        _owned.Add(mat.Buffer);
        return mat;
    }
}
