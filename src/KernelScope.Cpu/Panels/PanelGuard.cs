using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>
/// What stands between a matrix of a panel file and its first use: the checksums of its panels, compared once, when a product first asks for them, and a copy of its table,
/// which says where values go and so must not change once it was checked.
/// </summary>
/// <remarks>For any number of threads: two may compare the same panels at once, with the same outcome.</remarks>
internal sealed unsafe class PanelGuard
{
    // Panels of one unit of work: enough that handing units out costs nothing.
    private const long UnitBytes = 1 << 20;

    private readonly string _file, _name;
    private readonly byte* _panels;
    private readonly long _panelBytes;
    private readonly uint[] _checksums;
    private readonly ulong[] _table;
    private volatile bool _isSound;

    /// <param name="file">The panel file, for messages.</param>
    /// <param name="name">The matrix.</param>
    /// <param name="panels">The first panel.</param>
    /// <param name="panelBytes">Bytes of one.</param>
    /// <param name="checksums">One for each panel.</param>
    /// <param name="table">The table, in an array that does not move; empty where there is none.</param>
    public PanelGuard(string file, string name, byte* panels, long panelBytes, uint[] checksums, ulong[] table)
    {
        _file = file;
        _name = name;
        _panels = panels;
        _panelBytes = panelBytes;
        _checksums = checksums;
        _table = table;
    }

    /// <summary>The copied <see cref="CompactTable"/>; null where there is none.</summary>
    public PanelWindow* Windows => _table.Length == 0 ? null : (PanelWindow*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref _table[0]);

    /// <summary>Whether the panels were compared and are as they were written.</summary>
    public bool IsSound => _isSound;

    /// <summary>Compares all panels, through the mapping.</summary>
    /// <param name="forEach">Runs work for the units 0 … n − 1, on several threads.</param>
    /// <exception cref="InvalidDataException">A panel is damaged.</exception>
    public void Require(Action<int, Action<int>> forEach)
    {
        int perUnit = (int)Math.Clamp(UnitBytes / Math.Max(_panelBytes, 1), 1, _checksums.Length), damaged = -1;
        forEach((_checksums.Length + perUnit - 1) / perUnit, unit =>
        {
            for (int p = unit * perUnit; p < Math.Min(_checksums.Length, (unit + 1) * perUnit); p++)
            {
                if (PanelChecksum.Of(new ReadOnlySpan<byte>(_panels + (p * _panelBytes), checked((int)_panelBytes))) != _checksums[p])
                    Volatile.Write(ref damaged, p);
            }
        });
        if (damaged >= 0) throw Damaged(_file, _name, damaged);
        _isSound = true;
    }

    /// <summary>The refusal of a panel whose checksum is another.</summary>
    public static InvalidDataException Damaged(string file, string name, int panel) =>
        BadFile.Of(file, $"panel {panel} of {BadFile.Quote(name)} is damaged: its checksum is another; 'kernelscope pack' makes the file anew, and without the file the weights themselves are read.");
}
