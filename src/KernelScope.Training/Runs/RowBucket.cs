using System.Buffers;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>Rows that are mixed at once. They lie as they are stored, and stay where they were read; only their order is permuted.</summary>
/// <remarks>
/// Several chunks are read at once, each from its start to its end, some rows at once into a buffer that the processor's cache holds: there
/// they are checked, and from there they are copied to their places.
/// While a bucket is served, another thread reads chunks of the next one into the room of rows that were served already: the same chunks in
/// the same order, in no more memory. Until the next bucket begins they count for nothing: a saved state is that of before.
/// </remarks>
internal sealed unsafe class RowBucket : IDisposable
{
    // Of rows of width 2,304 in f32 they are 0.6 MB.
    private const int RowsAtOnce = 64;

    private const int MostChunks = 16;

    private readonly RowSource _source;
    private readonly int _rows;
    private readonly DType _type;
    private readonly int _width;
    private readonly int _targetWidth;
    private readonly int[] _slots;
    private readonly int[] _shardOf;
    private readonly int[] _rowOf;
    private readonly bool _readsAhead;
    private readonly long _capacity;
    // Nothing before the first rows are wanted.
    private NativeBuffer? _inputs;
    private NativeBuffer? _targets;
    // Where rows of the next bucket lie, in their order, and how many there were before the last chunk.
    private readonly List<int> _ahead = [];
    private int _aheadBefore;
    // Of the source before anything was read ahead; null: nothing was.
    private RowState? _place;
    private Task? _reading;
    // Chunks that are being read, in their order.
    private readonly Queue<Task> _chunks = [];
    private volatile bool _stop;
    private Xoshiro256 _order;
    private int _count;
    private int _served;
    private int _batch;

    public RowBucket(RowSource source, int rows, Xoshiro256 order, bool readsAhead)
    {
        (_source, _rows, _order, _readsAhead) = (source, rows, order, readsAhead);
        _type = source.RowType;
        _width = source.Site.Width;
        _targetWidth = source.SiteOut?.Width ?? 0;
        // A chunk more, since chunks are not divided.
        int capacity = rows + RowSource.ChunkRows;
        _capacity = (((capacity - 1L) / RowSource.ChunkRows) + 1) * RowSource.ChunkRows;
        _slots = [.. Enumerable.Range(0, capacity)];
        _shardOf = new int[capacity];
        _rowOf = new int[capacity];
    }

    /// <summary>Rows that were not served yet.</summary>
    public int Remaining => _count - _served;

    /// <summary>Bytes of all rows.</summary>
    public long Bytes => _capacity * (_width + _targetWidth) * _type.ByteSize();

    /// <summary>
    /// Fills up and mixes what was not served with what is new. At the end of an epoch it stays less full, unless it could not give
    /// <paramref name="batch"/> rows.
    /// </summary>
    public void Refill(int batch)
    {
        Join();
        Reserve();
        // A longer batch than the ones before may leave so many rows that the last chunk is one too many.
        if (_ahead.Count > 0 && Remaining + _aheadBefore > _rows)
            Rewind();
        Compact();
        (_place, _batch) = (null, batch);
        try
        {
            while (_count <= _rows)
            {
                if (_source.IsAtEnd)
                {
                    if (_count >= batch)
                        break;
                    _source.BeginEpoch();
                }

                _source.NextChunk((input, target, shard, rows) =>
                {
                    Begin(_slots[_count..(_count + rows.Count)], input, target, shard, rows);
                    _count += rows.Count;
                });
            }
        }
        finally
        {
            EndChunks();
        }

        _order.Shuffle(_slots.AsSpan(0, _count));
    }

    /// <summary>Gives the next rows.</summary>
    public void Take(int rows, Span<float> inputs, Span<float> targets)
    {
        fixed (float* input = inputs)
        fixed (float* target = targets)
        {
            // Both stay where they are until all rows are copied.
            (nint x, nint y) = ((nint)input, (nint)target);
            ParallelRows.ForEach(rows, r =>
            {
                int slot = _slots[_served + r];
                RowValues.Widen(_type, Row(_inputs!, slot, _width), new Span<float>((float*)x + ((long)r * _width), _width));
                if (_targetWidth > 0)
                    RowValues.Widen(_type, Row(_targets!, slot, _targetWidth),
                        new Span<float>((float*)y + ((long)r * _targetWidth), _targetWidth));
            });
        }

        Volatile.Write(ref _served, _served + rows);
        if (_readsAhead && (_reading?.IsCompletedSuccessfully ?? true) && MayReadAhead)
        {
            _place ??= PlaceOfSource();
            _reading = Task.Run(ReadAhead);
        }
    }

    /// <summary>Whether there is room for a chunk that the next bucket takes however many rows of this one are left: fewer than a
    /// batch.</summary>
    private bool MayReadAhead => _ahead.Count <= _rows - _batch && !(_source.IsAtEnd && _ahead.Count > 0)
        && _slots.Length - _count + Volatile.Read(ref _served) - _ahead.Count >= RowSource.ChunkRows;

    private void ReadAhead()
    {
        try
        {
            while (!_stop && MayReadAhead)
            {
                // Fewer rows than a batch are left, and no others follow in this epoch.
                if (_source.IsAtEnd)
                    _source.BeginEpoch();
                _source.NextChunk((input, target, shard, rows) =>
                {
                    _aheadBefore = _ahead.Count;
                    int behind = _slots.Length - _count;
                    int[] slots = [.. Enumerable.Range(_ahead.Count, rows.Count).Select(n => n < behind ? _slots[_count + n]
                        : _slots[n - behind])];
                    Begin(slots, input, target, shard, rows);
                    _ahead.AddRange(slots);
                });
            }
        }
        finally
        {
            EndChunks();
        }
    }

    /// <summary>Waits for what is being read ahead; what went wrong there is thrown.</summary>
    private void Join()
    {
        _reading?.GetAwaiter().GetResult();
        _reading = null;
    }

    private void Rewind()
    {
        _source.Load(_place!.FromStart());
        ForgetAhead();
    }

    /// <summary>Leaves what was read ahead; the source then stands behind it, and is brought elsewhere.</summary>
    public void ForgetAhead()
    {
        EndReading();
        _ahead.Clear();
        _place = null;
    }

    /// <summary>Ends reading ahead, and gives the memory back.</summary>
    public void Dispose()
    {
        EndReading();
        _inputs?.Dispose();
        _targets?.Dispose();
    }

    private void EndReading()
    {
        _stop = true;
        // What went wrong there concerns rows that nobody asked for.
        ((IAsyncResult?)_reading)?.AsyncWaitHandle.WaitOne();
        (_reading, _stop) = (null, false);
    }

    private RowState PlaceOfSource()
    {
        var place = new RowState();
        _source.Save(place);
        return place;
    }

    /// <summary>Adds the source's place to a reader's state, as if nothing had been read ahead.</summary>
    public void SavePlace(RowState state) => state.Append(_place ?? PlaceOfSource());

    /// <summary>Begins to read rows: which row lies where is settled before. The files stay open meanwhile. So many chunks are begun at once
    /// that no processor waits for the next.</summary>
    private void Begin(int[] slots, RowShard input, RowShard? target, int shard, IReadOnlyList<int> rows)
    {
        if (_chunks.Count >= Math.Min(2 * Environment.ProcessorCount, MostChunks))
            _chunks.Dequeue().GetAwaiter().GetResult();
        (IDisposable? first, IDisposable? second) = (input.Hold(), target?.Hold());
        _chunks.Enqueue(Task.Run(() =>
        {
            using (first)
            using (second)
            {
                Put(slots, input, rows, _inputs!, _width);
                if (target is not null)
                    Put(slots, target, rows, _targets!, _targetWidth);
                for (int i = 0; i < slots.Length; i++)
                    (_shardOf[slots[i]], _rowOf[slots[i]]) = (shard, rows[i]);
            }
        }));
    }

    private void Put(int[] slots, RowShard source, IReadOnlyList<int> rows, NativeBuffer values, int width)
    {
        int bytes = width * _type.ByteSize();
        byte[] read = ArrayPool<byte>.Shared.Rent(RowsAtOnce * bytes);
        for (int first = 0, end; first < rows.Count; first = end)
        {
            // Rows that follow one another in the file, too.
            for (end = first + 1; end < rows.Count && end - first < RowsAtOnce && rows[end] == rows[end - 1] + 1; end++)
                continue;
            source.ReadStored(rows[first], read.AsSpan(0, (end - first) * bytes));
            for (int i = first; i < end; i++)
                read.AsSpan((i - first) * bytes, bytes).CopyTo(Row(values, slots[i], width));
        }

        ArrayPool<byte>.Shared.Return(read);
    }

    /// <summary>Waits for all chunks; what went wrong with the first of them is thrown.</summary>
    private void EndChunks()
    {
        Task all = Task.WhenAll(_chunks);
        _chunks.Clear();
        all.GetAwaiter().GetResult();
    }

    /// <summary>Adds the rows that were not served to a reader's state, by shard and row.</summary>
    public void Save(RowState state)
    {
        ReadOnlySpan<int> left = _slots.AsSpan(_served, Remaining);
        int[] shards = new int[left.Length], rows = new int[left.Length];
        for (int i = 0; i < left.Length; i++)
            (shards[i], rows[i]) = (_shardOf[left[i]], _rowOf[left[i]]);
        state.Ints(shards);
        state.Ints(rows);
        state.Generator(_order);
    }

    /// <summary>Reads the rows of a saved state again.</summary>
    /// <exception cref="InvalidDataException">The state does not fit the run.</exception>
    public void Load(RowState state)
    {
        int[] shards = state.Ints(_source.Shards), rows = state.Ints(int.MaxValue);
        if (shards.Length != rows.Length || shards.Length > _slots.Length)
            throw RowState.Damaged();
        (_served, _count) = (0, shards.Length);
        for (int i = 0; i < _slots.Length; i++)
            _slots[i] = i;
        Reserve();
        try
        {
            // Shard by shard, each once.
            foreach (IGrouping<int, int> group in Enumerable.Range(0, shards.Length).GroupBy(i => shards[i]))
            {
                (RowShard input, RowShard? target) = _source.Open(group.Key);
                using (input)
                using (target)
                {
                    if (group.Any(slot => rows[slot] >= input.Rows))
                        throw RowState.Damaged();
                    int[] slots = [.. group.OrderBy(slot => rows[slot])];
                    Begin(slots, input, target, group.Key, [.. slots.Select(slot => rows[slot])]);
                }
            }
        }
        finally
        {
            EndChunks();
        }

        _order = state.Generator();
    }

    /// <summary>Brings what was not served to the front, then what was read ahead, and the slots that are free behind both.</summary>
    private void Compact()
    {
        int[] free = [.. _slots[_count..], .. _slots[.._served]], left = _slots[_served.._count];
        left.CopyTo(_slots, 0);
        // The first of the free ones are those that were read into.
        free.CopyTo(_slots, left.Length);
        (_count, _served) = (left.Length + _ahead.Count, 0);
        _ahead.Clear();
    }

    private void Reserve()
    {
        _inputs ??= Memory(_width);
        if (_targetWidth > 0)
            _targets ??= Memory(_targetWidth);
    }

    private NativeBuffer Memory(int width) =>
        NativeBuffer.TryCreate(_capacity * width * _type.ByteSize()) ?? throw new InsufficientMemoryException(
            $"A bucket of {_rows} rows takes {_capacity * width * _type.ByteSize()} bytes of memory, and there are not so many.");

    private Span<byte> Row(NativeBuffer values, int slot, int width)
    {
        ObjectDisposedException.ThrowIf(values.IsClosed, this);
        int bytes = width * _type.ByteSize();
        return new Span<byte>(values.Pointer + ((long)slot * bytes), bytes);
    }
}
