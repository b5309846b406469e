using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cuda;

/// <summary>Attention.</summary>
public sealed partial class CudaDevice
{
    /// <summary>The largest head that the kernels have registers for.</summary>
    private const int MaxHeadDim = 256;

    /// <summary>The most blocks over which the keys of a query are split: the merge weighs one part a thread, of two heads at once.</summary>
    private const int MaxSplits = 64;

    /// <summary>Rows whose places go over with one op: their tables for all layers of a step fit into the small data of a batch.</summary>
    private const int MaxPlaces = 128;

    /// <summary>Rows and columns of a fragment of queries on tensor cores.</summary>
    private const int FragmentRows = 16, FragmentColumns = 16;

    /// <summary>Values of the table for each row.</summary>
    private const int PlaceFields = 6;

    private long[] _places = [];
    private int _placeCount;

    /// <inheritdoc/>
    /// <remarks>
    /// Up to 8 rows: the keys split over blocks, then a merge in order. More: tiles of 64 queries by 64 keys on tensor cores, or of 32 by 32 without them.
    /// </remarks>
    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        if (cache.HeadDim > MaxHeadDim)
            throw new ArgumentException($"Heads of {cache.HeadDim} values are too large for the CUDA kernels, which take up " +
                $"to {MaxHeadDim}.", nameof(cache));
        if (q.Rows > FewRows)
            AttendTiles(q, cache, position, shape, destination);
        else
            AttendSplits(q, cache, position, shape, destination);
    }

    /// <inheritdoc/>
    /// <remarks>
    /// Rows of sequences with up to 8 rows each, as in a decode step, share two launches; each gets the splits, and so the bits, that it
    /// gets alone.
    /// </remarks>
    protected override void AttendCore(Mat q, ReadOnlySpan<SequenceRows> sequences, AttentionShape shape, Mat destination)
    {
        KvLayer first = sequences[0].Cache;
        bool wide = IsWide(q, first), alike = first.HeadDim <= MaxHeadDim;
        foreach (SequenceRows s in sequences)
            alike &= s.RowCount <= FewRows && IsWide(q.RowRange(s.FirstRow, s.RowCount), s.Cache) == wide;
        if (!alike || !TryPlace(sequences, shape, q.Rows))
            base.AttendCore(q, sequences, shape, destination);
        else
            AttendRows(q, first, shape, destination, wide);
    }

    private void AttendRows(Mat q, KvLayer first, AttentionShape shape, Mat destination, bool wide)
    {
        bool pairs = Pairs(shape, first);
        int rows = _placeCount, mostSplits = 1;
        for (int n = 0; n < rows; n++)
            mostSplits = Math.Max(mostSplits, (int)_places[(n * PlaceFields) + 3]);
        long partValues = (long)rows * shape.HeadCount * mostSplits * (first.HeadDim + 2);
        _scratch.Begin(partValues * sizeof(float));
        ulong parts = _scratch.Take(partValues * sizeof(float));
        View<float> made = new(parts, partValues);
        LaunchQueue queue = BeginOp(rows * PlaceFields * sizeof(long));
        View<long> places = queue.Upload<long>(_places.AsSpan(0, rows * PlaceFields));
        int heads = pairs ? 2 : 1;
        AttendRowsPartKernel kernel = wide ? _kernels.AttendRowsWidePart(first.Type, heads) : _kernels.AttendRowsPart(first.Type, heads);
        kernel.Launch(queue, new(mostSplits, shape.HeadCount / heads, rows), View(q), Keys(first), Values(first), places, made,
            shape.HeadCount, first.KvHeadCount, first.HeadDim, shape.Window, Options.KeysPerSplit, shape.Scale, shape.Softcap, q.Stride);
        _kernels.AttendRowsMerge().Launch(queue, new(shape.HeadCount, rows), made, places, View(destination), mostSplits, shape.Window,
            Options.KeysPerSplit, first.HeadDim, destination.Stride);
    }

    /// <summary>Fills the table that the kernels for several sequences read (RowPlaces); false if it would be too large.</summary>
    /// <param name="sequences">The sequences.</param>
    /// <param name="shape">What attention needs; the default where only positions and caches matter.</param>
    /// <param name="rows">At most so many rows.</param>
    private bool TryPlace(ReadOnlySpan<SequenceRows> sequences, AttentionShape shape, int rows)
    {
        if (rows > MaxPlaces)
            return false;
        if (_places.Length < rows * PlaceFields)
            _places = new long[MaxPlaces * PlaceFields];
        KvLayer first = sequences[0].Cache;
        ulong keys = Address(first.Keys), values = Address(first.Values);
        _placeCount = 0;
        foreach (SequenceRows s in sequences)
        {
            int splits = shape.HeadCount == 0 ? 0 : SplitsFor(s.Cache.Capacity, shape.Window);
            // Addresses are multiples of a value apart, in either direction.
            int size = first.Type == DType.BF16 ? sizeof(ushort) : sizeof(float);
            long keyStart = (long)(Address(s.Cache.Keys) - keys) / size, valueStart = (long)(Address(s.Cache.Values) - values) / size;
            for (int t = 0; t < s.RowCount; t++)
            {
                ReadOnlySpan<long> place = [s.FirstRow + t, s.Position + t, s.Cache.Capacity, splits, keyStart, valueStart];
                place.CopyTo(_places.AsSpan(_placeCount++ * PlaceFields));
            }
        }

        return true;
    }

    private void AttendTiles(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        Operand all = Operand.From(this, q);
        if (UsesTensorCores(all) && cache.HeadDim % 8 == 0 && IsWide(q, cache))
        {
            AttendTensor(all, cache, position, shape, destination);
            return;
        }

        AttendTileKernel kernel = _kernels.AttendTile(cache.Type, cache.HeadDim);
        LaunchQueue queue = BeginOp();
        View<int> at = queue.Position(position);
        kernel.Launch(queue, new(Blocks(q.Rows, kernel.Info.TileRows), shape.HeadCount), View(q), Keys(cache), Values(cache), at,
            View(destination), q.Rows, cache.KvHeadCount, cache.HeadDim, cache.Capacity, shape.Window, shape.Scale, shape.Softcap,
            q.Stride, destination.Stride);
    }

    /// <summary>Tiles on tensor cores, of queries that were split into fragments; as many rows at once as have room for them in the work space, on which results do not depend.</summary>
    private void AttendTensor(Operand q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        AttendTensorKernel kernel = _kernels.AttendTensor(cache.Type, Options.Precision, cache.HeadDim);
        AttendQueriesKernel split = _kernels.AttendQueries(Options.Precision);
        int tileRows = kernel.Info.TileRows, terms = Options.Precision == Precision.Fast ? 1 : 3;
        long tileBytes = shape.HeadCount * Blocks(cache.HeadDim, FragmentColumns) * (tileRows * FragmentColumns * sizeof(ushort) * terms);
        int most = (int)Math.Clamp(Options.WorkBytes / tileBytes, 1, Blocks(q.Rows, tileRows)) * tileRows;
        for (int first = 0; first < q.Rows; first += most)
        {
            Operand rows = q.RowRange(first, Math.Min(most, q.Rows - first));
            long tiles = Blocks(rows.Rows, tileRows);
            _scratch.Begin(tiles * tileBytes);
            View<Stored> fragments = new(_scratch.Take(tiles * tileBytes), tiles * tileBytes / sizeof(ushort));
            LaunchQueue queue = BeginOp();
            split.Launch(queue, new(tiles * (tileRows / FragmentRows), shape.HeadCount), rows.View, fragments, rows.Rows, cache.HeadDim,
                rows.Stride);
            View<int> at = queue.Position(position);
            Mat target = destination.RowRange(first, rows.Rows);
            kernel.Launch(queue, new(shape.HeadCount, tiles), fragments, Keys(cache), Values(cache), at, View(target), first, rows.Rows,
                cache.KvHeadCount, cache.HeadDim, cache.Capacity, shape.Window, shape.Scale, shape.Softcap, destination.Stride);
        }
    }

    private void AttendSplits(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        bool wide = IsWide(q, cache);
        int heads = Pairs(shape, cache) ? 2 : 1, splits = SplitsFor(cache.Capacity, shape.Window);
        long partValues = (long)q.Rows * shape.HeadCount * splits * (cache.HeadDim + 2);
        _scratch.Begin(partValues * sizeof(float));
        View<float> parts = new(_scratch.Take(partValues * sizeof(float)), partValues);
        LaunchQueue queue = BeginOp();
        View<int> at = queue.Position(position);
        Grid grid = new(splits, shape.HeadCount / heads, q.Rows);
        // A decode step: of several rows the merge is a smaller part of the whole.
        if (wide && q.Rows == 1 && shape.HeadCount / heads <= MostTickets)
        {
            _kernels.AttendWideWhole(cache.Type, heads).Launch(queue, grid, View(q), Keys(cache), Values(cache), at, parts,
                new(_tickets.Address, MostTickets), View(destination), shape.HeadCount, cache.KvHeadCount, cache.HeadDim, cache.Capacity,
                shape.Window, Options.KeysPerSplit, shape.Scale, shape.Softcap, q.Stride, destination.Stride);
            return;
        }

        AttendPartKernel kernel = wide ? _kernels.AttendWidePart(cache.Type, heads) : _kernels.AttendPart(cache.Type, heads);
        kernel.Launch(queue, grid, View(q), Keys(cache), Values(cache), at, parts, shape.HeadCount, cache.KvHeadCount, cache.HeadDim,
            cache.Capacity, shape.Window, Options.KeysPerSplit, shape.Scale, shape.Softcap, q.Stride);
        _kernels.AttendMerge().Launch(queue, new(shape.HeadCount, q.Rows), parts, at, View(destination), splits, shape.Window,
            Options.KeysPerSplit, cache.HeadDim, destination.Stride);
    }

    private View<Stored> Keys(KvLayer cache) => new(Address(cache.Keys), ValuesOf(cache));

    private View<Stored> Values(KvLayer cache) => new(Address(cache.Values), ValuesOf(cache));

    /// <summary>Values of a cache's keys, and of its values.</summary>
    private static long ValuesOf(KvLayer cache) => (long)cache.Keys.Rows * cache.HeadDim;

    /// <summary>Whether two query heads share a pass over their keys.</summary>
    private static bool Pairs(AttentionShape shape, KvLayer cache) => shape.HeadCount / cache.KvHeadCount % 2 == 0;

    /// <summary>Whether loads of 16 bytes fit.</summary>
    private bool IsWide(Mat q, KvLayer cache) => cache.HeadDim % 4 == 0 && Operand.From(this, q).IsAligned && Address(cache.Keys) % 16 == 0
        && Address(cache.Values) % 16 == 0;

    /// <summary>
    /// Over how many blocks the keys of a query are split. It depends on the cache alone: not on the position, so that the same launches
    /// serve every decode step, and not on the device or on other rows,
    /// so that sums have one order everywhere.
    /// </summary>
    private int SplitsFor(int capacity, int window)
    {
        int keys = window > 0 ? Math.Min(capacity, window) : capacity;
        return (int)Math.Clamp(Blocks(keys, Options.KeysPerSplit), 1, MaxSplits);
    }
}
