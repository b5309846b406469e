using System.Runtime.InteropServices;

namespace KernelScope.Cpu.Panels;

/// <summary>The window of a compact panel: <see cref="Exponent"/> is the smallest of its 16 biased exponents; the panel's exceptions begin at <see cref="FirstException"/> and end where the next panel's begin.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct PanelWindow(int Exponent, uint FirstException)
{
    /// <summary>Exponents of a window.</summary>
    public const int Width = 16;

    /// <summary>The exponent that <see cref="Scale"/> brings the window to: with it a value's upper exponent bits are 0111, which is one constant to put in.</summary>
    public const int Base = 112;

    /// <summary>The smallest window has normal numbers only; of the largest, <see cref="Scale"/> is still a number.</summary>
    public const int Least = 1, Most = 238;

    /// <summary>What a value decoded with exponents from <see cref="Base"/> on is to be multiplied by; a power of two.</summary>
    public float Scale => BitConverter.Int32BitsToSingle((Exponent - Base + 127) << 23);

    /// <summary>What the code of an exception reads as.</summary>
    public float Zero => BitConverter.Int32BitsToSingle(Exponent << 23);
}

/// <summary>A value of a compact panel that its window does not hold: input, output within the panel, and the bits of the bfloat16.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct PanelException(uint Input, ushort Output, ushort Bits)
{
    /// <summary>The value.</summary>
    public float Value => BitConverter.Int32BitsToSingle(Bits << 16);
}

/// <summary>
/// What lies beside compact panels: a <see cref="PanelWindow"/> for each panel and one more that ends the last panel's exceptions; then all <see cref="PanelException"/>s, each panel's by input, then by output.
/// Eight bytes each, little-endian; zeros to a whole line.
/// </summary>
internal readonly unsafe struct CompactTable(PanelWindow* windows, int panels)
{
    /// <summary>Bytes of a window, and of an exception.</summary>
    public const int EntryBytes = 8;

    public PanelWindow* Windows { get; } = windows;

    private PanelException* Exceptions => (PanelException*)(Windows + panels + 1);

    /// <summary>Bytes of a table: whole lines, so that the panels behind it begin with one.</summary>
    public static long Bytes(long panels, long exceptions) =>
        (((panels + 1 + exceptions) * EntryBytes) + PanelLayout.StepBytes - 1) / PanelLayout.StepBytes * PanelLayout.StepBytes;

    /// <summary>The exceptions of a panel.</summary>
    public Span<PanelException> ExceptionsOf(int panel) =>
        new(Exceptions + Windows[panel].FirstException, (int)(Windows[panel + 1].FirstException - Windows[panel].FirstException));

    /// <summary>The exceptions of a panel among some inputs.</summary>
    public ReadOnlySpan<PanelException> ExceptionsOf(int panel, int firstInput, int inputs)
    {
        ReadOnlySpan<PanelException> all = ExceptionsOf(panel);
        int first = LowerBound(all, (uint)firstInput);
        return all[first..LowerBound(all, (uint)(firstInput + inputs))];
    }

    /// <summary>Whether a table of so many bytes can be used for a matrix with so many inputs: everything in range and in order.</summary>
    public bool IsSound(long bytes, int inputs)
    {
        if (bytes < Bytes(panels, 0) || Windows[0].FirstException != 0
            || Bytes(panels, Windows[panels].FirstException) != bytes) return false;
        for (int p = 0; p < panels; p++)
        {
            if (Windows[p].Exponent is < PanelWindow.Least or > PanelWindow.Most
                || Windows[p].FirstException > Windows[p + 1].FirstException) return false;
        }

        for (int p = 0; p < panels; p++)
        {
            long last = -1;
            foreach (PanelException e in ExceptionsOf(p))
            {
                long place = ((long)e.Input * PanelLayout.Outputs) + e.Output;
                if (e.Input >= inputs || e.Output >= PanelLayout.Outputs || place <= last)
                    return false;
                last = place;
            }
        }

        return true;
    }

    private static int LowerBound(ReadOnlySpan<PanelException> exceptions, uint input)
    {
        int begin = 0, end = exceptions.Length;
        while (begin < end)
        {
            int middle = (begin + end) / 2;
            if (exceptions[middle].Input < input)
                begin = middle + 1;
            else
                end = middle;
        }

        return begin;
    }
}
