using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Measuring;

namespace KernelScope.Bench.Cases;

/// <summary>In which forms a product is measured, against which limit, and beside whom.</summary>
internal static class Forms
{
    /// <summary>Weights of both types in exact precision, and bfloat16 weights in fast precision; what shares its weights stands together.</summary>
    public static (DType Type, Precision Precision)[] All { get; } =
        [(DType.BF16, Precision.Exact), (DType.BF16, Precision.Fast), (DType.F32, Precision.Exact)];

    public static string Name(Precision precision) => precision == Precision.Exact ? "exact" : "fast";

    /// <summary>The limit and the work: reading the weights for a few rows, multiplying for many.</summary>
    public static (Bound Bound, double Work) Cost(double weights, DType type, Precision precision, int rows) => rows < 32
        ? (Bound.Bandwidth, weights * type.ByteSize())
        : (precision == Precision.Exact ? Bound.Peak : Bound.Bf16Peak, 2 * weights * rows);

    /// <summary>Exact results over bfloat16 weights are measured beside both forms of a peer: the one of the same memory, and the one of the same accuracy.</summary>
    public static DType[] PeerTypes(DType type, Precision precision, int rows) => (type, precision) switch
    {
        (DType.BF16, Precision.Exact) when rows >= 32 => [DType.BF16, DType.F32],
        _ => [type],
    };

    /// <summary>A peer in bfloat16 rounds inputs, results and what lies between to 8 bits; one in float32 differs by the order of its sums.</summary>
    public static Func<float[], float[], string?> Agreement(DType peer, Precision precision) =>
        Bench.Agreement.Within(peer == DType.F32 && precision == Precision.Exact ? 1e-4 : 5e-2);
}
