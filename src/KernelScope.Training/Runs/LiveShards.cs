using KernelScope.Attribution;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Training.Runs;

/// <summary>Shards of a run that is planned and not harvested: the model runs a shard's tokens when its rows are wanted, and nothing is
/// written. The rows are those that a harvest stores, bit for bit.</summary>
/// <remarks>
/// The mean of ‖x‖² is that of the first shards, of 65,536 rows or more: all of a small run. Opening a shard runs the model, so a reader
/// that goes to a saved place harvests again what its bucket and its open shards held. For one caller at a time.
/// </remarks>
internal sealed class LiveShards : IRunShards
{
    private const int MeanRows = 1 << 16;
    private readonly RunFolder _folder;
    private readonly RunPlan _plan;
    private readonly double _heldBack;
    private readonly RowSelection _selection;
    private readonly Lazy<ShardHarvest> _harvest;
    private readonly CancellationToken _cancellationToken;
    private double? _meanSquaredNorm;

    /// <param name="folder">The run's folder.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="site">Where inputs are.</param>
    /// <param name="siteOut">Where targets are; null without.</param>
    /// <param name="heldBack">The share of the sequences that is held back.</param>
    /// <param name="model">The plan's model, asked for when the first row is.</param>
    /// <param name="cancellationToken">Ends a forward pass.</param>
    /// <exception cref="InvalidDataException">The run's rows are rounded.</exception>
    public LiveShards(RunFolder folder, RunPlan plan, SiteRecord site, SiteRecord? siteOut, double heldBack, Func<Gemma2Model> model,
        CancellationToken cancellationToken)
    {
        (_folder, _plan, Site, SiteOut, _heldBack, _cancellationToken) = (folder, plan, site, siteOut, heldBack, cancellationToken);
        if (plan.RowType != DType.F32)
            throw BadFile.At(folder.Path, $"the plan is to store rows in {RunPlan.NameOf(plan.RowType)}; a live model gives f32.");
        _selection = new RowSelection(plan.ExcludedIds, plan.SkipFirst);
        SiteRecord[] sites = siteOut is null || siteOut == site ? [site] : [site, siteOut];
        _harvest = new Lazy<ShardHarvest>(() => new ShardHarvest(folder, plan with { Sites = sites, Saes = [] }, model(), []));
    }

    public SiteRecord Site { get; }

    public bool IsOnDisk => false;

    public SiteRecord? SiteOut { get; }

    public (RowShard Input, RowShard? Target) Open(int shard) => Run(shard, _ => true);

    public (RowShard Input, RowShard? Target) OpenHeldBack(int shard) => Run(shard, s => RowSource.IsValidation(s, _heldBack));

    public int[] SequencesOf(int shard) => _selection.RowsOf(TokenShard.Read(_folder, _plan, shard)).Sequence;

    public double MeanSquaredNorm => _meanSquaredNorm ??= MeasureMeanSquaredNorm();

    public void Dispose()
    {
        if (_harvest.IsValueCreated)
            _harvest.Value.Dispose();
    }

    private double MeasureMeanSquaredNorm()
    {
        double sum = 0;
        long rows = 0;
        for (int n = 0; n < _plan.Shards.Count && rows < MeanRows; n++)
        {
            RowShard x = Open(n).Input;
            (sum, rows) = (sum + SquaredNorms(x), rows + x.Rows);
        }

        return sum / rows;
    }

    private static double SquaredNorms(RowShard rows)
    {
        double sum = 0;
        float[] row = new float[rows.Width];
        for (int r = 0; r < rows.Rows; r++)
        {
            rows.Read(r, row);
            sum += RowSums.SquaredNorm(row);
        }

        return sum;
    }

    private (RowShard Input, RowShard? Target) Run(int shard, Func<long, bool> wants)
    {
        TokenShard tokens = TokenShard.Read(_folder, _plan, shard);
        (int[] sequence, int[] position, int[] token, _) = _selection.RowsOf(tokens);
        int[] rows = [.. Enumerable.Range(0, sequence.Length).Where(r => wants(sequence[r]))];
        var input = new LiveRows(Site, rows.Length);
        LiveRows? target = SiteOut is null ? null : new LiveRows(SiteOut, rows.Length);
        for (int s = 0; s < tokens.Sequences.Length; s++)
        {
            if (!wants(tokens.FirstSequence + s))
                continue;
            _harvest.Value.Run(tokens.Sequences[s], hooks => new Listening([input.Listen(hooks), .. target is null ? [] :
                (IDisposable[])[target.Listen(hooks)]]), (keeps, _) =>
            {
                input.Append(keeps);
                target?.Append(keeps);
            }, null, _cancellationToken);
        }

        RowShard Of(LiveRows live) => RowShard.OfMemory(
            $"shard {shard} of {_folder.Path}, {live.Site.Name}", live.Values, live.Site.Width, [.. rows.Select(r => sequence[r])],
            [.. rows.Select(r => position[r])], [.. rows.Select(r => token[r])]);
        return (Of(input), target is null ? null : Of(target));
    }

    private sealed class Listening(IDisposable[] hooks) : IDisposable
    {
        public void Dispose() => Array.ForEach(hooks, h => h.Dispose());
    }

    /// <summary>The rows of one site, as the forward pass makes them.</summary>
    private sealed class LiveRows(SiteRecord site, int rows)
    {
        private float[] _chunk = [];
        private int _filled;

        public SiteRecord Site => site;

        public float[] Values { get; } = new float[checked(rows * site.Width)];

        public IDisposable Listen(HookSet hooks) => hooks.Add(site.Point, (call, _, value) =>
        {
            if (_chunk.Length < value.Rows * value.Columns)
                _chunk = new float[value.Rows * value.Columns];
            call.Device.Read(value, _chunk.AsSpan(0, value.Rows * value.Columns));
        });

        public void Append(bool[] keeps)
        {
            for (int r = 0; r < keeps.Length; r++)
            {
                if (keeps[r])
                    _chunk.AsSpan(r * site.Width, site.Width).CopyTo(Values.AsSpan(_filled++ * site.Width));
            }
        }
    }
}
