using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;

namespace KernelScope.Cpu;

/// <summary>A weight of the cpu device: matrices where they lie in their files, and panels of those that have some.</summary>
/// <remarks>What kernels read of it is made once. Any number of threads may use it; see <see cref="DeviceResource"/>.</remarks>
internal sealed unsafe class CpuWeight : HostWeight
{
    private readonly Device _device;
    // They do not move, because kernels have their addresses.
    private readonly StoredMatrix[] _matrices, _stored;
    private readonly PanelView[] _panels;
    private readonly List<PackedMatrix> _packed = [];

    /// <summary>Describes the matrices, and packs those of which that is wanted and that have no panels.</summary>
    /// <param name="device">The device: copies go back when none of its ops runs.</param>
    /// <param name="name">What it is, for messages.</param>
    /// <param name="parts">The matrices.</param>
    /// <param name="store">Where panels are looked up.</param>
    public CpuWeight(Device device, string name, ReadOnlySpan<WeightPart> parts, PanelStore store) : base(name, parts)
    {
        _device = device;
        _matrices = GC.AllocateArray<StoredMatrix>(parts.Length, pinned: true);
        _stored = GC.AllocateArray<StoredMatrix>(parts.Length, pinned: true);
        _panels = new PanelView[parts.Length];
        try
        {
            for (int p = 0; p < parts.Length; p++)
            {
                _panels[p] = Find(parts[p], store);
                _stored[p] = _matrices[p] = StoredMatrix.From(Parts[p]);
                if (_panels[p].IsNone)
                    continue;
                _matrices[p].DType = _panels[p].DType;
                _matrices[p].Panels = _panels[p].Pointer;
                _matrices[p].Windows = _panels[p].Windows;
                _matrices[p].Checksums = _panels[p].Guard is PanelGuard guard ? guard.Expected : null;
            }

            Traits = WeightTraits.From(_matrices, Columns, Rows);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The matrices as products read them, from the first output on; valid while somebody keeps the weight.</summary>
    public StoredMatrix* Matrices => Pointer(_matrices);

    /// <summary>The matrices where they lie in their files, without panels: single values and rows are read from there.</summary>
    public StoredMatrix* Stored => Pointer(_stored);

    /// <summary>What the choice of a kernel depends on.</summary>
    public WeightTraits Traits { get; }

    /// <summary>Number of matrices.</summary>
    public int Count => _matrices.Length;

    internal override bool IsPacked => Array.TrueForAll(_panels, panels => !panels.IsNone);

    internal override long ProductBytes
    {
        get
        {
            long bytes = 0;
            for (int p = 0; p < Count; p++)
                bytes += _panels[p].IsNone ? Parts[p].Tensor.ByteLength : _panels[p].ByteLength;
            return bytes;
        }
    }

    /// <summary>The matrices behind a weight of the cpu device.</summary>
    /// <exception cref="ArgumentException">The weight belongs to another kind of device.</exception>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    public static new CpuWeight From(Weight weight) => HostWeight.From(weight) as CpuWeight
        ?? throw new ArgumentException($"{weight} is not a weight of the cpu device.", nameof(weight));

    /// <summary>Takes down what a product found that compared the panels of all matrices with their checksums, the first that reads them.</summary>
    /// <exception cref="InvalidDataException">A panel is damaged; the next product finds it again.</exception>
    public void Conclude()
    {
        for (int p = 0; p < Count; p++)
        {
            if (_matrices[p].Checksums == null)
                continue;
            _panels[p].Guard!.Conclude(_matrices[p].Damaged - 1);
            _matrices[p].Checksums = null;
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        foreach (PackedMatrix packed in _packed)
            _device.DisposeWhenIdle(packed);
        base.Dispose(disposing);
    }

    private static StoredMatrix* Pointer(StoredMatrix[] pinned) =>
        (StoredMatrix*)Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(pinned));

    private PanelView Find(WeightPart part, PanelStore store)
    {
        PanelView panels = part.Transposed ? default : store.Find(part.Tensor);
        if (!panels.IsNone || !part.Pack || !PanelLayout.Covers(part.Tensor.DType))
            return panels;
        var packed = new PackedMatrix(part.Tensor, part.Transposed);
        _packed.Add(packed);
        return packed.View;
    }
}
