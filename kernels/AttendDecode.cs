using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>A number of query heads that share one pass over the keys, known when a kernel is compiled.</summary>
public interface IHeadCount
{
    /// <summary>1 or 2.</summary>
    static abstract int Count { get; }
}

/// <summary>One query head.</summary>
public struct Heads1 : IHeadCount
{
    /// <inheritdoc/>
    public static int Count => 1;
}

/// <summary>Two query heads.</summary>
public struct Heads2 : IHeadCount
{
    /// <inheritdoc/>
    public static int Count => 2;
}

/// <summary>Whether the launch that makes the parts merges them too.</summary>
public interface IMerge
{
    /// <summary>True: groups hand their parts to another group of the same launch.</summary>
    static abstract bool WithinLaunch { get; }
}

/// <summary>Another launch merges.</summary>
public struct MergedLater : IMerge
{
    /// <inheritdoc/>
    public static bool WithinLaunch => false;
}

/// <summary>The last group merges.</summary>
public struct MergedHere : IMerge
{
    /// <inheritdoc/>
    public static bool WithinLaunch => true;
}

/// <summary>A softmax under way over some keys, of which a lane holds up to eight of the head's values.</summary>
public struct Running
{
    /// <summary>The largest score; −∞ before the first key.</summary>
    public float Max;

    /// <summary>Σ e^(s − max).</summary>
    public float Sum;

    /// <summary>Σ e^(s − max)·v, values 0–3 of the lane.</summary>
    public Float4 Low;

    /// <summary>Σ e^(s − max)·v, values 4–7 of the lane.</summary>
    public Float4 High;
}

/// <summary>A lane's part of a key and of its value.</summary>
/// <typeparam name="TQuad">Four values as the cache keeps them.</typeparam>
internal struct KeyQuads<TQuad>
    where TQuad : unmanaged, IKvQuad<TQuad>
{
#pragma warning disable CS1591 // Values 0–3 and 4–7 of the lane.
    public TQuad K0, K1, V0, V1;
#pragma warning restore CS1591
}

/// <summary>A thread's values of four parts.</summary>
internal struct Quads
{
#pragma warning disable CS1591 // Part by part.
    public Float4 Q0, Q1, Q2, Q3;
#pragma warning restore CS1591
}

/// <summary>Where a row of a launch belongs.</summary>
internal struct PartPlace
{
    /// <summary>The row of the matrices.</summary>
    public int Row;

    /// <summary>The query's position.</summary>
    public int Position;

    /// <summary>Slots of the ring.</summary>
    public int Capacity;

    /// <summary>Groups over which the keys are split.</summary>
    public int Splits;

    /// <summary>Where the ring's keys begin, in values from the view's beginning.</summary>
    public long Keys;

    /// <summary>Where its values begin.</summary>
    public long Values;
}

/// <summary>
/// z = softmax(cap(scale·q·k))·v for few query rows: the keys of a query are split over <c>splits</c> groups, and a second kernel merges
/// the parts in order.
/// Query position p = position + t sees the keys j with p − window &lt; j ≤ p; key j lies in slot j mod capacity of the ring.
/// </summary>
/// <remarks>
/// The ladder: <see cref="Part{THeads, TKv}"/> reads a key one value a lane and load, for any even head size up to 256; <see
/// cref="WidePart{THeads, TKv}"/> reads 16 bytes
/// a lane and load, for head sizes that are multiples of 4, aligned. With two heads, both query heads of a pair share the pass over their
/// keys.
/// A warp takes every fourth key of its split, in the wide forms two at a time, and loads the next two while it scores them: 4 KiB of float32 a warp on their way,
/// eight loads of 16 bytes a lane before the first use. The four warps of a group are merged in order, then the splits. Per query head and key: 4·d flops and about
/// 60 for score, cap and exp; bytes read: 8·d a key, divided by the heads that share the pass.
/// The position comes from device memory and the grid does not depend on it, so that a captured graph replays: of n visible keys a split
/// takes max(keysPerSplit, ⌈n/splits⌉), and the groups of
/// splits without keys end at once. At most 64 splits: more would only make the merge longer. <see cref="Merge"/> reads the largest and the sum of every part once, a thread a part, then
/// its values of sixteen parts at a time.
/// A cache of bfloat16 is read as it is and widened in registers, 2 and 8 bytes a lane and load: half the bytes, and the bits that the rounded
/// keys and values would give as float32.
/// <see cref="WidePartThenMerge{THeads, TQuad}"/> does both in one launch, for few rows of one sequence: each group publishes its parts and takes a ticket (an integer
/// <c>atom</c>, whose order does not show), and the last one merges, each half of its threads one of two heads: 1 KiB of parts a split and head that stay in the L2 cache, and no second launch. Its largest loop, whose loads <c>resources.json</c> counts, is the
/// merge's; the loop over the keys is <see cref="WidePart{THeads, TQuad}"/>'s.
/// In the merge, the largest and the sum of a part lie a part apart from thread to thread: a sector for each.
/// The rows forms take rows of several sequences: position, cache and number of splits come from <see cref="RowPlaces"/>, 48 bytes a row
/// that each warp reads; a row gets the bits that it gets alone.
/// </remarks>
public static class AttendDecode
{
    /// <summary>Threads of a group: four warps.</summary>
    public const int GroupSize = 128;

    /// <summary>The largest head size.</summary>
    public const int MaxHeadDim = 256;

    /// <summary>The most splits: a thread of the merge weighs one, and half a group merges a head.</summary>
    public const int MaxSplits = GroupSize / 2;

    private const int Warps = GroupSize / KernelMath.WarpSize;
    private const int PartSize = MaxHeadDim + 2;

    /// <summary>
    /// One split's part for each row and query head: max, sum and d values in <c>parts</c> [rows, heads, splits, d + 2]. Grid (splits,
    /// heads / THeads, rows).
    /// </summary>
    public static void Part<THeads, TKv>(
        ArrayView<F32> q,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        ArrayView<int> position,
        ArrayView<float> parts,
        int headCount,
        int kvHeadCount,
        int headDim,
        int capacity,
        int window,
        int keysPerSplit,
        float scale,
        float cap,
        int qStride)
        where THeads : struct, IHeadCount
        where TKv : unmanaged, IKvValue<TKv>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps * PartSize);
        var place = new PartPlace
        {
            Row = Grid.IdxZ,
            Position = Ptx.Once(position[0] + Grid.IdxZ),
            Capacity = capacity,
            Splits = Grid.DimX
        };
        PartOf<THeads, TKv>(q, keys, values, place, shared, parts, headCount, kvHeadCount, headDim, window, keysPerSplit, scale, cap,
            qStride);
    }

    /// <summary>As <see cref="Part{THeads, TKv}"/>, of rows of several sequences. Grid (most splits of a row, heads / THeads, rows).</summary>
    public static void RowsPart<THeads, TKv>(
        ArrayView<F32> q,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        ArrayView<long> places,
        ArrayView<float> parts,
        int headCount,
        int kvHeadCount,
        int headDim,
        int window,
        int keysPerSplit,
        float scale,
        float cap,
        int qStride)
        where THeads : struct, IHeadCount
        where TKv : unmanaged, IKvValue<TKv>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps * PartSize);
        PartPlace place = PlaceOf(places);
        if (Grid.IdxX >= place.Splits)
            return;
        PartOf<THeads, TKv>(q, keys, values, place, shared, parts, headCount, kvHeadCount, headDim, window, keysPerSplit, scale, cap,
            qStride);
    }

    /// <summary>As <see cref="Part{THeads, TKv}"/>, with 16-byte loads.</summary>
    public static void WidePart<THeads, TQuad>(
        ArrayView<Float4> q,
        ArrayView<TQuad> keys,
        ArrayView<TQuad> values,
        ArrayView<int> position,
        ArrayView<float> parts,
        int headCount,
        int kvHeadCount,
        int headDim,
        int capacity,
        int window,
        int keysPerSplit,
        float scale,
        float cap,
        int qStride)
        where THeads : struct, IHeadCount
        where TQuad : unmanaged, IKvQuad<TQuad>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps * PartSize);
        var place = new PartPlace
        {
            Row = Grid.IdxZ,
            Position = Ptx.Once(position[0] + Grid.IdxZ),
            Capacity = capacity,
            Splits = Grid.DimX
        };
        WidePartOf<THeads, TQuad, MergedLater>(q, keys, values, place, shared, parts, headCount, kvHeadCount, headDim, window, keysPerSplit,
            scale, cap, qStride);
    }

    /// <summary>As <see cref="RowsPart{THeads, TKv}"/>, with 16-byte loads: the starts of all rings are multiples of 4 values.</summary>
    public static void RowsWidePart<THeads, TQuad>(
        ArrayView<Float4> q,
        ArrayView<TQuad> keys,
        ArrayView<TQuad> values,
        ArrayView<long> places,
        ArrayView<float> parts,
        int headCount,
        int kvHeadCount,
        int headDim,
        int window,
        int keysPerSplit,
        float scale,
        float cap,
        int qStride)
        where THeads : struct, IHeadCount
        where TQuad : unmanaged, IKvQuad<TQuad>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps * PartSize);
        PartPlace place = PlaceOf(places);
        if (Grid.IdxX >= place.Splits)
            return;
        WidePartOf<THeads, TQuad, MergedLater>(q, keys, values, place, shared, parts, headCount, kvHeadCount, headDim, window, keysPerSplit,
            scale, cap, qStride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PartOf<THeads, TKv>(
        ArrayView<F32> q,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        PartPlace place,
        ArrayView<float> shared,
        ArrayView<float> parts,
        int headCount,
        int kvHeadCount,
        int headDim,
        int window,
        int keysPerSplit,
        float scale,
        float cap,
        int qStride)
        where THeads : struct, IHeadCount
        where TKv : unmanaged, IKvValue<TKv>
    {
        int head = Grid.IdxY * THeads.Count;
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        long query = Ptx.Once(((long)place.Row * qStride) + (head * headDim));
        Running first = Empty(), second = Empty();
        Float4 low = LoadScalars(q, query, lane, headDim), high = LoadScalars(q, query, lane + 128, headDim);
        Float4 low2 = default, high2 = default;
        if (THeads.Count > 1)
        {
            low2 = LoadScalars(q, query + headDim, lane, headDim);
            high2 = LoadScalars(q, query + headDim, lane + 128, headDim);
        }

        int p = place.Position, capacity = place.Capacity;
        int begin = Ptx.Once(SplitStart(p, window, place.Splits, keysPerSplit)),
            end = Ptx.Once(SplitEnd(p, window, place.Splits, keysPerSplit));
        // Nobody reads the part of a split without keys.
        if (begin >= end)
            return;
        long ring = Ptx.Once((long)(head / (headCount / kvHeadCount)) * capacity);
        int j = Ptx.Once(begin + (Group.IdxX / KernelMath.WarpSize));
        int slot = Ptx.Once(j % capacity), step = Ptx.Once(Warps % capacity);
        for (; j < end; j += Warps)
        {
            long at = Ptx.Once((ring + slot) * headDim);
            slot = Follow(slot, step, capacity);
            long key = place.Keys + at, value = place.Values + at;
            Float4 k0 = LoadScalars(keys, key, lane, headDim), k1 = LoadScalars(keys, key, lane + 128, headDim);
            Float4 v0 = LoadScalars(values, value, lane, headDim), v1 = LoadScalars(values, value, lane + 128, headDim);
            Add(ref first, Score(low, high, k0, k1, scale, cap), v0, v1);
            if (THeads.Count > 1)
                Add(ref second, Score(low2, high2, k0, k1, scale, cap), v0, v1);
        }

        long part = ((((long)Grid.IdxZ * headCount) + head) * Grid.DimX) + Grid.IdxX;
        Write<MergedLater>(first, shared, parts, part, headDim, spread: KernelMath.WarpSize, step: 1);
        if (THeads.Count > 1)
            Write<MergedLater>(second, shared, parts, part + Grid.DimX, headDim, spread: KernelMath.WarpSize, step: 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WidePartOf<THeads, TQuad, TMerge>(
        ArrayView<Float4> q,
        ArrayView<TQuad> keys,
        ArrayView<TQuad> values,
        PartPlace place,
        ArrayView<float> shared,
        ArrayView<float> parts,
        int headCount,
        int kvHeadCount,
        int headDim,
        int window,
        int keysPerSplit,
        float scale,
        float cap,
        int qStride)
        where THeads : struct, IHeadCount
        where TQuad : unmanaged, IKvQuad<TQuad>
        where TMerge : struct, IMerge
    {
        int head = Grid.IdxY * THeads.Count;
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        int quads = Ptx.Once(headDim / 4);
        long query = Ptx.Once(((long)place.Row * (qStride / 4)) + (head * quads));
        Running first = Empty(), second = Empty();
        Float4 low = LoadQuad(q, query, lane, quads), high = LoadQuad(q, query, lane + 32, quads);
        Float4 low2 = default, high2 = default;
        if (THeads.Count > 1)
        {
            low2 = LoadQuad(q, query + quads, lane, quads);
            high2 = LoadQuad(q, query + quads, lane + 32, quads);
        }

        int p = place.Position, capacity = place.Capacity;
        int begin = Ptx.Once(SplitStart(p, window, place.Splits, keysPerSplit)),
            end = Ptx.Once(SplitEnd(p, window, place.Splits, keysPerSplit));
        // Nobody reads the part of a split without keys.
        if (begin >= end)
            return;
        long ring = Ptx.Once((long)(head / (headCount / kvHeadCount)) * capacity);
        long keyStart = Ptx.Once(place.Keys / 4), valueStart = Ptx.Once(place.Values / 4);
        int j = Ptx.Once(begin + (Group.IdxX / KernelMath.WarpSize));
        int slot = Ptx.Once(j % capacity), step = Ptx.Once(Warps % capacity);
        int other = Ptx.Once(Follow(slot, step, capacity)), stepOfTwo = Ptx.Once(2 * Warps % capacity);
        KeyQuads<TQuad> next = default, nextButOne = default;
        if (j < end)
            next = LoadKey(keys, values, keyStart, valueStart, (ring + slot) * quads, lane, quads);
        if (j + Warps < end)
            nextButOne = LoadKey(keys, values, keyStart, valueStart, (ring + other) * quads, lane, quads);
        for (; j < end; j += 2 * Warps)
        {
            KeyQuads<TQuad> key = next, keyButOne = nextButOne;
            slot = Follow(slot, stepOfTwo, capacity);
            other = Follow(other, stepOfTwo, capacity);
            if (j + (2 * Warps) < end)
                next = LoadKey(keys, values, keyStart, valueStart, (ring + slot) * quads, lane, quads);
            if (j + (3 * Warps) < end)
                nextButOne = LoadKey(keys, values, keyStart, valueStart, (ring + other) * quads, lane, quads);
            AddKey<THeads, TQuad>(key, low, high, low2, high2, scale, cap, ref first, ref second);
            if (j + Warps < end)
                AddKey<THeads, TQuad>(keyButOne, low, high, low2, high2, scale, cap, ref first, ref second);
        }

        long part = ((((long)Grid.IdxZ * headCount) + head) * Grid.DimX) + Grid.IdxX;
        Write<TMerge>(first, shared, parts, part, headDim, spread: 1, step: 4);
        if (THeads.Count > 1)
            Write<TMerge>(second, shared, parts, part + Grid.DimX, headDim, spread: 1, step: 4);
    }

    /// <summary>
    /// <see cref="WidePart{THeads, TQuad}"/> and <see cref="Merge"/> in one launch: of the splits with keys of a row and its heads, the group that is done last merges.
    /// <paramref name="tickets"/> [rows · heads / THeads] are 0, and are left so. Grid as there.
    /// </summary>
    public static void WidePartThenMerge<THeads, TQuad>(
        ArrayView<Float4> q,
        ArrayView<TQuad> keys,
        ArrayView<TQuad> values,
        ArrayView<int> position,
        ArrayView<float> parts,
        ArrayView<int> tickets,
        ArrayView<float> destination,
        int headCount,
        int kvHeadCount,
        int headDim,
        int capacity,
        int window,
        int keysPerSplit,
        float scale,
        float cap,
        int qStride,
        int stride)
        where THeads : struct, IHeadCount
        where TQuad : unmanaged, IKvQuad<TQuad>
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(Warps * PartSize);
        ArrayView<int> ticket = SharedMemory.Allocate1D<int>(1);
        var place = new PartPlace
        {
            Row = Grid.IdxZ,
            Position = Ptx.Once(position[0] + Grid.IdxZ),
            Capacity = capacity,
            Splits = Grid.DimX
        };
        int used = Ptx.Once(UsedSplits(place.Position, window, place.Splits, keysPerSplit));
        if (Grid.IdxX >= used)
            return;
        WidePartOf<THeads, TQuad, MergedHere>(q, keys, values, place, shared, parts, headCount, kvHeadCount, headDim, window, keysPerSplit,
            scale, cap, qStride);
        if (Group.IdxX == 0)
            ticket[0] = Ptx.Ticket(ref tickets[((long)Grid.IdxZ * Grid.DimY) + Grid.IdxY], used - 1);
        Group.Barrier();
        if (ticket[0] != used - 1)
            return;
        int head = Grid.IdxY * THeads.Count;
        long size = Ptx.Once((long)Grid.DimX * (headDim + 2)), start = Ptx.Once((((long)Grid.IdxZ * headCount) + head) * size);
        MergeOf<MergedHere, THeads>(parts, start, size, shared, destination, Grid.IdxZ, head, used, headDim, stride);
    }

    /// <summary>
    /// z from the parts of all splits that have keys, in order. Grid (heads, rows), group 128. Reads d + 2 values a split, row and head and
    /// writes d.
    /// </summary>
    public static void Merge(ArrayView<float> parts, ArrayView<int> position, ArrayView<float> destination, int splits, int window,
        int keysPerSplit, int headDim, int stride)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(GroupSize + (2 * Warps));
        long start = Ptx.Once((((long)Grid.IdxY * Grid.DimX) + Grid.IdxX) * splits * (headDim + 2));
        MergeOf<MergedLater, Heads1>(parts, start, 0, shared, destination, Grid.IdxY, Grid.IdxX,
            UsedSplits(position[0] + Grid.IdxY, window, splits, keysPerSplit), headDim, stride);
    }

    /// <summary>
    /// As <see cref="Merge"/>, of rows of several sequences, each over its own splits; <paramref name="mostSplits"/> is the grid's of <see
    /// cref="RowsPart{THeads, TKv}"/>. Grid (heads, rows).
    /// </summary>
    public static void RowsMerge(ArrayView<float> parts, ArrayView<long> places, ArrayView<float> destination, int mostSplits, int window,
        int keysPerSplit, int headDim, int stride)
    {
        ArrayView<float> shared = SharedMemory.Allocate1D<float>(GroupSize + (2 * Warps));
        int n = Grid.IdxY;
        long start = Ptx.Once((((long)n * Grid.DimX) + Grid.IdxX) * mostSplits * (headDim + 2));
        int used = UsedSplits(RowPlaces.Position(places, n), window, RowPlaces.Splits(places, n), keysPerSplit);
        MergeOf<MergedLater, Heads1>(parts, start, 0, shared, destination, RowPlaces.Row(places, n), Grid.IdxX, used, headDim, stride);
    }

    // Threads of a head: all, or each half one of two heads, whose parts begin 'apart' behind those of the first.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MergeOf<TMerge, THeads>(ArrayView<float> parts, long start, long apart, ArrayView<float> shared,
        ArrayView<float> destination, int row, int head, int splits, int headDim, int stride)
        where TMerge : struct, IMerge
        where THeads : struct, IHeadCount
    {
        int threads = GroupSize / THeads.Count, warps = Warps / THeads.Count;
        int lane = Group.IdxX & (KernelMath.WarpSize - 1), warp = Group.IdxX / KernelMath.WarpSize;
        int mine = Ptx.Once(Group.IdxX / threads), thread = Ptx.Once(Group.IdxX % threads);
        int size = Ptx.Once(headDim + 2), maxes = GroupSize + (mine * warps), sums = maxes + Warps;
        long from = Ptx.Once(start + (mine * apart));
        float max = float.NegativeInfinity, sum = 0f;
        if (thread < splits)
        {
            long at = from + ((long)thread * size);
            max = Get<TMerge>(parts, at);
            sum = Get<TMerge>(parts, at + 1);
        }

        float most = KernelMath.WarpMax(max);
        if (lane == 0)
            shared[GroupSize + warp] = most;
        Group.Barrier();
        most = MathF.Max(shared[maxes], shared[maxes + 1]);
        if (THeads.Count == 1)
            most = MathF.Max(most, MathF.Max(shared[maxes + 2], shared[maxes + 3]));
        float weight = Ptx.Once(Weight(max, most));
        shared[Group.IdxX] = weight;
        sum = KernelMath.WarpSum(weight * sum);
        if (lane == 0)
            shared[GroupSize + Warps + warp] = sum;
        Group.Barrier();
        sum = shared[sums] + shared[sums + 1];
        if (THeads.Count == 1)
            sum = sum + shared[sums + 2] + shared[sums + 3];
        int left = Ptx.Once(headDim - thread);
        Float4 mixed = Mix<TMerge, THeads>(parts, from + 2 + thread, left, shared, mine * threads, splits, size);
        long target = ((long)row * stride) + ((long)(head + mine) * headDim) + thread;
        if (left > 0)
            destination[target] = mixed.X / sum;
        if (left > threads)
            destination[target + threads] = mixed.Y / sum;
        if (THeads.Count > 1)
        {
            if (left > 2 * threads)
                destination[target + (2 * threads)] = mixed.Z / sum;
            if (left > 3 * threads)
                destination[target + (3 * threads)] = mixed.W / sum;
        }
    }

    /// <summary>
    /// Σ of a thread's values of every part times the part's weight, in order: the loads of sixteen parts do not wait for each other.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Mix<TMerge, THeads>(ArrayView<float> parts, long at, int left, ArrayView<float> weights, int firstWeight,
        int splits, int size)
        where TMerge : struct, IMerge
        where THeads : struct, IHeadCount
    {
        Float4 sums = TensorFragments.Zero();
        for (int s = 0; s < splits; s += 16)
        {
            Quads a = FourParts<TMerge, THeads>(parts, at, left, splits - s, size);
            Quads b = FourParts<TMerge, THeads>(parts, at + (4 * size), left, splits - s - 4, size);
            Quads c = FourParts<TMerge, THeads>(parts, at + (8 * size), left, splits - s - 8, size);
            Quads d = FourParts<TMerge, THeads>(parts, at + (12 * size), left, splits - s - 12, size);
            sums = AddFour<THeads>(sums, a, weights, firstWeight + s, splits - s);
            sums = AddFour<THeads>(sums, b, weights, firstWeight + s + 4, splits - s - 4);
            sums = AddFour<THeads>(sums, c, weights, firstWeight + s + 8, splits - s - 8);
            sums = AddFour<THeads>(sums, d, weights, firstWeight + s + 12, splits - s - 12);
            at += 16 * size;
        }

        return sums;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Quads FourParts<TMerge, THeads>(ArrayView<float> parts, long at, int left, int splits, int size)
        where TMerge : struct, IMerge
        where THeads : struct, IHeadCount => new()
        {
            Q0 = PartValues<TMerge, THeads>(parts, at, splits > 0 ? left : 0),
            Q1 = PartValues<TMerge, THeads>(parts, at + size, splits > 1 ? left : 0),
            Q2 = PartValues<TMerge, THeads>(parts, at + (2 * size), splits > 2 ? left : 0),
            Q3 = PartValues<TMerge, THeads>(parts, at + (3 * size), splits > 3 ? left : 0),
        };

    // A thread's values of one part: as many as there are within 'left'.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 PartValues<TMerge, THeads>(ArrayView<float> parts, long at, int left)
        where TMerge : struct, IMerge
        where THeads : struct, IHeadCount
    {
        int threads = GroupSize / THeads.Count;
        Float4 v = default;
        if (left > 0)
            v.X = Get<TMerge>(parts, at);
        if (left > threads)
            v.Y = Get<TMerge>(parts, at + threads);
        if (THeads.Count > 1)
        {
            if (left > 2 * threads)
                v.Z = Get<TMerge>(parts, at + (2 * threads));
            if (left > 3 * threads)
                v.W = Get<TMerge>(parts, at + (3 * threads));
        }

        return v;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 AddFour<THeads>(Float4 sums, Quads parts, ArrayView<float> weights, int at, int splits)
        where THeads : struct, IHeadCount
    {
        if (splits > 0)
            sums = AddPart<THeads>(sums, weights[at], parts.Q0);
        if (splits > 1)
            sums = AddPart<THeads>(sums, weights[at + 1], parts.Q1);
        if (splits > 2)
            sums = AddPart<THeads>(sums, weights[at + 2], parts.Q2);
        if (splits > 3)
            sums = AddPart<THeads>(sums, weights[at + 3], parts.Q3);
        return sums;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 AddPart<THeads>(Float4 sums, float weight, Float4 v)
        where THeads : struct, IHeadCount
    {
        sums.X = Ptx.MultiplyAdd(weight, v.X, sums.X);
        sums.Y = Ptx.MultiplyAdd(weight, v.Y, sums.Y);
        if (THeads.Count > 1)
        {
            sums.Z = Ptx.MultiplyAdd(weight, v.Z, sums.Z);
            sums.W = Ptx.MultiplyAdd(weight, v.W, sums.W);
        }

        return sums;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static PartPlace PlaceOf(ArrayView<long> places) => new()
    {
        Row = RowPlaces.Row(places, Grid.IdxZ),
        Position = Ptx.Once(RowPlaces.Position(places, Grid.IdxZ)),
        Capacity = Ptx.Once(RowPlaces.Capacity(places, Grid.IdxZ)),
        Splits = Ptx.Once(RowPlaces.Splits(places, Grid.IdxZ)),
        Keys = Ptx.Once(RowPlaces.Keys(places, Grid.IdxZ)),
        Values = Ptx.Once(RowPlaces.Values(places, Grid.IdxZ)),
    };

    /// <summary>e^(max of a part − max of all), 0 for a part without keys.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float Weight(float max, float all) => max == float.NegativeInfinity ? 0f : KernelMath.Exp(max - all);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Running Empty() => new() { Max = float.NegativeInfinity };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int FirstKey(int p, int window) => window > 0 && p >= window ? p - window + 1 : 0;

    /// <summary>Keys of a split.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int SplitLength(int count, int splits, int keysPerSplit)
    {
        int even = (count + splits - 1) / splits;
        return even > keysPerSplit ? even : keysPerSplit;
    }

    /// <summary>Splits that have keys.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int UsedSplits(int p, int window, int splits, int keysPerSplit)
    {
        int count = p + 1 - FirstKey(p, window), length = SplitLength(count, splits, keysPerSplit);
        return (count + length - 1) / length;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int SplitStart(int p, int window, int splits, int keysPerSplit)
    {
        int first = FirstKey(p, window);
        return first + (SplitLength(p + 1 - first, splits, keysPerSplit) * Grid.IdxX);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int SplitEnd(int p, int window, int splits, int keysPerSplit)
    {
        int end = SplitStart(p, window, splits, keysPerSplit) + SplitLength(p + 1 - FirstKey(p, window), splits, keysPerSplit);
        return end < p + 1 ? end : p + 1;
    }

    /// <summary>A key and its value, from the ring's place <paramref name="at"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static KeyQuads<TQuad> LoadKey<TQuad>(ArrayView<TQuad> keys, ArrayView<TQuad> values, long keyStart, long valueStart, long at,
        int lane, int quads)
        where TQuad : unmanaged, IKvQuad<TQuad>
    {
        long key = Ptx.Once(keyStart + at), value = Ptx.Once(valueStart + at);
        return new KeyQuads<TQuad>
        {
            K0 = LoadQuad(keys, key, lane, quads),
            K1 = LoadQuad(keys, key, lane + 32, quads),
            V0 = LoadQuad(values, value, lane, quads),
            V1 = LoadQuad(values, value, lane + 32, quads),
        };
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Follow(int slot, int step, int capacity) => slot + step < capacity ? slot + step : slot + step - capacity;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddKey<THeads, TQuad>(KeyQuads<TQuad> key, Float4 low, Float4 high, Float4 low2, Float4 high2, float scale,
        float cap, ref Running first, ref Running second)
        where THeads : struct, IHeadCount
        where TQuad : unmanaged, IKvQuad<TQuad>
    {
        Float4 k0 = TQuad.Widen(key.K0), k1 = TQuad.Widen(key.K1), v0 = TQuad.Widen(key.V0), v1 = TQuad.Widen(key.V1);
        Add(ref first, Score(low, high, k0, k1, scale, cap), v0, v1);
        if (THeads.Count > 1)
            Add(ref second, Score(low2, high2, k0, k1, scale, cap), v0, v1);
    }

    // Lane l holds values l, l + 32, l + 64 and l + 96 of the half that starts at 'from' − l.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 LoadScalars<TKv>(ArrayView<TKv> view, long at, int from, int headDim)
        where TKv : unmanaged, IKvValue<TKv>
    {
        Float4 result = default;
        if (from < headDim)
            result.X = TKv.Widen(view[at + from]);
        if (from + 32 < headDim)
            result.Y = TKv.Widen(view[at + from + 32]);
        if (from + 64 < headDim)
            result.Z = TKv.Widen(view[at + from + 64]);
        if (from + 96 < headDim)
            result.W = TKv.Widen(view[at + from + 96]);
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TQuad LoadQuad<TQuad>(ArrayView<TQuad> view, long at, int quad, int quads)
        where TQuad : unmanaged, IKvQuad<TQuad>
    {
        TQuad result = default;
        if (quad < quads)
            result = view[at + quad];
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Score(Float4 q0, Float4 q1, Float4 k0, Float4 k1, float scale, float cap)
    {
        float sum = q0.X * k0.X;
        sum = Ptx.MultiplyAdd(q0.Y, k0.Y, sum);
        sum = Ptx.MultiplyAdd(q0.Z, k0.Z, sum);
        sum = Ptx.MultiplyAdd(q0.W, k0.W, sum);
        sum = Ptx.MultiplyAdd(q1.X, k1.X, sum);
        sum = Ptx.MultiplyAdd(q1.Y, k1.Y, sum);
        sum = Ptx.MultiplyAdd(q1.Z, k1.Z, sum);
        sum = Ptx.MultiplyAdd(q1.W, k1.W, sum);
        float score = KernelMath.WarpSum(sum) * scale;
        return cap > 0f ? KernelMath.Softcap(score, cap) : score;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add(ref Running running, float score, Float4 v0, Float4 v1)
    {
        float max = Ptx.Once(MathF.Max(running.Max, score));
        float old = Ptx.Once(Weight(running.Max, max));
        float weight = Ptx.Once(KernelMath.Exp(score - max));
        running.Max = max;
        running.Sum = Ptx.MultiplyAdd(running.Sum, old, weight);
        running.Low = Blend(running.Low, old, v0, weight);
        running.High = Blend(running.High, old, v1, weight);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Blend(Float4 sum, float old, Float4 v, float weight) => new()
    {
        X = Ptx.MultiplyAdd(v.X, weight, sum.X * old),
        Y = Ptx.MultiplyAdd(v.Y, weight, sum.Y * old),
        Z = Ptx.MultiplyAdd(v.Z, weight, sum.Z * old),
        W = Ptx.MultiplyAdd(v.W, weight, sum.W * old),
    };

    // Lane l's value c is value (l·step + c·spread) mod 128 of a half of the head.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Write<TMerge>(Running running, ArrayView<float> shared, ArrayView<float> parts, long part, int headDim,
        int spread, int step)
        where TMerge : struct, IMerge
    {
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        int mine = Ptx.Once(Group.IdxX / KernelMath.WarpSize * PartSize);
        if (lane == 0)
        {
            shared[mine] = running.Max;
            shared[mine + 1] = running.Sum;
        }

        WriteQuad(shared, running.Low, mine + 2 + (lane * step), spread);
        WriteQuad(shared, running.High, mine + 2 + 128 + (lane * step), spread);
        Group.Barrier();
        float max = MathF.Max(MathF.Max(shared[0], shared[PartSize]), MathF.Max(shared[2 * PartSize], shared[3 * PartSize]));
        float w0 = Ptx.Once(Weight(shared[0], max)), w1 = Ptx.Once(Weight(shared[PartSize], max));
        float w2 = Ptx.Once(Weight(shared[2 * PartSize], max)), w3 = Ptx.Once(Weight(shared[3 * PartSize], max));
        long target = Ptx.Once(part * (headDim + 2));
        if (Group.IdxX == 0)
            Put<TMerge>(parts, target, max);
        for (int i = Group.IdxX; i < headDim + 1; i += GroupSize)
        {
            float sum = shared[i + 1] * w0;
            sum = Ptx.MultiplyAdd(shared[PartSize + i + 1], w1, sum);
            sum = Ptx.MultiplyAdd(shared[(2 * PartSize) + i + 1], w2, sum);
            Put<TMerge>(parts, target + 1 + i, Ptx.MultiplyAdd(shared[(3 * PartSize) + i + 1], w3, sum));
        }

        Group.Barrier();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put<TMerge>(ArrayView<float> parts, long at, float value)
        where TMerge : struct, IMerge
    {
        if (TMerge.WithinLaunch)
            Ptx.Publish(ref parts[at], value);
        else
            parts[at] = value;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Get<TMerge>(ArrayView<float> parts, long at)
        where TMerge : struct, IMerge => TMerge.WithinLaunch ? Ptx.Published(ref parts[at]) : parts[at];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteQuad(ArrayView<float> shared, Float4 quad, int at, int spread)
    {
        shared[at] = quad.X;
        shared[at + spread] = quad.Y;
        shared[at + (2 * spread)] = quad.Z;
        shared[at + (3 * spread)] = quad.W;
    }
}
