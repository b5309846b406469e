namespace KernelScope.Training.Runs;

/// <summary>One reader for several trainers that take the same batches one after the other: read once, in memory once.</summary>
/// <remarks>
/// Each trainer has a view, which looks to it like a reader of its own. One that was resumed from an earlier step than the others takes
/// batches alone until it has caught up. For one caller at a time.
/// </remarks>
internal sealed class SharedRows(RunRows rows) : IDisposable
{
    private float[] _inputs = [];
    private float[] _targets = [];
    private long _before;

    /// <summary>A reader for one more trainer.</summary>
    public ITrainingRows CreateView() => new View(this, rows);

    /// <summary>Goes to where the view is that is furthest behind; all have loaded their states.</summary>
    /// <exception cref="InvalidDataException">That state is damaged.</exception>
    public void Start(IEnumerable<ITrainingRows> views)
    {
        View[] own = [.. views.Cast<View>()];
        if (own.MinBy(v => v.Position)!.State is byte[] state)
            rows.LoadState(new MemoryStream(state));
        Array.ForEach(own, v => v.State = null);
    }

    public void Dispose() => rows.Dispose();

    private void Next(View view, Span<float> inputs, Span<float> targets)
    {
        if (view.Position == rows.Position)
        {
            (_before, _inputs, _targets) = (rows.Position, Room(_inputs, inputs), Room(_targets, targets));
            rows.Next(_inputs, _targets);
        }

        if (view.Position != _before || inputs.Length != _inputs.Length)
            throw new InvalidOperationException("A trainer asks for a batch that is not the others'.");
        _inputs.CopyTo(inputs);
        _targets.CopyTo(targets);
    }

    private static float[] Room(float[] room, Span<float> values) => room.Length == values.Length ? room : new float[values.Length];

    private sealed class View(SharedRows shared, RunRows rows) : ITrainingRows
    {
        /// <summary>What was loaded, until the reader goes there.</summary>
        public byte[]? State { get; set; }

        public string Identity => rows.Identity;

        public int Width => rows.Width;

        public int? TargetWidth => rows.TargetWidth;

        public long EpochRows => rows.EpochRows;

        public long Position { get; private set; }

        public double MeanSquaredNorm => rows.MeanSquaredNorm;

        public long ValidationRows => rows.ValidationRows;

        public void Next(Span<float> inputs, Span<float> targets)
        {
            shared.Next(this, inputs, targets);
            Position += inputs.Length / Width;
        }

        public void ReadValidation(long firstRow, Span<float> inputs, Span<float> targets) =>
            rows.ReadValidation(firstRow, inputs, targets);

        public void SaveState(Stream destination)
        {
            if (Position != rows.Position)
                throw new InvalidOperationException("The reader is not where this trainer is.");
            rows.SaveState(destination);
        }

        public void LoadState(Stream source)
        {
            using var copy = new MemoryStream();
            source.CopyTo(copy);
            State = copy.ToArray();
            Position = rows.PositionOf(State);
        }

        public void Dispose()
        {
            // The reader belongs to all.
        }
    }
}
