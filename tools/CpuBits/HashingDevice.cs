using System.Runtime.InteropServices;
using System.Security.Cryptography;
using KernelScope.Cpu;
using KernelScope.Devices;

namespace KernelScope.CpuBits;

/// <summary>The cpu device, with packed weights or not; it remembers a hash of all values that were read from it.</summary>
internal sealed class HashingDevice(CpuDevice cpu, bool packs) : ForwardingDevice(cpu)
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

    /// <summary>The hash of what was read since the last call.</summary>
    public string TakeHash() => Convert.ToHexStringLower(_hash.GetHashAndReset())[..16];

    public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts)
    {
        WeightPart[] own = [.. parts];
        foreach (ref WeightPart part in own.AsSpan())
            part = part with { Pack = packs };
        return Inner.CreateWeight(name, own);
    }

    protected override void ReadCore(Mat x, Span<float> destination)
    {
        base.ReadCore(x, destination);
        _hash.AppendData(MemoryMarshal.AsBytes(destination[..(x.Rows * x.Columns)]));
    }

    protected override void ReadCore(SparseCodes codes, CodeList destination)
    {
        base.ReadCore(codes, destination);
        _hash.AppendData(MemoryMarshal.AsBytes(destination.RowStart.AsSpan(0, destination.Rows + 1)));
        _hash.AppendData(MemoryMarshal.AsBytes(destination.Feature.AsSpan(0, destination.Count)));
        _hash.AppendData(MemoryMarshal.AsBytes(destination.Value.AsSpan(0, destination.Count)));
    }

    protected override void Dispose(bool disposing)
    {
        _hash.Dispose();
        base.Dispose(disposing);
    }
}
