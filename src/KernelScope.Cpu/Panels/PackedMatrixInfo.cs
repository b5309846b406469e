using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>How a matrix was packed.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed class PackedMatrixInfo
{
    /// <summary>The matrix as its file stores it.</summary>
    public required TensorInfo Matrix { get; init; }

    /// <summary>Bits of a value in the panels: 12 or 16 (bfloat16, or float16), or 32.</summary>
    public required int Bits { get; init; }

    /// <summary>Number of values.</summary>
    public required long Values { get; init; }

    /// <summary>How many of them are not bfloat16: of a matrix that keeps its type this is why; of a rounded one so many were rounded. Null where nobody counted: float16 is kept as it is.</summary>
    public required long? NotBf16 { get; init; }
}
