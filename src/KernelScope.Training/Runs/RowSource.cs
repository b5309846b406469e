using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Training.Runs;

/// <summary>
/// Chunks of contiguous rows of a run, epoch after epoch: several shards are open, and each gives its chunks in a random order of its
/// own.
/// </summary>
internal sealed class RowSource : IDisposable
{
    /// <summary>Rows of a chunk.</summary>
    public const int ChunkRows = 1024;

    private readonly IRunShards _source;
    private readonly RunPlan _plan;
    private readonly RunRowsOptions _options;
    private readonly List<Opened> _open = [];
    // Those that come next: other threads compare them with their hashes.
    private readonly Dictionary<int, Task<(RowShard Input, RowShard? Target)>> _opening = [];
    private readonly ulong _validationBelow;
    private Xoshiro256 _shardOrder;
    private Xoshiro256 _chunkOrder;
    private int[] _shards = [];
    private int _nextShard;
    private int _turn;
    private long _epoch = -1;

    public RowSource(IRunShards source, RunPlan plan, RunRowsOptions options, long seed)
    {
        (_source, _plan, _options) = (source, plan, options);
        _shardOrder = new Xoshiro256(plan.Id, seed, "shard order");
        _chunkOrder = new Xoshiro256(plan.Id, seed, "chunk order");
        _validationBelow = Below(options.Validation);
        TrainingRows = [.. Enumerable.Range(0, plan.Shards.Count).Select(CountTraining)];
    }

    /// <summary>Where inputs are.</summary>
    public SiteRecord Site => _source.Site;

    /// <summary>Where targets are; null without.</summary>
    public SiteRecord? SiteOut => _source.SiteOut;

    /// <summary>Whether chunks may be taken while others work with the device.</summary>
    public bool IsOnDisk => _source.IsOnDisk;

    /// <summary>Number of shards.</summary>
    public int Shards => _plan.Shards.Count;

    /// <summary>Rows of each shard that are served.</summary>
    public long[] TrainingRows { get; }

    /// <summary>Rows that an epoch serves.</summary>
    public long EpochRows => TrainingRows.Sum();

    /// <summary>Whether the epoch has no further chunk.</summary>
    public bool IsAtEnd => _open.Count == 0 && _nextShard == _shards.Length;

    /// <summary>Whether the rows of a sequence are held back: by the hash of its number, so that it is the same for every seed.</summary>
    public bool IsValidation(int sequence) => SplitMix64.Mix((ulong)sequence + SplitMix64.Step) < _validationBelow;

    /// <summary>The same for a share.</summary>
    public static bool IsValidation(long sequence, double share) => SplitMix64.Mix((ulong)sequence + SplitMix64.Step) < Below(share);

    private static ulong Below(double share) => (ulong)(share * Math.Pow(2, 64));

    /// <summary>How values are stored.</summary>
    public DType RowType => _plan.RowType;

    /// <summary>Opens a shard.</summary>
    public (RowShard Input, RowShard? Target) Open(int shard) =>
        _opening.Remove(shard, out Task<(RowShard, RowShard?)>? opening) ? opening.GetAwaiter().GetResult() : _source.Open(shard);

    /// <summary>Begins the next epoch; the one before is at its end.</summary>
    public void BeginEpoch()
    {
        _shards = [.. Enumerable.Range(0, Shards)];
        _shardOrder.Shuffle(_shards);
        _nextShard = 0;
        _turn = 0;
        _epoch++;
    }

    /// <summary>
    /// Gives the rows of the next chunk of the epoch that are served: fewer than <see cref="ChunkRows"/> where some are held back, and
    /// at the end of a shard.
    /// </summary>
    /// <param name="take">Called once, with the shard's files, its number, and the rows.</param>
    public void NextChunk(Action<RowShard, RowShard?, int, IReadOnlyList<int>> take)
    {
        while (_open.Count < _options.OpenShards && _nextShard < _shards.Length)
            OpenNext();
        Opened shard = _open[_turn];
        int first = shard.Order[shard.Next++] * ChunkRows, end = Math.Min(first + ChunkRows, shard.Input.Rows);
        int[] sequence = shard.Input.Sequence;
        take(shard.Input, shard.Target, shard.Shard, [.. Enumerable.Range(first, end - first).Where(r => !IsValidation(sequence[r]))]);

        if (shard.Next == shard.Order.Length)
        {
            shard.Dispose();
            _open.RemoveAt(_turn);
            // The shard that opens next takes the place of the one that is used up.
            if (_nextShard < _shards.Length)
                OpenNext(_turn);
        }
        else
        {
            _turn++;
        }

        _turn = _open.Count == 0 ? 0 : _turn % _open.Count;
    }

    /// <summary>Adds the place to a reader's state.</summary>
    public void Save(RowState state)
    {
        state.Long(_epoch);
        state.Ints(_shards);
        state.Long(_nextShard);
        state.Long(_turn);
        state.Long(_open.Count);
        foreach (Opened shard in _open)
        {
            state.Long(shard.Shard);
            state.Ints(shard.Order);
            state.Long(shard.Next);
        }

        state.Generator(_shardOrder);
        state.Generator(_chunkOrder);
    }

    /// <summary>Goes to a saved place.</summary>
    /// <exception cref="InvalidDataException">The state does not fit the run.</exception>
    public void Load(RowState state)
    {
        Close();
        _epoch = state.Long();
        _shards = state.Ints(Shards);
        _nextShard = state.Int(0, _shards.Length);
        int turn = state.Int(0, int.MaxValue), open = state.Int(0, Shards);
        for (int i = 0; i < open; i++)
        {
            int shard = state.Int(0, Shards - 1), chunks = Chunks(_plan.Shards[shard].Rows);
            int[] order = state.Ints(chunks);
            int next = state.Int(0, chunks - 1);
            if (order.Length != chunks || order.Distinct().Count() != chunks)
                throw RowState.Damaged();
            (RowShard input, RowShard? target) = Open(shard);
            _open.Add(new Opened(shard, input, target, order) { Next = next });
        }

        _turn = turn < Math.Max(1, open) ? turn : throw RowState.Damaged();
        _shardOrder = state.Generator();
        _chunkOrder = state.Generator();
    }

    public void Dispose()
    {
        Close();
        _source.Dispose();
        foreach (Task<(RowShard Input, RowShard? Target)> opening in _opening.Values)
        {
            // What went wrong there concerns rows that nobody asked for.
            ((IAsyncResult)opening).AsyncWaitHandle.WaitOne();
            if (!opening.IsCompletedSuccessfully)
                continue;
            opening.Result.Input.Dispose();
            opening.Result.Target?.Dispose();
        }

        _opening.Clear();
    }

    private static int Chunks(long rows) => (int)((rows + ChunkRows - 1) / ChunkRows);

    /// <summary>Begins to open what is to be open, and one more.</summary>
    private void OpenAhead()
    {
        if (!_options.ReadsAhead || !_source.IsOnDisk)
            return;
        foreach (int shard in _shards.Skip(_nextShard).Take(_options.OpenShards - _open.Count + 1))
        {
            if (_plan.Shards[shard].Rows > 0 && !_opening.ContainsKey(shard))
                _opening.Add(shard, Task.Run(() => _source.Open(shard)));
        }
    }

    private void OpenNext(int place = -1)
    {
        OpenAhead();
        int shard = _shards[_nextShard++];
        if (_plan.Shards[shard].Rows == 0)
            return;
        (RowShard input, RowShard? target) = Open(shard);
        int[] order = [.. Enumerable.Range(0, Chunks(input.Rows))];
        _chunkOrder.Shuffle(order);
        _open.Insert(place < 0 ? _open.Count : place, new Opened(shard, input, target, order));
    }

    private long CountTraining(int shard) => _validationBelow == 0 ? _plan.Shards[shard].Rows
        : _source.SequencesOf(shard).LongCount(s => !IsValidation(s));

    private void Close()
    {
        _open.ForEach(s => s.Dispose());
        _open.Clear();
    }

    /// <summary>A shard that is being read.</summary>
    private sealed class Opened(int shard, RowShard input, RowShard? target, int[] order) : IDisposable
    {
        public int Shard => shard;

        public RowShard Input => input;

        public RowShard? Target => target;

        public int[] Order => order;

        public int Next { get; set; }

        public void Dispose()
        {
            input.Dispose();
            target?.Dispose();
        }
    }
}
