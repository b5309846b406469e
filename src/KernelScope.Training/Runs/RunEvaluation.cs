using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Training.Runs;

/// <summary>
/// Measures SAEs over a run. What follows from rows and codes is computed from the stored rows; what needs the model runs the stored
/// tokens.
/// </summary>
internal static class RunEvaluation
{
    /// <summary>The tokens of a run, with what it leaves out as special.</summary>
    /// <exception cref="InvalidDataException">A token file is damaged, or the run leaves out positions by their number, which no
    /// evaluation by tokens can.</exception>
    public static TokenSet TokensOf(RunFolder folder, RunPlan plan, Gemma2Config config)
    {
        if (plan.SkipFirst > 0)
            throw new InvalidDataException($"the run leaves out the first {plan.SkipFirst} positions of each sequence, and losses are " +
                $"counted by tokens; --no-model evaluates its rows.");
        int[][] sequences = [.. Enumerable.Range(0, plan.Shards.Count)
            .SelectMany(n => TokenShard.Read(folder, plan, n, config.VocabSize).Sequences)];
        return TokenSet.Create(sequences, config, plan.ExcludedIds.ToArray());
    }

    /// <summary>The sequences that are kept back from training, in their order; null if there are none.</summary>
    /// <param name="folder">The run.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="share">The share of the sequences that is kept back.</param>
    /// <param name="most">The largest number of sequences.</param>
    /// <param name="config">The model's.</param>
    public static TokenSet? ValidationTokens(RunFolder folder, RunPlan plan, double share, int most, Gemma2Config config)
    {
        int[][] sequences = [.. Enumerable.Range(0, plan.Shards.Count).SelectMany(n =>
        {
            TokenShard shard = TokenShard.Read(folder, plan, n, config.VocabSize);
            return shard.Sequences.Where((_, i) => RowSource.IsValidation(plan.Shards[n].FirstSequence + i, share));
        }).Take(most)];
        return sequences.Length > 0 ? TokenSet.Create(sequences, config, plan.ExcludedIds.ToArray()) : null;
    }

    /// <summary>
    /// Every number that follows from stored rows: L0, FVU, cosine, firing frequencies, by position. x̄ is the mean over the run's
    /// rows. Over the same tokens and float32 rows they are those of an evaluation with the model, bit for bit;
    /// the others are not defined. Codes that the run holds of an SAE with equal parameters at the same site are taken as they are.
    /// </summary>
    /// <exception cref="InvalidDataException">The run is not complete, or a file is damaged.</exception>
    public static EvaluationResult OfRows(RunFolder folder, RunPlan plan, IReadOnlyList<SaeTarget> targets, Bootstrap bootstrap,
        IProgress<double>? progress, CancellationToken cancellationToken)
    {
        ShardManifest[] manifests = [.. Enumerable.Range(0, plan.Shards.Count).Select(n => ShardManifest.Find(folder, plan, n)
            ?? throw BadFile.At(folder.Path, $"the run is not complete: shard {n} of {plan.Shards.Count} is missing."))];
        int[][] sequences = [.. Enumerable.Range(0, plan.Shards.Count).SelectMany(n => TokenShard.Read(folder, plan, n).Sequences)];
        TokenSet tokens = TokenSet.OfStored(sequences, plan.PadId, plan.ExcludedIds);
        var results = new List<SaeResult>();
        for (int i = 0; i < targets.Count; i++)
        {
            using var rows = new RowEvaluator(folder, plan, manifests, targets[i],
                new SaeAccumulator(tokens, 0, 0, targets[i].Sae.FeatureCount));
            SaeAccumulator sums = rows.Run(n => progress?.Report((i + (n / (2.0 * manifests.Length))) / targets.Count), cancellationToken);
            results.Add(new SaeResult(EvaluatedSae.From(targets[i]), sums, hasGradients: false, bootstrap));
        }

        return new EvaluationResult(tokens, results, bootstrap, new Dictionary<string, long> { ["act_mask"] = plan.Rows });
    }

    /// <summary>One SAE over the rows of its sites.</summary>
    private sealed class RowEvaluator : IDisposable
    {
        private readonly RunFolder _folder;
        private readonly RunPlan _plan;
        private readonly ShardManifest[] _manifests;
        private readonly SaeTarget _target;
        private readonly SaeAccumulator _sums;
        private readonly SiteRecord _site;
        private readonly SiteRecord _siteOut;
        private readonly SaeRecord? _stored;
        private readonly Mat _input;
        private readonly Mat _output;
        private readonly SparseCodes _codes;
        private readonly CodeList _list = new();
        private readonly float[] _x;
        private readonly float[] _y;
        private readonly float[] _reconstruction;
        private readonly StoredRow[] _rows;

        public RowEvaluator(RunFolder folder, RunPlan plan, ShardManifest[] manifests, SaeTarget target, SaeAccumulator sums)
        {
            (_folder, _plan, _manifests, _target, _sums) = (folder, plan, manifests, target, sums);
            _site = Find(target.Site, target.Sae.Config.InputDim);
            _siteOut = Find(target.SiteOut, target.Sae.Config.OutputDim);
            _stored = plan.Saes.FirstOrDefault(s => s.Site == target.Site && s.Sha256 == RunIdentity.Of(target.Sae.Checkpoint));
            Device device = target.Sae.Device;
            _input = device.CreateMat(plan.Context, _site.Width, "activations");
            _output = device.CreateMat(plan.Context, _siteOut.Width, "reconstruction");
            _codes = target.Sae.CreateCodes();
            _x = new float[plan.Context * _site.Width];
            _y = new float[plan.Context * _siteOut.Width];
            _reconstruction = new float[_y.Length];
            _rows = new StoredRow[plan.Context];
        }

        public SaeAccumulator Run(Action<int> shardDone, CancellationToken cancellationToken)
        {
            double[] mean = new double[_siteOut.Width];
            for (int n = 0; n < _manifests.Length; n++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                AddTo(mean, _manifests[n]);
                shardDone(n + 1);
            }

            for (int j = 0; j < mean.Length; j++)
                mean[j] /= _plan.Rows;
            for (int n = 0; n < _manifests.Length; n++)
            {
                Score(_manifests[n], mean, cancellationToken);
                shardDone(_manifests.Length + n + 1);
            }

            return _sums;
        }

        public void Dispose()
        {
            _input.Buffer.Dispose();
            _output.Buffer.Dispose();
            _codes.Dispose();
        }

        private void AddTo(double[] sum, ShardManifest manifest)
        {
            using RowShard rows = RowShard.Open(_folder, _plan, manifest, _siteOut, trust: false);
            Span<float> row = _y.AsSpan(0, rows.Width);
            for (int r = 0; r < rows.Rows; r++)
            {
                rows.Read(r, row);
                RowSums.Add(row, sum);
            }
        }

        private void Score(ShardManifest manifest, double[] mean, CancellationToken cancellationToken)
        {
            using RowShard inputs = RowShard.Open(_folder, _plan, manifest, _site, trust: _site == _siteOut, cancellationToken);
            using RowShard outputs = RowShard.Open(_folder, _plan, manifest, _siteOut, trust: true, cancellationToken);
            CodeShard? codes = _stored is null ? null : CodeShard.Read(_folder, manifest, _stored);
            for (int start = 0; start < inputs.Rows;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                int end = start;
                while (end < inputs.Rows && inputs.Sequence[end] == inputs.Sequence[start] && end - start < _plan.Context)
                    end++;
                Score(inputs, outputs, codes, start, end - start, mean);
                start = end;
            }
        }

        /// <summary>The rows of one sequence.</summary>
        private void Score(RowShard inputs, RowShard outputs, CodeShard? codes, int start, int count, double[] mean)
        {
            Device device = _target.Sae.Device;
            Span<float> x = _x.AsSpan(0, count * _site.Width), y = _y.AsSpan(0, count * _siteOut.Width),
                reconstruction = _reconstruction.AsSpan(0, y.Length);
            inputs.Read(start, x);
            outputs.Read(start, y);
            Mat input = _input.RowRange(0, count), output = _output.RowRange(0, count);
            device.Write(x, input);
            if (codes is null)
            {
                _target.Sae.Encode(input, _codes);
                device.Read(_codes, _list);
            }
            else
            {
                codes.CopyTo(_list, start, count);
                device.Write(_list, _codes);
            }

            _target.Sae.Decode(_codes, input, output);
            device.Read(output, reconstruction);
            for (int r = 0; r < count; r++)
                _rows[r] = RowOf(r, y.Slice(r * mean.Length, mean.Length), reconstruction.Slice(r * mean.Length, mean.Length), mean,
                    inputs.Sequence[start]);
            _sums.AddStored(inputs.Position.AsSpan(start, count), _rows.AsSpan(0, count), _list);
        }

        private StoredRow RowOf(int r, ReadOnlySpan<float> y, ReadOnlySpan<float> reconstruction, double[] mean, int sequence)
        {
            (double error, double dot, double norm) = RowSums.Compare(y, reconstruction);
            double l1 = 0;
            foreach (float value in _list.ValuesOf(r))
                l1 += value;
            return double.IsFinite(error) ? new StoredRow(error, RowSums.SquaredDistance(y, mean), dot, RowSums.SquaredNorm(y), norm, l1)
                : throw new InvalidDataException($"{_target.Name}: the reconstruction of a row of sequence {sequence} is not a finite " +
                    $"number.");
        }

        private SiteRecord Find(Hooks.HookPoint point, int width)
        {
            SiteRecord site = _plan.Sites.FirstOrDefault(s => s.Point == point)
                ?? throw new ArgumentException($"{_target.Name} belongs to {point}, and the run has no rows of it.");
            return site.Width == width ? site
                : throw new ArgumentException($"{_target.Name} has {width} values at {point}; the run's rows have {site.Width}.");
        }
    }
}
