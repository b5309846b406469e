namespace KernelScope.Files;

/// <summary>How a packed matrix lies in memory: in panels of 32 outputs, each one stream of bytes from its first input to its last.</summary>
/// <remarks>
/// Two-byte types (bf16, f16), <i>pair panels</i>: for each pair of inputs (i, i+1) 128 bytes, w[i][j] and w[i+1][j] side by side for j = 0 … 31. An odd last input is paired with zero.
/// float32: for each input 128 bytes, w[i][j] for j = 0 … 31. Outputs beyond the last are zero. A product so needs no sums across a vector, and reads memory in order.
/// </remarks>
public static class PanelLayout
{
    /// <summary>The number of this layout; another number is another layout.</summary>
    public const int Version = 1;

    /// <summary>Outputs of a panel.</summary>
    public const int Outputs = 32;

    /// <summary>Bytes of a panel for one input (float32) or a pair of inputs (two-byte types).</summary>
    public const int StepBytes = 128;

    /// <summary>Whether matrices of this type can be packed.</summary>
    public static bool Covers(DType type) => type is DType.F32 or DType.BF16 or DType.F16;

    /// <summary>Inputs of one step: 1 or 2.</summary>
    public static int StepInputs(DType type) => Covers(type) ? sizeof(float) / type.ByteSize() : throw new ArgumentException($"Matrices of {type.SafetensorsName()} are not packed.", nameof(type));

    /// <summary>Bytes of one panel.</summary>
    public static long PanelBytes(DType type, long inputs) => (inputs + StepInputs(type) - 1) / StepInputs(type) * StepBytes;

    /// <summary>Bytes of a packed matrix.</summary>
    public static long Bytes(DType type, long outputs, long inputs) => PanelCount(outputs) * PanelBytes(type, inputs);

    /// <summary>Number of panels.</summary>
    public static long PanelCount(long outputs) => (outputs + Outputs - 1) / Outputs;
}
