using System.Diagnostics;
using System.Runtime.InteropServices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Training.Runs;

/// <summary>
/// Makes shards of an evaluation: everything that is measured by position on a shard's sequences, with the model. Added up in the order
/// of the sequences they give the numbers of one evaluation over all of them, bit for bit.
/// </summary>
/// <remarks>
/// Deviations are taken from the mean over all sequences, so whoever comes first runs the layers up to the sites over all of them and
/// leaves the sums; workers that begin at the same time do it too, and write the same bytes. For one caller at a time.
/// </remarks>
internal sealed class ShardEvaluation : IShardMaker
{
    private readonly RunFolder _folder;
    private readonly RunPlan _plan;
    private readonly Gemma2Model _model;
    private readonly TokenSet _tokens;
    private readonly SitePlan[] _sites;
    private readonly ScoreLayout _layout;
    private readonly SequenceEvaluator _evaluator;
    private bool _hasMeans;

    /// <param name="folder">The evaluation.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="model">The plan's model.</param>
    /// <param name="saes">The plan's SAEs, in its order, on the model's device.</param>
    /// <exception cref="InvalidDataException">A token file is damaged, or a parameter of an SAE is not a number.</exception>
    public ShardEvaluation(RunFolder folder, RunPlan plan, Gemma2Model model, IReadOnlyList<JumpReluSae> saes)
    {
        (_folder, _plan, _model) = (folder, plan, model);
        EvaluationRecord evaluation = plan.Evaluation ?? throw new ArgumentException("The run is not an evaluation.", nameof(plan));
        SaeTarget[] targets = [.. evaluation.Saes.Zip(saes, (s, sae) => new SaeTarget(s.Sae.Name, sae, s.Sae.Site, s.SiteOut))];
        foreach (SaeTarget target in targets)
            FiniteParameters.Require(target.Sae.Checkpoint);
        var options = new EvaluationOptions { Gradients = evaluation.Gradients };
        _tokens = RunEvaluation.TokensOf(folder, plan, model.Config);
        _sites = SitePlan.Create(targets, model.Config);
        _layout = new ScoreLayout(_tokens.Length, _sites, evaluation.Gradients, options.Splices);
        _evaluator = new SequenceEvaluator(model, targets, _sites, _tokens, options);
    }

    /// <inheritdoc/>
    public ShardOutcome Make(int shard, int attempt, IProgress<int>? progress, CancellationToken cancellationToken)
    {
        if (ShardManifest.Find(_folder, _plan, shard) is ShardManifest done)
            return new ShardOutcome(done, true);
        RunRepair.Discard(_folder, _plan, shard, verify: false, cancellationToken);
        UseMeans(progress, cancellationToken);
        long start = Stopwatch.GetTimestamp();
        var scores = new List<SequenceScores>();
        ShardRecord record = _plan.Shards[shard];
        for (int s = 0; s < record.Sequences; s++)
        {
            int b = checked((int)record.FirstSequence + s);
            int[] padded = _tokens.Padded(b);
            _evaluator.RunBelow(padded, cancellationToken);
            var row = new SequenceScores(_layout, _plan.Evaluation!.Saes.Count, []);
            SaeEvaluation.Score(b, padded, _evaluator, row, cancellationToken);
            scores.Add(row);
            progress?.Report(_tokens.Sequence(b).Length);
        }

        StoredFile written = ShardScores.Write(_folder, _plan, shard, scores);
        string tokens = _folder.At($"../../{RunFolder.Tokens(shard)}");
        var manifest = ShardManifest.Create(_plan, shard, attempt, tokens, _model.Device, start);
        return (manifest with { Scores = written }).Commit(_folder, _plan);
    }

    public void Dispose() => _evaluator.Dispose();

    private void UseMeans(IProgress<int>? progress, CancellationToken cancellationToken)
    {
        if (_hasMeans)
            return;
        SiteSums[] sums = [.. _sites.Select(s => new SiteSums(s.OutputDim))];
        if (!SumsFile.TryRead(_folder, _plan, sums) && Sum(sums, progress, cancellationToken))
            SumsFile.Write(_folder, _plan, sums);
        _evaluator.UseMeans([.. sums.Select(s => s.Means())]);
        _hasMeans = true;
    }

    /// <summary>The first pass; false where another worker was faster, and its sums were taken.</summary>
    private bool Sum(SiteSums[] sums, IProgress<int>? progress, CancellationToken cancellationToken)
    {
        for (int b = 0; b < _tokens.Count; b++)
        {
            _evaluator.AddTo(sums, _tokens.Padded(b), cancellationToken);
            progress?.Report(0);
            if (SumsFile.TryRead(_folder, _plan, sums))
                return false;
        }

        return true;
    }
}

/// <summary>
/// The sums of the first pass of an evaluation: <c>sums.safetensors</c> with, for each site, <c>site0/sums</c> f64 [3·d] and
/// <c>site0/counts</c> i64 [3]. A hash of them is in its metadata; a file that does not fit it is taken away.
/// </summary>
internal static class SumsFile
{
    private const string Name = "sums.safetensors", HashKey = "sums_sha256";

    /// <summary>Reads them; false if they are not there, or damaged.</summary>
    public static bool TryRead(RunFolder folder, RunPlan plan, SiteSums[] sums)
    {
        string path = folder.At(Name);
        if (!File.Exists(path))
            return false;
        try
        {
            using var file = SafetensorsFile.Open(path);
            double[][] values = [.. sums.Select((s, g) => Of<double>(file, g, "sums", DType.F64, s.Sums.Length))];
            long[][] counts = [.. sums.Select((s, g) => Of<long>(file, g, "counts", DType.I64, s.Counts.Length))];
            if (file.Metadata.GetValueOrDefault("run") == plan.Id && file.Metadata.GetValueOrDefault(HashKey) == HashOf(values, counts))
            {
                for (int g = 0; g < sums.Length; g++)
                {
                    values[g].CopyTo(sums[g].Sums, 0);
                    counts[g].CopyTo(sums[g].Counts, 0);
                }

                return true;
            }
        }
        catch (InvalidDataException)
        {
            // As any other damage.
        }

        File.Delete(path);
        return false;
    }

    /// <summary>Writes them; another worker's stay, and are the same.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Write(RunFolder folder, RunPlan plan, SiteSums[] sums)
    {
        var metadata = new SortedDictionary<string, string>(StringComparer.Ordinal)
        {
            ["run"] = plan.Id,
            [HashKey] = HashOf([.. sums.Select(s => s.Sums)], [.. sums.Select(s => s.Counts)]),
        };
        using PlacedFile file = PlacedFile.Create(folder.At(Name));
        using var writer = new SafetensorsWriter(file.Stream, sums.SelectMany((s, g) => (TensorInfo[])[
            new TensorInfo($"site{g}/sums", DType.F64, [s.Sums.Length]), new TensorInfo($"site{g}/counts", DType.I64, [s.Counts.Length])]),
            metadata);
        foreach (SiteSums site in sums)
        {
            writer.Append<double>(site.Sums);
            writer.Append<long>(site.Counts);
        }

        writer.Commit();
        file.Place();
    }

    private static T[] Of<T>(SafetensorsFile file, int site, string name, DType type, int count) where T : unmanaged
    {
        TokenShard.Require(file, $"site{site}/{name}", type, count);
        return TokenShard.Values<T>(file[$"site{site}/{name}"]);
    }

    private static string HashOf(double[][] sums, long[][] counts) => CanonicalJson.Hash([.. sums.Zip(counts, (s, c) => (byte[])[
        .. MemoryMarshal.AsBytes<double>(s), .. MemoryMarshal.AsBytes<long>(c)]).SelectMany(b => b)]);
}
