using System.Runtime.CompilerServices;

namespace KernelScope.Cpu;

/// <summary>Sizes of <see cref="AheadKernel{S, V}"/>'s panels.</summary>
internal static class AheadPanel
{
    /// <summary>Outputs of a panel.</summary>
    public const int Outputs = 512;

    /// <summary>Inputs of a panel.</summary>
    public const int Inputs = 128;

    /// <summary>Stored rows that are read side by side.</summary>
    public const int Block = 8;
}

/// <summary>A panel that is being copied, in steps of eight stored rows by a vector or two.</summary>
internal unsafe struct AheadCopy
{
    /// <summary>The step's first weight.</summary>
    public byte* Source;

    /// <summary>Distance of stored rows.</summary>
    public long RowBytes;

    /// <summary>Where it goes: panels of a tile's columns, one behind the other.</summary>
    public float* Target;

    /// <summary>Inputs of the panel.</summary>
    public int Depth;

    /// <summary>Blocks of rows that are not done.</summary>
    public int BlocksLeft;

    /// <summary>Vectors of each row in a step.</summary>
    public int Vectors;

    // Of no consequence from 128 bytes to a whole row.
    private const int AskedBytes = 512;

    private int _column;

    /// <summary>From the step's first weight to the one that is prefetched meanwhile: further on in its row, behind the row's end in the next block.</summary>
    public readonly long Ahead(int size)
    {
        long ahead = _column * (long)size + AskedBytes, end = (long)AheadPanel.Outputs * size;
        return ahead < end ? AskedBytes : (AheadPanel.Block * RowBytes) + AskedBytes - end;
    }

    /// <summary>To the next step.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Advance(int lanes, int columns, int size)
    {
        int width = Vectors * lanes;
        Source += (long)width * size;
        Target += width;
        _column += width;
        if (_column % columns == 0)
            Target += (Depth - 1) * columns;
        if (_column == AheadPanel.Outputs)
        {
            _column = 0;
            Source += (AheadPanel.Block * RowBytes) - ((long)AheadPanel.Outputs * size);
            Target += (AheadPanel.Block * columns) - (AheadPanel.Outputs * Depth);
            BlocksLeft--;
        }
    }
}
