using System.Globalization;
using KernelScope.Cuda.Driver;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cuda;

/// <summary>What a run will need of a device's memory, made before anything is loaded.</summary>
/// <remarks>Any number of threads may use it.</remarks>
public sealed class MemoryPlan
{
    /// <summary>
    /// What the driver and this library take beside what is asked for: PTX compiled and loaded, stacks, the queue of small data. An estimate; the driver does not say.
    /// </summary>
    private const long OverheadBytes = 128L << 20;

    private readonly List<(string What, long Bytes)> _items = [];

    /// <summary>What is needed, and how many bytes of it.</summary>
    public IReadOnlyList<(string What, long Bytes)> Items => _items;

    /// <summary>Sum of <see cref="Items"/>.</summary>
    public long Needed => _items.Sum(i => i.Bytes);

    /// <summary>The plan for a model.</summary>
    /// <param name="checkpoint">Its files.</param>
    /// <param name="contextLength">Tokens of the longest sequence.</param>
    /// <param name="chunkLength">Tokens of one call; 0: the default of a session on a CUDA device.</param>
    /// <param name="options">The device's options.</param>
    /// <param name="cacheType">How sessions keep keys and values.</param>
    public static MemoryPlan For(Gemma2Checkpoint checkpoint, int contextLength, int chunkLength = 0, CudaDeviceOptions? options = null,
        DType cacheType = DType.F32)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        var plan = new MemoryPlan();
        plan.Add("weights", checkpoint.WeightBytes);
        plan.Add("KV cache and activations", Session.BytesFor(checkpoint.Config, contextLength,
            chunkLength == 0 ? CudaDevice.PreferredChunkLength : chunkLength, cacheType));
        plan.Add("work space", (options ?? new CudaDeviceOptions()).WorkBytes + OverheadBytes);
        return plan;
    }

    /// <summary>The plan for whatever somebody counted: a model, an SAE, a context. Work space, and room for codes, come on top.</summary>
    public static MemoryPlan Create(CudaDeviceOptions? options, params ReadOnlySpan<(string What, long Bytes)> needs)
    {
        var plan = new MemoryPlan();
        foreach ((string what, long bytes) in needs)
        {
            if (bytes > 0)
                plan.Add(what, bytes);
        }

        plan.Add("work space", (2 * (options ?? new CudaDeviceOptions()).WorkBytes) + OverheadBytes);
        return plan;
    }

    /// <summary>Adds bytes that something else takes.</summary>
    public void Add(string what, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        _items.Add((what, bytes));
    }

    /// <summary>Adds an SAE: its parameters, and room for codes.</summary>
    public void Add(SaeCheckpoint sae, CudaDeviceOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(sae);
        // The folder says which SAE it is; the file is always called the same.
        string? folder = Path.GetFileName(Path.GetDirectoryName(sae.Path));
        Add($"SAE {(string.IsNullOrEmpty(folder) ? Path.GetFileName(sae.Path) : folder)}",
            sae.TotalBytes + (options ?? new CudaDeviceOptions()).WorkBytes);
    }

    /// <summary>Whether it fits into so many bytes.</summary>
    public bool Fits(long freeBytes) => Needed <= freeBytes;

    /// <summary>Throws unless it fits on a device now.</summary>
    /// <exception cref="CudaException">It does not; the message says what needs how much and what is free, in MiB.</exception>
    public void Require(CudaDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        (long free, long total) = device.MemoryInfo();
        if (!Fits(free))
            throw new CudaException(CudaResult.OutOfMemory, Describe(device.Name, free, total));
    }

    /// <summary>One sentence: what is needed, for what, and what is free.</summary>
    public string Describe(string device, long free, long total)
    {
        string items = string.Join(", ", _items.Select(i => $"{i.What} {MemoryText.MiB(i.Bytes)}"));
        string verdict = Fits(free) ? "fit on" : "do not fit on";
        return string.Create(CultureInfo.InvariantCulture, $"{MemoryText.MiB(Needed)} " +
            $"({items}) {verdict} {device}: {MemoryText.MiB(free)} of {MemoryText.MiB(total)} are free.");
    }
}
