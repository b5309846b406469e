using System.Runtime.CompilerServices;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>A stored matrix [outputs, inputs] where it lies in memory, as kernels and packers see it: any byte address, any supported type.</summary>
/// <remarks>A value without references. Whoever makes it keeps the memory.</remarks>
internal unsafe struct StoredMatrix
{
    /// <summary>The first stored element; need not be aligned to the type.</summary>
    public byte* Pointer;

    /// <summary>Type of the elements; with <see cref="Panels"/>, of those in the panels.</summary>
    public DType DType;

    /// <summary>The weight's output to which row 0 belongs.</summary>
    public int FirstOutput;

    /// <summary>Number of outputs.</summary>
    public int Outputs;

    /// <summary>Number of inputs.</summary>
    public int Inputs;

    /// <summary>Whether it is stored [in, out].</summary>
    public bool Transposed;

    /// <summary>The same values in panels (<see cref="PanelLayout"/>), which products read instead; null where there are none.</summary>
    public byte* Panels;

    /// <summary>What lies beside compact panels (<see cref="CompactTable"/>); null where the panels are others.</summary>
    public PanelWindow* Windows;

    /// <summary>The checksums that the panels must have, to be compared as they are read; null where they were.</summary>
    public uint* Checksums;

    /// <summary>One more than the number of a panel whose checksum is another; 0 where none was found.</summary>
    public int Damaged;

    /// <summary>The table, to be read.</summary>
    public readonly CompactTable Table => new(Windows, PanelCount);

    /// <summary>How products find it.</summary>
    public readonly StoredForms Form => Panels != null ? StoredForms.InPanels : Transposed ? StoredForms.InputsFirst
        : StoredForms.OutputsFirst;

    /// <summary>Number of panels.</summary>
    public readonly int PanelCount => (int)PanelLayout.PanelCount(Outputs);

    /// <summary>Bytes of one panel.</summary>
    public readonly long PanelBytes => PanelLayout.PanelBytes(DType, Inputs, compact: Windows != null);

    /// <summary>Bytes from an output to the next.</summary>
    public readonly long OutputStride => DType.ByteSize() * (Transposed ? 1L : Inputs);

    /// <summary>Bytes from an input to the next.</summary>
    public readonly long InputStride => DType.ByteSize() * (Transposed ? Outputs : 1L);

    /// <summary>A part of a weight.</summary>
    public static StoredMatrix From(in HostPart part) => new()
    {
        Pointer = part.Pointer,
        DType = part.DType,
        FirstOutput = part.FirstRow,
        Outputs = part.Rows,
        Inputs = part.Columns,
        Transposed = part.Transposed,
    };

    /// <summary>Element (output <paramref name="r"/>, input <paramref name="i"/>), widened without loss.</summary>
    public readonly double At(int r, int i)
    {
        long n = Transposed ? ((long)i * Outputs) + r : ((long)r * Inputs) + i;
        return DType switch
        {
            DType.F32 => Unsafe.ReadUnaligned<float>(Pointer + (n * sizeof(float))),
            DType.BF16 => BitConverter.UInt32BitsToSingle((uint)Unsafe.ReadUnaligned<ushort>(Pointer + (n * sizeof(ushort))) << 16),
            DType.F16 => (double)Unsafe.ReadUnaligned<Half>(Pointer + (n * sizeof(ushort))),
            _ => Unsafe.ReadUnaligned<double>(Pointer + (n * sizeof(double))),
        };
    }

    /// <summary>Outputs of a panel that there are.</summary>
    public readonly int OutputsOf(int panel) => Math.Min(PanelLayout.Outputs, Outputs - (panel * PanelLayout.Outputs));

    /// <summary>The first value of a panel.</summary>
    public readonly byte* PanelStart(int panel) => Pointer + (panel * PanelLayout.Outputs * OutputStride);
}
