namespace KernelScope.Cpu;

/// <summary>The kernels of y = x·Wᵀ.</summary>
internal enum ProductKernel
{
    /// <summary><see cref="TransposeKernel{S, V}"/>: blocks of stored rows become panels on the way, or are multiplied in registers.</summary>
    Transpose,

    /// <summary><see cref="AxpyKernel{S, V}"/>: scaled stored rows are added up.</summary>
    Axpy,

    /// <summary><see cref="StripKernel{S, V}"/>: strips of outputs whose sums stay in a cache.</summary>
    Strip,

    /// <summary><see cref="PanelDot{S, V}"/>: stored panels pass by as one stream.</summary>
    PanelDot,

    /// <summary><see cref="AheadKernel{S, V}"/>: a block of weights is multiplied while the next is copied.</summary>
    CopyAhead,

    /// <summary><see cref="TileProduct{F}"/> of <see cref="FloatBlocks{S, V}"/>: register tiles over blocks of packed weights.</summary>
    Tiles,

    /// <summary><see cref="TileProduct{F}"/> of <see cref="Bf16Blocks{S, V}"/>: the same of pairs of bfloat16, by <c>vdpbf16ps</c>.</summary>
    Bf16Tiles,
}
