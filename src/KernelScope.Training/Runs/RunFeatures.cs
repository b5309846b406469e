using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Training.Runs;

/// <summary>
/// Where every feature of an SAE fires, and with which others, from the codes of a run, in bounded memory: the codes lie by feature and
/// by row in a scratch folder, and in memory are the tokens and the sequence and position of each row, 12 bytes a position.
/// </summary>
/// <remarks>Any number of threads may ask for places.</remarks>
internal sealed class RunFeatures : IDisposable
{
    private readonly CodeTranspose _transpose;
    private readonly RowFeatures _rows;
    private readonly int[] _sequence;
    private readonly int[] _position;

    private RunFeatures(
        CodeTranspose transpose, RowFeatures rows, int[] sequence, int[] position, TokenSet tokens, long[] documents, long active)
    {
        (_transpose, _rows, _sequence, _position) = (transpose, rows, sequence, position);
        (Tokens, Documents, L0) = (tokens, documents, sequence.Length == 0 ? 0 : active / (double)sequence.Length);
    }

    /// <summary>Active features of a row that counts, on average.</summary>
    public double L0 { get; }

    /// <summary>The corpus.</summary>
    public TokenSet Tokens { get; }

    /// <summary>The document of each sequence's first token.</summary>
    public long[] Documents { get; }

    /// <summary>Rows that count.</summary>
    public long Counted => _sequence.Length;

    /// <summary>Reads the codes of every shard, one after the other.</summary>
    /// <param name="folder">The run.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="sae">Whose codes.</param>
    /// <param name="config">The model's.</param>
    /// <param name="scratch">A folder for the codes by feature, 12 bytes each, and by row, 4 bytes each; gone when this is disposed.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two shards.</param>
    /// <exception cref="InvalidDataException">The run is not complete, or a file is damaged.</exception>
    public static RunFeatures Open(
        RunFolder folder, RunPlan plan, SaeRecord sae, Gemma2Config config, string scratch, IProgress<double>? progress,
        CancellationToken cancellationToken)
    {
        if (plan.Rows > Array.MaxLength)
            throw BadFile.At(folder.Path, $"the run has {plan.Rows} rows; dashboards take at most {Array.MaxLength}.");
        int[] sequence = new int[plan.Rows], position = new int[plan.Rows];
        var sequences = new List<int[]>();
        var documents = new List<long>();
        var transpose = new CodeTranspose(scratch, sae.Features);
        var rows = new RowFeatures(scratch, sae.Features);
        try
        {
            int first = 0;
            long active = 0;
            for (int n = 0; n < plan.Shards.Count; n++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                ShardManifest manifest = ShardManifest.Find(folder, plan, n)
                    ?? throw BadFile.At(folder.Path, $"the run is not complete: shard {n} of {plan.Shards.Count} is missing.");
                var tokens = TokenShard.Read(folder, plan, n, config.VocabSize);
                var codes = CodeShard.Read(folder, manifest, sae);
                codes.RequirePlaces(folder.At(RunFolder.Codes(sae.Id, n)), tokens);
                codes.Sequence.CopyTo(sequence, first);
                codes.Position.CopyTo(position, first);
                transpose.Add(codes, first);
                rows.Add(codes, first);
                sequences.AddRange(tokens.Sequences);
                documents.AddRange(tokens.Documents);
                first += codes.Rows;
                active += codes.Value.LongCount(v => v > 0);
                progress?.Report((n + 1) / (double)plan.Shards.Count);
            }

            return new RunFeatures(
                transpose, rows, sequence, position, TokenSet.Create([.. sequences], config, [.. plan.ExcludedIds]), [.. documents],
                active);
        }
        catch
        {
            transpose.Dispose();
            rows.Dispose();
            throw;
        }
    }

    /// <summary>Where a feature fires, by sequence and position, and the ten features that fire most alike.</summary>
    public (FeaturePlace[] Places, RelatedFeature[] CoFiring) Of(int feature)
    {
        (long Row, float Value)[] all = [.. _transpose.Of(feature).Where(a => a.Value > 0)];
        return ([.. all.Select(a => new FeaturePlace(_sequence[a.Row], _position[a.Row], a.Value))],
            _rows.CoFiring(feature, Array.ConvertAll(all, a => a.Row)));
    }

    public void Dispose()
    {
        _transpose.Dispose();
        _rows.Dispose();
    }
}
