using KernelScope.Cpu.Panels;
using KernelScope.Files;

namespace KernelScope.Cpu;

/// <summary>Attention of many queries (a prefill), by register tiles and an online softmax.</summary>
/// <remarks>
/// Equation: z = Σ_j p_j·v_j, p = softmax_j(cap(scale·q·k_j)). Partition: a unit is one key/value head and a block of query positions, for all query heads that share it.
/// It passes over blocks of keys from the first that any of its queries sees to the last: scores by tiles of packed queries and transposed keys, then for each row the block's maximum,
/// the exponentials and their sum, then P·V by tiles, which joins z (<see cref="RunningSoftmax"/>). Tiles without a visible key are skipped.
/// Flops: 4·visible keys·d_head for each query; memory of a worker: about 0.7 MB for 2B's heads.
/// </remarks>
internal static unsafe class AttendManyOp<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    private const int Keys = AttendJob.BlockKeys;

    /// <summary>A worker's memory, cut into its uses. Rows are those of all heads of the group, head by head, each head's padded to whole tiles.</summary>
    private readonly struct Room
    {
        public readonly float* Queries;
        public readonly float* Panel;
        public readonly float* Copy;
        public readonly float* Scores;
        public readonly float* PackedScores;
        public readonly float* Z;

        /// <summary>P·V of a tile's rows.</summary>
        public readonly float* Own;
        public readonly RunningSoftmax* Softmax;

        /// <summary>Of each row, what z and the block's own z are to be multiplied by.</summary>
        public readonly (float Old, float Block)* Factors;
        public readonly float* End;

        public Room(AttendJob* job, float* memory)
        {
            long rows = (long)job->Group * PaddedRows(job);
            long width = (job->Cache.HeadDim + RegisterTile<S, V>.Columns - 1) / RegisterTile<S, V>.Columns * RegisterTile<S, V>.Columns;
            Queries = memory;
            Panel = Queries + (rows * width);
            Copy = Panel + (Keys * width);
            Scores = Copy + (Keys * width);
            PackedScores = Scores + (rows * Keys);
            Z = PackedScores + (PaddedRows(job) * Keys);
            Own = Z + (rows * width);
            Softmax = (RunningSoftmax*)(Own + (S.TileRows * width));
            Factors = ((float, float)*)(Softmax + rows);
            End = (float*)(Factors + rows);
        }
    }

    /// <summary>Query positions of a unit: whole tiles, about 144 rows with all heads of the group: what they and a block of keys and values need stays in a second-level cache of 1 MB.</summary>
    public static int UnitRows(AttendJob* job) => Math.Max(S.TileRows, 144 / job->Group / S.TileRows * S.TileRows);

    /// <summary>Memory that a worker needs.</summary>
    public static long ScratchLength(AttendJob* job) => new Room(job, null).End - (float*)null + 15;

    public static void Unit(void* argument, int unit, int worker)
    {
        var job = (AttendJob*)argument;
        int kvHead = unit % job->Cache.Heads;
        // The last queries see the most keys: they go first, so that the threads end together.
        int first = (((job->Rows - 1) / job->UnitRows) - (unit / job->Cache.Heads)) * job->UnitRows;
        int rows = Math.Min(job->UnitRows, job->Rows - first);
        var room = new Room(job, job->Scratch + (worker * job->ScratchStride));
        Begin(job, room, kvHead, first, rows);
        int last = job->Position + first + rows - 1;
        int from = job->FirstKey(job->Position + first);
        while (from <= last)
        {
            int count = Math.Min(last - from + 1, Keys - (from % Keys));
            OverBlock(job, room, kvHead, job->Position + first, rows, from, count, Math.Min(last - from - count + 1, Keys));
            from += count;
        }

        End(job, room, kvHead, first, rows);
    }

    private static int PaddedRows(AttendJob* job) => job->UnitRows;

    private static void Begin(AttendJob* job, in Room room, int kvHead, int first, int rows)
    {
        int headDim = job->Cache.HeadDim;
        int all = job->Group * PaddedRows(job);
        for (int g = 0; g < job->Group; g++)
        {
            float* q = job->Q + (first * job->QStride) + (((long)kvHead * job->Group + g) * headDim);
            for (int t = 0; t < rows; t += S.TileRows)
                RegisterTile<S, V>.PackRows(q + (t * job->QStride), job->QStride, Math.Min(S.TileRows, rows - t), headDim,
                    room.Queries + ((long)((g * PaddedRows(job)) + t) * headDim));
        }

        new Span<float>(room.Z, all * headDim).Clear();
        new Span<RunningSoftmax>(room.Softmax, all).Fill(RunningSoftmax.None);
    }

    /// <summary>A block of keys. What is read next is prefetched meanwhile: its values during the scores, the <paramref name="nextCount"/> keys after it during the mix.</summary>
    private static void OverBlock(AttendJob* job, in Room room, int kvHead, int position, int rows, int from, int count, int nextCount)
    {
        int headDim = job->Cache.HeadDim;
        Prefetch next = Ahead(job, job->Cache.Values, kvHead, from, count);
        var keys = new StoredMatrix
        {
            Pointer = job->Cache.Block(job->Cache.Keys, kvHead, from, count, room.Copy),
            DType = job->Cache.Type,
            Outputs = count
        };
        if (job->Cache.Type == DType.BF16)
            FloatBlocks<S, V>.PackPlain<ElementBf16>(&keys, headDim, 0, count, 0, headDim, room.Panel);
        else
            FloatBlocks<S, V>.PackPlain<ElementF32>(&keys, headDim, 0, count, 0, headDim, room.Panel);
        for (int g = 0; g < job->Group; g++)
            ScoresOfHead(job, room, g, position, rows, from, count, ref next);

        float* values = job->Cache.Widened(job->Cache.Values, kvHead, from, count, room.Copy);
        bool allSeeAll = from >= job->FirstKey(position + rows - 1) && from + count - 1 <= position;
        if (!allSeeAll && !AllFinite(values, count * headDim))
        {
            MixRowByRow(job, room, position, rows, from, count, values);
            return;
        }

        bool direct = headDim % RegisterTile<S, V>.Columns == 0;
        if (!direct)
        {
            var part = new StoredMatrix { Pointer = (byte*)values, DType = DType.F32, Outputs = headDim, Transposed = true };
            FloatBlocks<S, V>.PackTransposed<ElementF32>(&part, 0, headDim, 0, count, room.Panel);
        }

        next = Ahead(job, job->Cache.Keys, kvHead, from + count, nextCount);
        for (int g = 0; g < job->Group; g++)
            MixOfHead(job, room, g, position, rows, from, count, direct ? values : null, ref next);
    }

    /// <summary>Keys or values of positions, up to the ring's end.</summary>
    private static Prefetch Ahead(AttendJob* job, byte* keysOrValues, int kvHead, int from, int count)
    {
        int bytes = job->Cache.HeadDim * job->Cache.Size;
        return new Prefetch(job->Cache.Place(keysOrValues, kvHead, from), bytes, bytes,
            Math.Min(count, job->Cache.Capacity - (from % job->Cache.Capacity)));
    }

    /// <summary>Tiles of a head's rows and <paramref name="columns"/> columns, over all heads of the group.</summary>
    private static int Tiles(AttendJob* job, int rows, int columns) =>
        job->Group * ((rows + S.TileRows - 1) / S.TileRows) * ((columns + RegisterTile<S, V>.Columns - 1) / RegisterTile<S, V>.Columns);

    /// <summary>Scores of one head, their maximum and exponentials; z and the sum so far are brought to the new maximum.</summary>
    private static void ScoresOfHead(AttendJob* job, in Room room, int g, int position, int rows, int from, int count, ref Prefetch next)
    {
        int headDim = job->Cache.HeadDim, share = next.Share(Tiles(job, rows, count)), place = from % Keys;
        for (int t = 0; t < rows; t += S.TileRows)
        {
            int tileRows = Math.Min(S.TileRows, rows - t);
            int row = (g * PaddedRows(job)) + t;
            (int low, int high) = Visible(job, position + t, tileRows, from, count);
            if (low >= high)
                continue;
            for (int j = low / RegisterTile<S, V>.Columns * RegisterTile<S, V>.Columns; j < high; j += RegisterTile<S, V>.Columns)
            {
                next.Issue(share);
                RegisterTile<S, V>.Run(RegisterTile<S, V>.Height(tileRows), tileRows, 0,
                    Math.Min(RegisterTile<S, V>.Columns, Keys - place - j), headDim, room.Queries + ((long)row * headDim),
                    room.Panel + ((long)j * headDim), RegisterTile<S, V>.Columns, room.Scores + ((long)row * Keys) + place + j, Keys,
                    add: false);
            }

            for (int r = 0; r < tileRows; r++)
            {
                (int first, int end) = Visible(job, position + t + r, 1, from, count);
                SoftmaxOfRow(job, room, row + r, place, first, end, low, high);
            }
        }
    }

    /// <summary>
    /// One row: keys <paramref name="first"/> … <paramref name="end"/> − 1 of those read are visible; weights from <paramref name="low"/> to <paramref name="high"/> must be set.
    /// The first that was read has its score at <paramref name="place"/> of the block.
    /// </summary>
    private static void SoftmaxOfRow(AttendJob* job, in Room room, int row, int place, int first, int end, int low, int high)
    {
        float* s = room.Scores + ((long)row * Keys) + place;
        room.Factors[row] = (1, 0);
        if (first >= end)
        {
            new Span<float>(s + low, high - low).Clear();
            return;
        }

        // Vectors begin at multiples of their width in the block, whatever the first visible key: then a row's sum depends neither on its tile nor on its chunk.
        int start = ((place + first) / S.Lanes * S.Lanes) - place;
        float max = Scores<S, V>.Finish(s + start, first - start, end - start, job->Scale, job->Cap);
        if (float.IsNegativeInfinity(max))
        {
            new Span<float>(s + low, high - low).Clear();
            return;
        }

        room.Factors[row] = room.Softmax[row].Add(max, Scores<S, V>.Exponentials(s + start, end - start, max));
        new Span<float>(s + low, Math.Max(0, first - low)).Clear();
        new Span<float>(s + end, Math.Max(0, high - end)).Clear();
    }

    /// <summary>P·V for one head, which joins z. Values are taken where they lie, or from the panel where they are null.</summary>
    private static void MixOfHead(AttendJob* job, in Room room, int g, int position, int rows, int from, int count, float* values,
        ref Prefetch next)
    {
        int headDim = job->Cache.HeadDim, share = next.Share(Tiles(job, rows, headDim));
        int tile = RegisterTile<S, V>.Columns, place = from % Keys;
        for (int t = 0; t < rows; t += S.TileRows)
        {
            int tileRows = Math.Min(S.TileRows, rows - t);
            (int low, int high) = Visible(job, position + t, tileRows, from, count);
            if (low >= high)
                continue;
            int row = (g * PaddedRows(job)) + t;
            RegisterTile<S, V>.PackRows(room.Scores + ((long)row * Keys) + place + low, Keys, tileRows, high - low, room.PackedScores);
            for (int i = 0; i < headDim; i += tile)
            {
                next.Issue(share);
                float* b = values == null ? room.Panel + ((long)i * count) + (low * tile) : values + ((long)low * headDim) + i;
                RegisterTile<S, V>.Run(RegisterTile<S, V>.Height(tileRows), tileRows, 0, Math.Min(tile, headDim - i), high - low,
                    room.PackedScores,
                    b, values == null ? tile : headDim, room.Own + i, headDim, add: false);
            }

            for (int r = 0; r < tileRows; r++)
                Join(room, row + r, room.Own + (r * headDim), headDim);
        }
    }

    /// <summary>The same where a value is infinite or NaN and some rows do not see it: weight 0 times ∞ is not 0.</summary>
    private static void MixRowByRow(AttendJob* job, in Room room, int position, int rows, int from, int count, float* values)
    {
        int headDim = job->Cache.HeadDim;
        for (int g = 0; g < job->Group; g++)
        {
            for (int t = 0; t < rows; t++)
            {
                int row = (g * PaddedRows(job)) + t;
                (int low, int high) = Visible(job, position + t, 1, from, count);
                if (low >= high)
                    continue;
                new Span<float>(room.Own, headDim).Clear();
                for (int j = low; j < high; j++)
                    RowSum<S, V>.AddOne<ElementF32>((byte*)(values + ((long)j * headDim)),
                        room.Scores[((long)row * Keys) + (from % Keys) + j], room.Own, headDim);
                Join(room, row, room.Own, headDim);
            }
        }
    }

    private static void Join(in Room room, int row, float* own, int headDim)
    {
        (float old, float factor) = room.Factors[row];
        if (factor != 0)
            Scores<S, V>.Join(room.Z + ((long)row * headDim), old, own, factor, headDim);
    }

    private static void End(AttendJob* job, in Room room, int kvHead, int first, int rows)
    {
        int headDim = job->Cache.HeadDim;
        for (int g = 0; g < job->Group; g++)
        {
            for (int t = 0; t < rows; t++)
            {
                int row = (g * PaddedRows(job)) + t;
                float* z = room.Z + ((long)row * headDim);
                Scores<S, V>.Scale(z, headDim, (float)(1 / room.Softmax[row].Sum));
                float* y = job->Y + ((first + t) * job->Stride) + ((((long)kvHead * job->Group) + g) * headDim);
                new ReadOnlySpan<float>(z, headDim).CopyTo(new Span<float>(y, headDim));
            }
        }
    }

    /// <summary>Keys of the block, counted from its first, that any of some consecutive queries sees: from the first query's first to the last query's own.</summary>
    private static (int Low, int High) Visible(AttendJob* job, int position, int rows, int from, int count) =>
        (Math.Max(0, job->FirstKey(position) - from), Math.Min(count, position + rows - from));

    private static bool AllFinite(float* values, int count)
    {
        // 0·x is 0 for every finite x, and NaN for the others.
        V sum = S.All(0);
        int i = 0;
        for (; i + S.Lanes <= count; i += S.Lanes)
            sum = S.MultiplyAdd(S.All(0), S.Load(values + i), sum);
        float all = S.Sum(sum);
        for (; i < count; i++)
            all += 0 * values[i];
        return all == 0;
    }
}
