namespace KernelScope.Cpu.MachineCode;

/// <summary>The two tiles of <see cref="Bf16Code"/>; empty where there is none.</summary>
internal unsafe struct Bf16Tiles
{
    public delegate* unmanaged[SuppressGCTransition]<Bf16Tile*, void> Tall;
    public delegate* unmanaged[SuppressGCTransition]<Bf16Tile*, void> Low;

    public readonly bool Exist => Tall != null;
}
