using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// The last product of a sub-layer for one row, and what lies between it and the next: branch = x·Wᵀ, W [out, in]; resid ← resid + RmsNorm(branch, postGain);
/// normed ← RmsNorm(resid, nextGain).
/// </summary>
/// <remarks>
/// The ladder: <see cref="Gemv"/>, then <see cref="RmsNorm.AddNormedThenNorm"/>, two launches, of which the second is one group that waits for memory;
/// <see cref="Half{TWeight}"/> and <see cref="Float"/>, one: each group publishes its two values and takes a ticket (an integer <c>atom</c>, whose order does not show), and the group that is
/// done last adds and norms. Its 128 threads do the work of 512, four each, in that kernel's order of sums: same bits.
/// Grid (out/2), group 128, static shared 260 bytes. Bound by reading W once: out·in·sizeof(weight) bytes and 2·out·in flops; beside these 4·in bytes of x, 8 bytes of branch a group, and in
/// the last group 32·out bytes of branch, resid (both twice), gains and results and 11·out flops, of which all but the gains are in the L2 cache.
/// Its largest loop, whose loads <c>resources.json</c> counts, is that of the last group; the main loop is <see cref="Gemv"/>'s, with its four loads of weights under way.
/// The share of a user's job: at 2,304 outputs one launch less for each sub-layer, 52 a token of 26 layers.
/// Rows of W, x, resid, normed and the gains are 16-byte aligned, <c>in</c> is a multiple of 8 and <c>out</c> of 4. <c>tickets</c> is one 0, and is left so.
/// Eight values of x for 16 bytes of two-byte weights are two loads of 16 bytes, 32 bytes apart from lane to lane: each touches every
/// sector of the L1 cache for half of it.
/// </remarks>
public static class GemvNorm
{
    /// <summary>Weights of two bytes.</summary>
    public static void Half<TWeight>(
        ArrayView<Float4> x,
        ArrayView<Words4> weight,
        ArrayView<float> branch,
        ArrayView<float> postGain,
        ArrayView<float> nextGain,
        ArrayView<float> resid,
        ArrayView<float> normed,
        ArrayView<int> tickets,
        float epsilon,
        int columns,
        int outputs)
        where TWeight : unmanaged, IHalfWeight<TWeight>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Gemv.SharedSums);
        int first = Grid.IdxX * Gemv.TileColumns;
        RowSums a = default, b = default;
        Gemv.HalfDots<TWeight, Rows1>(x, weight, (long)first * columns, ((long)first + 1) * columns, 1, columns, 0, ref a, ref b);
        PublishThenNorm(a, b, shared, first, branch, postGain, nextGain, resid, normed, tickets, epsilon, outputs);
    }

    /// <summary>float32 weights.</summary>
    public static void Float(
        ArrayView<Float4> x,
        ArrayView<Float4> weight,
        ArrayView<float> branch,
        ArrayView<float> postGain,
        ArrayView<float> nextGain,
        ArrayView<float> resid,
        ArrayView<float> normed,
        ArrayView<int> tickets,
        float epsilon,
        int columns,
        int outputs)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Gemv.SharedSums);
        int first = Grid.IdxX * Gemv.TileColumns;
        RowSums a = default, b = default;
        Gemv.FloatDots<Rows1>(x, weight, (long)first * columns, ((long)first + 1) * columns, Group.IdxX,
            Gemv.GroupSize, 1, columns, 0, ref a, ref b);
        PublishThenNorm(a, b, shared, first, branch, postGain, nextGain, resid, normed, tickets, epsilon, outputs);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PublishThenNorm(
        RowSums a,
        RowSums b,
        ArrayView<float> shared,
        int first,
        ArrayView<float> branch,
        ArrayView<float> postGain,
        ArrayView<float> nextGain,
        ArrayView<float> resid,
        ArrayView<float> normed,
        ArrayView<int> tickets,
        float epsilon,
        int outputs)
    {
        ArrayView<int> ticket = SharedMemory.Allocate1D<int>(1);
        Gemv.ShareSums<Rows1>(a, b, shared);
        if (Group.IdxX == 0)
        {
            Ptx.Publish(ref branch[first], Gemv.WarpsSum<Rows1>(shared, 0));
            Ptx.Publish(ref branch[first + 1], Gemv.WarpsSum<Rows1>(shared, 1));
            ticket[0] = Ptx.Ticket(ref tickets[0], Grid.DimX - 1);
        }

        Group.Barrier();
        if (ticket[0] == Grid.DimX - 1)
            RmsNorm.AddPublishedThenNorm(branch, postGain, nextGain, resid, normed, epsilon, outputs, shared);
    }
}
