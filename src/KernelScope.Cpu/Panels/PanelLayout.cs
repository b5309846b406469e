using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>How a packed matrix lies in memory: in panels of 32 outputs, each one stream of bytes from its first input to its last.</summary>
/// <remarks>
/// A product so needs no sums across a vector, and reads memory in order. Outputs beyond the last, and inputs beyond the last of a step, count as zero or are never read.
/// <list type="bullet">
/// <item>float32: for each input 128 bytes, w[i][j] for j = 0 … 31.</item>
/// <item>Two-byte types (bf16, f16), <i>pair panels</i>: for each pair of inputs (i, i+1) 128 bytes, w[i][j] and w[i+1][j] side by side for j = 0 … 31. An odd last input is paired with zero.</item>
/// <item>
/// bf16, <i>compact panels</i>: 12 bits a value, no value changed. Trained weights of one panel seldom span more than 16 binary exponents, the panel's window e … e+15; a value is its sign, its exponent − e in four bits,
/// and its seven bits of fraction. For each eight inputs three lines of 32 words: line n holds inputs 2n (lower half of a word) and 2n+1 (upper half) with the sign in bit 15, the exponent in bits 10 … 7 and
/// the fraction in bits 6 … 0, as a bfloat16 without the upper half of its exponent. Bits 14 … 11 of each half hold the seventh and the eighth input: of the first line their exponents, of the second bits 6 … 3 of their fractions,
/// of the third their signs and bits 2 … 0. A value outside the window is a <see cref="PanelException"/>, in a list beside the panels; its twelve bits are 0, which reads as 2^(e−127).
/// This is patched frame-of-reference coding (Zukowski, Héman, Nes and Boncz, "Super-Scalar RAM-CPU Cache Compression", ICDE 2006), of exponents.
/// </item>
/// </list>
/// Any number of threads may call it.
/// </remarks>
internal static class PanelLayout
{
    /// <summary>The number of this layout; another number is another layout.</summary>
    public const int Version = 3;

    /// <summary>Outputs of a panel.</summary>
    public const int Outputs = 32;

    /// <summary>Bytes of a panel for one input (float32) or a pair of inputs (two-byte types); of a compact panel, a line.</summary>
    public const int StepBytes = 128;

    /// <summary>Inputs of three lines of a compact panel.</summary>
    public const int CompactInputs = 8;

    /// <summary>Bytes of three lines of a compact panel.</summary>
    public const int CompactBytes = 3 * StepBytes;

    /// <summary>Whether matrices of this type can be packed.</summary>
    public static bool Covers(DType type) => type is DType.F32 or DType.BF16 or DType.F16;

    /// <summary>Inputs of one step: 1 or 2.</summary>
    public static int StepInputs(DType type) => Covers(type) ? sizeof(float) / type.ByteSize()
        : throw new ArgumentException($"Matrices of {type.SafetensorsName()} are not packed.", nameof(type));

    /// <summary>Bytes of one panel.</summary>
    public static long PanelBytes(DType type, long inputs) => (inputs + StepInputs(type) - 1) / StepInputs(type) * StepBytes;

    /// <summary>Bytes of one compact panel, without its exceptions.</summary>
    public static long CompactPanelBytes(long inputs) => (inputs + CompactInputs - 1) / CompactInputs * CompactBytes;

    /// <summary>Bytes of one panel, compact or in the plain layout of its type.</summary>
    public static long PanelBytes(DType type, long inputs, bool compact) => compact ? CompactPanelBytes(inputs) : PanelBytes(type, inputs);

    /// <summary>Bytes of a packed matrix.</summary>
    public static long Bytes(DType type, long outputs, long inputs) => PanelCount(outputs) * PanelBytes(type, inputs);

    /// <summary>Number of panels.</summary>
    public static long PanelCount(long outputs) => (outputs + Outputs - 1) / Outputs;
}
