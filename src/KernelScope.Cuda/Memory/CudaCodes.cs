using System.Runtime.InteropServices;
using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Launching;
using KernelScope.Devices;

namespace KernelScope.Cuda.Memory;

/// <summary>Lists of (index, value) pairs in device memory: 64-bit starts of the rows, indices, values. Room grows and is kept.</summary>
internal sealed class CudaCodes : SparseCodes
{
    /// <summary>Pairs that are fetched together with the starts: the codes of a few rows of text, or any top-k list.</summary>
    private const int PairsAtOnce = 1024;

    private readonly CudaDevice _device;
    private DeviceMemory? _starts;
    private DeviceMemory? _features;
    private DeviceMemory? _values;

    public CudaCodes(CudaDevice device, string name, int featureCount) : base(name, featureCount) => _device = device;

    /// <summary>Pairs that there is room for.</summary>
    public long Capacity { get; private set; }

    /// <summary>Where each row begins, i64 [rows + 1].</summary>
    public View<long> Starts => new(_starts!.Address, Rows + 1L);

    /// <summary>Indices, i32.</summary>
    public View<int> Features => new(_features!.Address, Capacity);

    /// <summary>Values, f32.</summary>
    public View<float> Values => new(_values!.Address, Capacity);

    /// <summary>Makes room for what an op will write, forgetting what is there. Nothing of the op may be queued yet.</summary>
    /// <param name="rows">Number of lists.</param>
    /// <param name="pairs">Number of pairs at least.</param>
    public void Begin(int rows, long pairs)
    {
        Rows = rows;
        Grow(ref _starts, (rows + 1L) * sizeof(long), "starts");
        if (pairs <= Capacity && _features is not null)
            return;
        Capacity = 0;
        long room = Math.Max(pairs, 1);
        Grow(ref _features, room * sizeof(int), "indices");
        Grow(ref _values, room * sizeof(float), "values");
        Capacity = room;
    }

    /// <summary>Codes of <paramref name="device"/>.</summary>
    /// <exception cref="ArgumentException">They belong to another device.</exception>
    public static CudaCodes From(CudaDevice device, SparseCodes codes)
    {
        if (codes is not CudaCodes c || c._device != device)
            throw new ArgumentException($"'{codes.Name}' is not in the memory of {device.Name}.", nameof(codes));
        c.ThrowIfDisposed();
        return c;
    }

    /// <summary>Checks that a list fits: ascending indices below the number of features in each row.</summary>
    public void CheckFits(CodeList source)
    {
        for (int r = 0; r < source.Rows; r++)
        {
            int last = -1;
            foreach (int feature in source.FeaturesOf(r))
            {
                if (feature <= last || feature >= FeatureCount)
                    throw new ArgumentException($"Row {r} of the codes for '{Name}': feature {feature} after {last}; expected " +
                        $"ascending indices below {FeatureCount}.", nameof(source));
                last = feature;
            }
        }
    }

    /// <summary>Takes codes of the host.</summary>
    public void CopyFrom(CodeList source)
    {
        Begin(source.Rows, source.Count);
        _device.Staging.Upload(Starts.Address, MemoryMarshal.AsBytes(source.RowStart.AsSpan(0, source.Rows + 1)));
        _device.Staging.Upload(Features.Address, MemoryMarshal.AsBytes(source.Feature.AsSpan(0, source.Count)));
        _device.Staging.Upload(Values.Address, MemoryMarshal.AsBytes(source.Value.AsSpan(0, source.Count)));
    }

    /// <summary>Waits and gives a copy to the host. Short lists come with their starts in one wait.</summary>
    public void CopyTo(CodeList destination)
    {
        destination.Resize(Rows, 0);
        destination.RowStart[0] = 0;
        if (Rows == 0)
            return;
        Span<byte> starts = MemoryMarshal.AsBytes(destination.RowStart.AsSpan(0, Rows + 1));
        int guess = (int)Math.Min(Capacity, PairsAtOnce);
        Span<byte> first = stackalloc byte[2 * PairsAtOnce * sizeof(int)];
        Span<byte> features = first[..(guess * sizeof(int))], values = first.Slice(guess * sizeof(int), guess * sizeof(float));
        _device.Staging.Download(Starts.Address, starts, Features.Address, features, Values.Address, values);
        destination.Resize(Rows, checked((int)destination.RowStart[Rows]));
        Span<byte> allFeatures = MemoryMarshal.AsBytes(destination.Feature.AsSpan(0, destination.Count));
        Span<byte> allValues = MemoryMarshal.AsBytes(destination.Value.AsSpan(0, destination.Count));
        if (destination.Count <= guess)
        {
            features[..allFeatures.Length].CopyTo(allFeatures);
            values[..allValues.Length].CopyTo(allValues);
            return;
        }

        _device.Staging.Download(Features.Address, allFeatures);
        _device.Staging.Download(Values.Address, allValues);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _starts?.Dispose();
        _features?.Dispose();
        _values?.Dispose();
        _device.CollectReleased();
        base.Dispose(disposing);
    }

    private void Grow(ref DeviceMemory? memory, long bytes, string what)
    {
        if (memory is not null && memory.Bytes >= bytes)
            return;
        if (memory is not null)
            _device.GiveBackNow(memory);
        memory = null;
        memory = _device.Context.Allocate(bytes, $"{Name}: {what}");
    }
}
