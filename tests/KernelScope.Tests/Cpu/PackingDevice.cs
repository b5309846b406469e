using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Tests.Cpu;

/// <summary>The SIMD device with every matrix that can be packed in panels, as a panel file gives them.</summary>
internal sealed class PackingDevice(CpuDevice cpu) : ForwardingDevice(cpu)
{
    private readonly List<PackedMatrix> _packed = [];

    public PackingDevice(int threads) : this(new CpuDevice(threads))
    {
    }

    public CpuDevice Cpu => (CpuDevice)Inner;

    public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts)
    {
        WeightPart[] packed = [.. parts];
        foreach (ref WeightPart part in packed.AsSpan())
        {
            if (!PanelLayout.Covers(part.Tensor.DType))
                continue;
            _packed.Add(new PackedMatrix(part.Tensor, part.Transposed));
            part = part with { Panels = _packed[^1].View };
        }

        return Inner.CreateWeight(name, packed);
    }

    protected override void Dispose(bool disposing)
    {
        foreach (PackedMatrix one in _packed)
            one.Dispose();
        _packed.Clear();
        Inner.Dispose();
        base.Dispose(disposing);
    }
}
