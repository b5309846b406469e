using System.Globalization;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Training.Runs;

/// <summary>
/// The rows of a site of a run on disk, mixed, for training. Rows of one sequence do not stay together: an epoch is a permutation of
/// the shards; a bucket is filled with chunks of 1,024 contiguous rows, in turn from the
/// shards that are open, each in a random order of its chunks; then it is permuted and served. What is left of an epoch that does not
/// fill a batch goes into the next epoch's first bucket.
/// </summary>
/// <remarks>
/// Every random stream has a generator of its own, seeded by run id, seed and name, so that the order is the same on every machine. A
/// transcoder's inputs and targets are rows of the same tokens.
/// Files are checked as files of strangers. For one caller at a time.
/// <code>
/// using var rows = RunRows.Open("acts", HookPoint.Parse("resid_post.3"));
/// float[] batch = new float[4096 * rows.Width];
/// rows.Next(batch, []);
/// </code>
/// </remarks>
public sealed class RunRows : ITrainingRows
{
    private readonly RunRowsOptions _options;
    private readonly IRunShards _shards;
    private readonly RunPlan _plan;
    private readonly RowSource _source;
    private readonly RowBucket _bucket;
    private readonly long _validationRows;
    private RowShard? _validationInput;
    private RowShard? _validationTarget;
    private int _validationShard = -1;
    private int[] _validationIndex = [];
    private bool _isDisposed;

    private RunRows(IRunShards shards, RunPlan plan, RunRowsOptions options)
    {
        (_options, _shards, _plan) = (options, shards, plan);
        (SiteRecord site, SiteRecord? siteOut) = (shards.Site, shards.SiteOut);
        long seed = options.Seed ?? plan.Seed;
        _source = new RowSource(shards, plan, options, seed);
        EpochRows = _source.EpochRows;
        _validationRows = plan.Rows - EpochRows;
        if (EpochRows == 0)
        {
            _source.Dispose();
            throw new ArgumentException("all rows are held back for validation; none is left to train on.", nameof(options));
        }

        int bucketRows = (int)Math.Min(options.BucketRows, Math.Min(EpochRows, int.MaxValue / 2));
        _bucket = new RowBucket(_source, bucketRows, new Xoshiro256(plan.Id, seed, "bucket order"),
            readsAhead: options.ReadsAhead && _source.IsOnDisk && !options.MixHalf);
        BucketRows = bucketRows;
        Identity = string.Create(
            CultureInfo.InvariantCulture,
            $"run {plan.Id} {site.Name}{(siteOut is null ? "" : $">{siteOut.Name}")} seed {seed} bucket " +
                $"{bucketRows}{(options.MixHalf ? " half" : "")} shards {options.OpenShards} validation {options.Validation:R}");
    }

    /// <inheritdoc/>
    public string Identity { get; }

    /// <inheritdoc/>
    public int Width => _source.Site.Width;

    /// <inheritdoc/>
    public int? TargetWidth => _source.SiteOut?.Width;

    /// <inheritdoc/>
    public long EpochRows { get; }

    /// <inheritdoc/>
    public long Position { get; private set; }

    /// <summary>Mean of ‖x‖² over all rows of the run, from its manifests.</summary>
    public double MeanSquaredNorm => _shards.MeanSquaredNorm;

    /// <inheritdoc/>
    public long ValidationRows => _validationRows;

    /// <summary>Rows that are mixed at once.</summary>
    public int BucketRows { get; }

    /// <summary>Bytes that the bucket takes in memory.</summary>
    public long BucketBytes => _bucket.Bytes;

    /// <summary>Opens the rows of a run that is complete.</summary>
    /// <param name="path">The run's folder.</param>
    /// <param name="site">Where the inputs were taken.</param>
    /// <param name="siteOut">Where a transcoder's targets were; null where a row is its own target.</param>
    /// <param name="options">Order and validation; null: the defaults.</param>
    /// <exception cref="InvalidDataException">A file is missing, malformed or damaged, the run is not complete, or has no such site;
    /// the message says which.</exception>
    /// <exception cref="ArgumentException">An option is out of range, or no row is left to train on.</exception>
    public static RunRows Open(string path, HookPoint site, HookPoint? siteOut = null, RunRowsOptions? options = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var folder = new RunFolder(path);
        return Open(folder, RunPlan.Read(folder), site, siteOut, options ?? new RunRowsOptions());
    }

    /// <summary>The same of a run whose plan was read.</summary>
    internal static RunRows Open(RunFolder folder, RunPlan plan, HookPoint site, HookPoint? siteOut, RunRowsOptions options)
    {
        Check(options);
        return new RunRows(new StoredShards(folder, plan, Find(folder, plan, site), siteOut is HookPoint target ? Find(folder, plan, target)
            : null, options.Trust), plan, options);
    }

    /// <summary>The rows of a run that need not be harvested: the model makes them as they are wanted, in the order and with the bits that
    /// they have on disk.</summary>
    /// <exception cref="InvalidDataException">The plan has no such site, or its rows are rounded.</exception>
    internal static RunRows OpenLive(RunFolder folder, RunPlan plan, HookPoint site, HookPoint? siteOut, RunRowsOptions options,
        Func<Gemma2Model> model, CancellationToken cancellationToken)
    {
        Check(options);
        return new RunRows(new LiveShards(folder, plan, Find(folder, plan, site), siteOut is HookPoint target ? Find(folder, plan, target)
            : null, options.Validation, model, cancellationToken), plan, options);
    }

    /// <summary>Bytes of the shards that are open at once, where rows are not on disk.</summary>
    internal static long LiveBytes(RunPlan plan, RunRowsOptions options, int width, int? targetWidth) => sizeof(float)
        * (width + (targetWidth ?? 0L)) * plan.Shards.Select(s => s.Rows).OrderDescending().Take(options.OpenShards).Sum();

    private static void Check(RunRowsOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.BucketRows, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.OpenShards, 1, nameof(options));
        if (!(options.Validation is >= 0 and < 1))
            throw new ArgumentOutOfRangeException(nameof(options),
                $"The share for validation is {options.Validation}; it must be at least 0 and below 1.");
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">More rows than a bucket has.</exception>
    public void Next(Span<float> inputs, Span<float> targets)
    {
        int rows = Check(inputs, targets);
        if (rows > BucketRows)
            throw new ArgumentException($"A batch of {rows} rows is more than the bucket of {BucketRows}.", nameof(inputs));
        if (_bucket.Remaining - rows < (_options.MixHalf ? BucketRows / 2 : 0))
            _bucket.Refill(rows);
        _bucket.Take(rows, inputs, targets);
        Position += rows;
    }

    /// <inheritdoc/>
    public void ReadValidation(long firstRow, Span<float> inputs, Span<float> targets)
    {
        int rows = Check(inputs, targets);
        ArgumentOutOfRangeException.ThrowIfNegative(firstRow);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(firstRow, _validationRows - rows);
        long before = 0;
        int done = 0;
        for (int n = 0; n < _source.Shards && done < rows; n++)
        {
            long here = _plan.Shards[n].Rows - _source.TrainingRows[n];
            if (firstRow + done < before + here)
            {
                OpenValidation(n);
                for (long i = firstRow + done - before; i < here && done < rows; i++, done++)
                {
                    _validationInput!.Read(_validationIndex[i], inputs.Slice(done * Width, Width));
                    _validationTarget?.Read(_validationIndex[i], targets.Slice(done * _validationTarget.Width, _validationTarget.Width));
                }
            }

            before += here;
        }
    }

    /// <inheritdoc/>
    public void SaveState(Stream destination)
    {
        ArgumentNullException.ThrowIfNull(destination);
        var state = new RowState();
        state.Text(Identity);
        state.Long(Position);
        _bucket.SavePlace(state);
        _bucket.Save(state);
        state.WriteTo(destination);
    }

    /// <summary>Rows that were served when a state was saved.</summary>
    /// <exception cref="InvalidDataException">The state belongs to other rows, or is damaged.</exception>
    internal long PositionOf(byte[] state) => Own(RowState.ReadFrom(new MemoryStream(state))).Long();

    /// <inheritdoc/>
    public void LoadState(Stream source)
    {
        ArgumentNullException.ThrowIfNull(source);
        RowState state = Own(RowState.ReadFrom(source));
        Position = state.Long();
        _bucket.ForgetAhead();
        _source.Load(state);
        _bucket.Load(state);
        state.End();
    }

    /// <summary>Closes the files.</summary>
    public void Dispose()
    {
        _isDisposed = true;
        _bucket.Dispose();
        _source.Dispose();
        _validationInput?.Dispose();
        _validationTarget?.Dispose();
    }

    private RowState Own(RowState state) => state.Text() == Identity ? state
        : throw new InvalidDataException("the reader's state belongs to other rows, or to another order of them: run, site, seed, " +
            "bucket and validation share must be the same.");

    private static SiteRecord Find(RunFolder folder, RunPlan plan, HookPoint site) => plan.Sites.FirstOrDefault(s => s.Point == site)
        ?? throw BadFile.At(folder.Path,
            $"the run has no rows of {site}; it has {(plan.Evaluation is not null ? "none: it is an evaluation" : plan.Sites.Count == 0
                ? "none: it holds codes only" : string.Join(", ", plan.Sites.Select(s => s.Name)))}.");

    private int Check(Span<float> inputs, Span<float> targets)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        (int rows, int rest) = Math.DivRem(inputs.Length, Width);
        return rest == 0 && targets.Length == rows * (TargetWidth ?? 0) ? rows
            : throw new ArgumentException($"{inputs.Length} and {targets.Length} values are not rows of {Width} and {TargetWidth ?? 0}.",
                nameof(inputs));
    }

    private void OpenValidation(int shard)
    {
        if (_validationShard == shard)
            return;
        _validationInput?.Dispose();
        _validationTarget?.Dispose();
        (_validationInput, _validationTarget) = _shards.OpenHeldBack(shard);
        int[] sequence = _validationInput.Sequence;
        _validationIndex = [.. Enumerable.Range(0, sequence.Length).Where(r => _source.IsValidation(sequence[r]))];
        _validationShard = shard;
    }
}
