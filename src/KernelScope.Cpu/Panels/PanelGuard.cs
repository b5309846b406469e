using System.Runtime.CompilerServices;
using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>
/// What stands between a matrix of a panel file and its first use: the checksums of its panels, which the first product that reads them compares, and a copy of its table,
/// which says where values go and so must not change once it was checked.
/// </summary>
/// <remarks>For any number of threads: two may compare the same panels at once, with the same outcome.</remarks>
internal sealed unsafe class PanelGuard
{
    private readonly string _file, _name;
    private readonly uint[] _checksums;
    private readonly ulong[] _table;
    private volatile bool _isSound;

    /// <param name="file">The panel file, for messages.</param>
    /// <param name="name">The matrix.</param>
    /// <param name="checksums">One for each panel, in an array that does not move.</param>
    /// <param name="table">The table, in an array that does not move; empty where there is none.</param>
    public PanelGuard(string file, string name, uint[] checksums, ulong[] table)
    {
        _file = file;
        _name = name;
        _checksums = checksums;
        _table = table;
    }

    /// <summary>The copied <see cref="CompactTable"/>; null where there is none.</summary>
    public PanelWindow* Windows => _table.Length == 0 ? null : (PanelWindow*)Unsafe.AsPointer(ref _table[0]);

    /// <summary>What the panels' <see cref="PanelChecksum"/>s must be; null once they were found to be so.</summary>
    public uint* Expected => _isSound ? null : (uint*)Unsafe.AsPointer(ref _checksums[0]);

    /// <summary>Takes down what a product found that compared every panel with <see cref="Expected"/>.</summary>
    /// <param name="damaged">A panel whose checksum is another; negative if there is none.</param>
    /// <exception cref="InvalidDataException">There is one.</exception>
    public void Conclude(int damaged)
    {
        if (damaged >= 0)
            throw Damaged(_file, _name, damaged);
        _isSound = true;
    }

    /// <summary>The refusal of a panel whose checksum is another.</summary>
    public static InvalidDataException Damaged(string file, string name, int panel) =>
        BadFile.At(file, $"panel {panel} of {BadFile.Quote(name)} is damaged: its checksum is another; 'kernelscope pack' makes the " +
        "file anew, and without the file the weights themselves are read.");
}
