using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>A bound on the head size, known when a kernel is compiled.</summary>
public interface IHeadBound
{
    /// <summary>64, 128 or 256.</summary>
    static abstract int Max { get; }
}

/// <summary>Up to 64 values a head.</summary>
public struct Head64 : IHeadBound
{
    /// <inheritdoc/>
    public static int Max => 64;
}

/// <summary>Up to 128 values a head.</summary>
public struct Head128 : IHeadBound
{
    /// <inheritdoc/>
    public static int Max => 128;
}

/// <summary>Up to 256 values a head.</summary>
public struct Head256 : IHeadBound
{
    /// <inheritdoc/>
    public static int Max => 256;
}

/// <summary>Results of one output column for eight query rows.</summary>
public struct Column8
{
    /// <summary>Rows 0–3.</summary>
    public Float4 A;

    /// <summary>Rows 4–7.</summary>
    public Float4 B;
}

/// <summary>
/// z = softmax(cap(scale·q·k))·v for many query rows: 32 queries of one head a group, over tiles of 32 keys, with the softmax kept running.
/// Tiles begin at positions that are multiples of 32: a row's bits depend on its position and its keys, not on the rows beside it.
/// Grid (⌈rows/32⌉, heads), group 256, static shared 45.9 KiB. Query position p = position + t sees keys j with p − window &lt; j ≤ p.
/// </summary>
/// <remarks>
/// 4·d flops a query, head and visible key. Of a bfloat16 cache half the bytes are read; the bits are those of the same values in float32.
/// Keys and values are read once for every 32 queries of a head, coalesced along the head.
/// Scores: a thread makes 2 × 2 of the 32 × 32, from slices of 64 values of q and k in shared memory, read 16 bytes at a time (rows of 68 and 260 values: no bank
/// conflicts). Mix: a thread owns one output column for 4·(head bound)/32 query rows, reads each value once from global memory and the weights as 16-byte
/// broadcasts. A value that is not a finite number reaches the rows that see its key and no others. The definition, with one key at a time, is <see cref="AttendDecode"/>.
/// </remarks>
public static class AttendPrefill
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    /// <summary>Query rows that a group covers.</summary>
    public const int TileRows = 32;

    private const int TileKeys = 32;
    private const int Slice = 64;
    private const int QueryPitch = 260;
    private const int KeyPitch = 68;
    private const int ScorePitch = 36;

    /// <summary>Attention for query rows at position …; the keys are stored already.</summary>
    public static void Tile<THead, TKv>(
        ArrayView<float> q,
        ArrayView<TKv> keys,
        ArrayView<TKv> values,
        ArrayView<int> position,
        ArrayView<float> destination,
        int rows,
        int kvHeadCount,
        int headDim,
        int capacity,
        int window,
        float scale,
        float cap,
        int qStride,
        int stride)
        where THead : struct, IHeadBound
        where TKv : unmanaged, IKvValue<TKv>
    {
        ArrayView<Float4> qs = SharedMemory.Allocate1D<Float4>(TileRows * QueryPitch / 4);
        ArrayView<Float4> ks = SharedMemory.Allocate1D<Float4>(TileKeys * KeyPitch / 4);
        ArrayView<Float4> ss = SharedMemory.Allocate1D<Float4>(TileRows * ScorePitch / 4);
        ArrayView<float> maxes = SharedMemory.Allocate1D<float>(TileRows);
        ArrayView<float> sums = SharedMemory.Allocate1D<float>(TileRows);
        ArrayView<float> factors = SharedMemory.Allocate1D<float>(TileRows);
        int start = Ptx.Once(position[0]);
        int row0 = Ptx.Once(Grid.IdxX * TileRows);
        int last = row0 + TileRows < rows ? row0 + TileRows : rows;
        long ring = Ptx.Once((long)(Grid.IdxY / (Grid.DimY / kvHeadCount)) * capacity);
        LoadQueries(q, qs.Cast<float>(), row0, rows, headDim, qStride);
        if (Group.IdxX < TileRows)
        {
            maxes[Group.IdxX] = float.NegativeInfinity;
            sums[Group.IdxX] = 0f;
        }

        Column8 c0 = default, c1 = default, c2 = default, c3 = default;
        int firstKey = window > 0 && start + row0 >= window ? start + row0 - window + 1 : 0;
        int first = Ptx.Once(firstKey % capacity), count = Ptx.Once(start + last - firstKey);
        // Tiles begin at multiples of 32, so that a row's sums are grouped by the keys' positions and not by the rows beside it. Keys
        // count from the first that a row of the block sees: those before it are not read.
        for (int key = -(firstKey % TileKeys); key < count; key += TileKeys)
        {
            Scores(keys, qs, ks, ss.Cast<float>(), ring, first, key, count, headDim, capacity, scale, cap);
            Softmax(ss.Cast<float>(), maxes, sums, factors, start + row0, firstKey + key, window);
            // Where not every row sees all keys of the tile.
            int query = Ptx.Once(start + row0 - firstKey), seen = window > 0 ? window : int.MaxValue;
            bool unseen = key + TileKeys - 1 > query || count - 1 - key >= seen;
            Mix<THead, TKv>(
                values, ss, factors, ring, first, key, count, headDim, capacity, unseen, query, seen, ref c0, ref c1, ref c2, ref c3);
        }

        int column = Group.IdxX % THead.Max;
        if (column >= headDim)
            return;
        int row = Group.IdxX / THead.Max * (THead.Max / 8);
        long target = ((long)Grid.IdxY * headDim) + column;
        WriteColumn(destination, c0, sums, row, row0, rows, stride, target);
        if (THead.Max > 64)
            WriteColumn(destination, c1, sums, row + 8, row0, rows, stride, target);
        if (THead.Max > 128)
        {
            WriteColumn(destination, c2, sums, row + 16, row0, rows, stride, target);
            WriteColumn(destination, c3, sums, row + 24, row0, rows, stride, target);
        }
    }

    // Query rows beyond the last, and values beyond the head (up to a whole slice), are zeros.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void LoadQueries(ArrayView<float> q, ArrayView<float> qs, int row0, int rows, int headDim, int qStride)
    {
        int padded = Ptx.Once((headDim + Slice - 1) / Slice * Slice);
        for (int t = Group.IdxX / KernelMath.WarpSize; t < TileRows; t += GroupSize / KernelMath.WarpSize)
        {
            long source = Ptx.Once(((long)(row0 + t) * qStride) + (Grid.IdxY * headDim));
            for (int i = Group.IdxX & (KernelMath.WarpSize - 1); i < padded; i += KernelMath.WarpSize)
            {
                float value = 0f;
                if (row0 + t < rows && i < headDim)
                    value = q[source + i];
                qs[(t * QueryPitch) + i] = value;
            }
        }
    }

    // Thread (a, b) = (g / 16, g mod 16) makes the scores of queries a and a + 16 with keys b and b + 16.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Scores<TKv>(
        ArrayView<TKv> keys,
        ArrayView<Float4> qs,
        ArrayView<Float4> ks,
        ArrayView<float> scores,
        long ring,
        int first,
        int key,
        int count,
        int headDim,
        int capacity,
        float scale,
        float cap)
        where TKv : unmanaged, IKvValue<TKv>
    {
        int a = Ptx.Once(Group.IdxX / 16), b = Ptx.Once(Group.IdxX % 16);
        float s00 = 0f, s01 = 0f, s10 = 0f, s11 = 0f;
        for (int from = 0; from < headDim; from += Slice)
        {
            LoadKeys(keys, ks.Cast<float>(), ring, first, key, count, from, headDim, capacity);
            Group.Barrier();
            int q0 = Ptx.Once(((a * QueryPitch) + from) / 4), k0 = Ptx.Once(b * KeyPitch / 4);
            for (int i = 0; i < Slice / 4; i++)
            {
                Float4 qa = qs[q0 + i], qb = qs[q0 + (16 * QueryPitch / 4) + i];
                Float4 ka = ks[k0 + i], kb = ks[k0 + (16 * KeyPitch / 4) + i];
                s00 = Dot(qa, ka, s00);
                s01 = Dot(qa, kb, s01);
                s10 = Dot(qb, ka, s10);
                s11 = Dot(qb, kb, s11);
            }

            Group.Barrier();
        }

        scores[(a * ScorePitch) + b] = Cap(s00 * scale, cap);
        scores[(a * ScorePitch) + b + 16] = Cap(s01 * scale, cap);
        scores[((a + 16) * ScorePitch) + b] = Cap(s10 * scale, cap);
        scores[((a + 16) * ScorePitch) + b + 16] = Cap(s11 * scale, cap);
        Group.Barrier();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void LoadKeys<TKv>(ArrayView<TKv> keys, ArrayView<float> ks, long ring, int first, int key, int count, int from,
        int headDim, int capacity)
        where TKv : unmanaged, IKvValue<TKv>
    {
        int i = Ptx.Once(Group.IdxX % Slice);
        for (int n = Group.IdxX / Slice; n < TileKeys; n += GroupSize / Slice)
        {
            float value = 0f;
            if (IsRead(key + n, count) && from + i < headDim)
                value = TKv.Widen(keys[((ring + Slot(first + key + n, capacity)) * headDim) + from + i]);
            ks[(n * KeyPitch) + i] = value;
        }
    }

    // Warp w keeps the softmax of queries w, w + 8, …; a lane is a key. Scores become weights e^(s − max).
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Softmax(ArrayView<float> scores, ArrayView<float> maxes, ArrayView<float> sums, ArrayView<float> factors,
        int p0, int key, int window)
    {
        int lane = Group.IdxX & (KernelMath.WarpSize - 1);
        int j = Ptx.Once(key + lane);
        for (int t = Group.IdxX / KernelMath.WarpSize; t < TileRows; t += GroupSize / KernelMath.WarpSize)
        {
            int p = p0 + t;
            bool visible = j <= p && (window <= 0 || j > p - window);
            float score = scores[(t * ScorePitch) + lane];
            score = visible ? score : float.NegativeInfinity;
            float old = maxes[t];
            float max = Ptx.Once(MathF.Max(old, KernelMath.WarpMax(score)));
            float weight = Ptx.Once(visible ? KernelMath.Exp(score - max) : 0f);
            float sum = KernelMath.WarpSum(weight);
            float factor = AttendDecode.Weight(old, max);
            scores[(t * ScorePitch) + lane] = weight;
            // All lanes have read the old maximum before lane 0 replaces it.
            Warp.Barrier();
            if (lane == 0)
            {
                maxes[t] = max;
                sums[t] = Ptx.MultiplyAdd(sums[t], factor, sum);
                factors[t] = factor;
            }
        }

        Group.Barrier();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Mix<THead, TKv>(
        ArrayView<TKv> values,
        ArrayView<Float4> weights,
        ArrayView<float> factors,
        long ring,
        int first,
        int key,
        int count,
        int headDim,
        int capacity,
        bool unseen,
        int query,
        int seen,
        ref Column8 c0,
        ref Column8 c1,
        ref Column8 c2,
        ref Column8 c3)
        where THead : struct, IHeadBound
        where TKv : unmanaged, IKvValue<TKv>
    {
        int column = Ptx.Once(Group.IdxX % THead.Max);
        int row = Ptx.Once(Group.IdxX / THead.Max * (THead.Max / 8));
        Scale(ref c0, factors, row);
        if (THead.Max > 64)
            Scale(ref c1, factors, row + 8);
        if (THead.Max > 128)
        {
            Scale(ref c2, factors, row + 16);
            Scale(ref c3, factors, row + 24);
        }

        for (int n = 0; n < TileKeys; n += 4)
        {
            Float4 v = default;
            v.X = Value(values, ring, first, key + n, count, column, headDim, capacity);
            v.Y = Value(values, ring, first, key + n + 1, count, column, headDim, capacity);
            v.Z = Value(values, ring, first, key + n + 2, count, column, headDim, capacity);
            v.W = Value(values, ring, first, key + n + 3, count, column, headDim, capacity);
            if (unseen && !(Spoilt(v.X) + Spoilt(v.Y) + (Spoilt(v.Z) + Spoilt(v.W)) == 0f))
                AddUnclean<THead>(ref v, query + row - key - n, seen, ref c0, ref c1, ref c2, ref c3);
            int at = Ptx.Once(((row * ScorePitch) + n) / 4);
            AddColumn(ref c0, weights, at, v);
            if (THead.Max > 64)
                AddColumn(ref c1, weights, at + (8 * ScorePitch / 4), v);
            if (THead.Max > 128)
            {
                AddColumn(ref c2, weights, at + (16 * ScorePitch / 4), v);
                AddColumn(ref c3, weights, at + (24 * ScorePitch / 4), v);
            }
        }

        Group.Barrier();
    }

    // Values of four keys of which one at least is not a finite number: it makes the sums of the rows that see it NaN, and is a zero in the
    // product, where 0 · NaN would reach all rows.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddUnclean<THead>(
        ref Float4 v, int distance, int seen, ref Column8 c0, ref Column8 c1, ref Column8 c2, ref Column8 c3)
        where THead : struct, IHeadBound
    {
        for (int n = 0; n < 4; n++)
        {
            // The four values take turns as the first.
            float spoilt = Spoilt(v.X), clean = spoilt == 0f ? v.X : 0f;
            v = new Float4 { X = v.Y, Y = v.Z, Z = v.W, W = clean };
            Spoil(ref c0, spoilt, distance - n, seen);
            if (THead.Max > 64)
                Spoil(ref c1, spoilt, distance - n + 8, seen);
            if (THead.Max > 128)
            {
                Spoil(ref c2, spoilt, distance - n + 16, seen);
                Spoil(ref c3, spoilt, distance - n + 24, seen);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Spoil(ref Column8 c, float spoilt, int distance, int seen)
    {
        c.A.X += (uint)(distance) < (uint)seen ? spoilt : 0f;
        c.A.Y += (uint)(distance + 1) < (uint)seen ? spoilt : 0f;
        c.A.Z += (uint)(distance + 2) < (uint)seen ? spoilt : 0f;
        c.A.W += (uint)(distance + 3) < (uint)seen ? spoilt : 0f;
        c.B.X += (uint)(distance + 4) < (uint)seen ? spoilt : 0f;
        c.B.Y += (uint)(distance + 5) < (uint)seen ? spoilt : 0f;
        c.B.Z += (uint)(distance + 6) < (uint)seen ? spoilt : 0f;
        c.B.W += (uint)(distance + 7) < (uint)seen ? spoilt : 0f;
    }

    // 0, or NaN of what is not a finite number.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Spoilt(float value) => 0f * value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Value<TKv>(ArrayView<TKv> values, long ring, int first, int key, int count, int column, int headDim,
        int capacity)
        where TKv : unmanaged, IKvValue<TKv>
    {
        float value = 0f;
        if (IsRead(key, count) && column < headDim)
            value = TKv.Widen(values[((ring + Slot(first + key, capacity)) * headDim) + column]);
        return value;
    }

    // Below 0 the conversion gives more than any count.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsRead(int key, int count) => (uint)key < (uint)count;

    // Keys that are read are never more than the ring holds.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Slot(int slot, int capacity) => slot < capacity ? slot : slot - capacity;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Scale(ref Column8 c, ArrayView<float> factors, int row)
    {
        c.A.X *= factors[row];
        c.A.Y *= factors[row + 1];
        c.A.Z *= factors[row + 2];
        c.A.W *= factors[row + 3];
        c.B.X *= factors[row + 4];
        c.B.Y *= factors[row + 5];
        c.B.Z *= factors[row + 6];
        c.B.W *= factors[row + 7];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddColumn(ref Column8 c, ArrayView<Float4> weights, int at, Float4 v)
    {
        c.A.X = Dot(weights[at], v, c.A.X);
        c.A.Y = Dot(weights[at + (ScorePitch / 4)], v, c.A.Y);
        c.A.Z = Dot(weights[at + (2 * ScorePitch / 4)], v, c.A.Z);
        c.A.W = Dot(weights[at + (3 * ScorePitch / 4)], v, c.A.W);
        c.B.X = Dot(weights[at + (4 * ScorePitch / 4)], v, c.B.X);
        c.B.Y = Dot(weights[at + (5 * ScorePitch / 4)], v, c.B.Y);
        c.B.Z = Dot(weights[at + (6 * ScorePitch / 4)], v, c.B.Z);
        c.B.W = Dot(weights[at + (7 * ScorePitch / 4)], v, c.B.W);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteColumn(ArrayView<float> destination, Column8 c, ArrayView<float> sums, int row, int row0, int rows,
        int stride, long column)
    {
        WriteFour(destination, c.A, sums, row, row0, rows, stride, column);
        WriteFour(destination, c.B, sums, row + 4, row0, rows, stride, column);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteFour(ArrayView<float> destination, Float4 c, ArrayView<float> sums, int row, int row0, int rows,
        int stride, long column)
    {
        if (row0 + row < rows)
            destination[((long)(row0 + row) * stride) + column] = c.X / sums[row];
        if (row0 + row + 1 < rows)
            destination[((long)(row0 + row + 1) * stride) + column] = c.Y / sums[row + 1];
        if (row0 + row + 2 < rows)
            destination[((long)(row0 + row + 2) * stride) + column] = c.Z / sums[row + 2];
        if (row0 + row + 3 < rows)
            destination[((long)(row0 + row + 3) * stride) + column] = c.W / sums[row + 3];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Dot(Float4 a, Float4 b, float sum) =>
        Ptx.MultiplyAdd(a.W, b.W, Ptx.MultiplyAdd(a.Z, b.Z, Ptx.MultiplyAdd(a.Y, b.Y, Ptx.MultiplyAdd(a.X, b.X, sum))));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Cap(float score, float cap) => cap > 0f ? KernelMath.Softcap(score, cap) : score;
}
