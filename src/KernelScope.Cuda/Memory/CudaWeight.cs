using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Launching;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cuda.Memory;

/// <summary>A parameter matrix in device memory, dense, in its file's dtype.</summary>
/// <remarks>
/// Parts of different dtypes, and float64, become float32: one kernel reads one dtype. A matrix that is stored [out, in] is uploaded at once. Of one that is stored
/// [in, out] nobody can tell how it will be read (an SAE's encoder by products, its decoder a feature at a time), so its memory is taken at once and filled
/// at the first use, in the order of that use; a use in the other order makes a second copy.
/// </remarks>
internal sealed class CudaWeight : Weight
{
    private readonly CudaDevice _device;
    private readonly WeightPart[] _parts;
    private readonly DeviceMemory?[] _layouts = new DeviceMemory?[2];
    private DeviceMemory? _reserved;

    public CudaWeight(CudaDevice device, string name, ReadOnlySpan<WeightPart> parts) : base(name, parts)
    {
        _device = device;
        _parts = parts.ToArray();
        DType first = parts[0].Tensor.DType;
        Type = first != DType.F64 && Array.TrueForAll(_parts, p => p.Tensor.DType == first) ? first : DType.F32;
        ElementBytes = Type.ByteSize();
        _reserved = device.Context.Allocate((long)Rows * Columns * ElementBytes, name);
        try
        {
            if (!Array.TrueForAll(_parts, p => p.Transposed))
                Address(WeightLayout.OutputMajor);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The dtype in device memory: bf16, f16 or f32.</summary>
    public DType Type { get; }

    /// <summary>Bytes of a weight.</summary>
    public int ElementBytes { get; }

    /// <summary>Number of weights.</summary>
    public long Length => (long)Rows * Columns;

    /// <summary>The weights in a layout, as <see cref="Address"/> has them.</summary>
    public View<Stored> View(WeightLayout layout) => new(Address(layout), Length);

    /// <summary>The first weight in a layout; uploads it if it is not there yet, so ask before anything of an op is queued.</summary>
    public ulong Address(WeightLayout layout)
    {
        ref DeviceMemory? memory = ref _layouts[(int)layout];
        if (memory is null)
        {
            DeviceMemory target = _reserved ?? _device.Context.Allocate(Length * ElementBytes, Name);
            var packing = new WeightPacking(_parts, layout, Type);
            _device.Staging.Upload(target.Address, packing.Bytes, ElementBytes, packing.Fill);
            memory = target;
            _reserved = null;
        }

        return memory.Address;
    }

    /// <summary>A weight of <paramref name="device"/>.</summary>
    /// <exception cref="ArgumentException">It belongs to another device.</exception>
    public static CudaWeight From(CudaDevice device, Weight weight)
    {
        if (weight is not CudaWeight w || w._device != device)
            throw new ArgumentException($"{weight} is not in the memory of {device.Name}.", nameof(weight));
        w.ThrowIfDisposed();
        return w;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _reserved?.Dispose();
        foreach (DeviceMemory? memory in _layouts)
            memory?.Dispose();
        _device.CollectReleased();
        base.Dispose(disposing);
    }
}
