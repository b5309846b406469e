using KernelScope.Devices;

namespace KernelScope.Conformance;

/// <summary>What a device may differ by.</summary>
/// <param name="Element">|a − b| of one value, divided by the size that the case states (for a dot product ‖x‖·‖w‖).</param>
/// <param name="Nmse">Σ(a − b)² / Σb² of a whole matrix: (10⁻⁶)² is float32; two bf16 terms instead of three would be about 10⁻¹¹.</param>
/// <param name="Floor">Differences below this are none.</param>
/// <param name="InfinityMayBeNaN">Whether NaN will do where the equation gives an infinity.</param>
internal readonly record struct Limit(double Element, double Nmse = double.PositiveInfinity,
    double Floor = 0, bool InfinityMayBeNaN = false);

/// <summary>The limits of every op, and why they are what they are.</summary>
internal static class Limits
{
    /// <summary>Float32 arithmetic, some roundings after each other (2⁻²⁴ = 6·10⁻⁸ each), a sum in any order.</summary>
    private const double Float32 = 1e-6;
    private const double Float32Squared = 1e-12;

    /// <summary>
    /// The mean square that each term of a long sum may add. One rounding is 2⁻²⁴/2 of the partial sum in the mean, and the partial sums of n random terms
    /// grow as √n, so n terms one after the other (cuBLAS and every plain float32 kernel sum so) give about (3·10⁻⁸)²·n/2 = 4·10⁻¹⁶·n.
    /// Below a thousand terms <see cref="Float32Squared"/> rules, and there two bfloat16 terms instead of three are seen.
    /// </summary>
    private const double Float32SquaredPerTerm = 1e-15;

    /// <summary>
    /// Rounding to bfloat16 moves a value by 2⁻⁸ of its size at most; the mean square is 2⁻¹⁶/3 times the mean of 1/m² over fractions m from 1 to 2, 2.5·10⁻⁶.
    /// Activations and float32 weights are both rounded: 5·10⁻⁶, and twice that is allowed where there are many values.
    /// </summary>
    private const double BFloat16 = 8e-3;
    private const double BFloat16Squared = 1e-5;

    /// <summary>
    /// Of n values both the errors and what they are divided by scatter, as in an F distribution with (n, n) degrees of freedom: one ratio in 10⁴ is above 18 for 9 values,
    /// 4 for 32, 1.6 for 256.
    /// </summary>
    private const double Scatter = 64;

    /// <summary>
    /// Where a value meets a weight matrix it may have been cut into bfloat16 terms: a float32 below the smallest normal number loses bits or all of
    /// itself (2⁻¹²⁶ = 1.2·10⁻³⁸ times a row of weights near 1), and of an infinity the second term is ∞ − ∞.
    /// </summary>
    private const double ProductFloor = 1e-35;

    /// <summary>Linear, GatedGelu, CrossEntropy: <paramref name="values"/> sums of <paramref name="terms"/> products.</summary>
    public static Limit Product(Precision precision, int terms, long values) => precision == Precision.Exact
        ? SaeProduct(terms)
        : new(BFloat16, BFloat16Squared * (1 + (Scatter / Math.Max(1, values))), ProductFloor, InfinityMayBeNaN: true);

    /// <summary>The SAE's ops are exact on every device: active sets hang on thresholds.</summary>
    public static Limit SaeProduct(int terms) =>
        new(Float32, Math.Max(Float32Squared, Float32SquaredPerTerm * terms), ProductFloor, InfinityMayBeNaN: true);

    /// <summary>Normalize, RmsNorm, AddNormedThenNorm, Rope: relative to the value, or to the terms of the one sum in it.</summary>
    public static Limit Elementwise => new(Float32, Float32Squared, 4 * (double)float.Epsilon);

    /// <summary>The same where a value may cancel or underflow: no mean over the matrix.</summary>
    public static Limit ElementwiseAlone => Elementwise with { Nmse = double.PositiveInfinity };

    /// <summary>Softcap: relative to the cap, not to the value, because a device may compute cap·(1 − 2/(e^(2x/cap) + 1)), which cancels near 0.</summary>
    public static Limit Softcap => new(Float32);

    /// <summary>
    /// Attend, relative to the largest visible |v| times 1 + 2·(error of a score / 10⁻⁶). The mean square grows with the size of the scores, because
    /// exp turns an absolute error into a relative one, and with the cap, whose formula (see <see cref="Softcap"/>) has the error 2⁻²³·cap.
    /// </summary>
    /// <param name="rounds">Whether the device rounds queries, keys, weights and values to bfloat16 (<see cref="Device.RoundsAttention"/>).</param>
    /// <param name="scoreSize">Size of the scores.</param>
    /// <param name="cap">The cap.</param>
    /// <param name="values">Values compared.</param>
    public static Limit Attend(bool rounds, double scoreSize, double cap, long values)
    {
        double factor = 1 + scoreSize + (cap / 8);
        return !rounds ? new(Float32, Float32Squared * factor * factor, InfinityMayBeNaN: true)
            : new(BFloat16, BFloat16Squared * factor * factor * (1 + (Scatter / Math.Max(1, values))), InfinityMayBeNaN: true);
    }
}
