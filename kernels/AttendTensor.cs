using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>The results of one warp: four blocks of 16 rows, four blocks of 8 columns, in the layout of <see cref="Ptx.MultiplyAddBFloat16"/>.</summary>
public struct AttendTile
{
#pragma warning disable CS1591 // Row block m, column block n.
    public Float4 M0N0, M0N1, M0N2, M0N3, M1N0, M1N1, M1N2, M1N3, M2N0, M2N1, M2N2, M2N3, M3N0, M3N1, M3N2, M3N3;
#pragma warning restore CS1591
}

/// <summary>The keys that a group reads, and where they lie in the ring of a cache.</summary>
public struct KeyRange
{
    /// <summary>Place in the ring of the first key that a row of the group sees; keys count from it.</summary>
    public int First;

    /// <summary>Keys up to the last that a row sees.</summary>
    public int Count;

    /// <summary>Keys that the ring holds.</summary>
    public int Capacity;

    /// <summary>32-bit words of a key.</summary>
    public int Words;
}

/// <summary>
/// z = softmax(cap(scale·q·k))·v for many query rows on tensor cores (sm_80): 64 queries of one head a group, over tiles of 64 keys, with the softmax kept running.
/// Tiles begin at positions that are multiples of 64: a row's bits depend on its position and its keys, not on the rows beside it.
/// Grid (heads, ⌈rows/64⌉), group 128, static shared 48 KiB. Query position p = position + firstRow + t sees keys j with p − window &lt; j ≤ p. Head size a multiple of 8;
/// q as <see cref="Queries"/> splits it; rows of the cache 16-byte aligned.
/// </summary>
/// <remarks>
/// 4·d flops a query, head and visible key, times the products of an operand: 6 of a float32 cache in exact (3 and 3 terms, those below 2⁻²⁴ left out), 3 of a bfloat16 one, 1 in fast.
/// <para>
/// Four warps. Scores: each makes 64 queries × 16 keys, in slices of the head. Then two threads a row cap, mask and weigh in shared memory. Mix: each makes 64 queries × a quarter of the head, whose sums
/// stay in 128 registers (head size 256), in slices of 16 keys. So each key and value is split into its terms by one warp only (where two warps shared 32 queries, splitting took a quarter of all instructions),
/// and each weight by the thread that made it, into fragments in shared memory. Slices of 8 KiB go through a ring of three stages that never empties: while one is multiplied the next two, of the same tile
/// or the next, are on their way (<c>cp.async</c>, zeros beyond the keys and the head). Queries come as fragments from global memory at every tile, four warps the same, mostly from the L1 and L2 caches:
/// 64 × 256 of three terms would take 96 KiB of shared memory. Each is split once for the launch (<see cref="Queries"/>), and lies as the registers of an <c>mma</c> do: read from rows, it took 90 moves
/// for 48 <c>mma</c>; weights that lay in rows took 800 for 192.
/// </para>
/// <para>
/// The order of the 16 inputs of an <c>mma</c> is free if both sides agree: lane t of four has inputs 4t to 4t + 3, not 2t, 2t + 1, 2t + 8, 2t + 9, so that it reads them as one piece. Bank
/// conflicts: none. 16-byte pieces lie at p ^ s, where s is for row r of keys 4(r mod 2) of float32 and 2(r mod 4) of bfloat16; of values 2(r/4) and (r mod 2) + 2(r/4); of scores r and 2; of weights, for lane l, l/8.
/// </para>
/// A tile that all rows see takes a warp about 8,320 instructions for 1,536 <c>mma</c> of a float32 cache in exact (4,530 for 256 in fast) and 5,030 for 768 of a bfloat16 one (3,130 for 256), heads of 256, sm_90;
/// of the first, 1,400 split keys and values. 255 registers at most, no spills, two groups a multiprocessor.
/// Groups with most keys start first, then those with fewest: of a prefill of 2,048 tokens and 8 heads, two groups of a multiprocessor have about the same number of tiles together.
/// Bytes: fragments four times for each tile of keys, keys and values once for every 64 queries of a head. A lane writes results two at a time, each by itself, because a row may start anywhere: each store touches
/// sectors for half of them, and the other half follows at once.
/// <para>
/// A value that is not a finite number would reach rows of its tile that do not see its key, as 0 · NaN. So values of keys that not all rows of a group see (63, with a window 126) are looked through first: about
/// 500 instructions. Where there is such a value, the sums of the rows that see it become NaN by an addition, and it is a zero in the product: the bits of all other rows are those without it.
/// </para>
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
    /// Queries as the fragments that <see cref="Tile"/> multiplies: [heads, ⌈rows/64⌉ tiles, ⌈head size/16⌉ steps, 4 blocks of 16 rows, terms, 32 lanes] pieces of 16 bytes, three terms of each value in
    /// exact (<see cref="TensorFragments.Split"/>), one in fast; zeros beyond the rows and the head. Grid (⌈rows/64⌉·4, heads), group 128: a warp makes every fourth step.
    /// </summary>
    public static void Queries<TOperand>(ArrayView<Float4> q, ArrayView<Words4> fragments, int rows, int headDim, int qStride)
        where TOperand : struct, ITensorOperand
    {
        int lane = Ptx.Once(Group.IdxX & 31), row = Ptx.Once((Grid.IdxX * 16) + (lane / 4));
        int steps = Ptx.Once((headDim + MixKeys - 1) / MixKeys);
        long from = Ptx.Once(((long)row * (qStride / 4)) + (Grid.IdxY * (headDim / 4)) + (lane & 3));
        long to = Ptx.Once(
            ((FragmentAt(Grid.IdxY, Grid.DimX / 4, Grid.IdxX / 4, steps) + (Grid.IdxX & 3)) * (TOperand.Terms * 32)) + lane);
        for (int step = Group.IdxX / 32; step < steps; step += GroupSize / 32)
        {
            Float4 upper = default, lower = default;
            bool inside = (4 * step) + (lane & 3) < headDim / 4;
            if (inside && row < rows)
                upper = q[from + (4 * step)];
            if (inside && row + 8 < rows)
                lower = q[from + (4 * step) + (8L * (qStride / 4))];
            XFragment x = Split<TOperand>(upper, lower);
            long at = Ptx.Once(to + (step * (4 * TOperand.Terms * 32)));
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
        where TOperand : struct, IAttendOperand
        where THead : struct, IHeadBound
    {
        ArrayView<Float4> ring = SharedMemory.Allocate1D<Float4>(Stages * StageWords / 4);
        ArrayView<Float4> scores = SharedMemory.Allocate1D<Float4>(TileRows * TileKeys / 4);
        ArrayView<Words4> lows = SharedMemory.Allocate1D<Words4>(TileRows * TileKeys / 8);
        int start = Ptx.Once(position[0] + firstRow);
        int row0 = Ptx.Once(TileOf(Grid.IdxY, Grid.DimY) * TileRows);
        int last = row0 + TileRows < rows ? row0 + TileRows : rows;
        int firstKey = window > 0 && start + row0 >= window ? start + row0 - window + 1 : 0;
        KeyRange range = new()
        {
            First = Ptx.Once(firstKey % capacity),
            Count = Ptx.Once(start + last - firstKey),
            Capacity = capacity,
            Words = headDim / TOperand.WeightsInWord,
        };
        long head = Ptx.Once((long)(Grid.IdxX / (Grid.DimX / kvHeadCount)) * capacity * range.Words);
        keys = keys.SubView(head, (long)capacity * range.Words);
        values = values.SubView(head, (long)capacity * range.Words);
        int keySlices = Ptx.Once((headDim + (KeyWords * TOperand.WeightsInWord) - 1) / (KeyWords * TOperand.WeightsInWord));
        // Where the first query stands among the keys as they are counted, and how many of them each sees.
        int query = Ptx.Once(start + row0 - firstKey), seen = window > 0 ? window : int.MaxValue;
        float max = float.NegativeInfinity, sum = 0f;
        int steps = Ptx.Once((headDim + MixKeys - 1) / MixKeys);
        long block = FragmentAt(Grid.IdxX, Grid.DimY, row0 / TileRows, steps);
        // An int: a launch has at most WorkBytes of fragments, in pieces of 16 bytes.
        int firstFragment = Ptx.Once((int)(block * (TOperand.Terms * 32)) + (Group.IdxX & 31));
        bool spoilt = IsUnclean<TOperand>(values, range, query, seen, scores.Cast<float>());
        // Tiles begin at multiples of 64, so that a row's sums are grouped by the keys' positions and not by the rows beside it.
        int key = -(firstKey % TileKeys);
        Copy<TOperand, THead>(keys, values, ring, range, keySlices, key, 0, 0);
        Copy<TOperand, THead>(keys, values, ring, range, keySlices, key, 1, 1);
        AttendTile mix0 = default, mix1 = default;
        // True, which the assembler does not know. With a float32 cache, branches keep it from loading the fragments of all rows ahead and
        // from adding products late, for which exact has no registers (without them it spilled 324 bytes on sm_80).
        bool always = headDim > 0;
        int stage = 0;
        for (; key < range.Count; key += TileKeys)
        {
            AttendTile tile = default;
            // One loop over the steps of all slices: with a loop in a loop the assembler moved the scores to other registers and back, slice by slice.
            int stepsOfSlice = 2 * TOperand.WeightsInWord, keyAt = Ptx.Once(KeyAt<TOperand>(Group.IdxX / 32, Group.IdxX & 31));
            for (int n = 0; n < steps; n++)
            {
                int step = n & (stepsOfSlice - 1);
                if (step == 0)
                {
                    if (n > 0)
                        stage = StageAfter(stage);
                    Ptx.WaitForAllCopiesButOne();
                    Group.Barrier();
                    Copy<TOperand, THead>(keys, values, ring, range, keySlices, key, (n / stepsOfSlice) + 2, StageBefore(stage));
                }

                AddScores<TOperand>(fragments, firstFragment + (n * (4 * TOperand.Terms * 32)), ring, stage, keyAt ^ (4 * step), always,
                    ref tile);
                Warp.Barrier();
            }

            stage = StageAfter(stage);
            WriteScores(scores, tile, ScoreAt(Group.IdxX / 32, Group.IdxX & 31));
            Group.Barrier();
            // The slice that was multiplied last has room for the factors: no copy goes there before the next barrier but one.
            ArrayView<float> factors = ring.SubView(Ptx.Once(StageBefore(stage) * (StageWords / 4)), StageWords / 4)
                .Cast<float>();
            Weigh<TOperand>(scores, lows, factors, key, query, seen, scale, cap, ref max, ref sum);
            Group.Barrier();
            int row = Ptx.Once((Group.IdxX & 31) / 4);
            Scale(ref mix0, factors, row);
            if (THead.Max > 128)
                Scale(ref mix1, factors, row);
            // Keys of the tile that not all rows see.
            bool unclean = spoilt && (key + TileKeys - 1 > query || range.Count - 1 - key >= seen);
            if (unclean)
            {
                int column = Ptx.Once((Group.IdxX / 32 * (THead.Max / 4)) + ((Group.IdxX & 3) * 2));
                AddUnclean<TOperand>(values, range, key, query + row, seen, column, headDim, ref mix0);
                if (THead.Max > 128)
                    AddUnclean<TOperand>(values, range, key, query + row, seen, column + 32, headDim, ref mix1);
            }

            for (int step = 0; step < TileKeys / MixKeys; step++)
            {
                int slice = keySlices + (step * MixSlices<TOperand, THead>());
                Ptx.WaitForAllCopiesButOne();
                Group.Barrier();
                Copy<TOperand, THead>(keys, values, ring, range, keySlices, key, slice + 2, StageBefore(stage));
                if (unclean)
                    Clean<TOperand, THead>(ring, stage);
                Mix<TOperand, THead>(scores, lows, step, ring, stage, 0, always, ref mix0);
                if (MixSlices<TOperand, THead>() > 1)
                {
                    stage = StageAfter(stage);
                    Ptx.WaitForAllCopiesButOne();
                    Group.Barrier();
                    Copy<TOperand, THead>(keys, values, ring, range, keySlices, key, slice + 3, StageBefore(stage));
                    if (unclean)
                        Clean<TOperand, THead>(ring, stage);
                    Mix<TOperand, THead>(scores, lows, step, ring, stage, 0, always, ref mix1);
                }
                else if (THead.Max > 128)
                {
                    Mix<TOperand, THead>(scores, lows, step, ring, stage, 4, always, ref mix1);
                }

                stage = StageAfter(stage);
            }
        }

        Ptx.WaitForAllCopies();
        Group.Barrier();
        ArrayView<float> inverses = ring.Cast<float>();
        if ((Group.IdxX & 1) == 0)
            inverses[Group.IdxX / 2] = 1f / sum;
        Group.Barrier();
        int row8 = Ptx.Once((Group.IdxX & 31) / 4), first = Ptx.Once((Group.IdxX / 32 * (THead.Max / 4)) + ((Group.IdxX & 3) * 2));
        WriteTile(destination, mix0, inverses, row8, row0, rows, first, headDim, stride);
        if (THead.Max > 128)
            WriteTile(destination, mix1, inverses, row8, row0, rows, first + 32, headDim, stride);
    }

    // The tiles with most keys, downwards; then those with fewest, upwards.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int TileOf(int rank, int tiles)
    {
        int half = (tiles + 1) / 2;
        return rank < half ? tiles - 1 - rank : rank - half;
    }

    // In blocks of 16 rows and columns.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static long FragmentAt(int head, int tiles, int tile, int steps) => (((long)head * tiles) + tile) * steps * 4;

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

    // Scores lie in blocks of 16 queries and 16 keys, [4 of queries, 4 of keys, 16, 16], and make room for weights there: the high and
    // the middle terms, each as the registers of an mma lie, [32 lanes] pieces of 16 bytes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ScoreBlock(int rows, int keys) => ((rows * (TileKeys / 16)) + keys) * 64;

    // In pairs of values: scores of query g and keys 2t, 2t + 1 of a warp's 16.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ScoreAt(int warp, int lane)
    {
        int g = lane / 4, t = lane & 3;
        return (ScoreBlock(0, warp) * 2) + (g * 8) + (((t >> 1) ^ (g & 2)) * 2) + (t & 1);
    }

    // The piece of a lane of a fragment.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WeightAt(int lane) => lane ^ ((lane >> 3) & 3);

    // In fours of values: key g of a warp's 16, inputs 4t to 4t + 3 of a slice.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int KeyAt<TOperand>(int warp, int lane)
        where TOperand : struct, ITensorOperand
    {
        int key = (warp * 16) + (lane / 4), t = lane & 3;
        return TOperand.WeightsInWord == 1 ? (key * 8) + (t ^ KeySwizzle<TOperand>(key))
            : (key * 16) + (((t >> 1) ^ KeySwizzle<TOperand>(key)) * 2) + (t & 1);
    }

    // In words: of float32 the value of key 4t in column g; of bfloat16 the row that this lane names to LoadMatricesTransposed.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ValueAt<TOperand, THead>(int warp, int lane)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        int words = SliceColumns<TOperand, THead>() / TOperand.WeightsInWord;
        int piece = warp * (words / 16);
        if (TOperand.WeightsInWord == 1)
        {
            int g = lane / 4, t = lane & 3;
            return (4 * t * words) + (((piece + (g >> 2)) ^ ValueSwizzle<TOperand>(4 * t)) * 4) + (g & 3);
        }

        // Row k of the two matrices of a block is key 4(k/2 mod 4) + 2(k/8) + k mod 2.
        int key = (((lane & 7) >> 1) * 4) + (((lane >> 3) & 1) * 2) + (lane & 1);
        return (key * words) + (((piece + (lane >> 4)) ^ ValueSwizzle<TOperand>(key)) * 4);
    }

    // Where the slice after next goes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int StageBefore(int stage) => stage == 0 ? Stages - 1 : stage - 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int StageAfter(int stage) => stage == Stages - 1 ? 0 : stage + 1;

    // Starts the copies of a slice of the tile that begins at this key, or of the next where the tile has no such slice: four or two pieces
    // of 16 bytes a thread. Slices of keys come first, then those of values.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Copy<TOperand, THead>(
        ArrayView<uint> keys, ArrayView<uint> values, ArrayView<Float4> ring, KeyRange range, int keySlices, int tile, int slice,
        int stage)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        int all = keySlices + (TileKeys / MixKeys * MixSlices<TOperand, THead>());
        if (slice >= all)
        {
            slice -= all;
            tile += TileKeys;
        }

        if (tile < range.Count)
        {
            ArrayView<uint> to = ring.SubView(Ptx.Once(stage * (StageWords / 4)), StageWords / 4).Cast<uint>();
            if (slice < keySlices)
            {
                // Pieces p and p + 4 of two keys.
                int place = Ptx.Once(Group.IdxX & 7), row = Ptx.Once(Group.IdxX / 4);
                int input = Ptx.Once((slice * KeyWords) + (4 * (place ^ KeySwizzle<TOperand>(row))));
                int behind = Ptx.Once(input ^ 16);
                int count = input < range.Words ? range.Count : 0, countBehind = behind < range.Words ? range.Count : 0;
                ArrayView<uint> to4 = to.SubView(Ptx.Once((row * KeyWords) + ((place ^ 4) * 4)), 33 * KeyWords);
                to = to.SubView(Ptx.Once((row * KeyWords) + (place * 4)), 33 * KeyWords);
                int key = Ptx.Once(tile + row), word = Ptx.Once(WordOf(range, key));
                CopyPiece(keys, ref to[0], key, count, word + input);
                CopyPiece(keys, ref to4[0], key, countBehind, word + behind);
                word = Ptx.Once(WordOf(range, key + 32));
                CopyPiece(keys, ref to[32 * KeyWords], key + 32, count, word + input);
                CopyPiece(keys, ref to4[32 * KeyWords], key + 32, countBehind, word + behind);
            }
            else
            {
                int columns = SliceColumns<TOperand, THead>(), words = columns / TOperand.WeightsInWord;
                int valueSlice = Ptx.Once(slice - keySlices);
                int part = valueSlice & (MixSlices<TOperand, THead>() - 1), step = valueSlice / MixSlices<TOperand, THead>();
                // Pieces of the first and the second half of a row, of two keys or one. Each quarter of a slice is for one quarter of
                // the head.
                int piece = Ptx.Once(Group.IdxX & ((words / 8) - 1)), row = Ptx.Once(Group.IdxX / (words / 8));
                int quarter = piece / (words / 16), within = (4 * piece) & ((words / 4) - 1);
                int input = Ptx.Once((quarter * (THead.Max / (4 * TOperand.WeightsInWord))) + (part * (words / 4)) + within);
                int behind = input + (THead.Max / (2 * TOperand.WeightsInWord));
                int count = input < range.Words ? range.Count : 0, countBehind = behind < range.Words ? range.Count : 0;
                int key = Ptx.Once(tile + (step * MixKeys) + row), word = Ptx.Once(WordOf(range, key));
                int place = Ptx.Once((row * words) + ((piece ^ ValueSwizzle<TOperand>(row)) * 4));
                ArrayView<uint> first = to.SubView(place, (words / 2) + 4);
                CopyPiece(values, ref first[0], key, count, word + input);
                CopyPiece(values, ref first[words / 2], key, countBehind, word + behind);
                if (words == 128)
                {
                    word = Ptx.Once(WordOf(range, key + 8));
                    ArrayView<uint> second = to.SubView(Ptx.Once(place ^ 16), (8 * words) + (words / 2) + 4);
                    CopyPiece(values, ref second[8 * words], key + 8, count, word + input);
                    CopyPiece(values, ref second[(8 * words) + (words / 2)], key + 8, countBehind, word + behind);
                }
            }
        }

        Ptx.CommitCopies();
    }

    // Keys that are read are never more than the ring holds, and a ring of a head has fewer than 2³¹ values. Of a key that is not read
    // it is any number.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WordOf(KeyRange range, int key)
    {
        int slot = range.First + key;
        return (slot < range.Capacity ? slot : slot - range.Capacity) * range.Words;
    }

    // Below 0 the conversion gives more than any count.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void CopyPiece(ArrayView<uint> source, ref uint to, int key, int count, int word) =>
        Ptx.CopyAsync(ref to, ref source[word], (uint)key < (uint)count ? 16 : 0);

    // A step of 16 inputs; a slice of the head has two of float32, four of bfloat16.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddScores<TOperand>(
        ArrayView<Words4> fragments, int fragmentAt, ArrayView<Float4> ring, int stage, int keyAt, bool always, ref AttendTile tile)
        where TOperand : struct, IAttendOperand
    {
        ArrayView<Words4> queries = fragments.SubView(Ptx.Once(fragmentAt), 4 * TOperand.Terms * 32);
        Keys<TOperand>(ring, stage, keyAt, out WFragment n0, out WFragment n1);
        XFragment m0 = Fragment<TOperand>(queries, 0), m1 = Fragment<TOperand>(queries, TOperand.Terms * 32);
        TOperand.MultiplyAdd(ref tile.M0N0, ref tile.M0N1, ref tile.M1N0, ref tile.M1N1, m0, m1, n0, n1, n0, n1);
        if (always || TOperand.WeightsInWord == 2)
        {
            XFragment m2 = Fragment<TOperand>(queries, 2 * TOperand.Terms * 32), m3 = Fragment<TOperand>(queries, 3 * TOperand.Terms * 32);
            TOperand.MultiplyAdd(ref tile.M2N0, ref tile.M2N1, ref tile.M3N0, ref tile.M3N1, m2, m3, n0, n1, n0, n1);
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

    // Keys g and g + 8 of a warp's 16.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Keys<TOperand>(ArrayView<Float4> ring, int stage, int at, out WFragment first, out WFragment second)
        where TOperand : struct, ITensorOperand
    {
        first = default;
        second = default;
        if (TOperand.WeightsInWord == 1)
        {
            ArrayView<Float4> keys = ring.SubView(Ptx.Once((stage * (StageWords / 4)) + at), (8 * KeyWords / 4) + 1);
            first = Split<TOperand>(keys[0]);
            second = Split<TOperand>(keys[8 * KeyWords / 4]);
        }
        else
        {
            ArrayView<Words2> keys = ring.Cast<Words2>().SubView(Ptx.Once((stage * (StageWords / 2)) + at), (8 * KeyWords / 2) + 1);
            Words2 words = keys[0], behind = keys[8 * KeyWords / 2];
            first.High0 = words.X;
            first.High1 = words.Y;
            second.High0 = behind.X;
            second.High1 = behind.Y;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static WFragment Split<TOperand>(Float4 v)
        where TOperand : struct, ITensorOperand
    {
        WFragment w = default;
        TensorFragments.Split<TOperand>(new Float2 { X = v.X, Y = v.Y }, out w.High0, out w.Middle0, out w.Low0);
        TensorFragments.Split<TOperand>(new Float2 { X = v.Z, Y = v.W }, out w.High1, out w.Middle1, out w.Low1);
        return w;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteScores(ArrayView<Float4> scores, AttendTile tile, int at)
    {
        ArrayView<Float2> pairs = scores.Cast<Float2>().SubView(Ptx.Once(at), (ScoreBlock(3, 0) * 2) + 65);
        WriteBlock(pairs, tile.M0N0, ScoreBlock(0, 0) * 2);
        WriteBlock(pairs, tile.M1N0, ScoreBlock(1, 0) * 2);
        WriteBlock(pairs, tile.M2N0, ScoreBlock(2, 0) * 2);
        WriteBlock(pairs, tile.M3N0, ScoreBlock(3, 0) * 2);
        pairs = scores.Cast<Float2>().SubView(Ptx.Once(at ^ 4), (ScoreBlock(3, 0) * 2) + 65);
        WriteBlock(pairs, tile.M0N1, ScoreBlock(0, 0) * 2);
        WriteBlock(pairs, tile.M1N1, ScoreBlock(1, 0) * 2);
        WriteBlock(pairs, tile.M2N1, ScoreBlock(2, 0) * 2);
        WriteBlock(pairs, tile.M3N1, ScoreBlock(3, 0) * 2);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteBlock(ArrayView<Float2> pairs, Float4 block, int at)
    {
        pairs[at] = new Float2 { X = block.X, Y = block.Y };
        pairs[at + 64] = new Float2 { X = block.Z, Y = block.W };
    }

    // Threads 2r and 2r + 1 keep the softmax of query r, every other four keys each. Scores become the terms of weights e^(s − max):
    // those of 16 queries, a warp's, where their scores were.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Weigh<TOperand>(
        ArrayView<Float4> scores, ArrayView<Words4> lows, ArrayView<float> factors, int key, int query, int seen, float scale, float cap,
        ref float max, ref float sum)
        where TOperand : struct, ITensorOperand
    {
        int row = Ptx.Once(Group.IdxX / 2), odd = Ptx.Once(Group.IdxX & 1);
        int at = Ptx.Once(ScoreBlock(row / 16, 0) + ((row & 15) * 4) + (odd ^ (row & 2)));
        float old = Ptx.Once(max), most = old;
        float toCap = Ptx.Once(cap > 0f ? scale / cap : scale);
        // Keys that a query does not see lie beyond it or too far back: as unsigned numbers both distances are too large.
        int distance = Ptx.Once(query + row - key - (4 * odd));
        for (int step = 0; step < TileKeys / MixKeys; step++)
        {
            ArrayView<Float4> block = scores.SubView(Ptx.Once(at + ScoreBlock(0, step)), 1);
            Float4 s = Score(block[0], distance, seen, toCap, cap);
            most = MathF.Max(most, MathF.Max(MathF.Max(s.X, s.Y), MathF.Max(s.Z, s.W)));
            block[0] = s;
            block = scores.SubView(Ptx.Once((at ^ 2) + ScoreBlock(0, step)), 1);
            s = Score(block[0], distance - 8, seen, toCap, cap);
            most = MathF.Max(most, MathF.Max(MathF.Max(s.X, s.Y), MathF.Max(s.Z, s.W)));
            block[0] = s;
            distance -= 16;
        }

        most = Ptx.Once(MathF.Max(most, Warp.ShuffleXor(most, 1)));
        // Where no key was seen yet all weights are e^−∞.
        float from = Ptx.Once(most == float.NegativeInfinity ? 0f : most), part = 0f;
        int to = Ptx.Once(WordAt(row & 15, odd));
        for (int step = 0; step < TileKeys / MixKeys; step++)
        {
            int block = Ptx.Once(ScoreBlock(row / 16, step));
            Float4 a = scores[at + ScoreBlock(0, step)], b = scores[(at ^ 2) + ScoreBlock(0, step)];
            Warp.Barrier();
            a = Weights(a, from);
            part += a.X + a.Y + (a.Z + a.W);
            b = Weights(b, from);
            part += b.X + b.Y + (b.Z + b.W);
            ArrayView<uint> highs = scores.SubView(block, 64).Cast<uint>(), last = lows.SubView(block / 2, 32).Cast<uint>();
            WriteWeights<TOperand>(highs, last, a, odd, to);
            WriteWeights<TOperand>(highs, last, b, odd, to ^ 8);
        }

        part += Warp.ShuffleXor(part, 1);
        float factor = Ptx.Once(Weight(old - from));
        if (odd == 0)
            factors[row] = factor;
        sum = Ptx.Once(Ptx.MultiplyAdd(sum, factor, part));
        max = most;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Score(Float4 s, int distance, int seen, float toCap, float cap)
    {
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
        return s;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Weights(Float4 s, float from) =>
        new() { X = Weight(s.X - from), Y = Weight(s.Y - from), Z = Weight(s.Z - from), W = Weight(s.W - from) };

    // Weights of query g, or g + 8 (h = 1), and keys 4t to 4t + 3 are words h and h + 2 of the piece of lane 4g + t. Odd t begin with the
    // second: words of a warp's lanes that are written at once lie in different banks.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WordAt(int row, int odd) => (WeightAt(((row & 7) * 4) + odd) * 4) + (row >> 3) + (2 * odd);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteWeights<TOperand>(ArrayView<uint> highs, ArrayView<uint> lows, Float4 w, int odd, int at)
        where TOperand : struct, ITensorOperand
    {
        Float2 first = odd == 0 ? new Float2 { X = w.X, Y = w.Y } : new Float2 { X = w.Z, Y = w.W };
        Float2 second = odd == 0 ? new Float2 { X = w.Z, Y = w.W } : new Float2 { X = w.X, Y = w.Y };
        WritePair<TOperand>(highs, lows, first, at);
        WritePair<TOperand>(highs, lows, second, at ^ 2);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WritePair<TOperand>(ArrayView<uint> highs, ArrayView<uint> lows, Float2 pair, int at)
        where TOperand : struct, ITensorOperand
    {
        TensorFragments.Split<TOperand>(pair, out uint high, out uint middle, out uint low);
        highs = highs.SubView(Ptx.Once(at), 129);
        highs[0] = high;
        if (TOperand.Terms > 1)
        {
            highs[128] = middle;
            lows[Ptx.Once(at)] = low;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static XFragment Weights<TOperand>(ArrayView<Words4> highs, ArrayView<Words4> lows, int at)
        where TOperand : struct, ITensorOperand
    {
        XFragment x = default;
        x.High = highs[at];
        if (TOperand.Terms > 1)
        {
            x.Middle = highs[at + 32];
            x.Low = lows[at / 2];
        }

        return x;
    }

    /// <summary>e^x for x up to 0; 0 below −87, where it would be subnormal. NaN is kept.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Weight(float x)
    {
        float p = KernelMath.ExpMantissa(x, out float shifted);
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
    private static XFragment Split<TOperand>(Float4 upper, Float4 lower)
        where TOperand : struct, ITensorOperand
    {
        XFragment x = default;
        TensorFragments.Split<TOperand>(new Float2 { X = upper.X, Y = upper.Y }, out x.High.X, out x.Middle.X, out x.Low.X);
        TensorFragments.Split<TOperand>(new Float2 { X = lower.X, Y = lower.Y }, out x.High.Y, out x.Middle.Y, out x.Low.Y);
        TensorFragments.Split<TOperand>(new Float2 { X = upper.Z, Y = upper.W }, out x.High.Z, out x.Middle.Z, out x.Low.Z);
        TensorFragments.Split<TOperand>(new Float2 { X = lower.Z, Y = lower.W }, out x.High.W, out x.Middle.W, out x.Low.W);
        return x;
    }

    // Whether a value is not a finite number, of the keys that not all rows see: it would reach all rows of the product, as 0 · NaN. Those
    // are the keys behind the first query, and those that the last does not see any more; a warp looks at every fourth.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsUnclean<TOperand>(ArrayView<uint> values, KeyRange range, int query, int seen, ArrayView<float> found)
        where TOperand : struct, ITensorOperand
    {
        int behind = Ptx.Once(range.Count - 1 - query), before = range.Count > seen ? range.Count - seen : 0;
        float spoilt = 0f;
        for (int n = Group.IdxX / 32; n < behind + before; n += GroupSize / 32)
        {
            int word = Ptx.Once(WordOf(range, n < behind ? query + 1 + n : n - behind));
            for (int i = Group.IdxX & 31; i < range.Words; i += 32)
                spoilt = Spoilt<TOperand>(values[word + i], spoilt);
        }

        float any = Ptx.Ballot(!(spoilt == 0f)) != 0 ? 1f : 0f;
        if ((Group.IdxX & 31) == 0)
            found[Group.IdxX / 32] = any;
        Group.Barrier();
        return found[0] + found[1] + (found[2] + found[3]) > 0f;
    }

    // As the sum was, 0 or NaN; NaN if a value of the word is not a finite number.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Spoilt<TOperand>(uint word, float sum)
        where TOperand : struct, ITensorOperand => TOperand.WeightsInWord == 1 ? Ptx.MultiplyAdd(Interop.IntAsFloat(word), 0f, sum)
            : Ptx.MultiplyAdd(BF16.High(word), 0f, Ptx.MultiplyAdd(BF16.Low(word), 0f, sum));

    // Sums to which a value belongs that is not a finite number become NaN; lanes go through the keys of a tile, in the columns of their
    // sums.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddUnclean<TOperand>(
        ArrayView<uint> values, KeyRange range, int key, int query, int seen, int column, int headDim, ref AttendTile tile)
        where TOperand : struct, ITensorOperand
    {
        for (int n = key < 0 ? 0 : key; n < key + TileKeys && n < range.Count; n++)
        {
            int distance = Ptx.Once(query - n), word = Ptx.Once(WordOf(range, n));
            bool sees0 = (uint)(distance) < (uint)seen;
            bool sees1 = (uint)(distance + 8) < (uint)seen;
            bool sees2 = (uint)(distance + 16) < (uint)seen;
            bool sees3 = (uint)(distance + 24) < (uint)seen;
            bool sees4 = (uint)(distance + 32) < (uint)seen;
            bool sees5 = (uint)(distance + 40) < (uint)seen;
            bool sees6 = (uint)(distance + 48) < (uint)seen;
            bool sees7 = (uint)(distance + 56) < (uint)seen;
            Float2 spoilt0 = SpoiltPair<TOperand>(values, word, column, headDim);
            Float2 spoilt1 = SpoiltPair<TOperand>(values, word, column + 8, headDim);
            Float2 spoilt2 = SpoiltPair<TOperand>(values, word, column + 16, headDim);
            Float2 spoilt3 = SpoiltPair<TOperand>(values, word, column + 24, headDim);
            Spoil(ref tile.M0N0, spoilt0, sees0, sees1);
            Spoil(ref tile.M1N0, spoilt0, sees2, sees3);
            Spoil(ref tile.M2N0, spoilt0, sees4, sees5);
            Spoil(ref tile.M3N0, spoilt0, sees6, sees7);
            Spoil(ref tile.M0N1, spoilt1, sees0, sees1);
            Spoil(ref tile.M1N1, spoilt1, sees2, sees3);
            Spoil(ref tile.M2N1, spoilt1, sees4, sees5);
            Spoil(ref tile.M3N1, spoilt1, sees6, sees7);
            Spoil(ref tile.M0N2, spoilt2, sees0, sees1);
            Spoil(ref tile.M1N2, spoilt2, sees2, sees3);
            Spoil(ref tile.M2N2, spoilt2, sees4, sees5);
            Spoil(ref tile.M3N2, spoilt2, sees6, sees7);
            Spoil(ref tile.M0N3, spoilt3, sees0, sees1);
            Spoil(ref tile.M1N3, spoilt3, sees2, sees3);
            Spoil(ref tile.M2N3, spoilt3, sees4, sees5);
            Spoil(ref tile.M3N3, spoilt3, sees6, sees7);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float2 SpoiltPair<TOperand>(ArrayView<uint> values, int word, int column, int headDim)
        where TOperand : struct, ITensorOperand
    {
        Float2 spoilt = default;
        if (column < headDim && TOperand.WeightsInWord == 1)
        {
            spoilt.X = Spoilt<TOperand>(values[word + column], 0f);
            spoilt.Y = Spoilt<TOperand>(values[word + column + 1], 0f);
        }
        else if (column < headDim)
        {
            uint pair = values[word + (column / 2)];
            spoilt.X = 0f * BF16.Low(pair);
            spoilt.Y = 0f * BF16.High(pair);
        }

        return spoilt;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Spoil(ref Float4 block, Float2 spoilt, bool upper, bool lower)
    {
        block.X += upper ? spoilt.X : 0f;
        block.Y += upper ? spoilt.Y : 0f;
        block.Z += lower ? spoilt.X : 0f;
        block.W += lower ? spoilt.Y : 0f;
    }

    // Zeros for values of a slice that are not finite numbers.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Clean<TOperand, THead>(ArrayView<Float4> ring, int stage)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        ArrayView<uint> slice = ring.SubView(Ptx.Once(stage * (StageWords / 4)), StageWords / 4).Cast<uint>();
        for (int i = Group.IdxX; i < MixKeys * SliceColumns<TOperand, THead>() / TOperand.WeightsInWord; i += GroupSize)
        {
            uint word = slice[i];
            if (TOperand.WeightsInWord == 1)
            {
                word = Spoilt<TOperand>(word, 0f) == 0f ? word : 0;
            }
            else
            {
                word = 0f * BF16.Low(word) == 0f ? word : word & 0xFFFF0000u;
                word = 0f * BF16.High(word) == 0f ? word : word & 0xFFFFu;
            }

            slice[i] = word;
        }

        Group.Barrier();
    }

    // Weights · values of 16 keys, four blocks of 8 columns. The terms of the values stay in registers, those of the weights come for 16
    // rows at a time: all of both would be too many registers.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Mix<TOperand, THead>(
        ArrayView<Float4> scores, ArrayView<Words4> lows, int step, ArrayView<Float4> ring, int stage, int block, bool always,
        ref AttendTile tile)
        where TOperand : struct, IAttendOperand
        where THead : struct, IHeadBound
    {
        ArrayView<Float4> slice = ring.SubView(Ptx.Once(stage * (StageWords / 4)), StageWords / 4);
        int at = Ptx.Once(ValueAt<TOperand, THead>(Group.IdxX / 32, Group.IdxX & 31));
        LoadValues<TOperand, THead>(slice, at, block, out WFragment n0, out WFragment n1);
        LoadValues<TOperand, THead>(slice, at, block + 2, out WFragment n2, out WFragment n3);
        int weightAt = Ptx.Once(ScoreBlock(0, step) + WeightAt(Group.IdxX & 31));
        ArrayView<Words4> highs = scores.Cast<Words4>().SubView(weightAt, ScoreBlock(3, 0) + 33);
        lows = lows.SubView(Ptx.Once(weightAt - (ScoreBlock(0, step) / 2)), (ScoreBlock(3, 0) / 2) + 1);
        if (always || TOperand.WeightsInWord == 2)
        {
            XFragment m0 = Weights<TOperand>(highs, lows, ScoreBlock(0, 0));
            TOperand.MultiplyAdd(ref tile.M0N0, ref tile.M0N1, ref tile.M0N2, ref tile.M0N3, m0, m0, n0, n1, n2, n3);
        }

        if (always || TOperand.WeightsInWord == 2)
        {
            XFragment m1 = Weights<TOperand>(highs, lows, ScoreBlock(1, 0));
            TOperand.MultiplyAdd(ref tile.M1N0, ref tile.M1N1, ref tile.M1N2, ref tile.M1N3, m1, m1, n0, n1, n2, n3);
        }

        if (always || TOperand.WeightsInWord == 2)
        {
            XFragment m2 = Weights<TOperand>(highs, lows, ScoreBlock(2, 0));
            TOperand.MultiplyAdd(ref tile.M2N0, ref tile.M2N1, ref tile.M2N2, ref tile.M2N3, m2, m2, n0, n1, n2, n3);
        }

        if (always || TOperand.WeightsInWord == 2)
        {
            XFragment m3 = Weights<TOperand>(highs, lows, ScoreBlock(3, 0));
            TOperand.MultiplyAdd(ref tile.M3N0, ref tile.M3N1, ref tile.M3N2, ref tile.M3N3, m3, m3, n0, n1, n2, n3);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void LoadValues<TOperand, THead>(ArrayView<Float4> ring, int at, int block, out WFragment first, out WFragment second)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        if (TOperand.WeightsInWord == 1)
        {
            first = FloatValues<TOperand, THead>(ring, at, block);
            second = FloatValues<TOperand, THead>(ring, at, block + 1);
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
    private static WFragment FloatValues<TOperand, THead>(ArrayView<Float4> ring, int at, int block)
        where TOperand : struct, ITensorOperand
        where THead : struct, IHeadBound
    {
        int row = SliceColumns<TOperand, THead>();
        ArrayView<float> values = ring.Cast<float>().SubView(Ptx.Once(at ^ (8 * block)), (3 * row) + 1);
        return Split<TOperand>(new Float4 { X = values[0], Y = values[row], Z = values[2 * row], W = values[3 * row] });
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Scale(ref AttendTile tile, ArrayView<float> factors, int row)
    {
        factors = factors.SubView(Ptx.Once(row), TileRows);
        float upper0 = Ptx.Once(factors[0]), lower0 = Ptx.Once(factors[8]);
        float upper1 = Ptx.Once(factors[16]), lower1 = Ptx.Once(factors[24]);
        float upper2 = Ptx.Once(factors[32]), lower2 = Ptx.Once(factors[40]);
        float upper3 = Ptx.Once(factors[48]), lower3 = Ptx.Once(factors[56]);
        tile.M0N0 = Times(tile.M0N0, upper0, lower0);
        tile.M0N1 = Times(tile.M0N1, upper0, lower0);
        tile.M0N2 = Times(tile.M0N2, upper0, lower0);
        tile.M0N3 = Times(tile.M0N3, upper0, lower0);
        tile.M1N0 = Times(tile.M1N0, upper1, lower1);
        tile.M1N1 = Times(tile.M1N1, upper1, lower1);
        tile.M1N2 = Times(tile.M1N2, upper1, lower1);
        tile.M1N3 = Times(tile.M1N3, upper1, lower1);
        tile.M2N0 = Times(tile.M2N0, upper2, lower2);
        tile.M2N1 = Times(tile.M2N1, upper2, lower2);
        tile.M2N2 = Times(tile.M2N2, upper2, lower2);
        tile.M2N3 = Times(tile.M2N3, upper2, lower2);
        tile.M3N0 = Times(tile.M3N0, upper3, lower3);
        tile.M3N1 = Times(tile.M3N1, upper3, lower3);
        tile.M3N2 = Times(tile.M3N2, upper3, lower3);
        tile.M3N3 = Times(tile.M3N3, upper3, lower3);
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
        WriteResults(destination, tile.M1N0, to + 16, rows, column, headDim, stride);
        WriteResults(destination, tile.M1N1, to + 16, rows, column + 8, headDim, stride);
        WriteResults(destination, tile.M1N2, to + 16, rows, column + 16, headDim, stride);
        WriteResults(destination, tile.M1N3, to + 16, rows, column + 24, headDim, stride);
        WriteResults(destination, tile.M2N0, to + 32, rows, column, headDim, stride);
        WriteResults(destination, tile.M2N1, to + 32, rows, column + 8, headDim, stride);
        WriteResults(destination, tile.M2N2, to + 32, rows, column + 16, headDim, stride);
        WriteResults(destination, tile.M2N3, to + 32, rows, column + 24, headDim, stride);
        WriteResults(destination, tile.M3N0, to + 48, rows, column, headDim, stride);
        WriteResults(destination, tile.M3N1, to + 48, rows, column + 8, headDim, stride);
        WriteResults(destination, tile.M3N2, to + 48, rows, column + 16, headDim, stride);
        WriteResults(destination, tile.M3N3, to + 48, rows, column + 24, headDim, stride);
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
