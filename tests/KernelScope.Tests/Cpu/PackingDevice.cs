using KernelScope.Cpu;
using KernelScope.Devices;

namespace KernelScope.Tests.Cpu;

/// <summary>The SIMD device with every matrix that can be packed in panels, as a panel file gives them.</summary>
internal sealed class PackingDevice(CpuDevice cpu) : ForwardingDevice(cpu)
{
    public PackingDevice(int threads) : this(new CpuDevice(threads))
    {
    }

    public CpuDevice Cpu => (CpuDevice)Inner;

    public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts)
    {
        WeightPart[] packed = [.. parts];
        foreach (ref WeightPart part in packed.AsSpan())
            part = part with { Pack = true };
        return Inner.CreateWeight(name, packed);
    }

    protected override void Dispose(bool disposing)
    {
        Inner.Dispose();
        base.Dispose(disposing);
    }
}
