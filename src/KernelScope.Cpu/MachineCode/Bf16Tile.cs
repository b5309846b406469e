namespace KernelScope.Cpu.MachineCode;

/// <summary>What a tile of <see cref="Bf16Code"/> works on. The code reads the fields by their offsets.</summary>
internal unsafe struct Bf16Tile
{
    /// <summary>Rows of x: for each pair of inputs, the rows' pairs of bfloat16 side by side.</summary>
    public uint* A;

    /// <summary>A pair panel: for each pair of inputs, the pairs of <see cref="Bf16Code.Columns"/> outputs side by side.</summary>
    public uint* B;

    /// <summary>The results.</summary>
    public float* C;

    /// <summary>Bytes from a row of C to the next.</summary>
    public long StrideBytes;

    /// <summary>Pairs of inputs; at least one.</summary>
    public long Pairs;

    /// <summary>Not 0: the sums are added to what C holds.</summary>
    public long Add;
}
