namespace KernelScope.Measuring;

/// <summary>What bounds a case.</summary>
internal enum Bound
{
    /// <summary>Bytes a second.</summary>
    Bandwidth,

    /// <summary>Float32 operations a second.</summary>
    Peak,

    /// <summary>Operations a second of bfloat16 products that are summed in float32: tensor cores, or <c>vdpbf16ps</c>.</summary>
    Bf16Peak,
}
