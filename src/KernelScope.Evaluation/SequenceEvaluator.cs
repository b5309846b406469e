using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>Measures one sequence: every pass, every SAE, every number by position. Holds the memory of one sequence, whatever the size of the set.</summary>
internal sealed class SequenceEvaluator : IDisposable
{
    private readonly Gemma2Model _model;
    private readonly Device _device;
    private readonly IReadOnlyList<SaeTarget> _targets;
    private readonly SitePlan[] _sites;
    private readonly TokenSet _tokens;
    private readonly SequencePasses _passes;
    private readonly LogitScorer _scorer;
    private readonly UniformityScorer? _uniformity;
    private readonly List<DeviceBuffer> _owned = [];
    private readonly Mat _cleanNorm;
    private readonly Mat[] _reconstructions;
    private readonly SparseCodes[] _codes;
    private readonly (Mat Zero, Mat Mean)[] _constants;
    private readonly List<(SitePlan Site, SpliceRun Run, int Index, Mat FinalNorm)> _runs = [];
    private readonly int[] _firstAlike;
    private readonly double[] _largest;
    private readonly float[] _values;
    private readonly float[] _hostReconstruction;

    public SequenceEvaluator(
        Gemma2Model model, IReadOnlyList<SaeTarget> targets, SitePlan[] sites, TokenSet tokens, EvaluationOptions options)
    {
        (_model, _device, _targets, _sites, _tokens) = (model, model.Device, targets, sites, tokens);
        int length = tokens.Length;
        _passes = new SequencePasses(model, sites, length, options.ChunkLength);
        _scorer = new LogitScorer(model, length, options.LogitBytes);
        _uniformity = options.Gradients && sites.Any(s => s.HasGradient) ? new UniformityScorer(model, targets, sites, tokens) : null;
        _cleanNorm = _passes.CreateFinalNorm();
        _reconstructions = [.. targets.Select(t => Create(length, t.Sae.Config.OutputDim, "reconstruction"))];
        _codes = [.. targets.Select(t => t.Sae.CreateCodes())];
        _constants = [.. sites.Select(s => (Create(length, s.OutputDim, "zero"), Create(length, s.OutputDim, "mean")))];
        for (int g = 0; g < sites.Length; g++)
        {
            foreach (SpliceRun run in SpliceRun.OfSite.Where(options.Splices.Contains))
                _runs.Add((sites[g], run, g, _passes.CreateFinalNorm()));
            foreach (int s in sites[g].Saes)
            {
                foreach (SpliceRun run in SpliceRun.OfSae.Where(options.Splices.Contains))
                    _runs.Add((sites[g], run, s, _passes.CreateFinalNorm()));
            }
        }

        _firstAlike = new int[_runs.Count];
        _largest = new double[_runs.Count];
        int width = sites.Max(s => Math.Max(s.OutputDim, model.Config.ModelDim));
        _values = new float[length * width];
        _hostReconstruction = new float[length * width];
    }

    /// <summary>Number of values of the stream before the first layer of the clean pass, which <see cref="ReadStream"/> and <see cref="WriteStream"/> move.</summary>
    public int StreamSize => _passes.FirstStream.Rows * _passes.FirstStream.Columns;

    /// <summary>The work of the first pass over a sequence and of all others, in layers, as the first sequence has it.</summary>
    public (double First, double Second) Work
    {
        get
        {
            Gemma2Config c = _model.Config;
            double layer = ((2.0 * c.HeadCount) + (2.0 * c.KvHeadCount)) * c.HeadDim * c.ModelDim + (3.0 * c.MlpDim * c.ModelDim);
            double head = (double)c.VocabSize * c.ModelDim / layer;
            double gradients = _uniformity?.Work(c.LayerCount, head) ?? 0;
            Compare(_tokens.Padded(0));
            double spliced = Distinct().Sum(i => c.LayerCount - _runs[i].Site.StartLayer + head);
            return (_passes.EndLayer, c.LayerCount - _passes.FirstLayer + head + spliced + gradients);
        }
    }

    /// <summary>The set's means, which the mean splice and all deviations need.</summary>
    public SiteMeans[] Means { get; set; } = [];

    /// <summary>The first pass: sums of the values at each site's output.</summary>
    public void AddTo(SiteSums[] sums, int[] tokens, CancellationToken cancellationToken)
    {
        _passes.ToSites(tokens, cancellationToken);
        for (int g = 0; g < _sites.Length; g++)
            sums[g].Add(tokens, _tokens, Read(_passes.ValuesAt(_sites[g].Write), _values));
    }

    /// <summary>Gives the stream that <see cref="AddTo"/> has left, so that the layers below need not run again.</summary>
    public void ReadStream(Span<float> destination) => _device.Read(_passes.FirstStream, destination);

    /// <summary>Takes such a stream back for the next <see cref="Score"/>.</summary>
    public void WriteStream(ReadOnlySpan<float> values) => _device.Write(values, _passes.FirstStream);

    /// <summary>Runs the layers below the sites again instead.</summary>
    public void RunBelow(int[] tokens, CancellationToken cancellationToken) => _passes.Below(tokens, cancellationToken);

    /// <summary>Puts the means on the device.</summary>
    public void UseMeans(SiteMeans[] means)
    {
        Means = means;
        for (int g = 0; g < _sites.Length; g++)
        {
            float[] mean = [.. means[g].Counted.Select(v => (float)v)];
            for (int t = 0; t < _tokens.Length; t++)
                _device.Write(mean, _constants[g].Mean.RowRange(t, 1));
        }
    }

    /// <summary>Every number of a sequence whose stream is in place.</summary>
    /// <exception cref="InvalidDataException">The model or an SAE computes something that is not a number.</exception>
    public void Score(int[] tokens, SequenceScores scores, CancellationToken cancellationToken)
    {
        using (_uniformity?.Listen(_passes.Hooks))
            _passes.Clean(tokens, _cleanNorm, cancellationToken);
        RequireFinite(tokens);
        for (int g = 0; g < _sites.Length; g++)
            ScoreSite(g, scores);
        Compare(tokens);
        foreach (int i in Distinct())
        {
            (SitePlan site, SpliceRun run, int index, Mat finalNorm) = _runs[i];
            int g = Array.IndexOf(_sites, site);
            Mat source = run.Mode switch
            {
                SpliceMode.Zero => _constants[g].Zero,
                SpliceMode.Mean => _constants[g].Mean,
                _ => _reconstructions[index],
            };
            _passes.Spliced(
                site, tokens, (values, position) => Replace(run, tokens, values, position, source), finalNorm, cancellationToken);
        }

        ScoreLogits(tokens, scores);
        _uniformity?.Score(tokens, scores, cancellationToken);
    }

    public void Dispose()
    {
        _passes.Dispose();
        _scorer.Dispose();
        _uniformity?.Dispose();
        foreach (SparseCodes codes in _codes)
            codes.Dispose();
        foreach (DeviceBuffer buffer in _owned)
            buffer.Dispose();
    }

    /// <summary>Finds the runs that replace the same positions of a sequence by the same values: they are one pass. Without special tokens but BOS, that is keep_special and keep_bos.</summary>
    private void Compare(int[] tokens)
    {
        for (int i = 0; i < _runs.Count; i++)
        {
            (_, SpliceRun run, int index, _) = _runs[i];
            _firstAlike[i] = _runs.FindIndex(other => other.Run.Mode == run.Mode && other.Index == index
                && Array.TrueForAll(tokens, token => other.Run.Replaces(_tokens, token) == run.Replaces(_tokens, token)));
        }
    }

    /// <summary>The runs that are passes of their own.</summary>
    private int[] Distinct() => [.. Enumerable.Range(0, _runs.Count).Where(i => _firstAlike[i] == i)];

    /// <summary>Replaces the included rows of one chunk, run by run. x̂ was computed once from the clean values, which no splice at the same site changes.</summary>
    private void Replace(SpliceRun run, int[] tokens, Mat values, int position, Mat source)
    {
        int r = 0;
        while (r < values.Rows)
        {
            int start = r;
            while (r < values.Rows && run.Replaces(_tokens, tokens[position + r]))
                r++;
            if (r > start)
            {
                Mat target = values.RowRange(start, r - start), from = source.RowRange(position + start, r - start);
                if (run.Mode == SpliceMode.SaePlusError)
                {
                    _device.AddScaled(from, -1f, target);
                    _device.AddScaled(from, 1f, target);
                }
                else
                {
                    _device.Copy(from, target);
                }
            }

            r = Math.Max(r, start + 1);
        }
    }

    private void ScoreSite(int g, SequenceScores scores)
    {
        SitePlan site = _sites[g];
        ReadOnlySpan<float> y = Read(_passes.ValuesAt(site.Write), _values);
        Deviations(y, Means[g].Counted, scores[ScoreLayout.OfSite(g, "squared_deviation")], site.SiteOut);
        Deviations(y, Means[g].NotPad, scores[ScoreLayout.OfSite(g, "squared_deviation_not_pad")], site.SiteOut);
        Deviations(y, Means[g].Every, scores[ScoreLayout.OfSite(g, "squared_deviation_all")], site.SiteOut);
        Span<double> norms = scores[ScoreLayout.OfSite(g, "squared_norm")];
        for (int t = 0; t < norms.Length; t++)
            norms[t] = RowSums.SquaredNorm(y.Slice(t * site.OutputDim, site.OutputDim));
        y[..Math.Min(y.Length, scores.Kept(ScoreLayout.OfSite(g, "y")).Length)].CopyTo(scores.Kept(ScoreLayout.OfSite(g, "y")));
        Mat x = _passes.ValuesAt(site.Read);
        if (scores.Kept(ScoreLayout.OfSite(g, "x")) is { IsEmpty: false } kept)
            _device.Read(x, kept);
        foreach (int s in site.Saes)
            ScoreSae(s, x, y, scores);
    }

    private void ScoreSae(int s, Mat x, ReadOnlySpan<float> y, SequenceScores scores)
    {
        JumpReluSae sae = _targets[s].Sae;
        sae.Encode(x, _codes[s]);
        sae.Decode(_codes[s], x, _reconstructions[s]);
        CodeList codes = scores.Codes[s];
        _device.Read(_codes[s], codes);
        ReadOnlySpan<float> reconstruction = Read(_reconstructions[s], _hostReconstruction);
        Span<double> error = scores[ScoreLayout.OfSae(s, "squared_error")], dot = scores[ScoreLayout.OfSae(s, "dot")];
        Span<double> norm = scores[ScoreLayout.OfSae(s, "squared_norm_out")], l1 = scores[ScoreLayout.OfSae(s, "l1")];
        int width = sae.Config.OutputDim;
        for (int t = 0; t < _tokens.Length; t++)
        {
            (error[t], dot[t], norm[t]) = RowSums.Compare(y.Slice(t * width, width), reconstruction.Slice(t * width, width));
            l1[t] = 0;
            foreach (float value in codes.ValuesOf(t))
                l1[t] += value;
            if (!double.IsFinite(error[t]))
                throw new InvalidDataException($"{_targets[s].Name}: the reconstruction of position {t} is not a finite number.");
        }

        Span<float> kept = scores.Kept(ScoreLayout.OfSae(s, "recon"));
        reconstruction[..Math.Min(reconstruction.Length, kept.Length)].CopyTo(kept);
    }

    private void ScoreLogits(int[] tokens, SequenceScores scores)
    {
        var places = new RunScores[_runs.Count];
        for (int i = 0; i < places.Length; i++)
        {
            (_, SpliceRun run, int index, _) = _runs[i];
            string Named(string kind) => run.Mode is SpliceMode.Sae or SpliceMode.SaePlusError
                ? ScoreLayout.OfSae(index, $"{kind}_{run.ArrayName}")
                : ScoreLayout.OfSite(index, $"{kind}_{run.ArrayName}");
            places[i] = new(Part(scores, Named("ce")), Part(scores, Named("kl")));
        }

        int[] distinct = Distinct();
        _scorer.Kept = run => KeptLogits(run < 0 ? run : distinct[run], scores);
        _scorer.Score(
            tokens,
            _cleanNorm,
            new(Part(scores, "ce_clean"), default),
            [.. distinct.Select(i => _runs[i].FinalNorm)],
            [.. distinct.Select(i => places[i])],
            _largest.AsSpan(0, distinct.Length));
        for (int k = 0; k < distinct.Length; k++)
        {
            RequireFinite(places[distinct[k]], _runs[distinct[k]]);
            if (_runs[distinct[k]].Run.Mode == SpliceMode.SaePlusError)
                scores[ScoreLayout.OfSae(_runs[distinct[k]].Index, "max_logit_difference")][0] = _largest[k];
        }

        for (int i = 0; i < places.Length; i++)
        {
            places[_firstAlike[i]].Losses.CopyTo(places[i].Losses);
            places[_firstAlike[i]].Divergences.CopyTo(places[i].Divergences);
        }
    }

    /// <summary>Looks at the final norm, because the soft-cap makes finite logits of infinities, and names where it went wrong.</summary>
    private void RequireFinite(int[] tokens)
    {
        try
        {
            NotFiniteException.Refuse(Read(_cleanNorm, _values), _cleanNorm.Columns, "the final norm", 0);
        }
        catch (NotFiniteException seen)
        {
            throw FirstNotFinite.Find(_model, tokens, seen);
        }
    }

    private static void RequireFinite(RunScores scores, (SitePlan Site, SpliceRun Run, int, Mat) of)
    {
        string what = $"the logits with {of.Site.Write} replaced ({of.Run.ArrayName})";
        for (int t = 0; t < scores.Divergences.Length; t++)
        {
            if (!double.IsFinite(scores.Divergences.Span[t]) || (t < scores.Losses.Length && !double.IsFinite(scores.Losses.Span[t])))
                NotFiniteException.Throw(what, t);
        }
    }

    private Span<float> KeptLogits(int run, SequenceScores scores)
    {
        if (run < 0)
            return scores.Kept("logits_clean");
        return _runs[run].Run == SpliceRun.OfSae[0] ? scores.Kept(ScoreLayout.OfSae(_runs[run].Index, "logits_sae_keep_bos")) : [];
    }

    private static Memory<double> Part(SequenceScores scores, string name)
    {
        (int offset, int count) = scores.Layout.Place(name);
        return scores.Row.AsMemory(offset, count);
    }

    private static void Deviations(ReadOnlySpan<float> y, double[] mean, Span<double> squares, HookPoint site)
    {
        for (int t = 0; t < squares.Length; t++)
        {
            double sum = RowSums.SquaredDistance(y.Slice(t * mean.Length, mean.Length), mean);
            if (!double.IsFinite(sum))
                NotFiniteException.Throw($"the activations at {site}", t);
            squares[t] = sum;
        }
    }

    private ReadOnlySpan<float> Read(Mat x, float[] host)
    {
        Span<float> values = host.AsSpan(0, x.Rows * x.Columns);
        _device.Read(x, values);
        return values;
    }

    private Mat Create(int rows, int columns, string name)
    {
        Mat mat = _device.CreateMat(rows, columns, name);
        _owned.Add(mat.Buffer);
        return mat;
    }
}
