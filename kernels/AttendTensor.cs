using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>The results of one warp: two blocks of 16 rows, up to eight blocks of 8 columns, in the layout of <see cref="Ptx.MultiplyAddBFloat16"/>.</summary>
public struct AttendTile
{
#pragma warning disable CS1591 // Row block m, column block n.
    public Float4 M0N0, M0N1, M0N2, M0N3, M0N4, M0N5, M0N6, M0N7, M1N0, M1N1, M1N2, M1N3, M1N4, M1N5, M1N6, M1N7;
#pragma warning restore CS1591
}

/// <summary>The keys that a group reads, and where they lie in the ring of a cache.</summary>
public struct KeyRange
{
    /// <summary>Word of the cache where the ring of this head begins.</summary>
    public long Ring;

    /// <summary>Place in the ring of the first key that a row of the group sees; keys count from it.</summary>
    public int First;

    /// <summary>Keys up to the last that a row sees.</summary>
    public int Count;

    /// <summary>Keys that the ring holds.</summary>
    public int Capacity;

    /// <summary>Values of a head.</summary>
    public int HeadDim;
}

/// <summary>The slice that is copied next.</summary>
public struct SliceCursor
{
    /// <summary>First key of its tile, counted as <see cref="KeyRange.Count"/> does; below 0 where the tile begins earlier.</summary>
    public int Key;

    /// <summary>Slices of keys come first, then those of values.</summary>
    public int Slice;

    /// <summary>Where it goes: 0, 1 or 2.</summary>
    public int Stage;
}

/// <summary>
/// z = softmax(cap(scale·q·k))·v for many query rows on tensor cores (sm_80): 64 queries of one head a group, over tiles of 64 keys, with the softmax kept running.
/// Tiles begin at positions that are multiples of 64: a row's bits depend on its position and its keys, not on the rows beside it.
/// Grid (heads, ⌈rows/64⌉), group 128, static shared 40.3 KiB. Query position p = position + firstRow + t sees keys j with p − window &lt; j ≤ p. Head size a multiple of 8;
/// q as <see cref="Queries"/> splits it; rows of the cache 16-byte aligned.
/// </summary>
/// <remarks>
/// 4·d flops a query, head and visible key, times the products of an operand: 6 of a float32 cache in exact (3 and 3 terms, those below 2⁻²⁴ left out), 3 of a bfloat16 one, 1 in fast.
/// <para>
/// Four warps: a row block of 32 queries has two of them. Scores: each makes 32 queries × 32 keys, in slices of the head. Then two threads a row cap, mask and weigh in shared memory. Mix: each makes
/// 32 queries × half of the head, whose sums stay in 128 registers (head size 256), in slices of 16 keys. So what a warp splits serves 32 rows, and what is read from shared memory
/// takes less time than the products. Slices of 8 KiB go through a ring of three stages that never empties: while one is multiplied the next two, of the same tile or the next, are on
/// their way (<c>cp.async</c>, zeros beyond the keys and the head). Queries come as fragments from global memory at every tile, mostly from the L2 cache: 64 × 256 of three terms
/// would take 96 KiB of shared memory. Each is split once for the launch (<see cref="Queries"/>), and lies as the registers of an <c>mma</c> do: read from rows, it took 90 moves for 48 <c>mma</c>.
/// </para>
/// <para>
/// The order of the 16 inputs of an <c>mma</c> is free if both sides agree: lane t of four has inputs 4t to 4t + 3, not 2t, 2t + 1, 2t + 8, 2t + 9, so that it reads them as one piece. Bank
/// conflicts: none. 16-byte pieces lie at p ^ s, where s is for row r of keys 4(r mod 2) of float32 and 2(r mod 4) of bfloat16; of values 2(r/4) and (r mod 2) + 2(r/4); of scores 4(r mod 2) + 2(r/2 mod 2).
/// </para>
/// A tile takes a warp about 11,400 instructions for 1,536 <c>mma</c> of a float32 cache in exact (5,700 for 256 in fast) and 6,000 for 768 of a bfloat16 one (3,600 for 256), heads of 256, sm_90: the splitting of keys and values makes
/// 2,800 of the first. 255 registers at most, two groups a multiprocessor, at most 12 bytes of spills, outside of the loops over slices.
/// Groups with most keys start first, then those with fewest: of a prefill of 2,048 tokens and 8 heads, two groups of a multiprocessor have about the same number of tiles together.
/// Bytes: fragments twice for each tile of keys, keys and values once for every 64 queries of a head. A lane writes results two at a time, each by itself, because a row may start anywhere: each store touches
/// sectors for half of them, and the other half follows at once. A value that is not a number reaches rows of its tile that do not see its key, as 0 · NaN.
/// The definition, with one key at a time, is <see cref="AttendDecode"/>.
/// </remarks>
public static class AttendTensor
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 128;

    /// <summary>Query rows that a group covers.</summary>
    public const int TileRows = 64;

    private const int TileKeys = 64;
    private const int Stages = 3;

    /// <summary>Words of a slice: 64 keys × 128 bytes, or 16 keys' values × 512 bytes.</summary>
    private const int StageWords = 2048;

    /// <summary>Values a head in one row of a slice of keys: 128 bytes.</summary>
    private const int KeyWords = 32;

    /// <summary>Keys of a slice of values: the inputs of an <c>mma</c>.</summary>
    private const int MixKeys = 16;

    /// <summary>
    /// Queries as the fragments that <see cref="Tile"/> multiplies: [heads, ⌈rows/64⌉·4 blocks of 16 rows, ⌈head size/16⌉ steps, terms, 32 lanes] pieces of 16 bytes, three terms of each value in
    /// exact (<see cref="TensorFragments.Split"/>), one in fast; zeros beyond the rows and the head. Grid (⌈rows/64⌉·4, heads), group 128: a warp makes every fourth step.
    /// </summary>
    public static void Queries<TOperand>(ArrayView<Float4> q, ArrayView<Words4> fragments, int rows, int headDim, int qStride)
        where TOperand : struct, ITensorOperand
    {
        int lane = Ptx.Once(Group.IdxX & 31), row = Ptx.Once((Grid.IdxX * 16) + (lane / 4));
        int steps = Ptx.Once((headDim + MixKeys - 1) / MixKeys);
        long from = Ptx.Once(((long)row * (qStride / 4)) + (Grid.IdxY * (headDim / 4)) + (lane & 3));
        long to = Ptx.Once(((((long)Grid.IdxY * Grid.DimX) + Grid.IdxX) * steps * (TOperand.Terms * 32)) + lane);
        for (int step = Group.IdxX / 32; step < steps; step += GroupSize / 32)
        {
            Float4 upper = default, lower = default;
            bool inside = (4 * step) + (lane & 3) < headDim / 4;
            if (inside && row < rows)
                upper = q[from + (4 * step)];
            if (inside && row + 8 < rows)
                lower = q[from + (4 * step) + (8L * (qStride / 4))];
            XFragment x = Weights<TOperand>(upper, lower);
            long at = Ptx.Once(to + (step * (TOperand.Terms * 32)));
            fragments[at] = x.High;
            if (TOperand.Terms > 1)
            {
                fragments[at + 32] = x.Middle;
                fragments[at + 64] = x.Low;
            }
        }
    }

    /// <summary>Attention for query rows at position + firstRow …; the keys are stored already.</summary>
    public static void Tile<TOperand, THead>(
        ArrayView<Words4> fragments,
        ArrayView<uint> keys,
        ArrayView<uint> values,
        ArrayView<int> position,
        ArrayView<float> destination,
        int firstRow,
        int rows,
        int kvHeadCount,
        int headDim,
        int capacity,
        int window,
        float scale,
        float cap,
        int stride)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        ArrayView<Float4> ring = SharedMemory.Allocate1D<Float4>(Stages * StageWords / 4);
        ArrayView<Float4> scores = SharedMemory.Allocate1D<Float4>(TileRows * TileKeys / 4);
        ArrayView<float> factors = SharedMemory.Allocate1D<float>(TileRows);
        int start = Ptx.Once(position[0] + firstRow);
        int row0 = Ptx.Once(TileOf(Grid.IdxY, Grid.DimY) * TileRows);
        int last = row0 + TileRows < rows ? row0 + TileRows : rows;
        int firstKey = window > 0 && start + row0 >= window ? start + row0 - window + 1 : 0;
        KeyRange range = new()
        {
            Ring = Ptx.Once((long)(Grid.IdxX / (Grid.DimX / kvHeadCount)) * capacity * headDim / TOperand.WeightsInWord),
            First = Ptx.Once(firstKey % capacity),
            Count = Ptx.Once(start + last - firstKey),
            Capacity = capacity,
            HeadDim = headDim,
        };
        int keySlices = Ptx.Once((headDim + (KeyWords * TOperand.WeightsInWord) - 1) / (KeyWords * TOperand.WeightsInWord));
        int lane = Ptx.Once(Group.IdxX & 31), warp = Ptx.Once(Group.IdxX / 32);
        // Where this thread's query of the softmax stands among the keys as they are counted, and how many of them it sees.
        int query = Ptx.Once(start + row0 + (Group.IdxX / 2) - firstKey), seen = window > 0 ? window : int.MaxValue;
        float max = float.NegativeInfinity, sum = 0f;
        // Fragments of the warp's first block of 16 queries; those of the second lie behind them.
        int steps = Ptx.Once((headDim + MixKeys - 1) / MixKeys);
        int queries = Ptx.Once((FragmentBlock(Grid.IdxX, (row0 / 16) + (warp / 2 * 2)) * steps * (TOperand.Terms * 32)) + lane);
        int scoreAt = Ptx.Once(ScoreAt(warp, lane)), keyAt = Ptx.Once(KeyAt<TOperand>(warp & 1, lane));
        int weightAt = Ptx.Once(WeightAt(warp, lane)), valueAt = Ptx.Once(ValueAt<TOperand, THead>(warp & 1, lane));
        // Tiles begin at multiples of 64, so that a row's sums are grouped by the keys' positions and not by the rows beside it.
        int key = -(firstKey % TileKeys);
        SliceCursor next = new() { Key = key };
        Copy<TOperand, THead>(keys, values, ring, range, keySlices, ref next);
        Copy<TOperand, THead>(keys, values, ring, range, keySlices, ref next);
        AttendTile mix0 = default, mix1 = default;
        int stage = 0;
        for (; key < range.Count; key += TileKeys)
        {
            AttendTile tile = default;
            for (int slice = 0; slice < keySlices; slice++)
            {
                Ptx.WaitForAllCopiesButOne();
                Group.Barrier();
                Copy<TOperand, THead>(keys, values, ring, range, keySlices, ref next);
                AddScores<TOperand>(fragments, ring, stage, slice, keyAt, steps, queries, ref tile);
                stage = stage == Stages - 1 ? 0 : stage + 1;
            }

            WriteScores(scores, tile, scoreAt);
            Group.Barrier();
            Weigh(scores, factors, key, query, seen, scale, cap, ref max, ref sum);
            Group.Barrier();
            Scale(ref mix0, factors, (warp / 2 * 32) + (lane / 4));
            if (THead.Max > 128)
                Scale(ref mix1, factors, (warp / 2 * 32) + (lane / 4));
            for (int step = 0; step < TileKeys / MixKeys; step++)
            {
                Ptx.WaitForAllCopiesButOne();
                Group.Barrier();
                Copy<TOperand, THead>(keys, values, ring, range, keySlices, ref next);
                int at = Ptx.Once(weightAt ^ (4 * step));
                XFragment m0 = Weights<TOperand>(scores[at], scores[at + (8 * TileKeys / 4)]);
                XFragment m1 = Weights<TOperand>(scores[at + (16 * TileKeys / 4)], scores[at + (24 * TileKeys / 4)]);
                MixEight<TOperand, THead>(ring, Ptx.Once((stage * StageWords) + valueAt), 0, m0, m1, ref mix0);
                if (MixSlices<TOperand, THead>() > 1)
                {
                    stage = stage == Stages - 1 ? 0 : stage + 1;
                    Ptx.WaitForAllCopiesButOne();
                    Group.Barrier();
                    Copy<TOperand, THead>(keys, values, ring, range, keySlices, ref next);
                    MixEight<TOperand, THead>(ring, Ptx.Once((stage * StageWords) + valueAt), 0, m0, m1, ref mix1);
                }
                else if (THead.Max > 128)
                {
                    MixEight<TOperand, THead>(ring, Ptx.Once((stage * StageWords) + valueAt), 8, m0, m1, ref mix1);
                }

                stage = stage == Stages - 1 ? 0 : stage + 1;
            }
        }

        Ptx.WaitForAllCopies();
        Group.Barrier();
        if ((Group.IdxX & 1) == 0)
            factors[Group.IdxX / 2] = 1f / sum;
        Group.Barrier();
        int row = Ptx.Once((warp / 2 * 32) + (lane / 4)), column = Ptx.Once(((warp & 1) * (THead.Max / 2)) + ((lane & 3) * 2));
        WriteTile(destination, mix0, factors, row, row0, rows, column, headDim, stride);
        if (THead.Max > 128)
            WriteTile(destination, mix1, factors, row, row0, rows, column + 64, headDim, stride);
    }

    // The tiles with most keys, downwards; then those with fewest, upwards.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int TileOf(int rank, int tiles)
    {
        int half = (tiles + 1) / 2;
        return rank < half ? tiles - 1 - rank : rank - half;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int FragmentBlock(int head, int block) => (head * Grid.DimY * (TileRows / 16)) + block;

    // Columns of values that a slice has, and slices of 16 keys' values: float32 of a head above 128 comes in two.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int SliceColumns<TOperand, THead>()
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound => THead.Max < 128 * TOperand.WeightsInWord ? THead.Max : 128 * TOperand.WeightsInWord;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int MixSlices<TOperand, THead>()
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound => THead.Max / SliceColumns<TOperand, THead>();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int KeySwizzle<TOperand>(int row)
        where TOperand : struct, ITensorOperand => TOperand.WeightsInWord == 1 ? 4 * (row & 1) : 2 * (row & 3);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ValueSwizzle<TOperand>(int row)
        where TOperand : struct, ITensorOperand => TOperand.WeightsInWord == 1 ? 2 * (row >> 2) : (row & 1) + (2 * (row >> 2));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ScoreSwizzle(int row) => (4 * (row & 1)) + (row & 2);

    // In pairs of values: scores of query g and keys 2t, 2t + 1 of a warp.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ScoreAt(int warp, int lane)
    {
        int g = lane / 4, t = lane & 3;
        return (((warp / 2 * 32) + g) * (TileKeys / 2)) + ((((8 * (warp & 1)) + (t >> 1)) ^ ScoreSwizzle(g)) * 2) + (t & 1);
    }

    // In fours of values: weights of query g and keys 4t to 4t + 3.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WeightAt(int warp, int lane) =>
        (((warp / 2 * 32) + (lane / 4)) * (TileKeys / 4)) + ((lane & 3) ^ ScoreSwizzle(lane / 4));

    // In fours of values: key g of a warp's, inputs 4t to 4t + 3 of a slice.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int KeyAt<TOperand>(int half, int lane)
        where TOperand : struct, ITensorOperand
    {
        int key = (half * 32) + (lane / 4), t = lane & 3;
        return TOperand.WeightsInWord == 1 ? (key * 8) + (t ^ KeySwizzle<TOperand>(key))
            : (key * 16) + (((t >> 1) ^ KeySwizzle<TOperand>(key)) * 2) + (t & 1);
    }

    // In words: of float32 the value of key 4t in column g; of bfloat16 the row that this lane names to LoadMatricesTransposed.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ValueAt<TOperand, THead>(int half, int lane)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        int words = SliceColumns<TOperand, THead>() / TOperand.WeightsInWord;
        int piece = half * (words / 8);
        if (TOperand.WeightsInWord == 1)
        {
            int g = lane / 4, t = lane & 3;
            return (4 * t * words) + (((piece + (g >> 2)) ^ ValueSwizzle<TOperand>(4 * t)) * 4) + (g & 3);
        }

        // Row k of the two matrices of a block is key 4(k/2 mod 4) + 2(k/8) + k mod 2.
        int key = (((lane & 7) >> 1) * 4) + (((lane >> 3) & 1) * 2) + (lane & 1);
        return (key * words) + (((piece + (lane >> 4)) ^ ValueSwizzle<TOperand>(key)) * 4);
    }

    // Starts the copies of the next slice, four or two pieces of 16 bytes a thread.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Copy<TOperand, THead>(
        ArrayView<uint> keys, ArrayView<uint> values, ArrayView<Float4> ring, KeyRange range, int keySlices, ref SliceCursor next)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        if (next.Key < range.Count)
        {
            int to = Ptx.Once(next.Stage * StageWords);
            if (next.Slice < keySlices)
            {
                int piece = Ptx.Once(Group.IdxX & 7), row = Ptx.Once(Group.IdxX / 8);
                int input = Ptx.Once(((next.Slice * KeyWords) + (4 * piece)) * TOperand.WeightsInWord);
                int place = Ptx.Once(to + (row * KeyWords) + ((piece ^ KeySwizzle<TOperand>(row)) * 4));
                CopyPiece<TOperand>(keys, ring, range, next.Key + row, input, place);
                CopyPiece<TOperand>(keys, ring, range, next.Key + row + 16, input, place + (16 * KeyWords));
                CopyPiece<TOperand>(keys, ring, range, next.Key + row + 32, input, place + (32 * KeyWords));
                CopyPiece<TOperand>(keys, ring, range, next.Key + row + 48, input, place + (48 * KeyWords));
            }
            else
            {
                int columns = SliceColumns<TOperand, THead>(), words = columns / TOperand.WeightsInWord;
                int slice = Ptx.Once(next.Slice - keySlices);
                int part = slice & (MixSlices<TOperand, THead>() - 1), step = slice / MixSlices<TOperand, THead>();
                int piece = Ptx.Once(Group.IdxX & ((words / 4) - 1)), row = Ptx.Once(Group.IdxX / (words / 4));
                // The first half of a slice is for the first half of the head, the second for the second.
                int column = piece * (4 * TOperand.WeightsInWord);
                int input = Ptx.Once((column / (columns / 2) * (THead.Max / 2)) + (part * (columns / 2)) + (column & ((columns / 2) - 1)));
                int key = Ptx.Once(next.Key + (step * MixKeys) + row), place = Ptx.Once(to + (row * words));
                int rows = GroupSize / (words / 4);
                CopyPiece<TOperand>(values, ring, range, key, input, place + ((piece ^ ValueSwizzle<TOperand>(row)) * 4));
                CopyPiece<TOperand>(values, ring, range, key + rows, input,
                    place + (rows * words) + ((piece ^ ValueSwizzle<TOperand>(row + rows)) * 4));
                if (2 * rows < MixKeys)
                {
                    CopyPiece<TOperand>(values, ring, range, key + (2 * rows), input,
                        place + (2 * rows * words) + ((piece ^ ValueSwizzle<TOperand>(row + (2 * rows))) * 4));
                    CopyPiece<TOperand>(values, ring, range, key + (3 * rows), input,
                        place + (3 * rows * words) + ((piece ^ ValueSwizzle<TOperand>(row + (3 * rows))) * 4));
                }
            }

            next.Stage = next.Stage == Stages - 1 ? 0 : next.Stage + 1;
            next.Slice++;
            if (next.Slice == keySlices + (TileKeys / MixKeys * MixSlices<TOperand, THead>()))
            {
                next.Slice = 0;
                next.Key += TileKeys;
            }
        }

        Ptx.CommitCopies();
    }

    // Keys that are read are never more than the ring holds; below 0 the conversion gives more than any count.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void CopyPiece<TOperand>(ArrayView<uint> source, ArrayView<Float4> ring, KeyRange range, int key, int input, int place)
        where TOperand : struct, ITensorOperand
    {
        bool inside = (uint)key < (uint)range.Count && input < range.HeadDim;
        int slot = range.First + key;
        slot = slot < range.Capacity ? slot : slot - range.Capacity;
        // A ring of a head has fewer than 2³¹ values.
        int word = (int)((uint)((slot * range.HeadDim) + input) / (uint)TOperand.WeightsInWord);
        long from = range.Ring + (inside ? word : 0);
        ArrayView<uint> shared = ring.Cast<uint>();
        Ptx.CopyAsync(ref shared[place], ref source[from], inside ? 16 : 0);
    }

    // A slice of the head: two steps of 16 inputs of float32, four of bfloat16.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddScores<TOperand>(
        ArrayView<Words4> fragments, ArrayView<Float4> ring, int stage, int slice, int keyAt, int steps, int queries, ref AttendTile tile)
        where TOperand : struct, ITensorOperand
    {
        int first = Ptx.Once(stage * StageWords / (4 / TOperand.WeightsInWord)), behind = Ptx.Once(steps * (TOperand.Terms * 32));
        for (int step = 0; step < 2 * TOperand.WeightsInWord; step++)
        {
            // Beyond the head keys are zeros, and queries what they are in its last step.
            int input = (slice * 2 * TOperand.WeightsInWord) + step;
            int from = Ptx.Once(queries + ((input < steps ? input : steps - 1) * (TOperand.Terms * 32)));
            XFragment m0 = Fragment<TOperand>(fragments, from);
            XFragment m1 = Fragment<TOperand>(fragments, from + behind);
            int at = Ptx.Once(first + (keyAt ^ (4 * step)));
            WFragment n0 = Keys<TOperand>(ring, at);
            tile.M0N0 = TOperand.MultiplyAdd(tile.M0N0, m0, n0);
            tile.M1N0 = TOperand.MultiplyAdd(tile.M1N0, m1, n0);
            WFragment n1 = Keys<TOperand>(ring, at + (8 * KeyWords / 4 * TOperand.WeightsInWord));
            tile.M0N1 = TOperand.MultiplyAdd(tile.M0N1, m0, n1);
            tile.M1N1 = TOperand.MultiplyAdd(tile.M1N1, m1, n1);
            WFragment n2 = Keys<TOperand>(ring, at + (16 * KeyWords / 4 * TOperand.WeightsInWord));
            tile.M0N2 = TOperand.MultiplyAdd(tile.M0N2, m0, n2);
            tile.M1N2 = TOperand.MultiplyAdd(tile.M1N2, m1, n2);
            WFragment n3 = Keys<TOperand>(ring, at + (24 * KeyWords / 4 * TOperand.WeightsInWord));
            tile.M0N3 = TOperand.MultiplyAdd(tile.M0N3, m0, n3);
            tile.M1N3 = TOperand.MultiplyAdd(tile.M1N3, m1, n3);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static XFragment Fragment<TOperand>(ArrayView<Words4> fragments, int at)
        where TOperand : struct, ITensorOperand
    {
        XFragment x = default;
        x.High = fragments[at];
        if (TOperand.Terms > 1)
        {
            x.Middle = fragments[at + 32];
            x.Low = fragments[at + 64];
        }

        return x;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static WFragment Keys<TOperand>(ArrayView<Float4> ring, int at)
        where TOperand : struct, ITensorOperand
    {
        WFragment w = default;
        if (TOperand.WeightsInWord == 1)
        {
            Float4 v = ring[at];
            TensorFragments.Split<TOperand>(new Float2 { X = v.X, Y = v.Y }, out w.High0, out w.Middle0, out w.Low0);
            TensorFragments.Split<TOperand>(new Float2 { X = v.Z, Y = v.W }, out w.High1, out w.Middle1, out w.Low1);
        }
        else
        {
            ArrayView<Words2> pairs = ring.Cast<Words2>();
            Words2 words = pairs[at];
            w.High0 = words.X;
            w.High1 = words.Y;
        }

        return w;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteScores(ArrayView<Float4> scores, AttendTile tile, int at)
    {
        ArrayView<Float2> pairs = scores.Cast<Float2>();
        WriteBlock(pairs, tile.M0N0, at);
        WriteBlock(pairs, tile.M0N1, at ^ 4);
        WriteBlock(pairs, tile.M0N2, at ^ 8);
        WriteBlock(pairs, tile.M0N3, at ^ 12);
        WriteBlock(pairs, tile.M1N0, at + (16 * TileKeys / 2));
        WriteBlock(pairs, tile.M1N1, (at + (16 * TileKeys / 2)) ^ 4);
        WriteBlock(pairs, tile.M1N2, (at + (16 * TileKeys / 2)) ^ 8);
        WriteBlock(pairs, tile.M1N3, (at + (16 * TileKeys / 2)) ^ 12);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteBlock(ArrayView<Float2> pairs, Float4 block, int at)
    {
        pairs[at] = new Float2 { X = block.X, Y = block.Y };
        pairs[at + (8 * TileKeys / 2)] = new Float2 { X = block.Z, Y = block.W };
    }

    // Threads 2r and 2r + 1 keep the softmax of query r, every other four keys each. Scores become weights e^(s − max).
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Weigh(
        ArrayView<Float4> scores, ArrayView<float> factors, int key, int query, int seen, float scale, float cap, ref float max,
        ref float sum)
    {
        int row = Ptx.Once(Group.IdxX / 2), odd = Ptx.Once(Group.IdxX & 1);
        int at = Ptx.Once((row * (TileKeys / 4)) + (odd ^ ScoreSwizzle(row)));
        float old = Ptx.Once(max), most = old;
        float toCap = Ptx.Once(cap > 0f ? scale / cap : scale);
        // Keys that a query does not see lie beyond it or too far back: as unsigned numbers both distances are too large.
        int distance = Ptx.Once(query - key - (4 * odd));
        for (int n = 0; n < TileKeys / 8; n++)
        {
            Float4 s = scores[at ^ (2 * n)];
            s.X *= toCap;
            s.Y *= toCap;
            s.Z *= toCap;
            s.W *= toCap;
            if (cap > 0f)
                s = Cap(s, cap);
            s.X = (uint)distance < (uint)seen ? s.X : float.NegativeInfinity;
            s.Y = (uint)(distance - 1) < (uint)seen ? s.Y : float.NegativeInfinity;
            s.Z = (uint)(distance - 2) < (uint)seen ? s.Z : float.NegativeInfinity;
            s.W = (uint)(distance - 3) < (uint)seen ? s.W : float.NegativeInfinity;
            distance -= 8;
            most = MathF.Max(most, MathF.Max(MathF.Max(s.X, s.Y), MathF.Max(s.Z, s.W)));
            scores[at ^ (2 * n)] = s;
        }

        most = Ptx.Once(MathF.Max(most, Warp.ShuffleXor(most, 1)));
        // Where no key was seen yet all weights are e^−∞.
        float from = Ptx.Once(most == float.NegativeInfinity ? 0f : most), part = 0f;
        for (int n = 0; n < TileKeys / 8; n++)
        {
            Float4 w = scores[at ^ (2 * n)];
            w.X = Weight(w.X - from);
            w.Y = Weight(w.Y - from);
            w.Z = Weight(w.Z - from);
            w.W = Weight(w.W - from);
            part += w.X + w.Y + (w.Z + w.W);
            scores[at ^ (2 * n)] = w;
        }

        part += Warp.ShuffleXor(part, 1);
        float factor = Ptx.Once(Weight(old - from));
        if (odd == 0)
            factors[row] = factor;
        sum = Ptx.Once(Ptx.MultiplyAdd(sum, factor, part));
        max = most;
    }

    /// <summary>e^x for x up to 0; 0 below −87, where it would be subnormal. NaN is kept. The polynomial of <see cref="KernelMath.Exp"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Weight(float x)
    {
        float shifted = Ptx.MultiplyAdd(x, 1.44269504f, 12582912f);
        float n = shifted - 12582912f;
        float r = Ptx.MultiplyAdd(n, -0.693359375f, x);
        r = Ptx.MultiplyAdd(n, 2.12194440e-4f, r);
        float p = Ptx.MultiplyAdd(1.9875691500e-4f, r, 1.3981999507e-3f);
        p = Ptx.MultiplyAdd(p, r, 8.3334519073e-3f);
        p = Ptx.MultiplyAdd(p, r, 4.1665795894e-2f);
        p = Ptx.MultiplyAdd(p, r, 1.6666665459e-1f);
        p = Ptx.MultiplyAdd(p, r, 5.0000001201e-1f);
        p = Ptx.MultiplyAdd(p * r, r, r) + 1f;
        // The low bits of shifted are n, and those above them fall out.
        p *= Interop.IntAsFloat((Interop.FloatAsInt(shifted) + 127u) << 23);
        return x < -87f ? 0f : p;
    }

    // cap·tanh; the large arguments of KernelMath.Tanh, which cost four times as much, only where there is one.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Cap(Float4 x, float cap)
    {
        float most = MathF.Max(MathF.Max(MathF.Abs(x.X), MathF.Abs(x.Y)), MathF.Max(MathF.Abs(x.Z), MathF.Abs(x.W)));
        Float4 y = new()
        {
            X = cap * KernelMath.SmallTanh(x.X),
            Y = cap * KernelMath.SmallTanh(x.Y),
            Z = cap * KernelMath.SmallTanh(x.Z),
            W = cap * KernelMath.SmallTanh(x.W),
        };
        if (most >= 0.625f)
        {
            y.X = cap * KernelMath.Tanh(x.X);
            y.Y = cap * KernelMath.Tanh(x.Y);
            y.Z = cap * KernelMath.Tanh(x.Z);
            y.W = cap * KernelMath.Tanh(x.W);
        }

        return y;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static XFragment Weights<TOperand>(Float4 upper, Float4 lower)
        where TOperand : struct, ITensorOperand
    {
        XFragment x = default;
        TensorFragments.Split<TOperand>(new Float2 { X = upper.X, Y = upper.Y }, out x.High.X, out x.Middle.X, out x.Low.X);
        TensorFragments.Split<TOperand>(new Float2 { X = lower.X, Y = lower.Y }, out x.High.Y, out x.Middle.Y, out x.Low.Y);
        TensorFragments.Split<TOperand>(new Float2 { X = upper.Z, Y = upper.W }, out x.High.Z, out x.Middle.Z, out x.Low.Z);
        TensorFragments.Split<TOperand>(new Float2 { X = lower.Z, Y = lower.W }, out x.High.W, out x.Middle.W, out x.Low.W);
        return x;
    }

    // Weights · values of 16 keys, eight blocks of 8 columns.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MixEight<TOperand, THead>(
        ArrayView<Float4> ring, int at, int block, XFragment m0, XFragment m1, ref AttendTile tile)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        LoadValues<TOperand, THead>(ring, at, block, out WFragment n0, out WFragment n1);
        tile.M0N0 = TOperand.MultiplyAdd(tile.M0N0, m0, n0);
        tile.M1N0 = TOperand.MultiplyAdd(tile.M1N0, m1, n0);
        tile.M0N1 = TOperand.MultiplyAdd(tile.M0N1, m0, n1);
        tile.M1N1 = TOperand.MultiplyAdd(tile.M1N1, m1, n1);
        LoadValues<TOperand, THead>(ring, at, block + 2, out WFragment n2, out WFragment n3);
        tile.M0N2 = TOperand.MultiplyAdd(tile.M0N2, m0, n2);
        tile.M1N2 = TOperand.MultiplyAdd(tile.M1N2, m1, n2);
        tile.M0N3 = TOperand.MultiplyAdd(tile.M0N3, m0, n3);
        tile.M1N3 = TOperand.MultiplyAdd(tile.M1N3, m1, n3);
        LoadValues<TOperand, THead>(ring, at, block + 4, out WFragment n4, out WFragment n5);
        tile.M0N4 = TOperand.MultiplyAdd(tile.M0N4, m0, n4);
        tile.M1N4 = TOperand.MultiplyAdd(tile.M1N4, m1, n4);
        tile.M0N5 = TOperand.MultiplyAdd(tile.M0N5, m0, n5);
        tile.M1N5 = TOperand.MultiplyAdd(tile.M1N5, m1, n5);
        LoadValues<TOperand, THead>(ring, at, block + 6, out WFragment n6, out WFragment n7);
        tile.M0N6 = TOperand.MultiplyAdd(tile.M0N6, m0, n6);
        tile.M1N6 = TOperand.MultiplyAdd(tile.M1N6, m1, n6);
        tile.M0N7 = TOperand.MultiplyAdd(tile.M0N7, m0, n7);
        tile.M1N7 = TOperand.MultiplyAdd(tile.M1N7, m1, n7);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void LoadValues<TOperand, THead>(ArrayView<Float4> ring, int at, int block, out WFragment first, out WFragment second)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        if (TOperand.WeightsInWord == 1)
        {
            first = FloatValues<TOperand, THead>(ring, at ^ (8 * block));
            second = FloatValues<TOperand, THead>(ring, at ^ (8 * (block + 1)));
        }
        else
        {
            ArrayView<uint> words = ring.Cast<uint>();
            Words4 pairs = Ptx.LoadMatricesTransposed(ref words[at ^ (4 * block)]);
            first = new WFragment { High0 = pairs.X, High1 = pairs.Y };
            second = new WFragment { High0 = pairs.Z, High1 = pairs.W };
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static WFragment FloatValues<TOperand, THead>(ArrayView<Float4> ring, int at)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        int row = SliceColumns<TOperand, THead>();
        ArrayView<float> values = ring.Cast<float>();
        WFragment w = default;
        TensorFragments.Split<TOperand>(new Float2 { X = values[at], Y = values[at + row] }, out w.High0, out w.Middle0, out w.Low0);
        TensorFragments.Split<TOperand>(new Float2 { X = values[at + (2 * row)], Y = values[at + (3 * row)] }, out w.High1, out w.Middle1,
            out w.Low1);
        return w;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Scale(ref AttendTile tile, ArrayView<float> factors, int row)
    {
        float a = Ptx.Once(factors[row]), b = Ptx.Once(factors[row + 8]), c = Ptx.Once(factors[row + 16]), d = Ptx.Once(factors[row + 24]);
        tile.M0N0 = Times(tile.M0N0, a, b);
        tile.M0N1 = Times(tile.M0N1, a, b);
        tile.M0N2 = Times(tile.M0N2, a, b);
        tile.M0N3 = Times(tile.M0N3, a, b);
        tile.M0N4 = Times(tile.M0N4, a, b);
        tile.M0N5 = Times(tile.M0N5, a, b);
        tile.M0N6 = Times(tile.M0N6, a, b);
        tile.M0N7 = Times(tile.M0N7, a, b);
        tile.M1N0 = Times(tile.M1N0, c, d);
        tile.M1N1 = Times(tile.M1N1, c, d);
        tile.M1N2 = Times(tile.M1N2, c, d);
        tile.M1N3 = Times(tile.M1N3, c, d);
        tile.M1N4 = Times(tile.M1N4, c, d);
        tile.M1N5 = Times(tile.M1N5, c, d);
        tile.M1N6 = Times(tile.M1N6, c, d);
        tile.M1N7 = Times(tile.M1N7, c, d);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Times(Float4 block, float upper, float lower) =>
        new() { X = block.X * upper, Y = block.Y * upper, Z = block.Z * lower, W = block.W * lower };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteTile(
        ArrayView<float> destination, AttendTile tile, ArrayView<float> factors, int row, int row0, int rows, int column, int headDim,
        int stride)
    {
        Scale(ref tile, factors, row);
        int to = Ptx.Once(row0 + row);
        WriteResults(destination, tile.M0N0, to, rows, column, headDim, stride);
        WriteResults(destination, tile.M0N1, to, rows, column + 8, headDim, stride);
        WriteResults(destination, tile.M0N2, to, rows, column + 16, headDim, stride);
        WriteResults(destination, tile.M0N3, to, rows, column + 24, headDim, stride);
        WriteResults(destination, tile.M0N4, to, rows, column + 32, headDim, stride);
        WriteResults(destination, tile.M0N5, to, rows, column + 40, headDim, stride);
        WriteResults(destination, tile.M0N6, to, rows, column + 48, headDim, stride);
        WriteResults(destination, tile.M0N7, to, rows, column + 56, headDim, stride);
        WriteResults(destination, tile.M1N0, to + 16, rows, column, headDim, stride);
        WriteResults(destination, tile.M1N1, to + 16, rows, column + 8, headDim, stride);
        WriteResults(destination, tile.M1N2, to + 16, rows, column + 16, headDim, stride);
        WriteResults(destination, tile.M1N3, to + 16, rows, column + 24, headDim, stride);
        WriteResults(destination, tile.M1N4, to + 16, rows, column + 32, headDim, stride);
        WriteResults(destination, tile.M1N5, to + 16, rows, column + 40, headDim, stride);
        WriteResults(destination, tile.M1N6, to + 16, rows, column + 48, headDim, stride);
        WriteResults(destination, tile.M1N7, to + 16, rows, column + 56, headDim, stride);
    }

    // Heads have an even size: both columns of a pair, or none.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteResults(ArrayView<float> destination, Float4 block, int row, int rows, int column, int headDim, int stride)
    {
        if (column >= headDim)
            return;
        long at = ((long)row * stride) + (Grid.IdxX * headDim) + column;
        if (row < rows)
        {
            destination[at] = block.X;
            destination[at + 1] = block.Y;
        }

        if (row + 8 < rows)
        {
            destination[at + (8L * stride)] = block.Z;
            destination[at + (8L * stride) + 1] = block.W;
        }
    }
}
