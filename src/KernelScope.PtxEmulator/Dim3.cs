namespace KernelScope.PtxEmulator;

/// <summary>Extent of a grid or a block, or a position in one; x runs fastest.</summary>
/// <param name="X">Fastest.</param>
/// <param name="Y">Second.</param>
/// <param name="Z">Slowest.</param>
public readonly record struct Dim3(int X, int Y = 1, int Z = 1)
{
    /// <summary>X · Y · Z.</summary>
    public long Count => (long)X * Y * Z;

    /// <summary>The position with the given linear index in this extent.</summary>
    internal Dim3 At(long index) => new((int)(index % X), (int)(index / X % Y), (int)(index / ((long)X * Y)));

    /// <inheritdoc/>
    public override string ToString() => $"({X},{Y},{Z})";
}
