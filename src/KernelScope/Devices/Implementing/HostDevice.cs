using KernelScope.Files;

namespace KernelScope.Devices;

/// <summary>What the devices that compute in host memory share: buffers, codes, and weights used in place.</summary>
/// <remarks>Any number of threads may call it, as any <see cref="Device"/>.</remarks>
public abstract class HostDevice : Device
{
    private protected HostDevice()
    {
    }

    /// <inheritdoc/>
    public override DeviceBuffer Allocate(long length, string name)
    {
        Gate.ThrowIfClosed();
        return new HostBuffer(name, length, this);
    }

    /// <inheritdoc/>
    public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts) => new HostWeight(name, parts);

    /// <inheritdoc/>
    public override unsafe Weight CreateWeight(string name, Mat values, bool transposed = false)
    {
        if (!values.IsDense)
            throw new ArgumentException($"{values} has gaps between its rows; a weight has none.", nameof(values));
        var tensor = new TensorView("", new TensorInfo(name, DType.F32, [values.Rows, values.Columns]), (byte*)HostBuffer.Pointer(values),
            values.Buffer);
        return CreateWeight(name, new WeightPart(tensor, transposed));
    }

    /// <inheritdoc/>
    public override SparseCodes CreateCodes(int featureCount, string name) => new HostCodes(name, featureCount);

    /// <inheritdoc/>
    protected override void ReadCore(SparseCodes codes, CodeList destination) => HostCodes.From(codes).CopyTo(destination);

    /// <inheritdoc/>
    protected override void WriteCore(CodeList codes, SparseCodes destination) => HostCodes.From(destination).CopyFrom(codes);

    /// <inheritdoc/>
    protected override void TransposeCore(SparseCodes codes, SparseCodes destination) =>
        HostCodes.From(destination).Transpose(HostCodes.From(codes).List, codes.FeatureCount);

    /// <inheritdoc/>
    protected override void ReadLengthsCore(SparseCodes codes, Span<int> destination)
    {
        ReadOnlySpan<long> starts = HostCodes.From(codes).List.RowStart;
        for (int r = 0; r < destination.Length; r++)
            destination[r] = (int)(starts[r + 1] - starts[r]);
    }

    /// <inheritdoc/>
    protected override void ReadCore(Mat x, Span<float> destination)
    {
        for (int r = 0; r < x.Rows; r++)
            HostBuffer.Row(x, r).CopyTo(destination[(r * x.Columns)..]);
    }

    /// <inheritdoc/>
    protected override void WriteCore(ReadOnlySpan<float> values, Mat destination)
    {
        for (int r = 0; r < destination.Rows; r++)
            values.Slice(r * destination.Columns, destination.Columns).CopyTo(HostBuffer.Row(destination, r));
    }

    /// <inheritdoc/>
    protected override void CopyCore(Mat x, Mat destination)
    {
        for (int r = 0; r < x.Rows; r++)
            HostBuffer.Row(x, r).CopyTo(HostBuffer.Row(destination, r));
    }
}
