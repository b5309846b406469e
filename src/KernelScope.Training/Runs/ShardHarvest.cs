using System.Diagnostics;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Training.Runs;

/// <summary>What became of a shard.</summary>
/// <param name="Manifest">What it holds.</param>
/// <param name="Reused">Whether it was there already.</param>
internal sealed record ShardOutcome(ShardManifest Manifest, bool Reused);

/// <summary>Makes shards of a run, whatever they hold. Idempotent: a shard that is there is not made again.</summary>
internal interface IShardMaker : IDisposable
{
    /// <summary>Makes a shard, or finds it.</summary>
    /// <param name="shard">Which.</param>
    /// <param name="attempt">The number of the attempt, from 1.</param>
    /// <param name="progress">Told the positions that were computed, from time to time.</param>
    /// <param name="cancellationToken">Stops; nothing is left.</param>
    /// <exception cref="InvalidDataException">Retrying cannot help.</exception>
    /// <exception cref="ShardConflictException">Somebody made other bytes.</exception>
    /// <exception cref="IOException">It cannot be written.</exception>
    ShardOutcome Make(int shard, int attempt, IProgress<int>? progress, CancellationToken cancellationToken);
}

/// <summary>
/// Makes shards of a run with a model: one forward pass over each sequence writes all sites and codes. Idempotent: a shard that is
/// there is not made again, and whoever makes it writes the same bytes.
/// </summary>
/// <remarks>For one caller at a time; several may work on one run, in processes of their own.</remarks>
internal sealed class ShardHarvest : IShardMaker
{
    private readonly RunFolder _folder;
    private readonly RunPlan _plan;
    private readonly Gemma2Model _model;
    private readonly IReadOnlyList<JumpReluSae> _saes;
    private readonly RowSelection _selection;
    private readonly Session _session;
    private readonly int _layers;
    private readonly bool _whole;

    /// <param name="folder">The run.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="model">The plan's model.</param>
    /// <param name="saes">The plan's SAEs, in its order, on the model's device.</param>
    public ShardHarvest(RunFolder folder, RunPlan plan, Gemma2Model model, IReadOnlyList<JumpReluSae> saes)
    {
        (_folder, _plan, _model, _saes) = (folder, plan, model, saes);
        _selection = new RowSelection(plan.ExcludedIds, plan.SkipFirst);
        HookPoint[] points = [.. plan.Sites.Select(s => s.Point), .. plan.Saes.Select(s => s.Site)];
        _whole = points.Any(p => p.Site is Site.FinalNorm or Site.Logits);
        _layers = points.Max(p => p.Site == Site.Embed ? 0 : p.Layer + 1);
        _session = model.NewSession(Math.Min(plan.Context, model.Config.ContextLength));
    }

    /// <summary>The shard, if it is there: a manifest of this run, and files of the lengths that it names.</summary>
    /// <exception cref="InvalidDataException">The manifest is malformed.</exception>
    public static ShardManifest? Find(RunFolder folder, RunPlan plan, int shard)
    {
        ShardManifest? manifest = ShardManifest.Read(folder, plan, shard);
        return MissingFile(folder, manifest) is null ? manifest : null;
    }

    /// <summary>A file that a manifest names, by path in the run, that is missing or has another length; null if there is none.</summary>
    public static string? MissingFile(RunFolder folder, ShardManifest? manifest) => manifest?.Files
        .Where(f => LengthOf(folder.At(f.Path)) != f.File.Bytes).Select(f => f.Path).FirstOrDefault();

    /// <summary>Makes a shard, or finds it.</summary>
    /// <param name="shard">Which.</param>
    /// <param name="attempt">The number of the attempt, from 1.</param>
    /// <param name="progress">Told the positions that were computed, from time to time.</param>
    /// <param name="cancellationToken">Stops between two layers; nothing is left.</param>
    /// <exception cref="InvalidDataException">The tokens are damaged or not the plan's, or the model makes values that are not finite:
    /// retrying cannot help.</exception>
    /// <exception cref="ShardConflictException">Somebody made other bytes.</exception>
    /// <exception cref="IOException">It cannot be written.</exception>
    public ShardOutcome Make(int shard, int attempt, IProgress<int>? progress, CancellationToken cancellationToken)
    {
        if (Find(_folder, _plan, shard) is ShardManifest done)
            return new ShardOutcome(done, true);
        RunRepair.Discard(_folder, _plan, shard, verify: false, cancellationToken);
        long start = Stopwatch.GetTimestamp();
        TokenShard tokens = TokenShard.Read(_folder, _plan, shard, _model.Config.VocabSize);
        (int[] sequence, int[] position, int[] token, SortedDictionary<int, long> excluded) = _selection.RowsOf(tokens);
        if (sequence.Length != _plan.Shards[shard].Rows)
            throw BadFile.At(_folder.At(RunFolder.Tokens(shard)),
                $"the tokens give {sequence.Length} rows; the plan has {_plan.Shards[shard].Rows}.");
        using var rows = new ShardRows(_folder, _plan, shard, sequence.Length, _session.ChunkLength, _saes);
        for (int s = 0; s < tokens.Sequences.Length; s++)
        {
            long sequenceNumber = tokens.FirstSequence + s;
            Run(tokens.Sequences[s], rows.Listen, (keeps, first) => rows.Append(_model.Device, keeps, sequenceNumber, first), progress,
                cancellationToken);
        }

        cancellationToken.ThrowIfCancellationRequested();
        (Dictionary<string, SiteManifest> sites, Dictionary<string, CodesManifest> codes) = rows.Place(sequence, position, token);
        var manifest = ShardManifest.Create(_plan, shard, attempt, _folder.At(RunFolder.Tokens(shard)), _model.Device, start);
        return Commit(_folder, _plan, manifest with { Sites = sites, Codes = codes, Excluded = excluded });
    }

    /// <summary>Runs a sequence without writing anything, for an estimate of time.</summary>
    public void RunOnly(ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        _session.Reset();
        Feed(ids, cancellationToken);
    }

    public void Dispose() => _session.Dispose();

    /// <summary>Runs a sequence chunk by chunk.</summary>
    /// <param name="ids">Its tokens.</param>
    /// <param name="listen">Takes the values of every forward call until its result is disposed.</param>
    /// <param name="chunkDone">Told after each chunk which of its rows are kept, and the position of its first.</param>
    /// <param name="progress">Told the positions that were computed.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    public void Run(int[] ids, Func<HookSet, IDisposable> listen, Action<bool[], int> chunkDone, IProgress<int>? progress,
        CancellationToken cancellationToken)
    {
        _session.Reset();
        using IDisposable hooks = listen(_session.Hooks);
        int chunkLength = _session.ChunkLength;
        bool[] keeps = new bool[chunkLength];
        for (int start = 0; start < ids.Length; start += chunkLength)
        {
            int count = Math.Min(chunkLength, ids.Length - start);
            Feed(ids.AsSpan(start, count), cancellationToken);
            for (int r = 0; r < keeps.Length; r++)
                keeps[r] = r < count && _selection.Keeps(ids[start + r], start + r);
            chunkDone(keeps, start);
            progress?.Report(count);
        }
    }

    private void Feed(ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        for (int start = 0; start < ids.Length; start += _session.ChunkLength)
        {
            ReadOnlySpan<int> chunk = ids.Slice(start, Math.Min(_session.ChunkLength, ids.Length - start));
            if (_whole)
                _model.Forward(chunk, _session, LogitRows.None, cancellationToken);
            else
                _model.ForwardTo(_layers, chunk, _session, cancellationToken);
        }
    }

    /// <summary>The manifest is the commit. Two workers may finish at once: then the first one's stays, and holds the same.</summary>
    public static ShardOutcome Commit(RunFolder folder, RunPlan plan, ShardManifest manifest)
    {
        try
        {
            PlacedFile.Write(folder.At(RunFolder.Manifest(manifest.Shard)), manifest.ToBytes());
            return new ShardOutcome(manifest, false);
        }
        catch (ShardConflictException) when (ShardManifest.Read(folder, plan, manifest.Shard) is ShardManifest first
            && first.Files.SequenceEqual(manifest.Files))
        {
            return new ShardOutcome(first, true);
        }
    }

    private static long LengthOf(string path) => new FileInfo(path) is { Exists: true } file ? file.Length : -1;
}
