using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>How a <see cref="CudaDevice"/> computes.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record CudaDeviceOptions
{
    /// <summary>Accuracy of matrix products; it matters where more than 8 rows meet a weight, for fewer are exact at no cost.</summary>
    public Precision Precision { get; init; }

    /// <summary>Accuracy of SAE encoders. Exact unless asked otherwise: active sets hang on thresholds.</summary>
    public Precision SaePrecision { get; init; }

    /// <summary>Whether batches of launches that come again are replayed as CUDA graphs. Results do not depend on it.</summary>
    public bool Graphs { get; init; } = true;

    /// <summary>
    /// Whether every launch is waited for, so that an error names the kernel that made it. Slow, and without graphs; results do not depend
    /// on it. <c>KERNELSCOPE_CUDA_SYNC=1</c> in the environment does the same.
    /// </summary>
    public bool Sync { get; init; } = Environment.GetEnvironmentVariable("KERNELSCOPE_CUDA_SYNC") == "1";

    /// <summary>
    /// Whether kernels start while the one before them ends, where the device (compute capability 9.0) and the driver (CUDA 11.8) can: programmatic dependent launch. Results do not depend on it.
    /// <c>KERNELSCOPE_CUDA_OVERLAP=0</c> in the environment switches it off.
    /// </summary>
    public bool Overlap { get; init; } = Environment.GetEnvironmentVariable("KERNELSCOPE_CUDA_OVERLAP") != "0";

    /// <summary>
    /// Told, in a sentence, what a user may want to know although work goes on: that this driver makes no graphs, say. Any thread may call
    /// it.
    /// </summary>
    public Action<string>? Warn { get; init; }

    /// <summary>Whether matrix products use tensor cores where the device and the shape allow it.</summary>
    public bool TensorCores { get; init; } = true;

    /// <summary>Bytes that one op should not exceed for what it makes on the way, where it can work in pieces.</summary>
    public long WorkBytes { get; init; } = 64L << 20;

    /// <summary>Keys that one block of decode attention takes at least. A constant, but for tests: sums depend on it.</summary>
    internal int KeysPerSplit { get; init; } = 32;

    /// <summary>Inputs from which groups of five to eight rows share a product's inputs; 0: as many as pay on this device. For tests: the bits do not depend on it.</summary>
    internal int RingSplitColumns { get; init; }

    /// <summary>New work space for every op, so that an emulator sees every read of what this op did not write.</summary>
    internal bool FreshScratch { get; init; }
}
