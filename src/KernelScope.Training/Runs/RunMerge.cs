using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Evaluation;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>What a merge made.</summary>
/// <param name="Shards">Shards that are in it.</param>
/// <param name="Rows">Their rows.</param>
/// <param name="File">Where it is: a file, or the folder of a transpose.</param>
/// <param name="Sha256">Hash of the file; of a folder, of the hashes of its files in order.</param>
internal sealed record MergedFile(int Shards, long Rows, string File, string Sha256);

/// <summary>
/// Folds the results of shards in shard order, whoever made them and whenever: the same shards give the same bytes. Integers are added;
/// sums in double are made shard by shard and added in shard order;
/// lists of the best are ordered by value, then by sequence and position.
/// </summary>
internal sealed class RunMerge
{
    private readonly RunFolder _folder;
    private readonly RunPlan _plan;
    private readonly ShardManifest[] _manifests;

    private RunMerge(RunFolder folder, RunPlan plan, ShardManifest[] manifests)
    {
        (_folder, _plan, _manifests) = (folder, plan, manifests);
    }

    /// <summary>Rows of all shards that are merged.</summary>
    public long Rows => _manifests.Sum(m => m.Rows);

    /// <summary>Finds the shards.</summary>
    /// <param name="folder">The run.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="partial">Whether shards may be missing.</param>
    /// <exception cref="InvalidDataException">A shard is missing or its manifest malformed.</exception>
    public static RunMerge Open(RunFolder folder, RunPlan plan, bool partial)
    {
        ShardManifest[] manifests = [.. Enumerable.Range(0, plan.Shards.Count)
            .Select(n => ShardManifest.Find(folder, plan, n)).OfType<ShardManifest>()];
        if (manifests.Length < plan.Shards.Count && !partial)
        {
            string next = plan.Evaluation is null ? "--partial merges those that are there" : "'work' makes them, and all are needed";
            throw BadFile.At(folder.Path, $"the run is not complete: {plan.Shards.Count - manifests.Length} of {plan.Shards.Count} " +
                $"shards are missing{Incomplete(folder, plan)}; {next}.");
        }

        return manifests.Length > 0 ? new RunMerge(folder, plan, manifests) : throw BadFile.At(folder.Path, "no shard is there yet.");
    }

    /// <summary>Names a shard that 'status' counts as done, because it has a manifest, and that lacks a file.</summary>
    private static string Incomplete(RunFolder folder, RunPlan plan)
    {
        foreach (int shard in folder.ShardsWithManifest().Where(n => n < plan.Shards.Count))
        {
            if (ShardManifest.Read(folder, plan, shard)?.MissingFile(folder) is string file)
                return $" ({file} is not there as the manifest of shard {shard} says; 'plan --verify' takes the shard back, and 'work' " +
                    "makes it again)";
        }

        return "";
    }

    /// <summary>Number of rows, mean, Σ‖x‖², and the largest norm with its place, of each site, as JSON.</summary>
    public MergedFile Statistics(string path)
    {
        var sites = new JsonObject();
        foreach (SiteRecord site in _plan.Sites)
        {
            double[] sum = new double[site.Width];
            double squared = 0;
            SiteManifest? largest = null;
            foreach (SiteManifest part in _manifests.Select(m => m.Sites[site.Name]))
            {
                for (int j = 0; j < sum.Length; j++)
                    sum[j] += part.SumX[j];
                squared += part.SumSquaredNorm;
                if (part.Rows > 0 && (largest is null || part.MaxNorm > largest.MaxNorm))
                    largest = part;
            }

            sites[site.Name] = new JsonObject
            {
                ["rows"] = Rows,
                ["mean"] = CanonicalJson.Numbers([.. sum.Select(s => Rows == 0 ? 0 : s / Rows)]),
                ["sum_squared_norm"] = squared,
                ["mean_squared_norm"] = Rows == 0 ? 0 : squared / Rows,
                ["max_norm"] = largest?.MaxNorm ?? 0,
                ["max_norm_at"] = new JsonObject
                {
                    ["sequence"] = largest?.MaxNormAt.Sequence ?? -1,
                    ["position"] = largest?.MaxNormAt.Position ?? -1
                },
            };
        }

        var excluded = new SortedDictionary<int, long>();
        foreach ((int id, long count) in _manifests.SelectMany(m => m.Excluded))
            excluded[id] = excluded.GetValueOrDefault(id) + count;
        var counts = new JsonObject();
        foreach ((int id, long count) in excluded)
            counts[id.ToString(System.Globalization.CultureInfo.InvariantCulture)] = count;
        byte[] bytes = CanonicalJson.Write(new JsonObject
        {
            ["run"] = _plan.Id,
            ["what"] = "statistics",
            ["shards"] = _manifests.Length,
            ["rows"] = Rows,
            ["rows_dtype"] = RunPlan.NameOf(_plan.RowType),
            ["inputs_sha256"] = InputsHash(m => m.Sites.Values.Select(s => s.File)),
            ["excluded"] = counts,
            ["sites"] = sites,
        });
        return Write(path, bytes);
    }

    /// <summary>Writes a merged document.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public MergedFile Write(string path, byte[] bytes)
    {
        using AtomicFile file = AtomicFile.Create(path);
        file.Stream.Write(bytes);
        file.Commit();
        return new MergedFile(_manifests.Length, Rows, path, CanonicalJson.Hash(bytes));
    }

    /// <summary>The numbers of an evaluation, from the scores of its shards in the order of their sequences: those of one evaluation over
    /// all of them, bit for bit. Needs no model.</summary>
    /// <param name="bootstrap">Confidence intervals.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two shards.</param>
    /// <exception cref="InvalidDataException">A file is damaged.</exception>
    public EvaluationResult Evaluation(Bootstrap bootstrap, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        EvaluationRecord evaluation = _plan.Evaluation!;
        int[][] sequences = [.. Enumerable.Range(0, _plan.Shards.Count).SelectMany(n => TokenShard.Read(_folder, _plan, n).Sequences)];
        TokenSet tokens = TokenSet.OfStored(sequences, _plan.PadId, _plan.ExcludedIds);
        EvaluatedSae[] saes = [.. evaluation.Saes.Select(s => new EvaluatedSae(s.Sae.Name, s.Sae.Site, s.SiteOut, s.InputDim,
            s.OutputDim))];
        SitePlan[] sites = SitePlan.Create(saes, evaluation.Layers);
        var layout = new ScoreLayout(tokens.Length, sites, evaluation.Gradients, SpliceRun.Every);
        var rules = new JournalRules(tokens, [.. sites.Select(s => s.OutputDim)], [.. evaluation.Saes.Select(s => s.Sae.Features)],
            _ => new SequenceScores(layout, saes.Length, []));
        SaeAccumulator[] sums = [.. evaluation.Saes.Select((s, i) => new SaeAccumulator(tokens, i,
            Array.FindIndex(sites, p => p.Saes.Contains(i)), s.Sae.Features))];
        int b = 0;
        foreach (ShardManifest manifest in _manifests)
        {
            cancellationToken.ThrowIfCancellationRequested();
            foreach (SequenceScores scores in ShardScores.Read(_folder, _plan, manifest, layout, rules))
            {
                int[] padded = tokens.Padded(b++);
                Array.ForEach(sums, s => s.Add(padded, scores));
            }

            progress?.Report(b / (double)tokens.Count);
        }

        return new EvaluationResult(tokens, [.. saes.Select((s, i) => new SaeResult(s, sums[i], layout.Has(ScoreLayout.OfSae(i, "r_L0")),
            bootstrap))], bootstrap, SaeEvaluation.CountsOf(tokens));
    }

    /// <summary>How often and how strongly each feature of an SAE fires.</summary>
    public MergedFile Density(SaeRecord sae, string path, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var total = new FeatureDensity(sae.Features);
        ForEach(sae, (codes, _) => total.Add(FeatureDensity.Of(codes, sae.Features)), progress, cancellationToken);
        using (var writer = new SafetensorsWriter(path, total.Tensors, Metadata("density", sae)))
        {
            total.Write(writer);
            writer.Commit();
        }

        return Result(path);
    }

    /// <summary>The strongest examples of each feature, windows of the same tokens once, and random ones.</summary>
    /// <param name="sae">Which SAE.</param>
    /// <param name="top">Strongest kept of each feature.</param>
    /// <param name="random">Random ones of each feature.</param>
    /// <param name="window">Tokens on each side that make a window.</param>
    /// <param name="path">Where.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two shards.</param>
    public MergedFile Examples(SaeRecord sae, int top, int random, int window, string path, IProgress<double>? progress,
        CancellationToken cancellationToken)
    {
        var examples = new FeatureExamples(sae.Features, top, random, window, (ulong)_plan.Seed);
        ForEach(sae, (codes, manifest) => examples.Add(codes, TokenShard.Read(_folder, _plan, manifest.Shard)), progress,
            cancellationToken);
        SortedDictionary<string, string> metadata = Metadata("examples", sae);
        metadata["window"] = FormattableString.Invariant($"{window}");
        using (var writer = new SafetensorsWriter(path, examples.Tensors, metadata))
        {
            examples.Write(writer);
            writer.Commit();
        }

        return Result(path);
    }

    /// <summary>The codes by feature: a folder with a file for each 4,096 features.</summary>
    public MergedFile Transpose(SaeRecord sae, string path, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        using var transpose = new CodeTranspose(path, sae.Features);
        long firstRow = 0;
        ForEach(sae, Add, progress, cancellationToken);
        return new MergedFile(_manifests.Length, Rows, path, transpose.Write(Metadata("transpose", sae), cancellationToken));

        void Add(CodeShard codes, ShardManifest manifest)
        {
            transpose.Add(codes, firstRow);
            firstRow += codes.Rows;
        }
    }

    private void ForEach(SaeRecord sae, Action<CodeShard, ShardManifest> add, IProgress<double>? progress,
        CancellationToken cancellationToken)
    {
        for (int i = 0; i < _manifests.Length; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            add(CodeShard.Read(_folder, _manifests[i], sae), _manifests[i]);
            progress?.Report((i + 1) / (double)_manifests.Length);
        }
    }

    private SortedDictionary<string, string> Metadata(string what, SaeRecord sae) => new(StringComparer.Ordinal)
    {
        ["run"] = _plan.Id,
        ["what"] = what,
        ["sae"] = sae.Id,
        ["shards"] = FormattableString.Invariant($"{_manifests.Length}"),
        ["rows"] = FormattableString.Invariant($"{Rows}"),
        ["inputs_sha256"] = InputsHash(m => [m.Codes[sae.Id].File]),
    };

    private string InputsHash(Func<ShardManifest, IEnumerable<StoredFile>> files)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (ShardManifest manifest in _manifests)
        {
            foreach (StoredFile file in files(manifest))
                hash.AppendData(Encoding.ASCII.GetBytes($"{RunFolder.Number(manifest.Shard)} {file.Sha256}\n"));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private MergedFile Result(string path) => new(_manifests.Length, Rows, path, PlacedFile.Measure(path).Sha256);
}
