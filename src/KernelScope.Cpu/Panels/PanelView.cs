using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>A packed matrix where it lies, most often in a mapped <see cref="PanelFile"/>; see <see cref="PanelLayout"/>. Lent, as a <see cref="TensorView"/> is.</summary>
/// <remarks>A value, which any number of threads may read.</remarks>
internal readonly unsafe struct PanelView
{
    // Keeps the memory from being finalized while a view is in use.
    private readonly object _owner;

    internal PanelView(DType type, int outputs, int inputs, byte* pointer, object owner, PanelWindow* windows = null,
        PanelGuard? guard = null)
    {
        DType = type;
        Outputs = outputs;
        Inputs = inputs;
        Pointer = pointer;
        Windows = windows;
        Guard = guard;
        _owner = owner;
    }

    /// <summary>Type of the values: that of the matrix, or bfloat16 where its values were taken to that.</summary>
    public DType DType { get; }

    /// <summary>Number of outputs.</summary>
    public int Outputs { get; }

    /// <summary>Number of inputs.</summary>
    public int Inputs { get; }

    /// <summary>The first panel; null where there is none.</summary>
    public byte* Pointer { get; }

    /// <summary>Whether the panels are compact ones.</summary>
    public bool IsCompact => Windows is not null;

    /// <summary>Bytes that a product reads.</summary>
    public long ByteLength
    {
        get
        {
            long panels = PanelLayout.PanelCount(Outputs), bytes = panels * PanelLayout.PanelBytes(DType, Inputs, IsCompact);
            return IsCompact ? bytes + CompactTable.Bytes(panels, Windows[panels].FirstException) : bytes;
        }
    }

    /// <summary>The <see cref="CompactTable"/> of compact panels; null for others.</summary>
    internal PanelWindow* Windows { get; }

    /// <summary>What the first product that reads the panels compares them with; null for panels in memory of their own.</summary>
    internal PanelGuard? Guard { get; }

    /// <summary>Whether there is no packed matrix.</summary>
    public bool IsNone => Pointer is null;
}
