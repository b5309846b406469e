using System.Diagnostics;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using KernelScope.Attribution;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>
/// Measures SAEs inside a model as the Gemma Scope paper does (Lieberum et al. 2024, §3.3): sparsity, reconstruction, and what splicing the reconstruction in does to the predictions.
/// </summary>
/// <remarks>
/// Two passes over the set. The first runs the layers up to the site and gives the mean activation x̄ (a plain sum in double). The second runs, for each sequence, one clean pass (shared by all SAEs),
/// six ablations (zero and mean, shared by the SAEs of a site) and four splices of each SAE, all from the site's layer up and those that replace the same positions of the sequence once, and two backward
/// passes (see <see cref="EvaluationOptions.Gradients"/>). Deviations are taken from the exact x̄, so FVU is the two-pass formula.
/// <para>
/// Memory does not grow with the set, but for 8 bytes a counted position and SAE (the exact median of the error ratio), about a kilobyte a sequence and SAE (confidence intervals), and
/// <see cref="EvaluationOptions.KeepBytes"/> at most.
/// </para>
/// For one caller at a time.
/// </remarks>
/// <example>
/// <code>
/// HookPoint site = HookPoint.Parse("resid_post.20");
/// TokenSet set = TokenSet.Create(TokenFiles.ReadText("text.txt", tokenizer, length: 128, model.Config), model.Config);
/// EvaluationResult result = new SaeEvaluation(model, [new SaeTarget("res20", sae, site, site)], set).Run();
/// SaeResult found = result.Saes[0];
/// Console.WriteLine($"L0 {found.L0:F1}, FVU {found.Fvu:F3}, delta loss {found.Metrics["splices", "sae/keep_bos", "delta", "default"]:F3}");
/// </code>
/// </example>
public sealed class SaeEvaluation
{
    private readonly Gemma2Model _model;
    private readonly IReadOnlyList<SaeTarget> _targets;
    private readonly SitePlan[] _sites;
    private readonly TokenSet _tokens;
    private readonly EvaluationOptions _options;
    private readonly ScoreLayout _layout;

    /// <summary>An evaluation of SAEs, of one site or of several, on one set of tokens.</summary>
    /// <exception cref="ArgumentException">An SAE that does not fit its site; see <see cref="SaeTarget"/>.</exception>
    /// <exception cref="InvalidDataException">An SAE has a parameter that is not a number.</exception>
    public SaeEvaluation(Gemma2Model model, IReadOnlyList<SaeTarget> targets, TokenSet tokens, EvaluationOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(targets);
        ArgumentNullException.ThrowIfNull(tokens);
        if (targets.Count == 0)
            throw new ArgumentException("There is no SAE to evaluate.");
        (_model, _targets, _tokens, _options) = (model, targets, tokens, options ?? new());
        ArgumentOutOfRangeException.ThrowIfLessThan(_options.ChunkLength, 1, nameof(EvaluationOptions.ChunkLength));
        foreach (SaeTarget target in targets)
            FiniteParameters.Require(target.Sae.Checkpoint);
        _sites = SitePlan.Create(targets, model.Config);
        _layout = new ScoreLayout(tokens.Length, _sites, _options.Gradients, _options.Splices);
    }

    /// <summary>Bytes that an evaluation takes beside the model and the SAEs, before there is one; without what <see cref="EvaluationOptions.KeepBytes"/> allows.</summary>
    /// <param name="config">The model's.</param>
    /// <param name="length">Tokens of the longest sequence.</param>
    /// <param name="saeCount">Number of SAEs.</param>
    /// <remarks>Gradients take <see cref="StreamGradient.BytesFor"/> more, of 2 sums.</remarks>
    public static long BytesFor(Gemma2Config config, int length, int saeCount)
    {
        ArgumentNullException.ThrowIfNull(config);
        long width = Math.Max(config.ModelDim, Math.Max(config.HeadCount * config.HeadDim, config.MlpDim)),
            matrices = 9 + (saeCount * (SpliceRun.OfSite.Length + SpliceRun.OfSae.Length + 4L));
        return Session.BytesFor(config, length, Math.Min(length, new EvaluationOptions().ChunkLength)) + (
            4L * length * width * matrices) + LogitScorer.BlockBytes;
    }

    /// <summary>Runs the evaluation.</summary>
    /// <exception cref="InvalidDataException">The resume file belongs to something else, or the model or an SAE computes something that is not a number.</exception>
    /// <exception cref="IOException">A file cannot be written.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; the resume file, if any, holds what was done.</exception>
    public EvaluationResult Run(IProgress<EvaluationProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        using EvaluationJournal? journal = OpenJournal();
        using var evaluator = new SequenceEvaluator(_model, _targets, _sites, _tokens, _options);
        var clock = new Clock(progress, evaluator.Work, _tokens);
        var streams = new float[_tokens.Count][];
        SiteSums[] sums = FirstPass(journal, evaluator, streams, clock, cancellationToken);
        SiteMeans[] means = [.. sums.Select(s => s.Means())];
        evaluator.UseMeans(means);

        SaeAccumulator[] accumulators = [.. _targets.Select((t, s) =>
            new SaeAccumulator(_tokens, s, Array.FindIndex(_sites, p => p.Saes.Contains(s)), t.Sae.FeatureCount))];
        for (int b = 0; b < _tokens.Count; b++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int[] padded = _tokens.Padded(b);
            SequenceScores scores = NewScores(b);
            if (journal is not null && b < journal.ScoresCount)
            {
                journal.Read(b, scores);
            }
            else
            {
                clock.Start();
                Measure(b, padded, evaluator, streams, scores, cancellationToken);
                journal?.Append(scores);
                clock.Second(b + 1);
            }

            foreach (SaeAccumulator accumulator in accumulators)
                accumulator.Add(padded, scores);
        }

        var result = new EvaluationResult(_tokens,
            [.. _targets.Select((t, s) => new SaeResult(EvaluatedSae.From(t), accumulators[s], _layout.Has(ScoreLayout.OfSae(s, "r_L0")),
            _options.Bootstrap))], _options.Bootstrap, CountsOf(_tokens));
        if (_options.ArraysPath is not null)
            new ArrayWriter(_targets, _sites, _tokens, _layout, _options.Arrays, NewScores)
                .Write(_options.ArraysPath, journal!, result, means);
        return result;
    }

    private SiteSums[] FirstPass(EvaluationJournal? journal, SequenceEvaluator evaluator, float[][] streams, Clock clock,
        CancellationToken cancellationToken)
    {
        SiteSums[] sums = [.. _sites.Select(s => new SiteSums(s.OutputDim))];
        int done = journal?.MeansCount ?? 0;
        if (done > 0)
            journal!.ReadMeans(sums);
        long left = _options.KeepBytes;
        for (int b = done; b < _tokens.Count; b++)
        {
            clock.Start();
            evaluator.AddTo(sums, _tokens.Padded(b), cancellationToken);
            if ((left -= sizeof(float) * (long)evaluator.StreamSize) >= 0)
            {
                streams[b] = new float[evaluator.StreamSize];
                evaluator.ReadStream(streams[b]);
            }

            journal?.AppendMeans(b + 1, sums);
            clock.First();
        }

        return sums;
    }

    private static void Measure(int b, int[] padded, SequenceEvaluator evaluator, float[][] streams, SequenceScores scores,
        CancellationToken cancellationToken)
    {
        if (streams[b] is { } stream)
        {
            evaluator.WriteStream(stream);
            streams[b] = null!;
        }
        else
        {
            evaluator.RunBelow(padded, cancellationToken);
        }

        Score(b, padded, evaluator, scores, cancellationToken);
    }

    /// <summary>Every number of a sequence whose stream is in place; what goes wrong names the sequence.</summary>
    /// <exception cref="InvalidDataException">The model or an SAE computes something that is not a number.</exception>
    internal static void Score(int b, int[] padded, SequenceEvaluator evaluator, SequenceScores scores, CancellationToken cancellationToken)
    {
        try
        {
            evaluator.Score(padded, scores, cancellationToken);
        }
        catch (NotFiniteException e)
        {
            throw new NotFiniteException($"{e.What.TrimEnd(',')} of sequence {b},");
        }
        catch (InvalidDataException e)
        {
            throw new InvalidDataException($"{e.Message.TrimEnd('.')} (sequence {b}).", e);
        }
    }

    private EvaluationJournal? OpenJournal()
    {
        if (_options.ResumePath is string path)
        {
            var rules = new JournalRules(_tokens, [.. _sites.Select(s => s.OutputDim)], [.. _targets.Select(t => t.Sae.FeatureCount)],
                NewScores);
            try
            {
                return EvaluationJournal.Open(path, Identity(), rules);
            }
            catch (InvalidDataException) when (_options.OwnsResumeFile)
            {
                File.Delete(path);
                return EvaluationJournal.Open(path, Identity(), rules);
            }
        }

        return _options.ArraysPath is string arrays ? EvaluationJournal.Temporary(arrays) : null;
    }

    /// <summary>What a resume file must belong to.</summary>
    private List<KeyValuePair<string, string>> Identity()
    {
        List<KeyValuePair<string, string>> identity = [new("the model", Fingerprint.Of(_model.Weights.Checkpoint)),
            new("the number of SAEs", _targets.Count.ToString(CultureInfo.InvariantCulture))];
        for (int s = 0; s < _targets.Count; s++)
            identity.Add(new(_targets.Count == 1 ? "the SAE" : $"SAE {s + 1}", Fingerprint.Of(_targets[s].Sae.Checkpoint)));
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (int b = 0; b < _tokens.Count; b++)
        {
            hash.AppendData(MemoryMarshal.AsBytes<int>([_tokens.Sequence(b).Length]));
            hash.AppendData(MemoryMarshal.AsBytes(_tokens.Sequence(b)));
        }

        identity.Add(new("the tokens", Convert.ToHexStringLower(hash.GetHashAndReset())));
        identity.Add(new("the special ids", string.Join(',', _tokens.SpecialIds)));
        identity.Add(new("the sites", string.Join(' ', _targets.Select(t => $"{t.Site}>{t.SiteOut}"))));
        identity.Add(new("the arrays that are written", KeptDetail.ToString()));
        identity.Add(new("whether gradients are measured", _options.Gradients ? "yes" : "no"));
        identity.Add(new("the chunk length", _options.ChunkLength.ToString(CultureInfo.InvariantCulture)));
        identity.Add(new("the device", _model.Device.Name));
        identity.Add(new("whether weights are packed", _model.Weights.Head.IsPacked ? "yes" : "no"));
        identity.Add(new("the precision", _model.Device.Precision.ToString()));
        if (_options.Splices != SpliceRun.Every)
            identity.Add(new("the splices that are measured", string.Join(' ', _options.Splices.Select(s => s.Name))));
        if (_model.CacheType != DType.F32)
            identity.Add(new("the type of keys and values", _model.CacheType.ToString()));
        identity.Add(new("the instructions that compute",
            $"{_model.Device.Arithmetic}, {RuntimeInformation.ProcessArchitecture}, {Vector<byte>.Count} bytes a vector"));
        identity.Add(new("the size of a block of logits", _options.LogitBytes.ToString(CultureInfo.InvariantCulture)));
        identity.Add(new("the embedding scale", _model.EmbeddingScale.ToString("R", CultureInfo.InvariantCulture)));
        return identity;
    }

    // What is kept by sequence is the same for a summary as for no arrays at all.
    private bool KeepsActivations => _options.ArraysPath is not null && _options.Arrays == ArrayDetail.All;

    private ArrayDetail KeptDetail => KeepsActivations ? ArrayDetail.All : ArrayDetail.Positions;

    private SequenceScores NewScores(int b) => new(_layout, _targets.Count, KeepsActivations
        ? ArrayWriter.Kept(_sites, _tokens.Length, b == 0 ? _model.Config.VocabSize : 0, _options.Gradients) : []);

    /// <summary>Number of positions that count, and of those that count under each loss mask.</summary>
    internal static Dictionary<string, long> CountsOf(TokenSet tokens)
    {
        var counts = new Dictionary<string, long> { ["act_mask"] = 0 };
        for (int m = 0; m < Total.Masks; m++)
            counts[TokenSet.NameOf((LossMask)m)] = 0;
        for (int b = 0; b < tokens.Count; b++)
        {
            int[] padded = tokens.Padded(b);
            counts["act_mask"] += padded.Count(token => !tokens.IsSpecial(token));
            for (int m = 0; m < Total.Masks; m++)
            {
                for (int t = 0; t + 1 < padded.Length; t++)
                    counts[TokenSet.NameOf((LossMask)m)] += tokens.Counts((LossMask)m, padded[t], padded[t + 1]) ? 1 : 0;
            }
        }

        return counts;
    }

    /// <summary>Measures speed and tells how far the run is; a sequence that was read from a journal takes no time.</summary>
    private sealed class Clock(IProgress<EvaluationProgress>? progress, (double First, double Second) work, TokenSet tokens)
    {
        private readonly Stopwatch _watch = new();
        private int _first;
        private int _second;

        public void Start() => _watch.Start();

        public void First()
        {
            _watch.Stop();
            _first++;
            Report(0);
        }

        public void Second(int done)
        {
            _watch.Stop();
            _second++;
            Report(done);
        }

        private void Report(int done)
        {
            double seconds = _watch.Elapsed.TotalSeconds, worked = (_first * work.First) + (_second * work.Second);
            double left = ((done > 0 ? 0 : tokens.Count - _first) * work.First) + ((tokens.Count - done) * work.Second);
            double rate = _second > 0 ? tokens.TokenCount / (double)tokens.Count * work.Second * (worked / work.Second) / (
                work.First + work.Second) / seconds : 0;
            progress?.Report(new(done, tokens.Count, rate, worked > 0 ? TimeSpan.FromSeconds(seconds / worked * left) : null));
        }
    }
}
