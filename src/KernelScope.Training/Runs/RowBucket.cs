namespace KernelScope.Training.Runs;

/// <summary>Rows that are mixed at once. They lie in blocks of 1,024 and stay where they were read; only their order is permuted.</summary>
internal sealed class RowBucket
{
    private readonly RowSource _source;
    private readonly int _rows;
    private readonly int _width;
    private readonly int _targetWidth;
    private readonly float[]?[] _inputs;
    private readonly float[]?[] _targets;
    private readonly int[] _slots;
    private readonly int[] _shardOf;
    private readonly int[] _rowOf;
    private Xoshiro256 _order;
    private int _count;
    private int _served;

    public RowBucket(RowSource source, int rows, Xoshiro256 order)
    {
        (_source, _rows, _order) = (source, rows, order);
        _width = source.Site.Width;
        _targetWidth = source.SiteOut?.Width ?? 0;
        // A chunk more, since chunks are not divided.
        int capacity = rows + RowSource.ChunkRows, blocks = ((capacity - 1) / RowSource.ChunkRows) + 1;
        _inputs = new float[blocks][];
        _targets = new float[blocks][];
        _slots = [.. Enumerable.Range(0, capacity)];
        _shardOf = new int[capacity];
        _rowOf = new int[capacity];
    }

    /// <summary>Rows that were not served yet.</summary>
    public int Remaining => _count - _served;

    /// <summary>Bytes of all rows.</summary>
    public long Bytes => (long)_inputs.Length * RowSource.ChunkRows * (_width + _targetWidth) * sizeof(float);

    /// <summary>
    /// Fills up and mixes what was not served with what is new. At the end of an epoch it stays less full, unless it could not give
    /// <paramref name="batch"/> rows.
    /// </summary>
    public void Refill(int batch)
    {
        Compact();
        while (_count <= _rows)
        {
            if (_source.IsAtEnd)
            {
                if (_count >= batch)
                    break;
                _source.BeginEpoch();
            }

            _source.NextChunk(Add);
        }

        _order.Shuffle(_slots.AsSpan(0, _count));
    }

    /// <summary>Gives the next rows.</summary>
    public unsafe void Take(int rows, Span<float> inputs, Span<float> targets)
    {
        fixed (float* input = inputs)
        fixed (float* target = targets)
        {
            // Both stay where they are until all rows are copied.
            (nint x, nint y) = ((nint)input, (nint)target);
            ParallelRows.ForEach(rows, r =>
            {
                int slot = _slots[_served + r];
                Row(_inputs, slot, _width).CopyTo(new Span<float>((float*)x + ((long)r * _width), _width));
                if (_targetWidth > 0)
                    Row(_targets, slot, _targetWidth).CopyTo(new Span<float>((float*)y + ((long)r * _targetWidth), _targetWidth));
            });
        }

        _served += rows;
    }

    /// <summary>Reads the rows of a chunk, several at once: which row lies where is settled before.</summary>
    private void Add(RowShard input, RowShard? target, int shard, IReadOnlyList<int> rows)
    {
        int first = _count;
        _count += rows.Count;
        for (int i = 0; i < rows.Count; i++)
            MakeBlock(_slots[first + i]);
        ParallelRows.ForEach(rows.Count, i => Put(_slots[first + i], input, target, shard, rows[i]));
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
        // Shard by shard, each once.
        foreach (IGrouping<int, int> group in Enumerable.Range(0, shards.Length).GroupBy(i => shards[i]))
        {
            (RowShard input, RowShard? target) = _source.Open(group.Key);
            using (input)
            using (target)
            {
                foreach (int slot in group)
                {
                    MakeBlock(slot);
                    Put(slot, input, target, group.Key, rows[slot] < input.Rows ? rows[slot] : throw RowState.Damaged());
                }
            }
        }

        _order = state.Generator();
    }

    private void Put(int slot, RowShard input, RowShard? target, int shard, int row)
    {
        input.Read(row, Row(_inputs, slot, _width));
        target?.Read(row, Row(_targets, slot, _targetWidth));
        (_shardOf[slot], _rowOf[slot]) = (shard, row);
    }

    /// <summary>Brings what was not served to the front, and the slots of what was behind it.</summary>
    private void Compact()
    {
        int[] served = _slots[.._served];
        _slots.AsSpan(_served, _slots.Length - _served).CopyTo(_slots);
        served.CopyTo(_slots, _slots.Length - served.Length);
        _count -= _served;
        _served = 0;
    }

    private void MakeBlock(int slot)
    {
        _inputs[slot / RowSource.ChunkRows] ??= new float[RowSource.ChunkRows * _width];
        if (_targetWidth > 0)
            _targets[slot / RowSource.ChunkRows] ??= new float[RowSource.ChunkRows * _targetWidth];
    }

    private static Span<float> Row(float[]?[] blocks, int slot, int width) =>
        blocks[slot / RowSource.ChunkRows].AsSpan(slot % RowSource.ChunkRows * width, width);
}
