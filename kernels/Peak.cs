using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// What a device computes at most: chains of products in registers, with no memory in the way. For <c>bench</c>, which holds a time against the limit of the same minute.
/// Grid (any), group 256. Writes 4 bytes a thread, so that no compiler may leave the products out; reads nothing.
/// </summary>
/// <remarks>
/// A multiprocessor starts a product every cycle only if enough of them do not wait for each other: a thread has <see cref="Chains"/> chains, and a round is long enough that
/// the loop's own three instructions are a fiftieth of it. An <c>mma</c> keeps its unit busy for several cycles, in which the loop's instructions have a place.
/// </remarks>
public static class Peak
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    /// <summary>Independent chains of a thread, or of a warp on tensor cores.</summary>
    public const int Chains = 8;

    /// <summary>
    /// Chain c: x ← a·x + b from x = c on, 16 times a round; y[thread] is the chains' sum. 256 flops a thread and round, all <c>fma.rn.f32</c>.
    /// </summary>
    public static void MultiplyAdds(ArrayView<float> destination, float a, float b, int rounds)
    {
        Float4 low = new() { X = 0f, Y = 1f, Z = 2f, W = 3f }, high = new() { X = 4f, Y = 5f, Z = 6f, W = 7f };
        for (int n = 0; n < rounds; n++)
        {
            FourSteps(ref low, ref high, a, b);
            FourSteps(ref low, ref high, a, b);
            FourSteps(ref low, ref high, a, b);
            FourSteps(ref low, ref high, a, b);
        }

        destination[((long)Grid.IdxX * GroupSize) + Group.IdxX] = Sum(low) + Sum(high);
    }

    /// <summary>
    /// Eight accumulators of a warp, each C ← A·B + C 4 times a round, A and B made of <paramref name="value"/>, a pair of bfloat16, throughout; y[thread] is the sum of the lane's
    /// elements. 2·16·8·16 flops an <c>mma</c>, 32 of them a warp and round; the products of one step are on eight accumulators, so that neighbours do not wait for each other.
    /// </summary>
    public static void TensorProducts(ArrayView<float> destination, int value, int rounds)
    {
        uint pair = (uint)value;
        Float4 c0 = default, c1 = default, c2 = default, c3 = default, c4 = default, c5 = default, c6 = default, c7 = default;
        for (int n = 0; n < rounds; n++)
        {
            EightProducts(ref c0, ref c1, ref c2, ref c3, ref c4, ref c5, ref c6, ref c7, pair);
            EightProducts(ref c0, ref c1, ref c2, ref c3, ref c4, ref c5, ref c6, ref c7, pair);
            EightProducts(ref c0, ref c1, ref c2, ref c3, ref c4, ref c5, ref c6, ref c7, pair);
            EightProducts(ref c0, ref c1, ref c2, ref c3, ref c4, ref c5, ref c6, ref c7, pair);
        }

        destination[((long)Grid.IdxX * GroupSize) + Group.IdxX] = Sum(c0) + Sum(c1) + Sum(c2)
            + Sum(c3) + (Sum(c4) + Sum(c5) + Sum(c6) + Sum(c7));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void FourSteps(ref Float4 low, ref Float4 high, float a, float b)
    {
        Step(ref low, a, b);
        Step(ref high, a, b);
        Step(ref low, a, b);
        Step(ref high, a, b);
        Step(ref low, a, b);
        Step(ref high, a, b);
        Step(ref low, a, b);
        Step(ref high, a, b);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(ref Float4 x, float a, float b)
    {
        x.X = Ptx.MultiplyAdd(x.X, a, b);
        x.Y = Ptx.MultiplyAdd(x.Y, a, b);
        x.Z = Ptx.MultiplyAdd(x.Z, a, b);
        x.W = Ptx.MultiplyAdd(x.W, a, b);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void EightProducts(ref Float4 c0, ref Float4 c1, ref Float4 c2, ref Float4 c3, ref Float4 c4, ref Float4 c5,
        ref Float4 c6, ref Float4 c7, uint pair)
    {
        Product(ref c0, pair);
        Product(ref c1, pair);
        Product(ref c2, pair);
        Product(ref c3, pair);
        Product(ref c4, pair);
        Product(ref c5, pair);
        Product(ref c6, pair);
        Product(ref c7, pair);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Product(ref Float4 c, uint pair) =>
        c = Ptx.MultiplyAddBFloat16(c.X, c.Y, c.Z, c.W, pair, pair, pair, pair, pair, pair);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Sum(Float4 x) => x.X + x.Y + (x.Z + x.W);
}
