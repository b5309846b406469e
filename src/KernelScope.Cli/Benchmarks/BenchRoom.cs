using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Measuring;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>What random weights and their runs need, held against the memory of the machine and, of a CUDA device, of the device too: the weights are made in the one and copied to the other.</summary>
internal sealed class BenchRoom
{
    /// <summary>Of the memory that is there, what is used: the rest is for everything small, and for whoever else runs here.</summary>
    private const double UsableShare = 0.9;

    private readonly CudaDevice? _device;
    private readonly DType _type;

    public BenchRoom(Device device, DType type)
    {
        _device = device as CudaDevice;
        _type = type;
    }

    /// <summary>Whether it all fits.</summary>
    /// <param name="config">The model, of the layers to measure.</param>
    /// <param name="prefill">Tokens of the longest prefill.</param>
    /// <param name="rows">Rows of the largest encode.</param>
    /// <param name="widths">Features of each SAE.</param>
    public bool Has(Gemma2Config config, int prefill, int rows, ReadOnlySpan<int> widths)
    {
        (string What, long Bytes)[] needs = Needs(config, prefill, rows, widths);
        return needs.Sum(n => (double)n.Bytes) <= MemoryCheck.Available() * UsableShare
            && (_device is null || MemoryPlan.Create(_device.Options, needs).Fits((long)(_device.MemoryInfo().Free * UsableShare)));
    }

    /// <summary>Throws unless it all fits.</summary>
    /// <exception cref="WorkException">It does not fit into the machine's memory.</exception>
    public void Require(Gemma2Config config, int prefill, int rows, ReadOnlySpan<int> widths)
    {
        (string What, long Bytes)[] needs = Needs(config, prefill, rows, widths);
        MemoryCheck.Require(needs);
        if (_device is not null)
            MemoryPlan.Create(_device.Options, needs).Require(_device);
    }

    private (string What, long Bytes)[] Needs(Gemma2Config config, int prefill, int rows, ReadOnlySpan<int> widths)
    {
        long saes = 0;
        foreach (int features in widths)
            saes += RandomTensors.BytesFor(RandomSae.Tensors(config.ModelDim, features, _type));
        // Inputs, and for each SAE its results; on a CUDA device codes keep room for the largest of every case.
        long activations = (1L + widths.Length) * rows * config.ModelDim * sizeof(float);
        long codes = _device is null ? 0 : 4L * widths.Length * _device.Options.WorkBytes;
        return
        [
            ("weights", RandomTensors.BytesFor(ModelSizes.Tensors(config, _type))), ("SAEs", saes),
            ("context", Session.BytesFor(config, prefill, _device?.PreferredChunk ?? 0)),
            ("rows", activations + codes), ("bandwidth", _device is null ? CpuDeviceLimits.ReadBytes : 2 * DeviceLimits.CopyBytes),
        ];
    }
}
