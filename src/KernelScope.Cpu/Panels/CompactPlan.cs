using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>How a matrix of bfloat16 becomes compact panels: the window of each panel, and how many values it leaves out.</summary>
internal sealed class CompactPlan(int outputs, int inputs)
{
    /// <summary>Of so many values at most one may be an exception; with more of them pair panels are read faster. Values drawn from a normal distribution have one in some 10,000.</summary>
    private const int ValuesPerException = 512;

    private readonly int[] _windows = new int[PanelLayout.PanelCount(outputs)];
    private readonly int[] _exceptions = new int[PanelLayout.PanelCount(outputs)];

    /// <summary>Whether compact panels pay.</summary>
    public bool Pays => Exceptions <= (long)outputs * inputs / ValuesPerException;

    /// <summary>Bytes of the panels.</summary>
    public long PanelBytes => _windows.Length * PanelLayout.CompactPanelBytes(inputs);

    /// <summary>Bytes of the <see cref="CompactTable"/>.</summary>
    public long TableBytes => CompactTable.Bytes(_windows.Length, Exceptions);

    private long Exceptions => _exceptions.Sum(e => (long)e);

    /// <summary>The plan for a matrix in memory; null where it is not bfloat16, or better off in pair panels.</summary>
    public static CompactPlan? TryCreate(StoredMatrix matrix)
    {
        if (matrix.DType != DType.BF16)
            return null;
        var plan = new CompactPlan(matrix.Outputs, matrix.Inputs);
        plan.Read(matrix, 0);
        return plan.Pays ? plan : null;
    }

    /// <summary>Plans panels of a matrix, or of a part of it that begins at <paramref name="firstPanel"/>.</summary>
    public void Read(StoredMatrix part, int firstPanel) =>
        Parallel.For(0, part.PanelCount, p => Choose(firstPanel + p, part, p));

    /// <summary>Begins the table: the windows.</summary>
    public unsafe CompactTable Begin(byte* table)
    {
        var windows = (PanelWindow*)table;
        uint first = 0;
        for (int p = 0; p < _windows.Length; first += (uint)_exceptions[p++])
            windows[p] = new PanelWindow(_windows[p], first);
        windows[_windows.Length] = new PanelWindow(0, first);
        return new CompactTable(windows, _windows.Length);
    }

    // Of windows that leave out equally many, the highest: what it leaves out are the smallest values.
    private void Choose(int panel, StoredMatrix part, int partPanel)
    {
        Span<int> counts = stackalloc int[256];
        counts.Clear();
        CompactPacker.CountExponents(part, partPanel, counts);
        int covered = 0, most = -1;
        foreach (int count in counts.Slice(PanelWindow.Least, PanelWindow.Width))
            covered += count;
        for (int first = PanelWindow.Least; first <= PanelWindow.Most; first++)
        {
            if (covered >= most)
                (most, _windows[panel]) = (covered, first);
            covered += counts[first + PanelWindow.Width] - counts[first];
        }

        _exceptions[panel] = (part.OutputsOf(partPanel) * part.Inputs) - most;
    }
}
