using KernelScope.Bench.Cases;
using KernelScope.Bench.Models;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Measuring;

namespace KernelScope.Bench;

/// <summary>What every case works with: devices, limits, the whole model's weights, and who may be told what is done.</summary>
internal sealed class Machine : IDisposable
{
    private RandomTensors? _tensors;

    public Machine(Options options, CancellationToken cancellation)
    {
        Options = options;
        Cancellation = cancellation;
        Exact = new CpuDevice(options.Threads);
        Fast = new CpuDevice(options.Threads, Precision.Fast, Precision.Fast);
        Limits = new CpuDeviceLimits(options.Threads);
        Weights = new WeightsFolder(options.Weights, Shape2B.Model, options.Keep);
    }

    public Options Options { get; }

    /// <summary>Ends the program after the running case, of which whole rounds count.</summary>
    public CancellationToken Cancellation { get; }

    public CpuDevice Exact { get; }

    /// <summary>The device in fast precision, SAEs included.</summary>
    public CpuDevice Fast { get; }

    public CpuDeviceLimits Limits { get; }

    /// <summary>The whole model's weights.</summary>
    public WeightsFolder Weights { get; }

    public Progress Progress { get; } = new();

    public void Dispose()
    {
        _tensors?.Dispose();
        Weights.Dispose();
        Limits.Dispose();
        Fast.Dispose();
        Exact.Dispose();
    }

    /// <summary>The device of a precision.</summary>
    public CpuDevice Device(Precision precision) => precision == Precision.Exact ? Exact : Fast;

    /// <summary>By what code a precision's products are made: vectors, and in fast precision what multiplies bfloat16 where there are many rows.</summary>
    public string Path(Precision precision) =>
        precision == Precision.Exact ? Exact.InstructionSet : $"{Fast.InstructionSet}, {Fast.FastProducts}";

    /// <summary>Random tensors, lent until others are asked for: cases that follow each other often want the same ones.</summary>
    public RandomTensors Tensors(params IReadOnlyList<TensorInfo> tensors)
    {
        if (_tensors is null || !_tensors.Holds(tensors))
        {
            _tensors?.Dispose();
            _tensors = null;
            _tensors = RandomTensors.InFile(Options.Folder, tensors);
        }

        return _tensors;
    }
}
